#![doc = include_str!("../README.md")]

mod asyncapi;
mod cursor;
mod filter;
mod hub;
mod log;
mod memory_log;
mod sync;
pub mod wire;

pub use asyncapi::asyncapi;
pub use cursor::{Cursor, CursorError, Position};
pub use filter::EventFilter;
pub use hub::{
    Hub, HubSession, HubSettings, Next, OpenError, OpenRequest, SessionInfo, SweepReport, Sweeper, Tap, Tick,
    TickKind, Watch,
};
pub use log::LogReader;
pub use memory_log::MemoryLog;
pub use wire::{ClientMessage, ClientMessageError, CloseCode, EventFrame, ServerMessage, SnapshotReason};
