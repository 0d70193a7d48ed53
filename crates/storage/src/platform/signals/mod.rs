//! Inbound hooks, and the signals that came through them.

mod act;
mod hooks;
mod keep;
mod list;
mod log;
mod silent;
mod told;

pub use act::{Ground, PendingSignal};
pub use hooks::{Door, HookAuth, HookSettings, InboundHook, NewSecret, Secrets};
pub use keep::Outdated;
pub use list::SignalRow;
pub use log::{Begun, Delivery, NewSignal, Outcome, SignalKey, SignalVerdict};
pub(crate) use log::{bind_kept, kept_signal};
pub use silent::SilentHook;
