//! What goes over the socket, as text: events, control messages, what a client may say, and the close codes.

mod client_message;
mod close_code;
mod event_frame;
mod server_message;

pub use client_message::{ClientMessage, ClientMessageError};
pub use close_code::CloseCode;
pub use event_frame::{EventFrame, tick_text};
pub use server_message::{ServerMessage, SnapshotReason};
