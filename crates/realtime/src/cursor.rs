//! The opaque cursor: a point in both streams of one user.

use data_encoding::BASE64URL_NOPAD;
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::stream::StreamHead;
use uuid::Uuid;

/// A point in a stream: everything up to and including `offset` of that epoch has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The stream's epoch. Nil together with offset 0: the stream had not begun.
    pub epoch: Uuid,
    /// The last offset seen; 0 for none.
    pub offset: i64,
}

impl Position {
    /// The point before the first event of a stream that no log knows yet.
    pub const UNBORN: Self = Self { epoch: Uuid::nil(), offset: 0 };

    /// Whether this is [`UNBORN`](Self::UNBORN): it then precedes the first event of whatever epoch comes.
    #[must_use]
    pub fn is_unborn(self) -> bool {
        self == Self::UNBORN
    }
}

impl From<StreamHead> for Position {
    fn from(head: StreamHead) -> Self {
        Self { epoch: head.epoch, offset: head.head }
    }
}

impl From<Position> for StreamHead {
    fn from(at: Position) -> Self {
        Self { epoch: at.epoch, head: at.offset }
    }
}

/// A point in a user's stream and in the broadcast at once. Its text is URL-safe and opaque to clients; it is no secret
/// and grants nothing, so it carries a checksum against damage and no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whose cursor: it says nothing about another user's stream.
    pub user: UserId,
    /// The point in the user's stream.
    pub user_at: Position,
    /// The point in the broadcast.
    pub broadcast_at: Position,
}

/// Why a text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Damaged, cut off, or never one of ours.
    #[error("not a cursor")]
    Malformed,
    /// Made by a newer release.
    #[error("a cursor of a version that is not known here")]
    Version,
}

const VERSION: u8 = 1;
/// Version, user, two positions, checksum.
const RAW_LEN: usize = 1 + 8 + 2 * (16 + 8) + 4;

impl Cursor {
    /// The length of every cursor's text, in bytes: fixed, so that a frame's length does not depend on its cursor.
    pub const TEXT_LEN: usize = 82;

    /// The text that clients keep.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(Self::TEXT_LEN);
        self.encode_to(&mut text);
        text
    }

    /// Appends the text to `out`.
    pub fn encode_to(&self, out: &mut String) {
        let mut raw = [0; RAW_LEN];
        raw[0] = VERSION;
        raw[1..9].copy_from_slice(&self.user.0.to_be_bytes());
        for (at, place) in [(self.user_at, 9), (self.broadcast_at, 33)] {
            raw[place..place + 16].copy_from_slice(at.epoch.as_bytes());
            raw[place + 16..place + 24].copy_from_slice(&at.offset.to_be_bytes());
        }
        let sum = checksum(&raw[..RAW_LEN - 4]);
        raw[RAW_LEN - 4..].copy_from_slice(&sum.to_be_bytes());
        BASE64URL_NOPAD.encode_append(&raw, out);
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// The text is no cursor, or one of another version.
    pub fn decode(text: &str) -> Result<Self, CursorError> {
        if text.len() > 4 * Self::TEXT_LEN {
            return Err(CursorError::Malformed);
        }
        let raw = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| CursorError::Malformed)?;
        let Some((body, sum)) = raw.split_last_chunk::<4>() else { return Err(CursorError::Malformed) };
        if checksum(body).to_be_bytes() != *sum {
            return Err(CursorError::Malformed);
        }
        if body.first() != Some(&VERSION) {
            return Err(CursorError::Version);
        }
        let mut fields = Fields(&body[1..]);
        let cursor = Self {
            user: UserId(i64::from_be_bytes(fields.take()?)),
            user_at: fields.position()?,
            broadcast_at: fields.position()?,
        };
        if fields.0.is_empty() { Ok(cursor) } else { Err(CursorError::Malformed) }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(CursorError::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    fn position(&mut self) -> Result<Position, CursorError> {
        let epoch = Uuid::from_bytes(self.take()?);
        let offset = i64::from_be_bytes(self.take()?);
        if offset < 0 { Err(CursorError::Malformed) } else { Ok(Position { epoch, offset }) }
    }
}

/// FNV-1a, 32 bits (RFC 9923): finds damage, proves nothing.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Cursor {
        Cursor {
            user: UserId(123),
            user_at: Position { epoch: Uuid::from_u128(0x11), offset: 42 },
            broadcast_at: Position { epoch: Uuid::from_u128(0x22), offset: 7 },
        }
    }

    /// Texts that clients hold must stay readable by later releases.
    #[test]
    fn the_text_of_version_1_does_not_change() {
        let text = example().encode();
        assert_eq!(text.len(), Cursor::TEXT_LEN);
        assert_eq!(
            text,
            "AQAAAAAAAAB7AAAAAAAAAAAAAAAAAAAAEQAAAAAAAAAqAAAAAAAAAAAAAAAAAAAAIgAAAAAAAAAHEn0dsw"
        );
        assert_eq!(Cursor::decode(&text), Ok(example()));
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(checksum(b""), 0x811c_9dc5);
        assert_eq!(checksum(b"foobar"), 0xbf9c_f968); // RFC 9923's test vector
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let text = example().encode();
        for bad in [
            "",
            "x",
            "AQ",
            &text[1..],
            &format!("{text}A"),
            &text.replace('A', "B"),
            "ä",
            &"A".repeat(100_000),
        ] {
            assert_eq!(Cursor::decode(bad), Err(CursorError::Malformed), "{bad:.20}");
        }
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        let mut raw = vec![2, 1, 2, 3];
        raw.extend(checksum(&raw).to_be_bytes());
        assert_eq!(Cursor::decode(&BASE64URL_NOPAD.encode(&raw)), Err(CursorError::Version));
    }

    #[test]
    fn a_negative_offset_is_refused() {
        let mut cursor = example();
        cursor.user_at.offset = -1;
        assert_eq!(Cursor::decode(&cursor.encode()), Err(CursorError::Malformed));
    }

    proptest! {
        #[test]
        fn every_cursor_survives_its_text(
            user in any::<i64>(), epochs in any::<[u128; 2]>(), offsets in [0..=i64::MAX, 0..=i64::MAX]
        ) {
            let cursor = Cursor {
                user: UserId(user),
                user_at: Position { epoch: Uuid::from_u128(epochs[0]), offset: offsets[0] },
                broadcast_at: Position { epoch: Uuid::from_u128(epochs[1]), offset: offsets[1] },
            };
            prop_assert_eq!(cursor.encode().len(), Cursor::TEXT_LEN);
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn one_damaged_character_is_noticed(place in 0..Cursor::TEXT_LEN, with in "[A-Za-z0-9_-]") {
            let mut text = example().encode();
            text.replace_range(place..=place, &with);
            prop_assume!(text != example().encode());
            prop_assert!(Cursor::decode(&text).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = Cursor::decode(&text);
        }
    }
}
