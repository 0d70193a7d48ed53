//! Cells of a row as the server sends them: binary, read by position and borrowed. For lists, whose rows are only passed on.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Microseconds from 1970 to 2000, where the server's count begins.
const EPOCH_2000: i64 = 946_684_800_000_000;
/// What one digit of a numeric counts to.
const NUMERIC_BASE: i128 = 10_000;
/// Decimal digits in one of its digits.
const NUMERIC_WIDTH: i32 = 4;
/// The signs of numerics that are numbers.
const POSITIVE: u16 = 0;
const NEGATIVE: u16 = 0x4000;

/// A cell that is missing, or does not have the form of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {0} cannot be read")]
pub(crate) struct Unreadable(pub(crate) usize);

type Cell<T> = Result<T, Unreadable>;

/// A cell that must not be null.
pub(crate) fn must<T>(at: usize, cell: Cell<Option<T>>) -> Cell<T> {
    cell?.ok_or(Unreadable(at))
}

/// The cells of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells<'r>(pub(crate) &'r [Option<&'r [u8]>]);

impl<'r> Cells<'r> {
    fn read<T>(self, at: usize, read: impl FnOnce(&'r [u8]) -> Option<T>) -> Cell<Option<T>> {
        match self.0.get(at).ok_or(Unreadable(at))? {
            Some(bytes) => read(bytes).map(Some).ok_or(Unreadable(at)),
            None => Ok(None),
        }
    }

    /// `text`.
    pub(crate) fn text(self, at: usize) -> Cell<Option<&'r str>> {
        self.read(at, |bytes| std::str::from_utf8(bytes).ok())
    }

    /// `text` that is one of a type's words.
    pub(crate) fn word<T: std::str::FromStr>(self, at: usize) -> Cell<T> {
        must(at, self.read(at, |bytes| std::str::from_utf8(bytes).ok()?.parse().ok()))
    }

    /// `uuid`.
    pub(crate) fn uuid(self, at: usize) -> Cell<Option<Uuid>> {
        self.read(at, |bytes| Uuid::from_slice(bytes).ok())
    }

    /// `boolean`.
    pub(crate) fn boolean(self, at: usize) -> Cell<Option<bool>> {
        self.read(at, |bytes| bytes.first().map(|byte| *byte != 0))
    }

    /// `bigint`.
    pub(crate) fn bigint(self, at: usize) -> Cell<Option<i64>> {
        self.read(at, |bytes| bytes.try_into().ok().map(i64::from_be_bytes))
    }

    /// `bytea`.
    pub(crate) fn bytes(self, at: usize) -> Cell<Option<&'r [u8]>> {
        self.read(at, Some)
    }

    /// `timestamptz`.
    pub(crate) fn time(self, at: usize) -> Cell<Option<DateTime<Utc>>> {
        self.read(at, |bytes| {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_2000)?;
            DateTime::from_timestamp_micros(micros)
        })
    }

    /// `numeric`.
    pub(crate) fn decimal(self, at: usize) -> Cell<Option<Decimal>> {
        self.read(at, numeric)
    }
}

/// The server's binary form of a numeric: count of digits, weight of the first one, sign, scale shown, digits of base
/// 10,000. `None` for what is no number, or does not fit.
fn numeric(bytes: &[u8]) -> Option<Decimal> {
    let (head, digits) = bytes.split_at_checked(8)?;
    let word = |at: usize| Some(u16::from_be_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let (count, weight, sign) = (usize::from(word(0)?), word(2)?.cast_signed(), word(4)?);
    if digits.len() != count * 2 || !matches!(sign, POSITIVE | NEGATIVE) {
        return None;
    }
    let mut mantissa: i128 = 0;
    for digit in digits.chunks_exact(2) {
        let digit = u16::from_be_bytes(digit.try_into().ok()?);
        mantissa = mantissa.checked_mul(NUMERIC_BASE)?.checked_add(i128::from(digit))?;
    }
    if mantissa == 0 {
        return Some(Decimal::ZERO);
    }
    let mut scale = (i32::try_from(count).ok()? - 1 - i32::from(weight)) * NUMERIC_WIDTH;
    while scale > 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    while scale < 0 {
        mantissa = mantissa.checked_mul(10)?;
        scale += 1;
    }
    let mantissa = if sign == NEGATIVE { -mantissa } else { mantissa };
    Decimal::try_from_i128_with_scale(mantissa, u32::try_from(scale).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `numeric_send` writes it.
    fn sent(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numerics_are_read_as_the_server_sends_them() {
        for (words, text) in [
            (&[0, 0, 0, 9][..], "0"),
            (&[1, 0, 0, 9, 10], "10"),
            (&[2, 0, 0, 9, 512, 2500], "512.25"),
            (&[1, 0xffff, 0, 9, 5000], "0.5"),
            (&[1, 0xfffe, 0, 9, 1], "0.00000001"),
            (&[2, 2, NEGATIVE, 0, 1, 2], "-100020000"),
            (&[1, 3, 0, 0, 7], "7000000000000"),
            (&[7, 3, 0, 13, 999, 9999, 9999, 9999, 9999, 9999, 9999], "999999999999999.999999999999"),
        ] {
            let read = numeric(&sent(words)).unwrap();
            assert_eq!(read.to_string(), text);
        }
        for words in [&[1, 0, 0, 9][..], &[0, 0, 0xc000, 0], &[0, 0], &[1, 40, 0, 0, 1]] {
            assert_eq!(numeric(&sent(words)), None, "{words:?}");
        }
    }

    #[test]
    fn cells_are_borrowed_and_say_which_cannot_be_read() {
        let (time, id) = ((-1_i64).to_be_bytes(), Uuid::from_u128(7));
        let bytes: [Option<&[u8]>; 6] =
            [Some(b"SPY"), None, Some(&time), Some(id.as_bytes()), Some(&[1]), Some(b"\xff")];
        let cells = Cells(&bytes);
        assert_eq!(cells.text(0), Ok(Some("SPY")));
        assert_eq!(cells.text(1), Ok(None));
        assert_eq!(must(1, cells.text(1)), Err(Unreadable(1)));
        assert_eq!(cells.time(2).unwrap().unwrap().to_rfc3339(), "1999-12-31T23:59:59.999999+00:00");
        assert_eq!(cells.bigint(2), Ok(Some(-1)));
        assert_eq!(cells.uuid(3), Ok(Some(id)));
        assert_eq!(cells.boolean(4), Ok(Some(true)));
        assert_eq!(cells.text(5), Err(Unreadable(5)));
        assert_eq!(cells.time(4), Err(Unreadable(4)));
        assert_eq!(cells.text(6), Err(Unreadable(6)));
        assert_eq!(cells.word::<i32>(0), Err(Unreadable(0)));
    }
}
