//! `POST /auth/2fa/regenerate-codes`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::two_factor::{Regenerated, SubmittedCode, begin_regenerate, regenerate};
use plimsoll_crypto::OsRandom;
use serde_json::json;

use super::setup::shown;
use super::{Code, NO_STORE, ids, invalid_code, not_enabled};
use crate::body::Body;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Ten new backup codes, shown once; no old one is good any more.
#[utoipa::path(
    request_body = Code,
    responses(
        (status = 200, body = schema::BackupCodes),
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
#[post("/auth/2fa/regenerate-codes")]
pub async fn regenerate_codes(
    state: web::Data<AppState>,
    caller: SessionCaller,
    body: Body<Code>,
) -> Result<HttpResponse, Problem> {
    let (user, act, policy) = (caller.user, caller.act(&state), state.settings.policy.clone());
    // Before anything is counted: what nobody has room to look at counts as no failure.
    state.hashing.check_room()?;
    let code = SubmittedCode::parse(&body.value.code);
    let (policy_, act_) = (policy.clone(), act.clone());
    let begun = state.db.run(move |tx| begin_regenerate(tx, &policy_, user, code, &act_)).await?;
    let regenerating = begun.map_err(not_enabled)?;
    let backup = state.backup_codes.clone();
    let new = state.hashing.run(move |_| regenerating.verify(&backup, &mut OsRandom)).await?;
    let mut ids = ids(&state);
    match state.db.run(move |tx| regenerate(tx, &policy, new, &act, &mut ids)).await? {
        Regenerated::Done(codes) => {
            Ok(HttpResponse::Ok().insert_header(NO_STORE).json(json!({ "backup_codes": shown(&codes) })))
        }
        Regenerated::Refused(reason) => Err(invalid_code(reason)),
    }
}
