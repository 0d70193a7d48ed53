//! `POST /auth/register`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::registration::{self, Admission, NewLink, Register};
use plimsoll_auth::{EmailAddress, StoreErrorKind};
use plimsoll_crypto::OsRandom;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{chosen, schema};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Where the link goes that confirms it; the name to sign in with.
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// What others call the user; at most 100 characters.
    display_name: Option<String>,
}

/// The registration was taken.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    /// To ask by, at `GET /auth/verification-status`.
    registration_id: Uuid,
    /// `verification_sent`, also for an address that has an account.
    status: &'static str,
}

/// Registers an account and mails a link that confirms its address. Until then others may register it, too: the account gets
/// the password of the registration whose link is used. An address that has an account is answered alike; its owner is
/// told by mail.
#[utoipa::path(
    request_body = NewAccount,
    responses(
        (status = 202, body = Registered),
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
#[post("/auth/register")]
pub async fn register(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<NewAccount>,
) -> Result<HttpResponse, Problem> {
    let NewAccount { email, password, display_name } = body.value;
    let (email, display_name) = chosen::account(&state, &email, &password, display_name.as_deref()).await?;

    let act = visitor.act(&state);
    let (policy, keys) = (state.settings.policy.clone(), state.keys.clone());
    let admission = state.db.run(move |tx| registration::admit(tx, &policy, &keys.pepper, &act)).await?;
    match admission {
        Admission::Open => {}
        Admission::Closed => return Err(Problem::new("access_denied", "registration is closed")),
        Admission::Throttled { retry_after } => {
            let detail = "too many registrations came from this address";
            return Err(Problem::new("rate_limited", detail).retry_after(seconds(retry_after)));
        }
    }

    chosen::unbreached(&state, &password).await?;
    // Hashed before anybody knows whether there is such an account.
    let hash = state.hashing.run(move |passwords| passwords.hash(&password, &mut OsRandom)).await?;
    let password_hash = hash.map_err(|why| Problem::field("/password", "too_long", why.to_string()))?;
    let id = state.ids.request_id();
    let attempt = || stored(&state, &visitor, id, &email, display_name.as_deref(), &password_hash);
    match attempt().await {
        // Somebody else took the address in this moment: then it has an account.
        Err(error) if error.kind() == StoreErrorKind::Duplicate => attempt().await?,
        other => other?,
    }
    Ok(HttpResponse::Accepted().json(Registered { registration_id: id, status: "verification_sent" }))
}

async fn stored(
    state: &AppState,
    visitor: &Visitor,
    id: Uuid,
    email: &EmailAddress,
    display_name: Option<&str>,
    password_hash: &plimsoll_crypto::passwords::PasswordHash,
) -> Result<(), plimsoll_core_domain::StoreError> {
    let new = Register {
        id,
        email: email.clone(),
        display_name: display_name.map(str::to_owned),
        password_hash: password_hash.clone(),
        link: new_link(state),
    };
    let act = visitor.act(state);
    let (policy, keys) = (state.settings.policy.clone(), state.keys.clone());
    state.db.run(move |tx| registration::register(tx, &policy, &keys.pepper, new, &act)).await
}

/// The random parts of a link.
pub(super) fn new_link(state: &AppState) -> NewLink {
    NewLink { id: state.ids.request_id(), mail: state.ids.request_id(), token: state.ids.session_token() }
}

/// Whole seconds, rounded up.
pub(super) fn seconds(wait: std::time::Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}
