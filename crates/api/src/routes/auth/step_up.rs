//! `POST /auth/step-up`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::step_up::{Given, Started, SteppedUp, begin, finish};
use plimsoll_auth::two_factor::{Method, SubmittedCode};
use plimsoll_core_domain::error::BusinessError;
use plimsoll_core_domain::views::At;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Map;
use utoipa::ToSchema;

use super::two_factor::{ids, throttled, unreadable};
use crate::body::Body;
use crate::caller::SessionCaller;
use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;
use crate::{reply, schema};

/// A factor: the code where the second factor is on, else the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
    /// Six digits, or a backup code.
    #[schema(value_type = Option<String>, format = Password)]
    code: Option<SecretString>,
}

/// Proves a factor, so that sensitive acts are open to this session from this address for a while. The session gets a new
/// token.
#[utoipa::path(
    request_body = StepUp,
    responses(
        (status = 200, body = schema::SteppedUp),
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
#[post("/auth/step-up")]
pub async fn step_up(
    state: web::Data<AppState>,
    caller: SessionCaller,
    body: Body<StepUp>,
) -> Result<HttpResponse, Problem> {
    let StepUp { password, code } = body.value;
    let given = Given { password, code: code.as_ref().map(SubmittedCode::parse) };
    prove(&state, &caller, given).await
}

/// The step-up of a session, wherever the proof came in.
pub(super) async fn prove(
    state: &AppState,
    caller: &SessionCaller,
    given: Given,
) -> Result<HttpResponse, Problem> {
    let (user, act, policy) = (caller.user, caller.act(state), state.settings.policy.clone());
    // Before anything is counted: what nobody has room to look at counts as no failure.
    state.hashing.check_room()?;
    let (policy_, act_) = (policy.clone(), act.clone());
    let pending = match state.db.run(move |tx| begin(tx, &policy_, user, given, &act_)).await? {
        Started::Ready(pending) => pending,
        Started::Wanted(methods) => return Err(wanted(methods)),
        Started::Throttled { retry_after } => return Err(throttled(retry_after)),
        Started::Unreadable => return Err(unreadable()),
    };
    let backup = state.backup_codes.clone();
    let proof = state.hashing.run(move |passwords| pending.verify(passwords, &backup)).await?;
    let (session, token, mut ids) = (caller.signed_in.session.clone(), state.ids.session_token(), ids(state));
    let digest = token.digest();
    let done = state
        .db
        .run(move |tx| match finish(tx, &policy, proof, &session, &digest, &act, &mut ids)? {
            // nothing of it is kept
            SteppedUp::SessionOver => Err(Problem::from(BusinessError::AuthenticationFailed)),
            outcome => Ok(outcome),
        })
        .await?;
    state.session_cache.forget_session(caller.signed_in.session.id);
    match done {
        SteppedUp::Open(session) => {
            let until = serde_json::to_value(session.step_up_until.map(At)).unwrap_or_default();
            Ok(reply::rotated(&token, &session, Map::from_iter([("step_up_until".to_owned(), until)])))
        }
        SteppedUp::Refused(_) | SteppedUp::SessionOver => Err(BusinessError::AuthenticationFailed.into()),
    }
}

/// 422: what is wanted is not there.
fn wanted(methods: &[Method]) -> Problem {
    let pointer = if methods == [Method::Password] { "/password" } else { "/code" };
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let field = FieldProblem {
        pointer: pointer.to_owned(),
        code: "required".to_owned(),
        detail: "is what this user has to prove".to_owned(),
    };
    Problem::invalid(vec![field]).with("methods", names)
}
