//! Named health checks, run together, each with a time-out, their results kept for a few seconds.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

mod resources;

pub use resources::{DiskCheck, MemoryCheck};

/// How well a part, or the whole, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All is well.
    Healthy,
    /// It works, with something a human should look at.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckOutcome {
    status: HealthStatus,
    message: Option<String>,
    details: Map<String, Value>,
}

impl CheckOutcome {
    /// All is well.
    #[must_use]
    pub fn healthy() -> Self {
        Self { status: HealthStatus::Healthy, message: None, details: Map::new() }
    }

    /// It works, but. The message is shown to administrators: no secrets, no driver's text with addresses in it.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self { status: HealthStatus::Degraded, message: Some(message.into()), details: Map::new() }
    }

    /// It does not work. The message as in [`CheckOutcome::degraded`].
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self { status: HealthStatus::Unhealthy, message: Some(message.into()), details: Map::new() }
    }

    /// Adds a figure beside status and message, such as `free_gb`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// What a check returns when called.
pub type CheckFuture = Pin<Box<dyn Future<Output = CheckOutcome> + Send>>;

/// One check. Any function that returns a [`CheckFuture`] is one.
///
/// It must not block the thread: a time-out only ends a future that yields.
pub trait HealthCheck: Send + Sync {
    /// Looks once.
    fn check(&self) -> CheckFuture;
}

impl<F> HealthCheck for F
where
    F: Fn() -> CheckFuture + Send + Sync,
{
    fn check(&self) -> CheckFuture {
        self()
    }
}

/// What the failure of a check means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Unhealthy here is unhealthy as a whole (503).
    Critical,
    /// Unhealthy here is degraded as a whole.
    Supporting,
}

/// The result of one check as it stands in the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// What was found.
    pub status: HealthStatus,
    /// How long the check took.
    pub response_time_ms: u64,
    /// What a human should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The check's own figures, beside the fields above.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// The answer of `GET /health`, in its JSON form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthReport {
    /// The whole: see [`Importance`].
    pub status: HealthStatus,
    /// When the checks ran, which may be up to the cache's age ago.
    pub timestamp: DateTime<Utc>,
    /// Whole seconds since the start, at `timestamp`.
    pub uptime_seconds: i64,
    /// Number of checks.
    pub total_checks: usize,
    /// Number of healthy ones.
    pub healthy_checks: usize,
    /// By name; empty in the public form.
    pub checks: BTreeMap<String, CheckReport>,
}

impl HealthReport {
    /// The form for anybody: without the checks.
    #[must_use]
    pub fn public(&self) -> Self {
        Self { checks: BTreeMap::new(), ..self.clone() }
    }

    /// `false` asks for a 503.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.status != HealthStatus::Unhealthy
    }
}

struct Registered {
    name: String,
    importance: Importance,
    timeout: Duration,
    check: Box<dyn HealthCheck>,
}

/// The checks of one process.
///
/// Results are kept for [`HealthRegistry::MAX_AGE`]; callers that come while the checks run wait for that one run, so a
/// crowd at the endpoint does not become a crowd at the database.
pub struct HealthRegistry {
    started_at: DateTime<Utc>,
    checks: Vec<Registered>,
    last: Mutex<Option<Arc<HealthReport>>>,
}

impl HealthRegistry {
    /// How old a result may be.
    pub const MAX_AGE: TimeDelta = TimeDelta::seconds(5);

    /// A registry without checks, for a process that started at this time.
    #[must_use]
    pub fn new(started_at: DateTime<Utc>) -> Self {
        Self { started_at, checks: Vec::new(), last: Mutex::new(None) }
    }

    /// Adds a check. One that takes longer than `timeout` counts as unhealthy; a panic in it too. A second check of
    /// the same name replaces the first.
    #[must_use]
    pub fn with(
        mut self,
        name: &str,
        importance: Importance,
        timeout: Duration,
        check: impl HealthCheck + 'static,
    ) -> Self {
        self.checks.retain(|registered| registered.name != name);
        self.checks.push(Registered { name: name.to_owned(), importance, timeout, check: Box::new(check) });
        self
    }

    /// The present state: the kept one when it is younger than [`HealthRegistry::MAX_AGE`] at `now`, else a new one.
    pub async fn report(&self, now: DateTime<Utc>) -> Arc<HealthReport> {
        let mut last = self.last.lock().await;
        if let Some(report) = &*last {
            let age = now - report.timestamp;
            if age >= TimeDelta::zero() && age < Self::MAX_AGE {
                return Arc::clone(report);
            }
        }
        let report = Arc::new(self.run(now).await);
        *last = Some(Arc::clone(&report));
        report
    }

    async fn run(&self, now: DateTime<Utc>) -> HealthReport {
        let results = join_all(self.checks.iter().map(Registered::run)).await;
        let whole = |registered: &Registered, found: HealthStatus| match registered.importance {
            Importance::Critical => found,
            Importance::Supporting => found.min(HealthStatus::Degraded),
        };
        let status = self
            .checks
            .iter()
            .zip(&results)
            .map(|(registered, result)| whole(registered, result.status))
            .max();
        HealthReport {
            status: status.unwrap_or(HealthStatus::Healthy),
            timestamp: now,
            uptime_seconds: (now - self.started_at).num_seconds().max(0),
            total_checks: results.len(),
            healthy_checks: results.iter().filter(|result| result.status == HealthStatus::Healthy).count(),
            checks: self.checks.iter().map(|registered| registered.name.clone()).zip(results).collect(),
        }
    }
}

impl std::fmt::Debug for HealthRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.checks.iter().map(|registered| &registered.name).collect();
        f.debug_struct("HealthRegistry").field("checks", &names).finish_non_exhaustive()
    }
}

impl Registered {
    async fn run(&self) -> CheckReport {
        let start = Instant::now();
        let looked = AssertUnwindSafe(async { self.check.check().await }).catch_unwind();
        let outcome = match tokio::time::timeout(self.timeout, looked).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => CheckOutcome::unhealthy("the check itself failed"),
            Err(_elapsed) => {
                CheckOutcome::unhealthy(format!("no answer within {} ms", self.timeout.as_millis()))
            }
        };
        CheckReport {
            status: outcome.status,
            response_time_ms: start.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            message: outcome.message,
            details: outcome.details,
        }
    }
}

#[cfg(test)]
mod tests;
