//! `POST /auth/2fa/enable`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::two_factor::{Begun, Enabled, Purpose, SubmittedCode, begin, enable as put_in_force};
use plimsoll_core_domain::error::BusinessError;
use serde_json::Map;

use super::{Code, NO_STORE, ids, invalid_code, not_begun};
use crate::body::Body;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{reply, schema};

/// Turns the second factor on, with a code of the secret that was set up last. Every other session ends, this one gets a
/// new token.
#[utoipa::path(
    request_body = Code,
    responses(
        (status = 200, body = schema::TwoFactorSwitched),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[post("/auth/2fa/enable")]
pub async fn enable(
    state: web::Data<AppState>,
    caller: SessionCaller,
    body: Body<Code>,
) -> Result<HttpResponse, Problem> {
    let (user, act, policy) = (caller.user, caller.act(&state), state.settings.policy.clone());
    // Before anything is counted: what nobody has room to look at counts as no failure.
    state.hashing.check_room()?;
    let code = SubmittedCode::parse(&body.value.code);
    let (policy_, act_) = (policy.clone(), act.clone());
    let begun = state.db.run(move |tx| begin(tx, &policy_, user, Purpose::Enable, code, &act_)).await?;
    let attempt = match begun {
        Begun::Ready(attempt) => attempt,
        other => {
            return Err(not_begun(
                other,
                "two_factor_not_set_up",
                "there is no secret that waits to be confirmed",
            ));
        }
    };
    let backup = state.backup_codes.clone();
    let verified = state.hashing.run(move |_| attempt.verify(&backup)).await?;
    let (session, token, mut ids) =
        (caller.signed_in.session.clone(), state.ids.session_token(), ids(&state));
    let digest = token.digest();
    let enabled = state
        .db
        .run(move |tx| match put_in_force(tx, &policy, verified, &session, &digest, &act, &mut ids)? {
            // nothing of it is kept
            Enabled::SessionOver => Err(Problem::from(BusinessError::AuthenticationFailed)),
            outcome => Ok(outcome),
        })
        .await?;
    state.session_cache.forget_user(user);
    match enabled {
        Enabled::Enabled(session) => {
            let mut answer =
                reply::rotated(&token, &session, Map::from_iter([("enabled".to_owned(), true.into())]));
            answer
                .headers_mut()
                .insert(NO_STORE.0, actix_web::http::header::HeaderValue::from_static(NO_STORE.1));
            Ok(answer)
        }
        Enabled::Refused(reason) => Err(invalid_code(reason)),
        Enabled::SessionOver => Err(BusinessError::AuthenticationFailed.into()),
    }
}
