//! `POST /webhooks/outbound/{id}/test`.

use actix_web::{HttpResponse, post, web};
use chrono::TimeDelta;
use plimsoll_auth::ports::ThrottleStore;
use plimsoll_auth::throttle::{Limit, Verdict};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::outbound::{TEST, message_id, test_body};
use plimsoll_core_domain::stream::StreamId;
use plimsoll_reliability::webhooks::{Message, Outcome};
use plimsoll_storage::platform::outbound::{AttemptNote, DeliveryState, LOG_OF_HOOK};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{hook_id, none, unreadable};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Tests of one user.
const TESTS: Limit = Limit::new(10, TimeDelta::minutes(1), 10);

/// Rows of a long log that a test deletes.
const CUT_AT_ONCE: usize = 10;

/// What came of a test.
#[derive(Serialize, ToSchema)]
pub struct OutboundWebhookTested {
    /// Its place in the log of deliveries.
    #[schema(value_type = String)]
    delivery_id: Uuid,
    /// What the receiver saw in `webhook-id`.
    message_id: String,
    /// Whether the receiver answered with a success.
    ok: bool,
    /// The answer's status, where there was one.
    status: Option<u16>,
    /// Why it failed: `address_refused`, `name_unknown`, `not_connected`, `broken_off`, `timed_out`, `redirected`,
    /// `status` or `gone`.
    error: Option<&'static str>,
    /// The beginning of the answer, without what may be a secret.
    response: Option<String>,
    duration_ms: u64,
}

/// Posts a message of type `webhook_test` now, once, also to a webhook that is not active, and answers what came of it. It
/// stands in the log of deliveries; it neither enables nor disables anything.
#[utoipa::path(
    params(("id" = String, Path, description = "The webhook's id.")),
    responses(
        (status = 200, body = OutboundWebhookTested),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[post("/webhooks/outbound/{id}/test")]
pub async fn test(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let hook = hook_id(&path)?;
    let (user, now) = (caller.user, state.clock.now());
    let found = state
        .db
        .run(move |tx| {
            let Some(found) = tx.outbound_hook(user, hook)? else { return Ok(Err(none())) };
            if let Verdict::Blocked { retry_after } =
                tx.take("outbound.test", &user.0.to_be_bytes(), TESTS, now)?
            {
                return Ok(Err(Problem::throttled("too many tests of webhooks", retry_after)));
            }
            let secrets = tx.outbound_secrets(user, hook, now)?.flatten();
            Ok::<_, StoreError>(Ok((found.url, secrets)))
        })
        .await?;
    let (url, secrets) = found?;
    let secrets = secrets.ok_or_else(unreadable)?;
    let (delivery, body) = (state.ids.order_id().0, test_body(StreamId::User(user), now));
    let id = message_id(delivery);
    let message = Message { id: &id, timestamp: now.timestamp(), body: &body, secrets: &secrets };
    let attempt = state.webhooks.send(&url, &message).await;
    drop(secrets);
    let error = match attempt.outcome {
        Outcome::Delivered => None,
        Outcome::Failed { why, .. } => Some(why.code()),
    };
    let tested = OutboundWebhookTested {
        delivery_id: delivery,
        message_id: id,
        ok: error.is_none(),
        status: attempt.status,
        error,
        response: attempt.excerpt.clone(),
        duration_ms: attempt.took.as_millis().try_into().unwrap_or(u64::MAX),
    };
    let note = AttemptNote {
        status: attempt.status,
        error,
        response: attempt.excerpt,
        duration_ms: tested.duration_ms,
    };
    let ended = if tested.ok { DeliveryState::Delivered } else { DeliveryState::Failed };
    let after = state.clock.now();
    state
        .db
        .run(move |tx| {
            // Deleted meanwhile: then there is no log either.
            if tx.insert_test_delivery(user, hook, delivery, TEST, &body, now)? {
                tx.note_delivery_attempt(user, delivery, &note, ended, after)?;
                tx.cut_delivery_log(user, hook, LOG_OF_HOOK, CUT_AT_ONCE)?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(HttpResponse::Ok().json(tested))
}
