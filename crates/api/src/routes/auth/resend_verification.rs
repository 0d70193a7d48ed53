//! `POST /auth/resend-verification`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::EmailAddress;
use plimsoll_auth::registration::resend;
use plimsoll_auth::throttle::Verdict;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::register::{new_link, seconds};
use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Whose link is asked for again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    email: String,
}

/// The request was taken.
#[derive(Serialize, ToSchema)]
pub struct Taken {
    /// `accepted`, whether or not a mail is sent.
    status: &'static str,
}

/// Mails a new link to an address that waits for its confirmation, and voids the older ones. Every other address is
/// answered alike. At most one mail in 60 seconds and five a day go to an address.
#[utoipa::path(
    request_body = Resend,
    responses(
        (status = 202, body = Taken),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/resend-verification")]
pub async fn resend_verification(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<Resend>,
) -> Result<HttpResponse, Problem> {
    let email = EmailAddress::parse(&body.value.email)
        .map_err(|why| Problem::field("/email", "invalid_email", why.to_string()))?;
    let (link, act) = (new_link(&state), visitor.act(&state));
    let (policy, keys) = (state.settings.policy.clone(), state.keys.clone());
    let verdict = state.db.run(move |tx| resend(tx, &policy, &keys.pepper, &email, &link, &act)).await?;
    if let Verdict::Blocked { retry_after } = verdict {
        let detail = "too many requests came from this address";
        return Err(Problem::new("rate_limited", detail).retry_after(seconds(retry_after)));
    }
    // The few statements that a mail costs drown in one password hash, which every address gets.
    let nobody = state.ids.session_token().expose_text();
    state.hashing.run(move |passwords| passwords.verify(&nobody, None)).await?;
    Ok(HttpResponse::Accepted().json(Taken { status: "accepted" }))
}
