//! What every request passes, whatever route it is for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use plimsoll_auth::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::{PASSWORD, Reply, World};

/// What an answer of any kind must have.
fn assert_headers(what: &str, reply: &Reply) {
    let header =
        |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let age = header("strict-transport-security");
    assert!(age.contains("includeSubDomains"), "{what}: {age}");
    let seconds: u64 = age.split(['=', ';']).nth(1).unwrap().trim().parse().unwrap();
    assert!(seconds >= 31_536_000, "{what}: {age}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(header(name), value, "{what}: {name}");
    }
    let policy = header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{what}: {policy}"
    );
    assert_eq!(header("server"), "", "{what}");
    assert_eq!(header("x-powered-by"), "", "{what}");
    assert_eq!(header("x-request-id").len(), 36, "{what}");
    if reply.status.is_client_error() || reply.status.is_server_error() {
        assert_eq!(header("content-type"), "application/problem+json", "{what}: {}", reply.text);
        assert_eq!(reply.body["status"], reply.status.as_u16(), "{what}");
        assert_eq!(reply.body["type"], format!("/problems/{}", reply.code()), "{what}");
        assert_eq!(reply.body["request_id"], header("x-request-id"), "{what}");
    }
}

/// HDR-1, ERR-1: answers of every kind carry the headers, and refusals are problems with the request's id.
#[tokio::test]
async fn every_answer_has_the_headers_and_every_refusal_is_a_problem() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let (client, json) = (world.client(), "application/json");
    let login = |body: &str, kind: &'static str| {
        let (client, body) = (client.clone(), body.to_owned());
        async move { client.request(Method::POST, "/auth/login", Some((body, kind))).await }
    };
    let foreign = client.clone().header("sec-fetch-site", "cross-site");
    let long = format!("/orders?symbol={}", "A".repeat(9_000));
    let heavy = client.clone().header("x-filler", &"x".repeat(17_000));
    let right = json!({ "email": "ann@example.com", "password": PASSWORD });
    let answers = [
        ("health", 200, client.get("/health/live").await),
        ("document", 200, client.get("/openapi.json").await),
        ("token", 200, client.post("/auth/login", &right).await),
        ("nothing there", 404, client.get("/nothing").await),
        ("wrong method", 405, client.post("/health/live", &json!({})).await),
        ("not signed in", 401, client.get("/auth/me").await),
        ("form", 415, login("email=a", "application/x-www-form-urlencoded").await),
        ("text", 415, login("{}", "text/plain").await),
        ("no JSON", 400, login("{", json).await),
        ("unknown field", 422, login(r#"{"email":"a","password":"b","role":"admin"}"#, json).await),
        ("too large", 413, login(&format!("\"{}\"", "x".repeat(65_536)), json).await),
        ("long address", 414, client.get(&long).await),
        ("long headers", 431, heavy.get("/auth/me").await),
        ("NUL in the address", 400, client.get("/problems/a%00").await),
        ("foreign page", 403, foreign.post("/auth/login", &right).await),
        ("no handshake", 400, client.get("/ws").await),
        ("panic", 500, client.get("/test/panic").await),
    ];
    for (what, status, reply) in &answers {
        assert_eq!(reply.status.as_u16(), *status, "{what}: {}", reply.text);
        assert_headers(what, reply);
    }
    let id = "0196a6b0-1111-7222-8333-444455556666";
    let reply = client.clone().header("x-request-id", id).get("/nothing").await;
    assert_eq!(
        (reply.headers["x-request-id"].to_str().unwrap(), &reply.body["request_id"]),
        (id, &json!(id))
    );
    let reply = client.header("x-request-id", "not-an-id").get("/nothing").await;
    assert_ne!(reply.headers["x-request-id"], "not-an-id");
}

/// ERR-1: while the database is away, what needs it is answered with 503 in the same shape, says nothing of the database,
/// and comes back with it.
#[tokio::test]
async fn without_its_database_every_route_answers_with_a_problem() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let ann = world.login("ann@example.com").await;
    let (name, body) = (world.test.name(), json!({ "email": "ann@example.com", "password": PASSWORD }));
    let database = |statements: &[&str]| {
        let url = plimsoll_storage::db::with_database(world.test.url(), "postgres");
        let mut admin = plimsoll_storage::testing::RawConnection::open(&url).unwrap();
        statements.iter().for_each(|sql| admin.execute(sql).unwrap());
    };
    database(&[
        &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        &format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"),
    ]);
    let client = world.client();
    let new = json!({ "email": "bob@example.com", "password": PASSWORD });
    let (link, nothing) = (json!({ "token": "A".repeat(43) }), json!({}));
    let replies = tokio::join!(
        ann.get("/orders"),
        ann.get("/auth/me"),
        ann.post("/auth/logout", &nothing),
        client.post("/auth/login", &body),
        client.post("/auth/register", &new),
        client.post("/auth/verify-email", &link),
    );
    for (what, reply) in [
        ("a read", replies.0),
        ("who calls", replies.1),
        ("a change", replies.2),
        ("a login", replies.3),
        ("a registration", replies.4),
        ("a link", replies.5),
    ] {
        assert_eq!((reply.status.as_u16(), reply.code()), (503, "unavailable"), "{what}: {}", reply.text);
        assert_headers(what, &reply);
        assert!(reply.headers.contains_key("retry-after"), "{what}");
        let text = reply.text.to_lowercase();
        for word in ["postgres", "sql", "connection", "backend", name] {
            assert!(!text.contains(word), "{what}: {}", reply.text);
        }
    }
    assert_eq!(client.get("/health/live").await.status, StatusCode::OK);
    database(&[&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")]);
    let mut status = StatusCode::SERVICE_UNAVAILABLE;
    for _ in 0..300 {
        status = client.post("/auth/login", &body).await.status;
        if status == StatusCode::OK {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, StatusCode::OK);
}

/// CSR-3: forms and plain text, which foreign pages may send without asking, are refused by every route that takes a body.
#[tokio::test]
async fn only_json_is_read() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let body = json!({ "email": "ann@example.com", "password": PASSWORD }).to_string();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
    {
        for path in ["/auth/login", "/auth/register", "/auth/verify-email", "/auth/request-reset"] {
            let reply = world.client().request(Method::POST, path, Some((body.clone(), kind))).await;
            assert_eq!(
                (reply.status.as_u16(), reply.code()),
                (415, "unsupported_media_type"),
                "{kind} {path}"
            );
        }
    }
    assert!(world.rows("SELECT id FROM sessions").is_empty());
}

/// CSR-3: whoever may do everything changes nothing by GET and HEAD, on any documented route.
#[tokio::test]
async fn reading_changes_nothing() {
    let world = World::start().await;
    let root = world.user("root@example.com", Role::Admin);
    world.user("ann@example.com", Role::User);
    world.connect(root);
    let client = world.login("root@example.com").await;
    // What notes a look is no change: the log, counters, and when a session was seen.
    let noted = ["audit_log", "audit_head", "throttles", "sessions"];
    let tables = world.rows(
        "SELECT table_name::text AS name FROM information_schema.tables \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY 1",
    );
    let tables: Vec<String> = tables.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    let state = || {
        let one = |name: &String| {
            let rows = format!("SELECT to_jsonb(t) AS row FROM \"{name}\" t ORDER BY t::text");
            (name.clone(), world.rows(&rows))
        };
        tables.iter().filter(|name| !noted.contains(&name.as_str())).map(one).collect::<Vec<_>>()
    };
    let live =
        "SELECT id, token_digest::text, expires_at, revoked_at, step_up_until FROM sessions ORDER BY id";
    let before = (state(), world.rows(live));
    let document = client.get("/openapi.json").await.body;
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("get").is_none() || path.starts_with("/ws") {
            continue;
        }
        let path = path.replace("{user_id}", "2").replace("{symbol}", "SPY").replace("{code}", "internal");
        let path = if path.starts_with("/admin") { path.replace("{id}", "2") } else { path };
        let path = path.replace("{id}", "0196a6b0-1111-7222-8333-444455556666");
        for method in [Method::GET, Method::HEAD] {
            client.send(method, &path, None).await;
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
    let after = (state(), world.rows(live));
    assert_eq!(before, after);
}

/// ERR-2: a panic in a handler is answered with 500 and the id, says nothing else, and the server goes on.
#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_goes_on() {
    let world = World::start().await;
    for _ in 0..3 {
        let reply = world.client().get("/test/panic").await;
        assert_eq!((reply.status.as_u16(), reply.code()), (500, "internal"));
        assert!(!reply.text.contains("a handler that fails"), "{}", reply.text);
    }
    assert_eq!(world.client().get("/health/live").await.status, StatusCode::OK);
}

/// ERR-2: a panic in a transaction rolls it back and costs the pool no connection.
#[tokio::test]
async fn a_panic_in_a_transaction_costs_no_connection() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let before = world.db.load();
    for _ in 0..before.size * 3 {
        let reply = world.client().get("/test/panic-in-transaction").await;
        assert_eq!((reply.status.as_u16(), reply.code()), (500, "internal"));
    }
    assert_eq!(world.db.load().in_use, 0);
    assert!(world.rows("SELECT id FROM users WHERE display_name = 'half done'").is_empty());
    assert_eq!(world.client().get("/health/quick").await.status, StatusCode::OK);
}

/// ERR-3: names that stand twice at any level, NUL and endless nesting are refused, and nothing happens.
#[tokio::test]
async fn bodies_are_read_strictly() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    let nested = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (body, statuses) in [
        (format!(r#"{{"email":"ann@example.com","password":"x","password":"{PASSWORD}"}}"#), [422, 422]),
        (format!(r#"{{"email":"ann@example.com","password":"{PASSWORD}","password":"x"}}"#), [422, 422]),
        (format!(r#"{{"email":"ann@example.com\u0000","password":"{PASSWORD}"}}"#), [422, 422]),
        (format!(r#"{{"email":{nested},"password":"x"}}"#), [400, 422]),
    ] {
        let reply =
            world.client().request(Method::POST, "/auth/login", Some((body, "application/json"))).await;
        assert!(statuses.contains(&reply.status.as_u16()), "{} {}", reply.status, reply.text);
    }
    assert!(world.rows(&format!("SELECT id FROM sessions WHERE user_id = {user}")).is_empty());
}

/// ERR-3: a body that does not come in time is not waited for.
#[tokio::test]
async fn a_slow_body_times_out() {
    let world = World::with_settings(|settings| settings.body_within = Duration::from_millis(300)).await;
    let address = world.url.strip_prefix("http://").unwrap().to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        while !String::from_utf8_lossy(&answer).contains("request_timeout") {
            let read = stream.read(&mut chunk).unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8(answer).unwrap()
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("nosniff"), "{answer}");
}

/// CSR-5: origins are allowed exactly, never reflected, never with credentials, and answers vary by them.
#[tokio::test]
async fn pages_of_listed_origins_may_call_and_no_others() {
    let app = "https://app.example.com";
    let world = World::with_settings(|settings| settings.cors_origins = vec![app.to_owned()]).await;
    let preflight = |origin: &str, headers: &str| {
        let client = world
            .client()
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", headers);
        async move { client.send(Method::OPTIONS, "/orders", None).await }
    };
    let allowed = preflight(app, "authorization,content-type,idempotency-key").await;
    assert_eq!(allowed.status, StatusCode::OK);
    assert_eq!(allowed.headers["access-control-allow-origin"], app);
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"));
    for origin in
        ["null", "https://evil.example", "https://app.example.com.evil.example", "http://app.example.com"]
    {
        let refused = preflight(origin, "authorization").await;
        assert_eq!((refused.status.as_u16(), refused.code()), (403, "access_denied"), "{origin}");
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert_headers(origin, &refused);
        let read = world.client().header("origin", origin).get("/health/live").await;
        assert!(!read.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert!(read.headers["vary"].to_str().unwrap().to_lowercase().contains("origin"), "{origin}");
    }
    assert_eq!(preflight(app, "cookie,x-plimsoll-csrf").await.status, StatusCode::FORBIDDEN);
    let read = world.client().header("origin", app).get("/health/live").await;
    assert_eq!(read.headers["access-control-allow-origin"], app);
    // Where nothing is listed, nothing is allowed.
    let world = World::start().await;
    let read = world.client().header("origin", app).get("/health/live").await;
    assert!(!read.headers.contains_key("access-control-allow-origin"));
}

/// PRX-1: the address of a client is its peer's, whatever it says, unless the peer is a trusted proxy.
#[tokio::test]
async fn addresses_are_believed_from_trusted_proxies_only() {
    for (trusted, expected) in [(vec![], "127.0.0.1"), (vec!["127.0.0.0/8"], "203.0.113.9")] {
        let world = World::with_settings(|settings| {
            let networks = trusted.iter().map(|text| text.parse().unwrap()).collect();
            settings.trusted_proxies = plimsoll_api::proxies::TrustedProxies::new(networks);
        })
        .await;
        world.user("ann@example.com", Role::User);
        let body = json!({ "email": "ann@example.com", "password": PASSWORD });
        let client = world.client().header("x-forwarded-for", "198.51.100.1, 203.0.113.9");
        let client = client.header("forwarded", "for=198.51.100.2").header("x-real-ip", "198.51.100.3");
        assert_eq!(client.post("/auth/login", &body).await.status, StatusCode::OK);
        let rows = world.rows("SELECT host(ip) AS ip FROM sessions");
        assert_eq!(rows[0]["ip"], expected);
    }
}
