//! The private listener, `METRICS_ADDR`: figures and health in full, without credentials.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, HttpServer, get, web};
use plimsoll_api::routes::health;
use plimsoll_api::state::AppState;
use plimsoll_observability::metrics::CONTENT_TYPE as TEXT;

use super::collect::Collector;

/// How long a client may take to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// How long answers under way may take once it is stopped.
const STOP_WITHIN_S: u64 = 2;

/// The running listener.
pub(crate) struct Private {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
}

impl Private {
    /// Stops it; waits for answers under way.
    pub(crate) async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

#[get("/metrics")]
async fn metrics(collector: web::Data<Collector>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT)).body(collector.text().await)
}

#[get("/health")]
async fn full_health(state: web::Data<AppState>) -> HttpResponse {
    health::answer(&*state.health.report(state.clock.now()).await)
}

/// Starts serving, on one thread of its own.
///
/// # Errors
/// The listener cannot be used, or there is no thread.
pub(crate) fn serve(
    listener: TcpListener,
    collector: Arc<Collector>,
    state: web::Data<AppState>,
) -> io::Result<Private> {
    let address = listener.local_addr()?;
    let collector = web::Data::from(collector);
    let (started, starting) = mpsc::sync_channel(1);
    thread::Builder::new().name("private-http".into()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(collector.clone())
                    .app_data(state.clone())
                    .service(metrics)
                    .service(full_health)
                    .service(health::live)
                    .service(health::ready)
            })
            .workers(1)
            .client_request_timeout(HEADERS_WITHIN)
            .shutdown_timeout(STOP_WITHIN_S)
            .disable_signals()
            .listen(listener);
            match server {
                Ok(server) => {
                    let server = server.run();
                    let _ = started.send(Ok(server.handle()));
                    if let Err(error) = server.await {
                        tracing::error!(%error, "the private listener failed");
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    })?;
    let handle = starting.recv().map_err(|_| io::Error::other("the private listener's thread ended"))??;
    Ok(Private { address, handle })
}
