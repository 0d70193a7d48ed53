//! Whether this process should be given work, and if not, why.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// What `GET /health/ready` answers; everything but ready asks for a 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyState {
    /// Not everything needed is there for the first time yet.
    Starting,
    /// Give it work.
    Ready,
    /// It was ready and lost something that it needs.
    Unready,
    /// It is about to end and takes nothing new. Final.
    Draining,
}

/// State and reasons, in its JSON form `{"status":"starting","reasons":["database"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// The state.
    #[serde(rename = "status")]
    pub state: ReadyState,
    /// What is waited for, sorted; empty when ready.
    pub reasons: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting_for: BTreeSet<String>,
    was_ready: bool,
    draining: bool,
}

/// The gate that start-up, the watch on the database and shutdown turn. Clones share it.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<Inner>>);

impl Readiness {
    /// A gate that opens when all these are [`settled`](Readiness::settled); at once when there are none.
    pub fn starting<I, S>(waiting_for: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let waiting_for: BTreeSet<String> = waiting_for.into_iter().map(Into::into).collect();
        let was_ready = waiting_for.is_empty();
        Self(Arc::new(watch::Sender::new(Inner { waiting_for, was_ready, draining: false })))
    }

    /// Something that was waited for is there.
    pub fn settled(&self, reason: &str) {
        self.0.send_if_modified(|inner| {
            let changed = inner.waiting_for.remove(reason);
            inner.was_ready |= inner.waiting_for.is_empty();
            changed
        });
    }

    /// Something that is needed is gone, or not there yet.
    pub fn missing(&self, reason: &str) {
        self.0.send_if_modified(|inner| inner.waiting_for.insert(reason.to_owned()));
    }

    /// Closes the gate for good.
    pub fn drain(&self) {
        self.0.send_if_modified(|inner| !std::mem::replace(&mut inner.draining, true));
    }

    /// State and reasons now.
    #[must_use]
    pub fn report(&self) -> ReadinessReport {
        self.0.borrow().report()
    }

    /// Whether work may be given now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.borrow().state() == ReadyState::Ready
    }

    /// Waits until the gate opens; `false` when it was closed for good first.
    pub async fn ready(&self) -> bool {
        let mut changes = self.0.subscribe();
        let decided = |inner: &Inner| matches!(inner.state(), ReadyState::Ready | ReadyState::Draining);
        match changes.wait_for(decided).await {
            Ok(inner) => inner.state() == ReadyState::Ready,
            Err(_) => false,
        }
    }

    /// Waits until the gate is closed for good.
    pub async fn draining(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|inner| inner.draining).await;
    }
}

impl Inner {
    fn state(&self) -> ReadyState {
        match (self.draining, self.waiting_for.is_empty(), self.was_ready) {
            (true, _, _) => ReadyState::Draining,
            (false, true, _) => ReadyState::Ready,
            (false, false, true) => ReadyState::Unready,
            (false, false, false) => ReadyState::Starting,
        }
    }

    fn report(&self) -> ReadinessReport {
        let mut reasons: Vec<String> = self.waiting_for.iter().cloned().collect();
        if self.draining {
            reasons.push("shutting down".to_owned());
        }
        ReadinessReport { state: self.state(), reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(gate: &Readiness) -> (ReadyState, Vec<String>) {
        let report = gate.report();
        assert_eq!(gate.is_ready(), report.state == ReadyState::Ready);
        (report.state, report.reasons)
    }

    #[test]
    fn a_process_starts_loses_something_recovers_and_drains() {
        let gate = Readiness::starting(["migrations", "database"]);
        assert_eq!(
            state(&gate),
            (ReadyState::Starting, vec!["database".to_owned(), "migrations".to_owned()])
        );
        gate.settled("migrations");
        gate.settled("nothing that was waited for");
        assert_eq!(state(&gate), (ReadyState::Starting, vec!["database".to_owned()]));
        gate.settled("database");
        assert_eq!(state(&gate), (ReadyState::Ready, vec![]));
        gate.missing("database");
        assert_eq!(state(&gate), (ReadyState::Unready, vec!["database".to_owned()]));
        gate.settled("database");
        assert_eq!(state(&gate), (ReadyState::Ready, vec![]));
        gate.clone().drain();
        assert_eq!(state(&gate), (ReadyState::Draining, vec!["shutting down".to_owned()]));
        gate.settled("database");
        assert_eq!(state(&gate).0, ReadyState::Draining);
    }

    #[test]
    fn a_gate_without_conditions_is_open() {
        let gate = Readiness::starting([""; 0]);
        assert_eq!(state(&gate), (ReadyState::Ready, vec![]));
        gate.missing("database");
        assert_eq!(state(&gate).0, ReadyState::Unready);
    }

    #[test]
    fn the_json_form_is_pinned() {
        let report = Readiness::starting(["database"]).report();
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"status":"starting","reasons":["database"]}"#
        );
    }

    #[tokio::test]
    async fn waiters_learn_of_both_ends() {
        let gate = Readiness::starting(["database"]);
        let (opened, ()) = tokio::join!(gate.ready(), async { gate.settled("database") });
        assert!(opened);
        let closed = Readiness::starting(["database"]);
        let (opened, (), ()) = tokio::join!(closed.ready(), closed.draining(), async { closed.drain() });
        assert!(!opened);
    }
}
