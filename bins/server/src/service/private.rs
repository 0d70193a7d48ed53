//! Starts the private listener, and keeps the recorder of figures small.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use plimsoll_api::state::AppState;
use plimsoll_observability::metrics::Metrics;
use tokio::runtime::Runtime;

use crate::operations::{Collector, Private, Watched, serve};

/// How often what was recorded is folded together.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Starts it where a listener is given.
///
/// # Errors
/// The listener cannot be used, there is no thread, or the process records its figures elsewhere.
pub(super) fn start(
    listener: Option<TcpListener>,
    watched: Watched,
    state: &web::Data<AppState>,
    runtime: &Runtime,
) -> io::Result<Option<Private>> {
    let Some(listener) = listener else { return Ok(None) };
    let metrics = Metrics::of_process().map_err(io::Error::other)?;
    let collector = Arc::new(Collector::new(metrics, watched));
    let tidied = Arc::clone(&collector);
    runtime.spawn(async move {
        let mut every = tokio::time::interval(TIDY_EVERY);
        loop {
            every.tick().await;
            tidied.tidy();
        }
    });
    serve(listener, collector, state.clone()).map(Some)
}
