//! The HTTP server on a thread of its own.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use plimsoll_api::Served;

/// How long a client may take to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Starts serving. `failed` is called when the server ends by itself.
///
/// # Errors
/// The listener cannot be used, or there is no thread.
pub(super) fn serve(
    listener: TcpListener,
    served: Served,
    stop_within: Duration,
    failed: impl FnOnce(io::Error) + Send + 'static,
) -> io::Result<ServerHandle> {
    let (started, starting) = mpsc::sync_channel(1);
    thread::Builder::new().name("http".into()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || plimsoll_api::app(served.clone()))
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
