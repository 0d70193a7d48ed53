//! The figures that are not counted as things happen, read when somebody asks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use metrics::gauge;
use plimsoll_api::ws::WebSockets;
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::order::OrderStatus;
use plimsoll_observability::metrics::{Metrics, names};
use plimsoll_observability::readiness::{Readiness, ReadyState};
use plimsoll_reliability::jobs::{JobCount, JobState};
use plimsoll_storage::Db;
use plimsoll_storage::platform::figures::ComparisonFigures;
use tokio::sync::Mutex;

use crate::trading::Connections;

/// How old the figures from the database may be: several scrapers do not make a crowd there.
const MAX_AGE: Duration = Duration::from_secs(2);
/// How long the database is waited for. Without it the last figures stand, and `plimsoll_database_up` says so.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// What is looked at.
pub(crate) struct Watched {
    /// The pool that the figures are read by.
    pub(crate) control: Db,
    /// All pools, by name.
    pub(crate) pools: Vec<(&'static str, Db)>,
    /// The accounts.
    pub(crate) connections: Arc<Connections>,
    /// The sockets.
    pub(crate) sockets: web::Data<WebSockets>,
    /// Whether the instance stops.
    pub(crate) readiness: Readiness,
}

/// Reads the figures.
pub(crate) struct Collector {
    metrics: Metrics,
    of: Watched,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    read: Option<Instant>,
    /// Queues and states that had jobs once: they have none rather than vanish.
    jobs: HashSet<(String, JobState)>,
}

struct Read {
    now: chrono::DateTime<chrono::Utc>,
    orders: Vec<(OrderStatus, u64)>,
    jobs: Vec<JobCount>,
    comparisons: ComparisonFigures,
}

impl Collector {
    pub(crate) fn new(metrics: Metrics, of: Watched) -> Self {
        Self { metrics, of, last: Mutex::default() }
    }

    /// All figures as text.
    pub(crate) async fn text(&self) -> String {
        self.look_here();
        self.look_at_database().await;
        let metrics = self.metrics.clone();
        // it reads files of /proc
        tokio::task::spawn_blocking(move || metrics.text()).await.unwrap_or_default()
    }

    /// Keeps the recorder small between scrapes.
    pub(crate) fn tidy(&self) {
        self.metrics.tidy();
    }

    fn look_here(&self) {
        for (pool, db) in &self.of.pools {
            let load = db.load();
            gauge!(names::DB_IN_USE, "pool" => *pool).set(load.in_use as f64);
            gauge!(names::DB_WAITING, "pool" => *pool).set(load.waiting as f64);
            gauge!(names::DB_SIZE, "pool" => *pool).set(f64::from(load.size));
        }
        gauge!(names::WS_CONNECTIONS).set(self.of.sockets.connection_count() as f64);
        gauge!(names::ACCOUNTS_HERE).set(self.of.connections.count() as f64);
        let draining = self.of.readiness.report().state == ReadyState::Draining;
        gauge!(names::DRAINING).set(if draining { 1.0 } else { 0.0 });
    }

    async fn look_at_database(&self) {
        let mut last = self.last.lock().await;
        if last.read.is_some_and(|at| at.elapsed() < MAX_AGE) {
            return;
        }
        let read = self.of.control.read(|tx| {
            Ok::<_, StoreError>(Read {
                now: tx.database_now()?,
                orders: tx.open_order_counts()?,
                jobs: tx.job_counts()?,
                comparisons: tx.comparison_figures()?,
            })
        });
        let read = tokio::time::timeout(ANSWERED_WITHIN, read).await;
        last.read = Some(Instant::now());
        match read {
            Ok(Ok(read)) => {
                gauge!(names::UP).set(1.0);
                show_orders(&read.orders);
                show_comparisons(&read);
                last.show_jobs(&read);
            }
            _ => gauge!(names::UP).set(0.0),
        }
    }
}

fn show_orders(counts: &[(OrderStatus, u64)]) {
    let of = |status| counts.iter().find(|(counted, _)| *counted == status).map_or(0, |(_, orders)| *orders);
    for status in OrderStatus::ALL.into_iter().filter(|status| status.is_open()) {
        gauge!(names::OPEN_ORDERS, "status" => status.as_str()).set(of(status) as f64);
    }
    gauge!(names::UNKNOWN_ORDERS).set(of(OrderStatus::Unknown) as f64);
}

fn show_comparisons(read: &Read) {
    let of = &read.comparisons;
    let age = of.oldest.map_or(0, |at| (read.now - at).num_milliseconds().max(0));
    gauge!(names::COMPARISON_AGE).set(age as f64 / 1000.0);
    gauge!(names::NEVER_COMPARED).set(of.never as f64);
    gauge!(names::DISCREPANCIES, "class" => "needs_human").set(of.needs_human as f64);
    gauge!(names::DISCREPANCIES, "class" => "timing").set(of.timing as f64);
}

impl Last {
    fn show_jobs(&mut self, read: &Read) {
        let open = || read.jobs.iter().filter(|count| count.state != JobState::Dead);
        self.jobs.extend(open().map(|count| (count.queue.clone(), count.state)));
        for (queue, state) in &self.jobs {
            let here = || open().filter(|count| count.queue == *queue && count.state == *state);
            let jobs: u64 = here().map(|count| count.jobs).sum();
            gauge!(names::JOBS, "queue" => queue.clone(), "state" => state.as_str()).set(jobs as f64);
            if *state == JobState::Ready {
                let waited = here().map(|count| (read.now - count.oldest).num_milliseconds()).max();
                gauge!(names::OLDEST_JOB, "queue" => queue.clone())
                    .set(waited.unwrap_or_default().max(0) as f64 / 1000.0);
            }
        }
        let dead: u64 =
            read.jobs.iter().filter(|count| count.state == JobState::Dead).map(|count| count.jobs).sum();
        gauge!(names::DEAD_LETTERS).set(dead as f64);
    }
}
