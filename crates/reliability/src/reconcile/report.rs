//! What a run finds, and what it says at its end.

use plimsoll_core_domain::{BrokerOrderId, OrderId, Symbol};

use super::table::{Case, Class, words};

words!(
    /// Why a run is made.
    Trigger {
        /// This instance took the account over, or the server started.
        Start = "start",
        /// The order stream came back.
        Reconnect = "reconnect",
        /// Its time had come.
        Interval = "interval",
        /// Orders are open, and the stream may be silent.
        Watch = "watch",
        /// The fate of an order has been unknown for a while.
        Unknown = "unknown",
        /// The database was restored, or another server of it took over: what it has may be old.
        Restore = "restore",
        /// A halt was lifted: entries are taken once the account was compared.
        Rearm = "rearm",
        /// A user, an administrator or a command asked for it.
        Demand = "demand",
    }
);

words!(
    /// Where a run stands, or how it ended.
    RunStatus {
        /// Asked for.
        Queued = "queued",
        /// Under way.
        Running = "running",
        /// Every difference is explained, adopted or adjusted, or will settle by itself.
        Ok = "ok",
        /// Some differences need a human.
        Attention = "attention",
        /// Some questions were not answered: nothing was concluded from that.
        Partial = "partial",
        /// Nothing was compared.
        Failed = "failed",
    }
);

impl RunStatus {
    /// Whether the run has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Whether everything was compared.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Ok | Self::Attention)
    }
}

/// What a difference is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An order of ours.
    Order(OrderId, Symbol),
    /// An order of the broker that is not on record; the symbol as the broker writes it.
    AtBroker(BrokerOrderId, String),
    /// What is held of a symbol, as the broker writes it.
    Position(String),
    /// The account's cash.
    Cash,
}

impl Subject {
    /// Under which the same difference is found again.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Order(id, _) => id.to_string(),
            Self::AtBroker(id, _) => format!("broker:{id}"),
            Self::Position(symbol) => symbol.clone(),
            Self::Cash => "cash".to_owned(),
        }
    }

    /// The symbol, where there is one.
    #[must_use]
    pub fn symbol(&self) -> Option<&str> {
        match self {
            Self::Order(_, symbol) => Some(symbol.as_str()),
            Self::AtBroker(_, symbol) | Self::Position(symbol) => Some(symbol),
            Self::Cash => None,
        }
    }

    /// The order of ours, where there is one.
    #[must_use]
    pub const fn order(&self) -> Option<OrderId> {
        match self {
            Self::Order(id, _) => Some(*id),
            _ => None,
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// Which row of the table it is.
    pub case: Case,
    /// What is, or was, here.
    pub local: String,
    /// What the broker shows.
    pub broker: String,
}

impl Finding {
    pub(super) fn new(
        case: Case,
        subject: Subject,
        local: impl std::fmt::Display,
        broker: impl std::fmt::Display,
    ) -> Self {
        Self { subject, case, local: local.to_string(), broker: broker.to_string() }
    }
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: RunStatus,
    /// Orders, positions and balances that were compared.
    pub scanned: u32,
    /// Differences that were settled by it.
    pub fixed: u32,
    /// Every difference.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// Of what was found; `complete` when every question was answered.
    #[must_use]
    pub fn new(scanned: u32, mut findings: Vec<Finding>, complete: bool) -> Self {
        findings.sort();
        findings.dedup_by(|a, b| a.subject == b.subject && a.case == b.case);
        let class = |finding: &Finding| finding.case.rule().class;
        let settled = |finding: &&Finding| matches!(class(finding), Class::Adopted | Class::Adjusted);
        let fixed = u32::try_from(findings.iter().filter(settled).count()).unwrap_or(u32::MAX);
        let status = match complete {
            false => RunStatus::Partial,
            true if findings.iter().any(|one| class(one) == Class::NeedsHuman) => RunStatus::Attention,
            true => RunStatus::Ok,
        };
        Self { status, scanned, fixed, findings }
    }
}
