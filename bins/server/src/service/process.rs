//! What the operating system is told and tells: signals, and how many files may be open.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Supervisors signal a process and its group, so that one request arrives twice: what follows so soon is no second one.
const ECHO: Duration = Duration::from_millis(250);

/// Calls `on` with the exit code of each SIGTERM (143) and SIGINT (130) from now on.
///
/// A file that outgrows its limit is an error of the write, not the end of the process: SIGXFSZ is caught and does
/// nothing.
///
/// # Errors
/// The system takes no handler.
pub(crate) fn on_signals(runtime: &Handle, on: impl Fn(i32) + Send + 'static) -> io::Result<()> {
    let _entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut too_large = signal(SignalKind::from_raw(Signal::SIGXFSZ as i32))?;
    runtime.spawn(async move {
        let mut last: Option<Instant> = None;
        loop {
            let code = tokio::select! {
                Some(()) = terminate.recv() => 143,
                Some(()) = interrupt.recv() => 130,
                Some(()) = too_large.recv() => {
                    tracing::warn!("A file has reached the size that the system allows.");
                    continue;
                }
                else => return,
            };
            if last.is_none_or(|last| last.elapsed() >= ECHO) {
                last = Some(Instant::now());
                on(code);
            }
        }
    });
    Ok(())
}

/// Allows this process as many open files as it may allow itself, and says how many those are.
pub(crate) fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}
