//! Logins under load, and how long they take.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use plimsoll_auth::throttle::Limit;
use plimsoll_auth::{AccountPolicy, Role};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::passwords::Passwords;
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::timing::{COST, ratio, within};
use crate::world::{PASSWORD, World};

fn unlimited(policy: &mut AccountPolicy) {
    policy.require_admin_2fa = false;
    policy.login.per_ip = Limit::new(1_000_000, TimeDelta::hours(1), 1_000_000);
    policy.login.failures = u32::MAX;
    policy.login.disable_after = u32::MAX;
    policy.login.spray_pairs = u32::MAX;
}

/// Work that holds its thread until its sender is dropped.
#[derive(Default)]
struct Held {
    go_on: Vec<mpsc::Sender<()>>,
    tasks: Vec<JoinHandle<Result<(), StoreError>>>,
    running: Arc<AtomicUsize>,
}

impl Held {
    fn add(&mut self, world: &World) {
        let (go_on, wait) = mpsc::channel();
        let (state, running) = (world.state.clone(), Arc::clone(&self.running));
        self.go_on.push(go_on);
        self.tasks.push(tokio::spawn(async move {
            let work = move |_: &Passwords| {
                running.fetch_add(1, Ordering::SeqCst);
                wait.recv_timeout(Duration::from_secs(60)).unwrap_or_default();
            };
            state.hashing.run(work).await
        }));
    }
}

/// LOG-10: while every thread for hashes is taken and as many wait as may, a login is refused at once and leaves no
/// trace, and other requests are answered; when there is room again, it is as if nothing had been.
#[tokio::test]
async fn with_no_room_for_a_hash_logins_are_refused_and_other_requests_answered() {
    let world = World::with(unlimited).await;
    world.user("ann@example.com", Role::User);
    let ann = world.login("ann@example.com").await;
    let attempts = || world.rows("SELECT count(*) AS n FROM login_attempts")[0]["n"].clone();
    let throttles = || world.rows("SELECT * FROM throttles ORDER BY kind, key");
    let (attempted, counted) = (attempts(), throttles());

    let mut held = Held::default();
    while held.running.load(Ordering::SeqCst) < world.state.settings.parallel_hashes {
        held.add(&world);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while world.state.hashing.check_room().is_ok() {
        held.add(&world);
        tokio::task::yield_now().await;
    }
    let asked = json!({ "email": "ann@example.com", "password": PASSWORD });
    let client = world.client();
    let refused = client.post("/auth/login", &asked).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    assert_eq!(refused.body["code"], "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    for path in ["/health/live", "/health/ready", "/health/quick"] {
        assert_eq!(client.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(ann.get("/auth/me").await.status, StatusCode::OK);
    let step_up = ann.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    assert_eq!(step_up.status, StatusCode::SERVICE_UNAVAILABLE, "{}", step_up.body);
    let changed = json!({ "current_password": PASSWORD, "new_password": "another Kestrel 41 umbrella" });
    assert_eq!(ann.post("/auth/change-password", &changed).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.rows("SELECT id FROM user_2fa_attempts").is_empty());
    assert_eq!((attempts(), throttles()), (attempted, counted), "nothing was counted");

    drop(held.go_on);
    // Those that waited too long on a slow machine were refused, which is as good here.
    drop(join_all(held.tasks).await);
    assert_eq!(client.post("/auth/login", &asked).await.status, StatusCode::OK);
}

/// LOG-2, TIM-1: a login with a wrong password takes the same time for a known and an unknown address: a real hash is
/// computed for both.
#[tokio::test]
async fn a_refused_login_takes_the_same_time_for_known_and_unknown_addresses() {
    let world = World::with_cost(COST, unlimited).await;
    world.user("ann@example.com", Role::User);
    let client = world.client();
    within(|_| {
        ratio(|_, known| {
            let email = if known { "ann@example.com" } else { "bob@example.com" };
            let client = &client;
            async move {
                let asked = json!({ "email": email, "password": "not this one at all" });
                let reply = client.post("/auth/login", &asked).await;
                assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{}", reply.body);
                reply
            }
        })
    })
    .await;
}
