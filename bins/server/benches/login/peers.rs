//! What the service is measured against: the argon2 crate alone, and an actix-web server with one route.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, get};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use plimsoll_crypto::passwords::HashParams;
use serde_json::json;

use super::Result;

/// Hashes a second of the argon2 crate on threads that do nothing else and keep their memory.
pub(crate) fn hashes_per_second(cost: HashParams, threads: usize, time: Duration) -> Result<f64> {
    let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, None)
        .map_err(|why| format!("the cost is refused: {why}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| hash_for(&argon2, time))).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| "a thread panicked")?).sum()
    })
}

/// Hashes a second of one thread.
fn hash_for(argon2: &Argon2<'_>, time: Duration) -> Result<f64> {
    let mut memory = vec![Block::new(); argon2.params().block_count()];
    let mut output = [0; 32];
    let began = Instant::now();
    let mut count = 0.0;
    while began.elapsed() < time {
        argon2
            .hash_password_into_with_memory(b"a password of a bench", &[7; 16], &mut output, &mut memory)
            .map_err(|why| why.to_string())?;
        count += 1.0;
    }
    Ok(count / began.elapsed().as_secs_f64())
}

/// A server that answers one route with a constant of the size of a user.
pub(crate) struct Bare {
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
}

#[get("/auth/me")]
async fn constant() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "id": 1,
        "email": "trader0@example.com",
        "display_name": null,
        "role": "user",
        "email_verified": true,
        "created_at": "2026-11-24T12:00:00.000000Z",
    }))
}

impl Bare {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (started, starting) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server =
                    HttpServer::new(|| App::new().service(constant)).disable_signals().listen(listener);
                let Ok(server) = server else { return };
                let server = server.run();
                drop(started.send(server.handle()));
                drop(server.await);
            });
        });
        Ok(Self { address, handle: starting.recv()? })
    }

    pub(crate) fn stop(self) {
        drop(self.handle.stop(false));
    }
}
