//! Figures and health in full on the private listener, over a running demonstration; and the dashboard and alert rules,
//! which name only figures that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_observability::metrics::names::{Form, NAMES};
use plimsoll_testkit::free_port;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::demo::Demo;

/// The value of the line that begins so.
fn value(text: &str, line: &str) -> Option<f64> {
    text.lines().find_map(|shown| shown.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn operators_see_figures_and_every_check() {
    let private = format!("127.0.0.1:{}", free_port());
    let mut demo = Demo::start(&[("METRICS_ADDR", &private)]).await;
    let trader = demo.login("trader").await;
    let body = json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "2"});
    let (status, order) = trader.order("watched", &body).await;
    assert!(status.is_success(), "{status} {order}");
    assert_eq!(trader.get("/orders/not-an-id").await.0, StatusCode::NOT_FOUND);
    let (socket, _) = trader.socket(None).await;
    let get = async |url: String| {
        let answer = demo.http.get(url).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };

    let deadline = Instant::now() + Duration::from_secs(60);
    let text = loop {
        let (status, text) = get(format!("http://{private}/metrics")).await;
        assert_eq!(status, StatusCode::OK);
        if value(&text, "plimsoll_orders_total{status=\"filled\"}") == Some(1.0) {
            break text;
        }
        assert!(Instant::now() < deadline, "no filled order is counted:\n{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    for (line, least) in [
        ("plimsoll_orders_total{status=\"pending_submit\"}", 1.0),
        ("plimsoll_database_up", 1.0),
        ("plimsoll_ws_connections", 1.0),
        ("plimsoll_accounts_held", 1.0),
        ("plimsoll_db_pool_size{pool=\"http\"}", 16.0),
        ("plimsoll_problems_total{code=\"not_found\"}", 1.0),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_route=\"/orders\",\
             http_response_status_code=\"201\"}",
            1.0,
        ),
        ("plimsoll_broker_request_duration_seconds_count{operation=\"submit_order\",outcome=\"ok\"}", 1.0),
        ("process_open_fds", 10.0),
    ] {
        assert!(value(&text, line).is_some_and(|found| found >= least), "{line} of at least {least}\n{text}");
    }
    for zero in ["plimsoll_unknown_orders", "plimsoll_dead_letters", "plimsoll_draining"] {
        assert_eq!(value(&text, zero), Some(0.0), "{zero}\n{text}");
    }
    assert!(!text.contains("/health/"), "probes are not counted:\n{text}");
    let id = order["id"].as_str().unwrap();
    assert!(!text.contains(id) && !text.contains("@"), "no ids and addresses in labels:\n{text}");
    drop(socket);

    // every family has a name that is documented
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(NAMES.iter().any(|known| known.name == name), "{name} has no help");
    }

    let (status, whole) = get(format!("http://{private}/health")).await;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(status, StatusCode::OK, "{whole}");
    let checks = whole["checks"].as_object().unwrap();
    let named: BTreeSet<&str> = checks.keys().map(String::as_str).collect();
    let all = ["broker", "clock", "configuration", "database", "disk", "jobs", "memory", "orders", "smtp"];
    assert_eq!(named, BTreeSet::from(all), "{whole}");
    assert_eq!(whole["total_checks"], 9);
    assert_eq!(checks["database"]["status"], "healthy", "{whole}");
    assert_eq!(
        (&checks["database"]["orders_count"], &checks["database"]["users_count"]),
        (&json!(1), &json!(2))
    );
    assert!(checks["database"]["size_bytes"].as_u64().unwrap() > 1_000_000, "{whole}");
    assert_eq!(checks["broker"]["account_status"], "ACTIVE", "{whole}");
    assert!(checks["broker"]["buying_power"].is_string(), "{whole}");

    // everybody else sees the whole, and an administrator each part
    let (status, public) = get(format!("{}/health", demo.url)).await;
    let public: Value = serde_json::from_str(&public).unwrap();
    assert_eq!((status, &public["total_checks"]), (StatusCode::OK, &json!(9)));
    assert_eq!(public["checks"], json!({}));
    assert_eq!(trader.get("/health").await.1["checks"], json!({}));
    let admin = demo.stepped_up("admin").await;
    assert_eq!(admin.get("/health").await.1["checks"].as_object().unwrap().len(), 9);
    assert_eq!(get(format!("{}/metrics", demo.url)).await.0, StatusCode::NOT_FOUND, "not on the public one");

    demo.child.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(demo.child.wait(Duration::from_secs(25)).code(), Some(0));
}

/// Words of a PromQL expression that look like figures: they are followed by a selector, a range, or nothing.
fn figures(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_lowercase()) {
        rest = &rest[start..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.starts_with("plimsoll_") || name.starts_with("http_server_") || name.starts_with("process_") {
            found.insert(name.to_owned());
        }
        // what stands in braces are labels
        rest = match after.strip_prefix('{') {
            Some(labels) => labels.split_once('}').expect("closed braces").1,
            None => after,
        };
    }
    found
}

fn exists(figure: &str) -> bool {
    NAMES.iter().any(|name| {
        let suffixes: &[&str] =
            if name.form == Form::Seconds { &["_bucket", "_count", "_sum"] } else { &[""] };
        suffixes.iter().any(|suffix| figure.strip_suffix(suffix) == Some(name.name))
    })
}

fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "expr" => found.push(text.clone()),
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn dashboard_and_alerts_ask_for_figures_that_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations");
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("grafana.json")).unwrap()).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    let panels = dashboard["panels"].as_array().unwrap().len();
    assert!(asked.len() >= panels && panels > 0);
    let alerts = fs::read_to_string(folder.join("alerts.yaml")).unwrap();
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    for rule in &rules {
        let expression = rule.split_once("expr: ").expect("each rule has an expression").1;
        let expression = expression.split("labels:").next().unwrap();
        let expression = expression.split("\n        for:").next().unwrap();
        asked.push(expression.to_owned());
    }
    assert!(rules.len() > 5);
    for expression in &asked {
        let figures = figures(expression);
        assert!(!figures.is_empty() || expression.starts_with("up{"), "{expression}");
        for figure in figures {
            assert!(exists(&figure), "{figure} of `{expression}` does not exist");
        }
    }
    assert!(!exists("plimsoll_no_such_thing") && !exists("http_server_request_duration_seconds"));
}
