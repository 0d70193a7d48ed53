//! `POST /auth/request-reset`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::{EmailAddress, reset};
use plimsoll_core_domain::StoreError;
use plimsoll_storage::platform::auth::ResetRequest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::login::login_keys;
use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Who forgot the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forgotten {
    email: String,
}

/// The request was taken.
#[derive(Serialize, ToSchema)]
pub struct Requested {
    /// `reset_requested`, also for an address without an account.
    status: &'static str,
}

/// Asks for a link to choose a new password. The answer is the same for every address; who has an account gets a mail,
/// which is written and sent after the answer.
#[utoipa::path(
    request_body = Forgotten,
    responses(
        (status = 202, body = Requested),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/request-reset")]
pub async fn request_reset(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<Forgotten>,
) -> Result<HttpResponse, Problem> {
    let email = EmailAddress::parse(&body.value.email)
        .map_err(|why| Problem::field("/email", "invalid_email", why.to_string()))?;
    let (policy, keys, act) = (state.settings.policy.clone(), state.keys.clone(), visitor.act(&state));
    let blocked = state
        .db
        .run(move |tx| {
            let blocked = reset::admit(tx, &policy, login_keys(&keys), &act)?;
            if blocked.is_none() {
                tx.enqueue_reset_request(&ResetRequest::new(&email, &act))?;
            }
            Ok::<_, StoreError>(blocked)
        })
        .await?;
    match blocked {
        Some(wait) => {
            Err(Problem::throttled("too many requests for new passwords came from this address", wait))
        }
        None => Ok(HttpResponse::Accepted().json(Requested { status: "reset_requested" })),
    }
}
