//! Decimals and times as the contract writes them, into a buffer on the stack: a page of a list has hundreds of them.

use chrono::{DateTime, Datelike, Timelike, Utc};
use rust_decimal::Decimal;

/// Room for the longest text here: sign, 29 digits, point, leading zeros.
const ROOM: usize = 40;

/// A short text of ASCII characters.
pub(crate) struct Short {
    bytes: [u8; ROOM],
    start: usize,
}

impl Short {
    const fn new() -> Self {
        Self { bytes: [b'0'; ROOM], start: ROOM }
    }

    pub(crate) fn as_str(&self) -> &str {
        // only ASCII is ever put there
        std::str::from_utf8(self.bytes.get(self.start..).unwrap_or_default()).unwrap_or_default()
    }

    /// Puts a character in front.
    fn put(&mut self, byte: u8) {
        if let Some(start) = self.start.checked_sub(1) {
            self.start = start;
            self.bytes[start] = byte;
        }
    }

    /// Puts at least `width` digits of `number` in front.
    fn put_number(&mut self, mut number: u32, width: usize) {
        for _ in 0..width {
            self.put(b'0' + (number % 10) as u8);
            number /= 10;
        }
    }
}

/// The decimal without trailing zeros after its point.
pub(crate) fn decimal(value: &Decimal) -> Short {
    let (mut text, mut scale) = (Short::new(), value.scale());
    let mantissa = value.mantissa().unsigned_abs();
    let mut digits = 0;
    let mut digit = |number: u32, text: &mut Short| {
        if scale > 0 && digits < scale {
            // zeros at the end of what stands behind the point are left out
            if number == 0 && text.start == ROOM {
                scale -= 1;
                return;
            }
            digits += 1;
            text.put(b'0' + number as u8);
            if digits == scale {
                text.put(b'.');
            }
        } else {
            text.put(b'0' + number as u8);
        }
    };
    let mut wide = mantissa;
    while wide > u128::from(u64::MAX) {
        digit((wide % 10) as u32, &mut text);
        wide /= 10;
    }
    let mut narrow = wide as u64;
    while narrow > 0 {
        digit((narrow % 10) as u32, &mut text);
        narrow /= 10;
    }
    if mantissa == 0 {
        text.put(b'0');
        return text;
    }
    while scale > 0 && digits < scale {
        digits += 1;
        text.put(b'0');
        if digits == scale {
            text.put(b'.');
        }
    }
    if text.as_str().starts_with('.') {
        text.put(b'0');
    }
    if value.is_sign_negative() {
        text.put(b'-');
    }
    text
}

/// The time in RFC 3339, UTC, with microseconds; `None` outside the years 0 to 9999.
pub(crate) fn time(at: &DateTime<Utc>) -> Option<Short> {
    let year = u32::try_from(at.year()).ok().filter(|year| *year < 10_000)?;
    // a leap second is written as the 60th, by chrono too
    let nanos = at.nanosecond();
    let (second, micros) = match nanos {
        0..1_000_000_000 => (at.second(), nanos / 1_000),
        _ => (at.second() + 1, (nanos - 1_000_000_000) / 1_000),
    };
    let mut text = Short::new();
    text.put(b'Z');
    text.put_number(micros, 6);
    for (number, width, before) in [
        (second, 2, b'.'),
        (at.minute(), 2, b':'),
        (at.hour(), 2, b':'),
        (at.day(), 2, b'T'),
        (at.month(), 2, b'-'),
        (year, 4, b'-'),
    ] {
        text.put(before);
        text.put_number(number, width);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use chrono::{SecondsFormat, TimeDelta};
    use proptest::prelude::*;

    use super::*;

    fn written(value: &Decimal) -> String {
        decimal(value).as_str().to_owned()
    }

    #[test]
    fn the_edges_are_written_like_everywhere_else() {
        for value in [
            Decimal::ZERO,
            Decimal::new(-0, 5),
            Decimal::new(10, 0),
            Decimal::new(100, 3),
            Decimal::new(1, 28),
            Decimal::MAX,
            Decimal::MIN,
            Decimal::new(-5, 1),
            Decimal::new(1_000_000_000, 9),
        ] {
            assert_eq!(written(&value), value.normalize().to_string());
        }
        let first = DateTime::from_timestamp(0, 0).unwrap();
        assert_eq!(time(&first).unwrap().as_str(), "1970-01-01T00:00:00.000000Z");
        assert!(time(&DateTime::<Utc>::MAX_UTC).is_none());
        assert!(time(&DateTime::<Utc>::MIN_UTC).is_none());
    }

    proptest! {
        #[test]
        fn decimals_are_written_without_trailing_zeros(low: u32, mid: u32, high: u32, negative: bool, scale in 0..29u32) {
            for value in [
                Decimal::from_parts(low, mid, high, negative, scale),
                Decimal::from_parts(low, 0, 0, negative, scale),
                Decimal::from_parts(low / 1_000 * 1_000, 0, 0, negative, scale),
            ] {
                prop_assert_eq!(written(&value), value.normalize().to_string());
            }
        }

        #[test]
        fn times_are_written_with_microseconds(seconds in -62_000_000_000i64..253_000_000_000, nanos in 0..2_000_000_000u32) {
            let at = DateTime::from_timestamp(seconds, nanos % 1_000_000_000).unwrap();
            let leap = DateTime::from_timestamp(seconds - seconds.rem_euclid(60) + 59, nanos).unwrap();
            for at in [at, leap, at + TimeDelta::nanoseconds(1)] {
                let expected = at.to_rfc3339_opts(SecondsFormat::Micros, true);
                let written = time(&at).unwrap();
                prop_assert_eq!(written.as_str(), expected);
            }
        }
    }
}
