//! Names of databases that stand beside the live one.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

/// A restore can be taken back for so many days: as long the database before it is kept.
pub const UNDO_DAYS: i64 = 7;

/// Of PostgreSQL's identifiers, in bytes.
const LONGEST: usize = 63;
const STAMP: &str = "%Y%m%d%H%M%S";

/// The copy that a restore of `database` works on. `id` makes it one of its kind.
#[must_use]
pub fn scratch_name(database: &str, id: u32) -> String {
    with_tail(database, &format!("_restore_{id:08x}"))
}

/// Where the live database goes when a copy takes its place at `at`.
#[must_use]
pub fn pre_name(database: &str, at: DateTime<Utc>) -> String {
    with_tail(database, &format!("_pre_{}", at.format(STAMP)))
}

/// When a database of [`pre_name`] went there; `None` when `name` is none of `database`.
#[must_use]
pub fn pre_taken_at(database: &str, name: &str) -> Option<DateTime<Utc>> {
    let (_, stamp) = name.rsplit_once("_pre_")?;
    let at = NaiveDateTime::parse_from_str(stamp, STAMP).ok()?.and_utc();
    (pre_name(database, at) == name).then_some(at)
}

/// Whether a database that went there at `at` can still be swapped back.
#[must_use]
pub fn can_undo(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - at < TimeDelta::days(UNDO_DAYS)
}

/// As long as a name may be; a longer one is cut at its end, which the tail then makes another.
fn with_tail(database: &str, tail: &str) -> String {
    let mut kept = database.len().min(LONGEST - tail.len());
    while !database.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{tail}", &database[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_read_back() {
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        for database in ["plimsoll", "a", &"x".repeat(63), &"é".repeat(31)] {
            let name = pre_name(database, at);
            assert!(name.len() <= 63 && name != database, "{name}");
            assert_eq!(pre_taken_at(database, &name), Some(at));
            assert!(scratch_name(database, u32::MAX).len() <= 63);
        }
        for other in ["plimsoll", "plimsoll_pre_", "plimsoll_pre_2026", "other_pre_20261118230640"] {
            assert_eq!(pre_taken_at("plimsoll", other), None, "{other}");
        }
        assert!(can_undo(at, at + TimeDelta::days(6)) && !can_undo(at, at + TimeDelta::days(8)));
    }
}
