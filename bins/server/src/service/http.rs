//! The HTTP server, on threads of its own.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use plimsoll_api::routes::openapi::OpenApiText;
use plimsoll_api::state::AppState;
use plimsoll_api::ws::WebSockets;
use plimsoll_api::{configure, openapi_document, request_id};

/// Headers of a request must have come within it.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// The server while it runs.
pub(super) struct Server {
    handle: ServerHandle,
    thread: JoinHandle<std::io::Result<()>>,
}

/// Serves on a listener that is bound already.
pub(super) fn start(
    listener: TcpListener,
    workers: usize,
    state: web::Data<AppState>,
    sockets: web::Data<WebSockets>,
) -> std::io::Result<Server> {
    let document = web::Data::new(OpenApiText(openapi_document()));
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("http".into()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new().wrap(from_fn(request_id::identify)).configure(configure(
                    state.clone(),
                    sockets.clone(),
                    document.clone(),
                ))
            })
            .workers(workers.max(1))
            .disable_signals()
            .client_request_timeout(HEADERS_WITHIN)
            .shutdown_timeout(10)
            .listen(listener);
            match server {
                Ok(server) => {
                    let server = server.run();
                    // The receiver waits for exactly this.
                    drop(sender.send(Ok(server.handle())));
                    server.await
                }
                Err(error) => {
                    drop(sender.send(Err(error)));
                    Ok(())
                }
            }
        })
    })?;
    let handle = receiver.recv().map_err(|_| std::io::Error::other("the HTTP thread ended at once"))??;
    Ok(Server { handle, thread })
}

impl Server {
    /// Takes no new connections and lets requests under way end, for at most `limit`.
    pub(super) fn stop(self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let stop = self.handle.stop(true);
        let waiting = thread::spawn(move || actix_web::rt::System::new().block_on(stop));
        while !waiting.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if !self.thread.is_finished() && Instant::now() >= deadline {
            tracing::warn!("requests were cut at the deadline");
        }
    }
}
