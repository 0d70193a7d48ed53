//! Word to systemd, where it started this process (`Type=notify`): that it serves, that it stops, that it still runs.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Handle;

/// Tells that requests may come, and from now on, as often as the unit's `WatchdogSec` asks for, that the tasks run.
pub(crate) fn ready(runtime: &Handle, address: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving at {address}"))]);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        runtime.spawn(beat(limit / 2));
    }
}

/// Tells that the process ends, and how much longer it may take at most.
pub(crate) fn stopping(within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within)]);
}

async fn beat(every: Duration) {
    let mut every = tokio::time::interval(every);
    loop {
        every.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Does nothing where nobody listens.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd was not told");
    }
}
