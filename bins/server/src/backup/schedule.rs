use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

/// When backups are made by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupSchedule {
    /// Never.
    Off,
    /// Once a day, at this time in UTC or as soon as a server runs after it.
    Daily(NaiveTime),
    /// So long after the last one.
    Every(Duration),
}

impl BackupSchedule {
    /// Whether one is due, when the newest was made at `newest`. Without any it is as if one had been made at `since`: a
    /// new installation has nothing worth a backup yet.
    #[must_use]
    pub fn is_due(self, newest: Option<DateTime<Utc>>, since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let newest = newest.unwrap_or(since);
        match self {
            Self::Off => false,
            Self::Every(pause) => TimeDelta::from_std(pause).is_ok_and(|pause| now - newest >= pause),
            Self::Daily(time) => {
                let today = now.date_naive().and_time(time).and_utc();
                let last = if today <= now { today } else { today - TimeDelta::days(1) };
                newest < last
            }
        }
    }

    /// Reads `off`, `daily@03:15` or a duration of at least a minute.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(text: &str, shortest: Duration) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Some(time) = text.strip_prefix("daily@") {
            return NaiveTime::parse_from_str(time, "%H:%M").map(Self::Daily).map_err(|_| {
                format!("`{time}` is no time of day: write hours and minutes in UTC, as in daily@03:15")
            });
        }
        let pause = crate::config::duration(text).map_err(|_| {
            format!("`{text}` is no schedule: write daily@03:15 (UTC), a duration such as 6h, or off")
        })?;
        if pause < shortest {
            return Err("must be at least a minute".to_owned());
        }
        Ok(Self::Every(pause))
    }
}

impl fmt::Display for BackupSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Daily(time) => write!(f, "daily@{}", time.format("%H:%M")),
            Self::Every(pause) => write!(f, "{}s", pause.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn schedules_are_read() {
        let read = |text| BackupSchedule::parse(text, Duration::from_secs(60));
        assert_eq!(read("off").unwrap(), BackupSchedule::Off);
        assert_eq!(read("daily@03:15").unwrap().to_string(), "daily@03:15");
        assert_eq!(read("6h").unwrap(), BackupSchedule::Every(Duration::from_secs(21_600)));
        for bad in ["", "daily", "daily@25:00", "daily@3", "5s", "never", "0h"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_daily_one_is_due_once_after_its_time_however_late() {
        let daily = BackupSchedule::Daily(NaiveTime::from_hms_opt(3, 15, 0).unwrap());
        let since = at("2026-11-20T12:00:00Z");
        let due = |newest: Option<&str>, now: &str| daily.is_due(newest.map(at), since, at(now));
        assert!(!due(None, "2026-11-20T23:00:00Z") && !due(None, "2026-11-21T03:14:59Z"));
        assert!(due(None, "2026-11-21T03:15:00Z") && due(None, "2026-11-25T01:00:00Z"));
        assert!(!due(Some("2026-11-21T03:15:10Z"), "2026-11-22T03:14:59Z"));
        assert!(due(Some("2026-11-21T03:15:10Z"), "2026-11-22T03:15:00Z"));
        assert!(due(Some("2026-11-21T03:15:10Z"), "2026-11-24T20:00:00Z"), "the server did not run");
    }

    #[test]
    fn a_pause_counts_from_the_last_one() {
        let every = BackupSchedule::Every(Duration::from_secs(3_600));
        let (since, newest) = (at("2026-11-20T12:00:00Z"), at("2026-11-20T15:00:00Z"));
        assert!(!every.is_due(None, since, at("2026-11-20T12:59:59Z")));
        assert!(every.is_due(None, since, at("2026-11-20T13:00:00Z")));
        assert!(!every.is_due(Some(newest), since, at("2026-11-20T15:30:00Z")));
        assert!(!BackupSchedule::Off.is_due(None, since, at("2030-01-01T00:00:00Z")));
    }
}
