//! A queue in memory with two workers: some jobs fail at first and are repeated, one is given up.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::SystemClock;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{
    Job, JobContext, JobFailure, JobQueue, JobRunner, JobStore, NewJob, Settled, Settlement,
};
use plimsoll_reliability::retry::{Policy, SeededJitter};
use plimsoll_reliability::testing::MemoryStore;
use uuid::Uuid;

fn greet(context: &JobContext<'_, MemoryStore>, job: &Job) -> Result<Settled, JobFailure> {
    let name: String = job.decode()?;
    if name == "nobody" {
        return Err(JobFailure::permanent("there is nobody to greet"));
    }
    if job.attempt < 3 {
        return Err(JobFailure::transient(format!("{name} does not listen yet")));
    }
    println!("hello {name}, at attempt {}", job.attempt);
    context.settle_with(|_| Ok(Settlement::Done))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = MemoryStore::new(Arc::new(SystemClock));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let timings = Timings::default().scaled(0.05);
    let workers = JobRunner::new(
        store.clone(),
        "greetings",
        Uuid::from_u128(1),
        runtime.handle().clone(),
        timings.clone(),
        Arc::new(SeededJitter::new(1)),
    )
    .handle("greet", timings.internal(), greet)
    .start(2, store.wake())?;

    for name in ["Ada", "Grace", "nobody"] {
        let job = NewJob::new("greetings", "greet", &name).attempts(&Policy::INTERNAL);
        store.transaction(|tx| tx.enqueue(&job))?;
    }
    while workers.stats().done < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{:?}", workers.stats());
    println!("{:?}", workers.stop(Duration::from_secs(1)));
    Ok(())
}
