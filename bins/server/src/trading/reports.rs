//! What connections tell the supervisor.

use plimsoll_core_domain::{AccountId, UserId};
use tokio::sync::mpsc;

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The account was compared with the broker: the credentials are good, and it takes orders.
    Agreed,
    /// The broker refuses the credentials, in these words, or they are for another account.
    Refused(String),
    /// The credentials do not open.
    Unreadable,
}

/// A report, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) account: AccountId,
    pub(super) user: UserId,
    /// Of the credentials.
    pub(super) version: i64,
    pub(super) report: Report,
}

/// Tells of one connection.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) account: AccountId,
    pub(super) user: UserId,
    pub(super) version: i64,
    pub(super) reports: mpsc::UnboundedSender<Told>,
}

impl Teller {
    pub(super) fn tell(&self, report: Report) {
        let Self { account, user, version, .. } = *self;
        // nobody listens any more when the server ends
        drop(self.reports.send(Told { account, user, version, report }));
    }
}
