//! The HTTP server on a thread of its own.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use actix_cors::Cors;
use actix_web::dev::ServerHandle;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpServer, web};
use plimsoll_api::request_id::identify;
use plimsoll_api::routes::openapi::OpenApiText;
use plimsoll_api::state::AppState;
use plimsoll_api::ws::WebSockets;

/// How long a client may take to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// What is served.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) state: web::Data<AppState>,
    pub(super) sockets: web::Data<WebSockets>,
    pub(super) document: web::Data<OpenApiText>,
    /// Exact origins whose pages may call.
    pub(super) cors_origins: Vec<String>,
}

/// Starts serving. `failed` is called when the server ends by itself.
///
/// # Errors
/// The listener cannot be used, or there is no thread.
pub(super) fn serve(
    listener: TcpListener,
    service: Service,
    stop_within: Duration,
    failed: impl FnOnce(io::Error) + Send + 'static,
) -> io::Result<ServerHandle> {
    let (started, starting) = mpsc::sync_channel(1);
    thread::Builder::new().name("http".into()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                let Service { state, sockets, document, cors_origins } = service.clone();
                App::new()
                    .wrap(Condition::new(!cors_origins.is_empty(), cors(&cors_origins)))
                    .wrap(from_fn(identify))
                    .configure(plimsoll_api::configure(state, sockets, document))
            })
            .client_request_timeout(HEADERS_WITHIN)
            .shutdown_timeout(stop_within.as_secs().max(1))
            .disable_signals()
            .listen(listener);
            match server {
                Ok(server) => {
                    let server = server.run();
                    let _ = started.send(Ok(server.handle()));
                    if let Err(error) = server.await {
                        failed(error);
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    })?;
    starting.recv().map_err(|_| io::Error::other("the HTTP server's thread ended"))?
}

/// Exact origins only; none is reflected that is not in the list (OWASP ASVS 5.0, 3.4.2).
fn cors(origins: &[String]) -> Cors {
    origins
        .iter()
        .fold(Cors::default(), |cors, origin| cors.allowed_origin(origin))
        .allowed_methods(["GET", "POST", "PATCH", "PUT", "DELETE"])
        .allowed_headers([
            "authorization",
            "content-type",
            "idempotency-key",
            "x-request-id",
            "x-plimsoll-csrf",
        ])
        .expose_headers([
            "retry-after",
            "idempotency-replayed",
            "x-request-id",
            "plimsoll-cursor",
            "location",
        ])
        .max_age(3600)
}
