//! What was called: a bounded log for tests that ask what a client really did.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use plimsoll_paper_exchange::AccountId;
use serde::Serialize;

/// Requests kept; older ones fall out.
const CAPACITY: usize = 20_000;

/// A request to a route of the Trading API, or a stream handshake. Never a credential, never a body.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Logged {
    /// Counts from 1.
    pub(crate) seq: u64,
    /// Real time of its arrival.
    pub(crate) at: DateTime<Utc>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// `None` where the key was wrong.
    pub(crate) account: Option<AccountId>,
    /// The first of `client_order_ids`.
    pub(crate) client_order_id: Option<String>,
    pub(crate) client_order_ids: Vec<String>,
    pub(crate) symbol: Option<String>,
    /// What was answered; `None` where the connection was closed instead.
    pub(crate) status: Option<u16>,
    /// Milliseconds from arrival to answer.
    pub(crate) duration_ms: u64,
    pub(crate) request_id: String,
    /// Ids of the fault rules that acted.
    pub(crate) faults: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    kept: Mutex<(u64, VecDeque<Logged>)>,
}

impl RequestLog {
    /// Keeps an entry under the next number.
    pub(crate) fn push(&self, mut entry: Logged) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        entry.seq = kept.0;
        if kept.1.len() == CAPACITY {
            kept.1.pop_front();
        }
        kept.1.push_back(entry);
    }

    /// Entries after a number, oldest first.
    pub(crate) fn after(&self, seq: u64) -> Vec<Logged> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.iter().filter(|entry| entry.seq > seq).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Logged {
        Logged {
            seq: 0,
            at: DateTime::UNIX_EPOCH,
            method: "GET".into(),
            path: "/v2/clock".into(),
            query: String::new(),
            account: None,
            client_order_id: None,
            client_order_ids: Vec::new(),
            symbol: None,
            status: Some(200),
            duration_ms: 0,
            request_id: String::new(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn entries_are_numbered_and_old_ones_fall_out() {
        let log = RequestLog::default();
        (0..=CAPACITY).for_each(|_| log.push(entry()));
        let all = log.after(0);
        assert_eq!((all.len(), all[0].seq), (CAPACITY, 2));
        assert_eq!(log.after(CAPACITY as u64).len(), 1);
    }
}
