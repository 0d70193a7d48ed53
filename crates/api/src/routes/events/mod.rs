//! What outside programs publish to their owner's stream: `/events`.

pub mod ab_test_update;
pub mod optimization_progress;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamEvent, StreamId};
use plimsoll_storage::Tx;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Publisher;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;

/// The longest body that is published, in bytes: events share the stream with those of orders.
const MAX_PUBLISHED: usize = 16 * 1024;
/// Most characters of a name or a state.
const MAX_WORD: usize = 200;

/// Where a published event stands.
#[derive(Serialize, ToSchema)]
pub struct Published {
    stream: String,
    epoch: String,
    offset: i64,
}

impl From<&StreamEvent> for Published {
    fn from(event: &StreamEvent) -> Self {
        Self { stream: event.stream.to_string(), epoch: event.epoch.to_string(), offset: event.offset }
    }
}

/// A word or name that is missing or too long.
fn check_word(pointer: &str, text: &str) -> Result<(), FieldProblem> {
    if (1..=MAX_WORD).contains(&text.chars().count()) {
        return Ok(());
    }
    Err(wrong_field(pointer, "out_of_range", format!("must have 1 to {MAX_WORD} characters")))
}

fn wrong_field(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> FieldProblem {
    FieldProblem { pointer: pointer.into(), code: code.to_owned(), detail: detail.into() }
}

/// Appends the body, as it came, to the caller's stream; under a key once. `at` is the route's path.
async fn publish(
    state: &AppState,
    caller: &Publisher,
    key: OptionalKey,
    (route, at): (&'static str, &str),
    kind: EventKind,
    raw: &[u8],
) -> Result<HttpResponse, Problem> {
    if raw.len() > MAX_PUBLISHED {
        return Err(Problem::new("payload_too_large", "the body of an event is larger than 16 KiB"));
    }
    state.count_publication(caller.user)?;
    let data = std::str::from_utf8(raw).map_err(|_| Problem::new("malformed", "the body is not UTF-8"))?;
    let event = NewEvent { kind, data: data.trim().into() };
    let (stream, now) = (StreamId::User(caller.user), state.clock.now());
    let asked = Asked { route, path: at, body: raw, secret: false };
    let write = move |tx: &mut Tx<'_>| {
        let written = tx.append_event(stream, &event, now)?;
        reply(StatusCode::CREATED, &Published::from(&written))
    };
    key.run(state, caller.user, asked, write).await
}
