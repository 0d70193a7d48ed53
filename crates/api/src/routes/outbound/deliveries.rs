//! `GET /webhooks/outbound/{id}/deliveries`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::outbound::message_id;
use plimsoll_core_domain::views::{At, json};
use plimsoll_storage::platform::outbound::{Delivery, DeliveryState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{hook_id, none};
use crate::caller::Caller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeliveriesQuery {
    /// `pending`, `delivered`, `failed` or `canceled`; all by default.
    state: Option<String>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// One message to one webhook.
#[derive(Serialize, ToSchema)]
pub struct OutboundDelivery {
    #[schema(value_type = String)]
    id: Uuid,
    /// What the receiver sees in `webhook-id`, at every attempt.
    message_id: String,
    /// The type of the message.
    event: String,
    /// Of the event in the caller's stream.
    offset: Option<i64>,
    /// `pending`, `delivered`, `failed` or `canceled`.
    state: &'static str,
    attempts: i32,
    /// The last answer's status.
    status: Option<i32>,
    /// Why the last attempt failed.
    error: Option<String>,
    /// The beginning of the last answer, without what may be a secret.
    response: Option<String>,
    /// How long the last attempt took.
    duration_ms: Option<i32>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    attempted_at: Option<At>,
    /// The last ten attempts: `at`, `status`, `error`, `duration_ms`.
    #[schema(value_type = Vec<Object>)]
    log: serde_json::Value,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: At,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    finished_at: Option<At>,
}

impl From<Delivery> for OutboundDelivery {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            message_id: message_id(delivery.id),
            event: delivery.event,
            offset: delivery.offset,
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            status: delivery.status,
            error: delivery.error,
            response: delivery.response,
            duration_ms: delivery.duration_ms,
            attempted_at: delivery.attempted_at.map(At),
            log: delivery.log,
            created_at: At(delivery.created_at),
            finished_at: delivery.finished_at.map(At),
        }
    }
}

/// Deliveries.
#[derive(Serialize, ToSchema)]
pub struct OutboundDeliveryList {
    items: Vec<OutboundDelivery>,
    next_cursor: Option<String>,
}

fn place(text: &str) -> Result<(DateTime<Utc>, Uuid), Problem> {
    let (micros, id) = text.split_once('/').ok_or_else(bad_cursor)?;
    let micros: i64 = micros.parse().map_err(|_| bad_cursor())?;
    let at = DateTime::from_timestamp_micros(micros).ok_or_else(bad_cursor)?;
    Ok((at, id.parse().map_err(|_| bad_cursor())?))
}

/// What was posted to a webhook and what came of it, newest first. Delivered messages are kept for 30 days, failed ones
/// for 90.
#[utoipa::path(
    params(("id" = String, Path, description = "The webhook's id."), DeliveriesQuery),
    responses(
        (status = 200, body = OutboundDeliveryList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[get("/webhooks/outbound/{id}/deliveries")]
pub async fn deliveries(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    query: web::Query<DeliveriesQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, hook) = (caller.user, hook_id(&path)?);
    let query = query.into_inner();
    let wanted = limit(query.limit)?;
    let in_state = query
        .state
        .map(|text| text.parse::<DeliveryState>().map_err(|why| Problem::field("?state", "invalid", why)))
        .transpose()?;
    let cursor = query.cursor.as_deref();
    let after = cursor.map(|cursor| place(&decode_cursor("outbound-deliveries", cursor)?)).transpose()?;
    let found = state
        .db
        .read(move |tx| {
            if tx.outbound_hook(user, hook)?.is_none() {
                return Ok(None);
            }
            let found = tx.deliveries_of_hook(user, hook, in_state, after, wanted.saturating_add(1))?;
            Ok::<_, StoreError>(Some(found))
        })
        .await?;
    let mut found = found.ok_or_else(none)?;
    let most = usize::try_from(wanted).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|last| {
        let place = format!("{}/{}", last.created_at.timestamp_micros(), last.id);
        encode_cursor("outbound-deliveries", &place)
    });
    let rows: Vec<String> = found.into_iter().map(|row| json(&OutboundDelivery::from(row))).collect();
    Ok(page(&format!("/webhooks/outbound/{hook}/deliveries"), request.query_string(), &rows, next))
}
