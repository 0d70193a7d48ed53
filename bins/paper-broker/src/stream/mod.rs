//! The order stream: `/stream`.

mod hub;
mod protocol;
mod socket;

pub(crate) use hub::Hub;
pub(crate) use socket::serve;

/// How the stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamSettings {
    /// Kind of frames.
    pub frames: Frames,
    /// What a further connection of an account does.
    pub connections: Connections,
}

/// Kind of frames that the server sends; it reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frames {
    /// JSON in binary frames, as the paper environment sends it.
    #[default]
    Binary,
    /// JSON in text frames.
    Text,
}

/// What a further connection of an account does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connections {
    /// It pushes the older one out.
    #[default]
    NewestWins,
    /// All stay and get the same messages.
    Several,
}
