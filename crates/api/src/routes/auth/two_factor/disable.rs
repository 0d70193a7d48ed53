//! `POST /auth/2fa/disable`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::two_factor::{Changed, SubmittedCode, begin_disable, disable as turn_off};
use plimsoll_core_domain::error::BusinessError;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Map;
use utoipa::ToSchema;

use super::{ids, invalid_code, not_enabled};
use crate::body::Body;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{reply, schema};

/// Password and code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Disable {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Six digits, or a backup code.
    #[schema(value_type = String, format = Password)]
    code: SecretString,
}

/// Turns the second factor off. Which of the two is wrong is not told. Every other session ends, this one gets a new
/// token.
#[utoipa::path(
    request_body = Disable,
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
#[post("/auth/2fa/disable")]
pub async fn disable(
    state: web::Data<AppState>,
    caller: SessionCaller,
    body: Body<Disable>,
) -> Result<HttpResponse, Problem> {
    let (user, act, policy) = (caller.user, caller.act(&state), state.settings.policy.clone());
    // Before anything is counted: what nobody has room to look at counts as no failure.
    state.hashing.check_room()?;
    let Disable { password, code } = body.value;
    let code = SubmittedCode::parse(&code);
    let (policy_, act_) = (policy.clone(), act.clone());
    let disabling = state.db.run(move |tx| begin_disable(tx, &policy_, user, code, &act_)).await?;
    let backup = state.backup_codes.clone();
    let verified =
        state.hashing.run(move |passwords| disabling.verify(passwords, &password, &backup)).await?;
    let verified = verified.map_err(not_enabled)?;
    let (session, token, mut ids) =
        (caller.signed_in.session.clone(), state.ids.session_token(), ids(&state));
    let digest = token.digest();
    let changed = state
        .db
        .run(move |tx| match turn_off(tx, &policy, verified, &session, &digest, &act, &mut ids)? {
            // nothing of it is kept
            Changed::SessionOver => Err(Problem::from(BusinessError::AuthenticationFailed)),
            outcome => Ok(outcome),
        })
        .await?;
    state.session_cache.forget_user(user);
    match changed {
        Changed::Done(session) => {
            Ok(reply::rotated(&token, &session, Map::from_iter([("enabled".to_owned(), false.into())])))
        }
        Changed::Refused(reason) => Err(invalid_code(reason)),
        Changed::SessionOver => Err(BusinessError::AuthenticationFailed.into()),
    }
}
