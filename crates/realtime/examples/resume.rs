//! A client that goes away and comes back: `cargo run -p plimsoll-realtime --example resume`.

use std::sync::Arc;
use std::time::Instant;

use chrono::DateTime;
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_realtime::{Hub, HubSession, HubSettings, MemoryLog, Next, OpenRequest};
use uuid::Uuid;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let user = UserId(7);
    let log = Arc::new(MemoryLog::new(Uuid::from_u128(1)));
    let hub = Hub::new(log.clone(), HubSettings::default());
    let emit = |kind| {
        let event = log.append(StreamId::User(user), kind, r#"{"symbol":"SPY"}"#, DateTime::UNIX_EPOCH);
        hub.publish(&event);
    };

    let session = hub.open(OpenRequest::new(user, "login-1"))?;
    emit(EventKind::OrderCreated);
    println!("connected:");
    let last = print(&session)?;
    drop(session);

    emit(EventKind::OrderFilled);
    emit(EventKind::PositionUpdated);
    println!("back again:");
    let session = hub.open(OpenRequest::new(user, "login-1").resuming(last))?;
    print(&session)?;
    Ok(())
}

/// Prints what waits to be sent; the answer is the last cursor in it.
fn print(session: &HubSession) -> Result<String, Box<dyn std::error::Error>> {
    let mut last = String::new();
    while let Next::Text(text) = session.next(Instant::now()) {
        println!("  {}", std::str::from_utf8(&text)?);
        let message: serde_json::Value = serde_json::from_slice(&text)?;
        if let Some(cursor) = message["id"].as_str().or(message["cursor"].as_str()) {
            cursor.clone_into(&mut last);
        }
    }
    Ok(last)
}
