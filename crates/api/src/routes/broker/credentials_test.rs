//! `POST /broker/credentials/{broker}/test`.

use std::sync::Arc;

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::vault::{self, CredentialState, Judgement, Opened};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_storage::Tx;
use serde_json::json;

use super::{broker, no_credential, unreadable};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::gateway::GatewayError;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Asks the broker for the account of the caller's saved keys, now. Its word is noted with the credential: keys that the
/// broker took are traded with, those that it refused are not.
#[utoipa::path(
    params(("broker" = String, Path, description = "`alpaca`.")),
    responses(
        (status = 200, body = schema::CredentialTested),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "broker",
    security(("bearer" = []))
)]
#[post("/broker/credentials/{broker}/test")]
pub async fn test(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let broker = broker(&path)?;
    let (user, act, own) = (caller.user, caller.act(&state), Arc::clone(&state.keys));
    let opening = act.clone();
    let opened = state.db.run(move |tx| vault::open(tx, &own.ring, user, broker, &opening)).await?;
    let (keys, version, environment) = match opened {
        Opened::Keys { keys, version, environment } => (keys, version, environment),
        Opened::Nothing => return Err(no_credential()),
        Opened::Undecryptable => return Err(unreadable()),
    };
    let checked = state.gateway.check(user, keys, environment).await;
    if checked.as_ref().is_err_and(|error| !matches!(error, GatewayError::KeyRefused)) {
        // Nothing was learnt of the keys.
        return Err(checked.err().map_or_else(unreadable, Problem::from));
    }
    let mail = state.ids.request_id();
    let number = checked.as_ref().ok().map(|account| account.broker_account.clone());
    let same = state
        .db
        .run(move |tx| {
            let same = number.as_deref().map(|number| may_be_the_account(tx, user, number)).transpose()?;
            let (state, reason) = match same {
                Some(true) => (CredentialState::Valid, None),
                Some(false) => (CredentialState::Invalid, Some("of another account at the broker")),
                None => (CredentialState::Invalid, Some("refused by the broker in a test")),
            };
            vault::judge(tx, user, broker, &Judgement { version, state, reason }, mail, &act)?;
            Ok::<_, StoreError>(same != Some(false))
        })
        .await?;
    let account = checked?;
    if !same {
        return Err(Problem::new(
            "credential_refused",
            "the keys work, but belong to another account at the broker than the one with this user's history",
        ));
    }
    let environment = environment.as_str();
    Ok(HttpResponse::Ok()
        .json(json!({ "ok": true, "account_status": account.status, "environment": environment })))
}

/// Whether the user's account may be the one with this number at the broker, as it is decided when it is connected.
fn may_be_the_account(tx: &mut Tx<'_>, user: UserId, number: &str) -> Result<bool, StoreError> {
    let account = tx.account_of_user(user)?;
    account.map_or(Ok(true), |account| tx.may_claim_broker_account(account.id, number))
}
