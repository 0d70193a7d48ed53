//! RFC 3339 with 0 to 9 digits of fraction and any offset, cut to microseconds.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::clock::to_micros;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub(crate) fn read(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| to_micros(at.to_utc()))
}

/// `None` for `null` and the empty string.
pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => read(text).map(Some).ok_or_else(|| D::Error::custom("not an RFC 3339 time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_fraction_and_offset_is_read() {
        for (given, wanted) in [
            ("2026-11-03T15:31:24Z", "2026-11-03T15:31:24Z"),
            ("2026-11-03T15:31:24.5Z", "2026-11-03T15:31:24.500Z"),
            ("2026-11-03T15:31:24.668464435Z", "2026-11-03T15:31:24.668464Z"),
            ("2026-11-03T15:31:24.9999999Z", "2026-11-03T15:31:24.999999Z"),
            ("2026-11-03T10:31:24.451420928-05:00", "2026-11-03T15:31:24.451420Z"),
            ("2026-11-03T21:01:24+05:30", "2026-11-03T15:31:24Z"),
        ] {
            let wanted: DateTime<Utc> = wanted.parse().unwrap();
            assert_eq!(read(given), Some(wanted), "{given}");
        }
        for bad in ["", "2026-11-03", "2026-11-03T15:31:24", "yesterday", "2026-13-03T15:31:24Z"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
