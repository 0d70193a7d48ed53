use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing::{debug, error, info, info_span, warn};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The lines that `work` logs, without their time.
fn lines(level: &str, format: LogFormat, work: impl FnOnce()) -> Vec<String> {
    let captured = Captured::default();
    let layer = LogLayer::new(format, captured.clone());
    let subscriber = tracing_subscriber::registry().with(parse_level(level).unwrap()).with(layer);
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn pretty(work: impl FnOnce()) -> Vec<String> {
    lines("info", LogFormat::Pretty, work)
        .into_iter()
        .map(|line| line[line.find(' ').unwrap() + 1..].to_owned())
        .collect()
}

fn json(work: impl FnOnce()) -> Vec<Value> {
    lines("info", LogFormat::Json, work).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_spans() {
    let request = info_span!("request", request.id = "r-1", user.id = tracing::field::Empty);
    let _in_request = request.enter();
    request.record("user.id", 42);
    let _in_order = info_span!("order", symbol = "SPY").entered();
    info!(order.id = "o-1", qty = %"10.5", live = false, "order accepted");
}

#[test]
fn text_lines_hold_event_and_spans() {
    assert_eq!(
        pretty(with_spans),
        [" INFO plimsoll_observability::logging::tests: order accepted live=false order.id=o-1 qty=10.5 \
          [request request.id=r-1 user.id=42] [order symbol=SPY]"]
    );
}

#[test]
fn json_lines_hold_event_and_spans() {
    let mut all = json(with_spans);
    let time = all[0].as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
    assert_eq!(
        all,
        [json!({
            "level": "INFO", "target": "plimsoll_observability::logging::tests", "message": "order accepted",
            "fields": {"live": false, "order.id": "o-1", "qty": "10.5"},
            "spans": [{"name": "request", "request.id": "r-1", "user.id": 42}, {"name": "order", "symbol": "SPY"}],
        })]
    );
}

#[test]
fn no_secret_reaches_a_line_by_whatever_way() {
    let canary = "canary5canary5canary5canary5";
    let all = || {
        let span = info_span!("login", password = canary, session_token = tracing::field::Empty, n = 1);
        let _entered = span.enter();
        span.record("session_token", canary);
        info!(api_key = canary, secret.number = 5_555_555, authorization = ?Some(canary), flag.token = true, "a");
        warn!("Bearer {canary}");
        error!(url = format!("postgres://app:{canary}@db/x"), header = ?format!("bearer {canary}"), "b");
        let cause = io::Error::other(format!("401 for plm_{canary}"));
        error!(error = &cause as &(dyn std::error::Error + 'static), cookie = %canary, "c");
    };
    for format in [LogFormat::Pretty, LogFormat::Json] {
        let text = lines("trace", format, all).join("\n");
        assert_eq!(text.lines().count(), 4);
        assert!(
            !text.contains("canary5") && !text.contains("5555") && !text.contains("token=true"),
            "{text}"
        );
        assert!(text.contains(redaction::REDACTED) && text.contains("postgres://app:"), "{text}");
    }
}

#[test]
fn a_value_cannot_forge_a_line_or_paint_the_terminal() {
    let all = || {
        info!(agent = "x\r\n2026 INFO forged \u{1b}[31m", "first\nsecond");
    };
    let text = pretty(all);
    let line = " INFO plimsoll_observability::logging::tests: first\\nsecond agent=\"x\\r\\n2026 INFO forged \\u{1b}[31m\"";
    assert_eq!(text, [line]);
    assert_eq!(json(all)[0]["message"], "first\nsecond");
}

#[test]
fn an_error_is_logged_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("the order was not sent")]
    struct Outer(#[source] io::Error);
    let outer = Outer(io::Error::other("connection reset"));
    let line = json(|| error!(error = &outer as &(dyn std::error::Error + 'static), "failed"));
    assert_eq!(line[0]["fields"]["error"], "the order was not sent: connection reset");
}

#[test]
fn the_level_filters_by_target() {
    let all = || {
        debug!(target: "quiet", "hidden");
        debug!(target: "loud", "shown");
        info!(target: "quiet", "hidden");
    };
    assert_eq!(lines("warn,loud=debug", LogFormat::Json, all).len(), 1);
    assert!(matches!(parse_level("info,plimsoll=loudest"), Err(LoggingError::Level(_))));
}

#[test]
fn a_process_has_one_logger() {
    assert!(matches!(init("plimsoll=shout", LogFormat::Json), Err(LoggingError::Level(_))));
    init("off", LogFormat::Json).unwrap();
    assert!(matches!(init("off", LogFormat::Pretty), Err(LoggingError::AlreadySet)));
}

#[test]
fn formats_have_names() {
    for format in [LogFormat::Pretty, LogFormat::Json] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert_eq!("JSON".parse::<LogFormat>(), Err(UnknownLogFormat));
}

#[test]
fn warnings_that_repeat_are_written_three_times_and_all_others_always() {
    let written = pretty(|| {
        for attempt in 0..10 {
            warn!("the database is away");
            error!("the broker is away");
            info!("looking again");
            warn!(attempt, "a different one each time");
            let _request = info_span!("request", request.id = attempt).entered();
            warn!("turned away");
        }
    });
    let count = |text: &str| written.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("the database is away"), count("the broker is away")), (3, 3));
    assert_eq!((count("looking again"), count("a different one"), count("turned away")), (10, 10, 10));
}
