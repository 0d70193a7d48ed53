//! Counting the rows of PostgreSQL's binary COPY form as they pass, which also tells a stream that broke off: the form ends
//! with a trailer, and a connection that dies in the middle looks like an end to whoever reads it.

use super::BackupError;

const SIGNATURE: [u8; 11] = *b"PGCOPY\n\xff\r\n\0";

/// Follows a binary COPY stream in pieces of any size.
#[derive(Debug)]
pub(super) struct RowCounter {
    columns: u16,
    rows: u64,
    state: State,
    /// Bytes of a number or of the signature that have come so far.
    piece: [u8; 11],
    have: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Signature,
    Flags,
    Extension,
    /// The count of a row's fields, or the trailer.
    Fields,
    /// The length of one of so many fields that are left.
    Length {
        left: u16,
    },
    /// So many bytes, and then so many fields.
    Skip {
        bytes: u32,
        left: u16,
    },
    SkipExtension {
        bytes: u32,
    },
    End,
}

impl RowCounter {
    /// For rows of so many columns.
    pub(super) fn new(columns: u16) -> Self {
        Self { columns, rows: 0, state: State::Signature, piece: [0; 11], have: 0 }
    }

    /// Follows the next bytes.
    ///
    /// # Errors
    /// They are not of the form.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            self.state = match self.state {
                State::Skip { bytes: left_bytes, left } => {
                    let now = left_bytes.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                    bytes = &bytes[now as usize..];
                    after(left_bytes - now, left)
                }
                State::SkipExtension { bytes: left_bytes } => {
                    let now = left_bytes.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                    bytes = &bytes[now as usize..];
                    match left_bytes - now {
                        0 => State::Fields,
                        rest => State::SkipExtension { bytes: rest },
                    }
                }
                State::End => return Err(wrong("something follows the rows of a table")),
                state => {
                    let wanted = state.width();
                    let now = (wanted - self.have).min(bytes.len());
                    self.piece[self.have..self.have + now].copy_from_slice(&bytes[..now]);
                    bytes = &bytes[now..];
                    self.have += now;
                    if self.have < wanted {
                        return Ok(());
                    }
                    self.have = 0;
                    self.number(state)?
                }
            };
        }
        Ok(())
    }

    /// The number of rows.
    ///
    /// # Errors
    /// The stream broke off before its end.
    pub(super) fn finish(&self) -> Result<u64, BackupError> {
        match self.state {
            State::End => Ok(self.rows),
            _ => Err(wrong("the rows of a table break off")),
        }
    }

    fn number(&mut self, state: State) -> Result<State, BackupError> {
        let four = u32::from_be_bytes([self.piece[0], self.piece[1], self.piece[2], self.piece[3]]);
        Ok(match state {
            State::Signature if self.piece == SIGNATURE => State::Flags,
            State::Flags if four == 0 => State::Extension,
            State::Extension if four == 0 => State::Fields,
            State::Extension if four < 1 << 16 => State::SkipExtension { bytes: four },
            State::Fields => match u16::from_be_bytes([self.piece[0], self.piece[1]]) {
                u16::MAX => State::End,
                fields if fields == self.columns => {
                    self.rows += 1;
                    after(0, fields)
                }
                _ => return Err(wrong("a row has another number of columns than its table")),
            },
            State::Length { left } => match four {
                u32::MAX => after(0, left - 1),
                length if length < 1 << 31 => after(length, left - 1),
                _ => return Err(wrong("a value has a length below nothing")),
            },
            _ => return Err(wrong("the rows of a table are not in PostgreSQL's binary form")),
        })
    }
}

impl State {
    fn width(self) -> usize {
        match self {
            Self::Signature => SIGNATURE.len(),
            Self::Fields => 2,
            _ => 4,
        }
    }
}

fn after(bytes: u32, left: u16) -> State {
    match (bytes, left) {
        (0, 0) => State::Fields,
        (0, left) => State::Length { left },
        (bytes, left) => State::Skip { bytes, left },
    }
}

fn wrong(what: &str) -> BackupError {
    BackupError::Inconsistent(what.to_owned())
}
