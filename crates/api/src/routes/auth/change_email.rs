//! `POST /auth/change-email`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::EmailAddress;
use plimsoll_auth::email_change::{NewChange, request};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::login::login_keys;
use crate::body::Body;
use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The address to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEmail {
    new_email: String,
}

/// The request was taken.
#[derive(Serialize, ToSchema)]
pub struct ChangeAsked {
    /// `confirmation_sent`, also for an address that has an account.
    status: &'static str,
}

/// Asks for a change of the address. It takes effect when the link that is mailed to the new address is used; the old one
/// is told, and can take it back for three days.
#[utoipa::path(
    request_body = ChangeEmail,
    responses(
        (status = 202, body = ChangeAsked),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[post("/auth/change-email")]
pub async fn change_email(
    state: web::Data<AppState>,
    caller: SteppedUp,
    body: Body<ChangeEmail>,
) -> Result<HttpResponse, Problem> {
    let email = EmailAddress::parse(&body.value.new_email)
        .map_err(|why| Problem::field("/new_email", "invalid_email", why.to_string()))?;
    let new = NewChange {
        id: state.ids.request_id(),
        token: state.ids.session_token(),
        cancel_id: state.ids.request_id(),
        cancel: state.ids.session_token(),
        mails: [state.ids.request_id(), state.ids.request_id()],
    };
    let (policy, user, act) = (state.settings.policy.clone(), caller.user, caller.act(&state));
    let keys = state.keys.clone();
    let blocked =
        state.db.run(move |tx| request(tx, &policy, login_keys(&keys), user, &email, &new, &act)).await?;
    if let Some(wait) = blocked {
        return Err(Problem::throttled("too many changes were asked for", wait));
    }
    Ok(HttpResponse::Accepted().json(ChangeAsked { status: "confirmation_sent" }))
}
