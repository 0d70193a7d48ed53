//! A service with a kind of job of its own: queued by one call, done by workers, on a store in memory.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::SystemClock;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{JobContext, JobRunner, Retryable, Settlement, queue_for_retry};
use plimsoll_reliability::retry::SeededJitter;
use plimsoll_reliability::testing::MemoryStore;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Serialize, Deserialize)]
struct SendInvoice {
    invoice: u64,
}

impl Retryable for SendInvoice {
    const QUEUE: &'static str = "billing";
    const KIND: &'static str = "send_invoice";

    fn effect_id(&self) -> Option<String> {
        Some(format!("invoice-{}", self.invoice))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = MemoryStore::new(Arc::new(SystemClock));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let (owner, handle) = (Uuid::from_u128(1), runtime.handle().clone());
    let jitter = Arc::new(SeededJitter::new(1));
    let workers = JobRunner::new(store.clone(), "billing", owner, handle, Timings::default(), jitter)
        .handle_retryable(|context: &JobContext<'_, MemoryStore>, what: SendInvoice| {
            println!("invoice {} goes out", what.invoice);
            context.finish(&Settlement::Done)
        })
        .at_most(SendInvoice::KIND, 2)
        .start(4, store.wake())?;
    for invoice in [1, 2, 3, 3] {
        match queue_for_retry(&store, &SendInvoice { invoice })? {
            Some(id) => println!("invoice {invoice} is job {id}"),
            None => println!("invoice {invoice} is queued already"),
        }
    }
    while store.jobs().iter().any(|row| row.finished_at.is_none()) {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{:?}", workers.stats());
    workers.stop(Duration::from_secs(1));
    Ok(())
}
