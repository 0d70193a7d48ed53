//! The port to the history of the streams.

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::stream::{StreamEvent, StreamHead, StreamId};

/// The history that the hub reads. Both calls may block (they are made from blocking threads, never under a lock that
/// [`publish`](crate::Hub::publish) takes), and each sees what was committed before it was made.
pub trait LogReader: Send + Sync {
    /// Where each stream stands, in any order. A stream that has not begun may be left out. At most 1,000 ids are asked.
    ///
    /// # Errors
    /// The log cannot be read now.
    fn heads(&self, streams: &[StreamId]) -> Result<Vec<(StreamId, StreamHead)>, StoreError>;

    /// The events of a stream with an offset above `after`, ascending, at most `limit`. Pruned events are missing at the
    /// beginning, never in the middle.
    ///
    /// # Errors
    /// The log cannot be read now.
    fn read(&self, stream: StreamId, after: i64, limit: usize) -> Result<Vec<StreamEvent>, StoreError>;
}
