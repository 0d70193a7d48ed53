//! `PUT /broker/credentials/{broker}`.

use std::sync::Arc;

use actix_web::{HttpResponse, put, web};
use plimsoll_auth::vault::{self, BrokerKeys, BrokerKeysError, Saved, VaultKeys};
use plimsoll_core_domain::order::Environment;
use plimsoll_crypto::OsRandom;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Shown, broker, unreadable};
use crate::body::{Body, NoQuery};
use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The keys to trade with from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCredential {
    /// The key's id, 8 to 128 visible ASCII characters.
    #[schema(value_type = String, format = Password)]
    api_key: SecretString,
    /// Its secret, 8 to 256 visible ASCII characters.
    #[schema(value_type = String, format = Password)]
    api_secret: SecretString,
    /// With whose money.
    #[schema(value_type = schema::EnvironmentWord)]
    environment: String,
}

impl From<BrokerKeysError> for Problem {
    fn from(error: BrokerKeysError) -> Self {
        let code = match error {
            BrokerKeysError::Length(..) => "invalid_length",
            BrokerKeysError::Characters(_) => "invalid_characters",
        };
        Self::field(format!("/{}", error.part()), code, error.to_string())
    }
}

/// Saves the caller's keys for a broker, in the place of those before. Everything of the caller's trades in their
/// environment from then on; orders of the other one must be final.
#[utoipa::path(
    params(("broker" = String, Path, description = "`alpaca`.")),
    request_body = PutCredential,
    responses(
        (status = 200, body = schema::BrokerCredential),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "broker",
    security(("bearer" = []))
)]
#[put("/broker/credentials/{broker}")]
pub async fn put(
    state: web::Data<AppState>,
    caller: SteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: Body<PutCredential>,
) -> Result<HttpResponse, Problem> {
    let broker = broker(&path)?;
    let PutCredential { api_key, api_secret, environment } = body.value;
    let environment: Environment = environment
        .parse()
        .map_err(|_| Problem::field("/environment", "invalid", "must be paper or live"))?;
    let keys = BrokerKeys::parse(api_key, api_secret)?;
    state
        .gateway
        .check_key_form(environment, keys.api_key.expose_secret())
        .map_err(|why| Problem::field("/api_key", "wrong_environment", why))?;
    let (user, act, own) = (caller.user, caller.act(&state), Arc::clone(&state.keys));
    let saved = state
        .db
        .run(move |tx| {
            let installation = VaultKeys { ring: &own.ring, pepper: &own.pepper };
            vault::save(tx, installation, Some(user), user, broker, environment, &keys, &act, &mut OsRandom)
        })
        .await?;
    match saved {
        Saved::Done(view) => Ok(HttpResponse::Ok().json(Shown::from(&view))),
        Saved::OrdersOpen => Err(Problem::new(
            "orders_open",
            "an order of the present environment is not final: cancel it or wait, then save the credential",
        )),
        Saved::NotActive => Err(Problem::new("access_denied", "the account is disabled")),
        Saved::Undecryptable => Err(unreadable()),
    }
}
