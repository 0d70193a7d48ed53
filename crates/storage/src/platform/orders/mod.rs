//! Orders: accepting them, sending them, and applying what the broker tells.

mod accept;
mod apply;
mod change;
mod claim;
mod events;
mod find;
mod legs;
mod list;
mod rebook;
mod row;
mod stale;
mod submit;
mod write;

pub(crate) use accept::IMPORTED;
pub use accept::{
    AcceptKey, AcceptOrder, Accepted, ClientOrderIds, InternalKey, KeyState, Opened, OrderOrigin, RequestKey,
    Settles,
};
pub use apply::{Applied, ApplyError, OrderReport};
pub use change::{CancelWish, NewReplacement, ReplaceWish};
pub use claim::{OrderClaim, PositionClaim};
pub(crate) use events::event;
pub use list::{ListedOrder, OrderFilter, OrderPage};
pub use submit::{SYNC_ORDER, SyncPayload};
