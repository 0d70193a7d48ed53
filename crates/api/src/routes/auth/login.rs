//! `POST /auth/login`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_auth::ClientInfo;
use plimsoll_auth::login::{
    LoginError, NewSession, Refusal, RefusalReason, SignedIn, Verified, finish, prepare,
};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_crypto::OsRandom;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Origin;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{reply, schema};

/// Who wants to sign in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Only `bearer` is served here.
    #[expect(dead_code, reason = "with one value there is nothing to decide; another word is refused")]
    transport: Option<Transport>,
}

/// How the session travels.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In the Authorization header.
    Bearer,
}

/// Signs in: a session token for the Authorization header, shown once.
#[utoipa::path(
    request_body = Login,
    responses(
        (status = 200, body = schema::SessionToken),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/login")]
pub async fn login(
    state: web::Data<AppState>,
    request: HttpRequest,
    body: Body<Login>,
) -> Result<HttpResponse, Problem> {
    let origin = Origin::of(&request);
    let asked = body.value;
    let mut outcome = attempt(&state, &origin, &asked).await;
    if let Err(LoginError::Refused(Refusal { reason: RefusalReason::PasswordChanged, .. })) = &outcome {
        // A parallel login may only have hashed the same password anew.
        outcome = attempt(&state, &origin, &asked).await;
    }
    match outcome {
        Ok(signed_in) => Ok(reply::signed_in(&signed_in.token, &signed_in.session, &signed_in.user)),
        Err(error) => {
            record_refusal(&state, &origin, &error).await?;
            Err(error.into())
        }
    }
}

async fn attempt(state: &AppState, origin: &Origin, asked: &Login) -> Result<SignedIn, LoginError> {
    let email = asked.email.clone();
    let prepared = state.db.read(move |tx| prepare(tx, &email)).await?;
    let password = asked.password.clone();
    let verified: Verified =
        state.hashing.run(move |passwords| prepared.verify(passwords, &password, &mut OsRandom)).await??;
    let (policy, now, origin) = (state.settings.policy.sessions, state.clock.now(), origin.clone());
    let new = NewSession { id: state.ids.request_id(), token: state.ids.session_token() };
    state
        .db
        .run(move |tx| {
            let client = ClientInfo::new(origin.ip, origin.user_agent.as_deref());
            let signed_in = finish(tx, &policy, verified, &client, new, now)?;
            let user = signed_in.user.id;
            let detail = serde_json::json!({ "session_id": signed_in.session.id, "method": "password" });
            let entry = origin.audit("login", AuditOutcome::Success, Some(user), now, detail);
            tx.append_audit(Some(user), &entry)?;
            Ok(signed_in)
        })
        .await
}

/// A refused login stands in the audit log before it is answered.
async fn record_refusal(state: &AppState, origin: &Origin, error: &LoginError) -> Result<(), Problem> {
    let (user, reason) = match error {
        LoginError::Refused(refusal) => (refusal.user, refusal.reason.code()),
        LoginError::EmailUnverified { user } => (Some(*user), "email_unverified"),
        LoginError::Store(_) => return Ok(()),
    };
    let now = state.clock.now();
    let mut entry =
        origin.audit("login", AuditOutcome::Denied, None, now, serde_json::json!({ "reason": reason }));
    entry.subject_id = user;
    Ok(state.db.run(move |tx| tx.append_audit(user, &entry)).await?)
}
