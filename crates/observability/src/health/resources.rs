//! Checks of the machine: memory and disk.

use std::path::PathBuf;

use super::{CheckFuture, CheckOutcome, HealthCheck};
use crate::process::{self, tenths_of_percent};

const DEGRADED_PERCENT: f64 = 90.0;
const UNHEALTHY_PERCENT: f64 = 98.0;

/// Memory of the machine or, where smaller, of the control group: degraded from 90 % used, unhealthy from 98 %.
#[derive(Debug, Clone, Copy)]
pub struct MemoryCheck;

impl HealthCheck for MemoryCheck {
    fn check(&self) -> CheckFuture {
        blocking(|| match process::sample() {
            Some(figures) => {
                let percent = figures.percent_used();
                judge("memory", percent)
                    .with("percent_used", percent)
                    .with("process_mb", figures.resident_bytes / (1024 * 1024))
            }
            None => CheckOutcome::degraded("this system has no memory figures"),
        })
    }
}

/// Space on the file system that holds a folder: degraded from 90 % used, unhealthy from 98 %.
#[derive(Debug, Clone)]
pub struct DiskCheck(PathBuf);

impl DiskCheck {
    /// Watches the file system of this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }
}

impl HealthCheck for DiskCheck {
    fn check(&self) -> CheckFuture {
        let folder = self.0.clone();
        blocking(move || match nix::sys::statvfs::statvfs(&folder) {
            Ok(space) => {
                let (block, blocks, available) =
                    (wide(space.fragment_size()), wide(space.blocks()), wide(space.blocks_available()));
                let (total, free) = (blocks * block, available * block);
                let percent = tenths_of_percent(total.saturating_sub(free), total);
                judge("disk", percent).with("percent_used", percent).with("free_gb", gigabytes(free))
            }
            Err(error) => {
                CheckOutcome::unhealthy(format!("the data folder cannot be looked at: {}", error.desc()))
            }
        })
    }
}

fn judge(what: &str, percent: f64) -> CheckOutcome {
    if percent >= UNHEALTHY_PERCENT {
        CheckOutcome::unhealthy(format!("{what} is {percent} % used"))
    } else if percent >= DEGRADED_PERCENT {
        CheckOutcome::degraded(format!("{what} is {percent} % used"))
    } else {
        CheckOutcome::healthy()
    }
}

/// The fields of `statvfs` are 32 bits wide on some systems, 64 on others.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}

/// To two digits, in units of 10^9 bytes.
fn gigabytes(bytes: u64) -> f64 {
    (bytes / 10_000_000) as f64 / 100.0
}

fn blocking(look: impl FnOnce() -> CheckOutcome + Send + 'static) -> CheckFuture {
    Box::pin(async {
        tokio::task::spawn_blocking(look)
            .await
            .unwrap_or_else(|_| CheckOutcome::unhealthy("the check itself failed"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthStatus;

    #[test]
    fn limits_are_ninety_and_ninety_eight() {
        use HealthStatus::{Degraded, Healthy, Unhealthy};
        for (percent, status) in
            [(0.0, Healthy), (89.9, Healthy), (90.0, Degraded), (97.9, Degraded), (98.0, Unhealthy)]
        {
            assert_eq!(judge("disk", percent).status, status, "{percent}");
        }
        assert_eq!(judge("disk", 91.5).message.unwrap(), "disk is 91.5 % used");
        assert_eq!(gigabytes(1_239_999_999), 1.23);
    }
}
