//! The checks of what this service itself consists of.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_api::gateway::{SeenAccount, TradingGateway};
use plimsoll_core_domain::order::OrderStatus;
use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_observability::health::{CheckFuture, CheckOutcome, HealthRegistry, Importance};
use plimsoll_reliability::jobs::{JobCount, JobState};
use plimsoll_storage::Db;

use crate::mail::Postman;
use crate::trading::Connections;

/// How long a check may take: together with what is around it, `/health` answers within a second.
const LIMIT: Duration = Duration::from_millis(800);
/// A job that has been due for so long shows that its queue stands still.
const WAITS_TOO_LONG: TimeDelta = TimeDelta::minutes(1);

/// How far this machine's clock may be from the database's: what expires by one is looked at by the other.
const CLOCKS_AGREE: TimeDelta = TimeDelta::seconds(2);

/// What is checked.
pub(crate) struct OwnParts {
    /// This machine's time.
    pub(crate) clock: Arc<dyn Clock>,
    /// The pool of leases and health.
    pub(crate) control: Db,
    /// The brokers.
    pub(crate) connections: Arc<Connections>,
    /// The SMTP server, where there is one.
    pub(crate) postman: Option<Postman>,
    /// What the configuration's warnings are about: names of settings.
    pub(crate) warned_of: Vec<String>,
}

/// Adds the checks of these parts. Only the database is vital: without broker or mail the service goes on.
pub(crate) fn with_own_parts(registry: HealthRegistry, parts: OwnParts) -> HealthRegistry {
    let OwnParts { clock, control, connections, postman, warned_of } = parts;
    let (for_jobs, for_orders, for_clock) = (control.clone(), control.clone(), control.clone());
    let registry = registry
        .with("database", Importance::Critical, LIMIT, move || database(control.clone()))
        .with("clock", Importance::Supporting, LIMIT, move || clocks(for_clock.clone(), Arc::clone(&clock)))
        .with("jobs", Importance::Supporting, LIMIT, move || jobs(for_jobs.clone()))
        .with("orders", Importance::Supporting, LIMIT, move || orders(for_orders.clone()))
        .with("broker", Importance::Supporting, LIMIT, move || broker(connections.clone()))
        .with("configuration", Importance::Supporting, LIMIT, move || configuration(&warned_of));
    registry.with("smtp", Importance::Supporting, LIMIT, move || smtp(postman.clone()))
}

/// What a failed read says: never the driver's words, which may hold addresses.
fn away(_: &StoreError) -> CheckOutcome {
    CheckOutcome::unhealthy("the database does not answer")
}

fn database(db: Db) -> CheckFuture {
    Box::pin(async move {
        match db.read(|tx| tx.database_figures()).await {
            Ok(figures) => CheckOutcome::healthy()
                .with("orders_count", figures.orders)
                .with("users_count", figures.users)
                .with("size_bytes", figures.size_bytes),
            Err(error) => away(&error),
        }
    })
}

fn clocks(db: Db, clock: Arc<dyn Clock>) -> CheckFuture {
    Box::pin(async move {
        let asked = clock.now();
        match db.read(|tx| tx.database_now()).await {
            Ok(there) => judge_clocks(asked, there, clock.now()),
            Err(error) => away(&error),
        }
    })
}

/// The database told its time between two looks at the clock here: only what lies outside of those is a difference.
fn judge_clocks(asked: DateTime<Utc>, there: DateTime<Utc>, answered: DateTime<Utc>) -> CheckOutcome {
    let offset = if there < asked {
        there - asked
    } else if there > answered {
        there - answered
    } else {
        TimeDelta::zero()
    };
    let outcome = if offset.abs() > CLOCKS_AGREE {
        CheckOutcome::degraded(format!(
            "the database's clock is {} ms from this machine's: synchronise both",
            offset.num_milliseconds()
        ))
    } else {
        CheckOutcome::healthy()
    };
    outcome.with("offset_ms", offset.num_milliseconds())
}

fn jobs(db: Db) -> CheckFuture {
    Box::pin(async move {
        match db.read(|tx| Ok::<_, StoreError>((tx.database_now()?, tx.job_counts()?))).await {
            Ok((now, counts)) => judge_jobs(now, &counts),
            Err(error) => away(&error),
        }
    })
}

fn judge_jobs(now: DateTime<Utc>, counts: &[JobCount]) -> CheckOutcome {
    let of = |state| counts.iter().filter(move |count| count.state == state);
    let number = |state| of(state).map(|count| count.jobs).sum::<u64>();
    let (ready, running, held, dead) =
        (number(JobState::Ready), number(JobState::Leased), number(JobState::Held), number(JobState::Dead));
    let late = of(JobState::Ready).max_by_key(|count| now - count.oldest);
    let waited = late.map_or(TimeDelta::zero(), |count| now - count.oldest).max(TimeDelta::zero());
    let outcome = match late {
        Some(count) if waited > WAITS_TOO_LONG => CheckOutcome::degraded(format!(
            "a job of the queue {} has been due for {} s",
            count.queue,
            waited.num_seconds()
        )),
        _ if dead > 0 => CheckOutcome::degraded("there are dead letters: see `plimsoll dead-letters list`"),
        _ => CheckOutcome::healthy(),
    };
    outcome
        .with("ready", ready)
        .with("running", running)
        .with("held", held)
        .with("dead_letters", dead)
        .with("oldest_ready_seconds", waited.num_seconds())
}

fn orders(db: Db) -> CheckFuture {
    Box::pin(async move {
        match db.read(|tx| tx.open_order_counts()).await {
            Ok(counts) => {
                let open: u64 = counts.iter().map(|(_, orders)| orders).sum();
                let unknown: u64 = counts
                    .iter()
                    .filter(|(status, _)| *status == OrderStatus::Unknown)
                    .map(|(_, orders)| orders)
                    .sum();
                let outcome = if unknown > 0 {
                    CheckOutcome::degraded("the fate of some orders at the broker is not known yet")
                } else {
                    CheckOutcome::healthy()
                };
                outcome.with("open", open).with("unknown", unknown)
            }
            Err(error) => away(&error),
        }
    })
}

/// All accounts stand in the picture; one of them is asked for its state.
fn broker(connections: Arc<Connections>) -> CheckFuture {
    Box::pin(async move {
        let accounts = connections.count();
        let Some(sample) = connections.any() else {
            return CheckOutcome::healthy().with("accounts", accounts);
        };
        // What was seen a moment ago will do: anybody may ask for the health of the whole, and calls are the account's.
        let seen = match connections.known_account(sample.user) {
            Some(seen) => Ok(seen),
            None => connections.account(sample.user).await,
        };
        match seen {
            Ok(SeenAccount { account, stale: false, .. }) => {
                let outcome = if account.trading_blocked {
                    CheckOutcome::degraded("the broker blocks trading of an account")
                } else if !connections.all_ready() {
                    CheckOutcome::degraded("some accounts wait for their comparison with the broker")
                } else {
                    CheckOutcome::healthy()
                };
                outcome
                    .with("account_status", account.status)
                    .with("buying_power", account.buying_power.normalize().to_string())
                    .with("accounts", accounts)
            }
            silent => {
                tracing::debug!(error = ?silent.err(), "the broker check failed");
                CheckOutcome::unhealthy("the broker does not answer").with("accounts", accounts)
            }
        }
    })
}

fn smtp(postman: Option<Postman>) -> CheckFuture {
    Box::pin(async move {
        let Some(postman) = postman else {
            return CheckOutcome::healthy().with("configured", false);
        };
        if postman.answers().await {
            CheckOutcome::healthy().with("configured", true)
        } else {
            CheckOutcome::unhealthy("the SMTP server cannot be used").with("configured", true)
        }
    })
}

fn configuration(warned_of: &[String]) -> CheckFuture {
    let outcome = if warned_of.is_empty() {
        CheckOutcome::healthy()
    } else {
        CheckOutcome::degraded(format!("see `plimsoll config check` for {}", warned_of.join(", ")))
    };
    let outcome = outcome.with("warnings", warned_of.len());
    Box::pin(async move { outcome })
}

#[cfg(test)]
mod tests {
    use plimsoll_observability::health::HealthStatus;

    use super::*;

    fn count(state: JobState, jobs: u64, oldest: DateTime<Utc>) -> JobCount {
        JobCount { queue: "broker".to_owned(), kind: "submit_order".to_owned(), state, jobs, oldest }
    }

    async fn judged(counts: &[JobCount]) -> (HealthStatus, serde_json::Value) {
        let outcome = judge_jobs(now(), counts);
        let registry =
            HealthRegistry::new(now()).with("jobs", Importance::Critical, LIMIT, move || -> CheckFuture {
                let outcome = outcome.clone();
                Box::pin(async move { outcome })
            });
        let report = registry.report(now()).await;
        (report.status, serde_json::to_value(&report.checks["jobs"]).unwrap())
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[tokio::test]
    async fn a_queue_that_stands_still_is_told_of() {
        let (status, shown) = judged(&[count(JobState::Ready, 3, now() - TimeDelta::seconds(59))]).await;
        assert_eq!((status, &shown["ready"]), (HealthStatus::Healthy, &3.into()));
        let (status, shown) = judged(&[count(JobState::Ready, 3, now() - TimeDelta::seconds(61))]).await;
        assert_eq!(status, HealthStatus::Degraded);
        assert_eq!(shown["message"], "a job of the queue broker has been due for 61 s");
        // due tomorrow: nothing waits
        let (status, shown) = judged(&[count(JobState::Ready, 1, now() + TimeDelta::days(1))]).await;
        assert_eq!((status, &shown["oldest_ready_seconds"]), (HealthStatus::Healthy, &0.into()));
    }

    #[tokio::test]
    async fn clocks_that_disagree_are_told_of() {
        let millis = TimeDelta::milliseconds;
        for (there, took, offset, status) in [
            (5, 10, 0, HealthStatus::Healthy),
            (-1_999, 10, -1_999, HealthStatus::Healthy),
            (-2_001, 10, -2_001, HealthStatus::Degraded),
            (2_500, 100, 2_400, HealthStatus::Degraded),
            // a slow answer is no difference
            (2_500, 3_000, 0, HealthStatus::Healthy),
        ] {
            let outcome = judge_clocks(now(), now() + millis(there), now() + millis(took));
            let registry = HealthRegistry::new(now()).with(
                "clock",
                Importance::Critical,
                LIMIT,
                move || -> CheckFuture {
                    let outcome = outcome.clone();
                    Box::pin(async move { outcome })
                },
            );
            let report = registry.report(now()).await;
            let shown = serde_json::to_value(&report.checks["clock"]).unwrap();
            assert_eq!(
                (report.status, shown["offset_ms"].as_i64()),
                (status, Some(offset)),
                "{there} {took}"
            );
        }
    }

    #[tokio::test]
    async fn dead_letters_are_told_of() {
        let (status, shown) = judged(&[count(JobState::Dead, 2, now())]).await;
        assert_eq!((status, &shown["dead_letters"]), (HealthStatus::Degraded, &2.into()));
        assert_eq!(judged(&[]).await.0, HealthStatus::Healthy);
    }
}
