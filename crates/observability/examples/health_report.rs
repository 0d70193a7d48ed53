//! Logs a line with a secret in it, runs the machine's health checks once and prints the report.
//!
//! `cargo run -p plimsoll-observability --example health_report`

use std::error::Error;
use std::time::Duration;

use plimsoll_observability::health::{DiskCheck, HealthRegistry, Importance, MemoryCheck};
use plimsoll_observability::logging::{self, LogFormat};
use plimsoll_observability::readiness::Readiness;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    logging::init("info", LogFormat::Pretty)?;
    tracing::info!(user.id = 42, password = "not to be seen", "signed in");

    let started_at = chrono::DateTime::from_timestamp(1_800_000_000, 0).ok_or("a time in range")?;
    let timeout = Duration::from_secs(2);
    let registry = HealthRegistry::new(started_at)
        .with("memory", Importance::Supporting, timeout, MemoryCheck)
        .with("disk", Importance::Supporting, timeout, DiskCheck::new("."));
    let report = registry.report(started_at + chrono::TimeDelta::seconds(3)).await;
    println!("{}", serde_json::to_string_pretty(&*report)?);

    let gate = Readiness::starting(["database"]);
    println!("{}", serde_json::to_string(&gate.report())?);
    gate.settled("database");
    println!("{}", serde_json::to_string(&gate.report())?);
    Ok(())
}
