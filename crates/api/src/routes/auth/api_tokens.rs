//! `GET,POST /auth/api-tokens`, `DELETE /auth/api-tokens/{id}`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use plimsoll_auth::api_tokens::{self, After, MAX_ALLOWED_IPS, NewToken, Scope, Scopes, TokenRecord, Wanted};
use plimsoll_core_domain::views::{At, json};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::ApiToken;
use plimsoll_storage::Tx;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::body::{Body, NoQuery};
use crate::caller::{SessionCaller, SteppedUp};
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::{FieldProblem, Problem};
use crate::schema;
use crate::state::AppState;

/// The token that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiToken {
    /// What you call it, 1 to 100 characters.
    name: String,
    /// What it may do. None includes another.
    #[schema(value_type = Vec<schema::ScopeWord>)]
    scopes: Vec<String>,
    /// When it ends, at most a year from now.
    expires_at: DateTime<Utc>,
    /// Addresses and networks (`192.0.2.7`, `2001:db8::/32`) that it may be used from; none: from anywhere.
    #[serde(default)]
    allowed_ips: Vec<String>,
}

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ApiTokensQuery {
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

#[derive(Serialize)]
struct TokenView<'a> {
    id: Uuid,
    name: &'a str,
    scopes: Vec<&'static str>,
    allowed_ips: Vec<String>,
    created_at: At,
    expires_at: At,
    last_used_at: Option<At>,
    last_used_ip: Option<String>,
}

impl<'a> From<&'a TokenRecord> for TokenView<'a> {
    fn from(token: &'a TokenRecord) -> Self {
        Self {
            id: token.id,
            name: &token.name,
            scopes: token.scopes.names(),
            allowed_ips: token.allowed_ips.iter().map(ToString::to_string).collect(),
            created_at: At(token.created_at),
            expires_at: At(token.expires_at),
            last_used_at: token.last_used_at.map(At),
            last_used_ip: token.last_used_ip.map(|ip| ip.to_string()),
        }
    }
}

#[derive(Serialize)]
struct ShownOnce<'a> {
    token: &'a str,
    #[serde(flatten)]
    record: TokenView<'a>,
}

/// What each text of a list reads as, or the places of those that do not.
fn read_all<T, F>(field: &str, code: &str, texts: &[String], read: F) -> Result<Vec<T>, Vec<FieldProblem>>
where
    F: Fn(&str) -> Result<T, String>,
{
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        match read(text) {
            Ok(value) => good.push(value),
            Err(detail) => {
                bad.push(FieldProblem { pointer: format!("/{field}/{at}"), code: code.to_owned(), detail });
            }
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

impl CreateApiToken {
    fn into_wanted(self) -> Result<Wanted, Problem> {
        if self.allowed_ips.len() > MAX_ALLOWED_IPS {
            return Err(api_tokens::CreateRefusal::AllowedIps.into());
        }
        if self.scopes.len() > Scope::ALL.len() {
            return Err(Problem::field("/scopes", "too_many", "each scope once"));
        }
        let scopes = read_all("scopes", "unknown_scope", &self.scopes, |text| {
            text.parse::<Scope>().map_err(|_| "must be read, trade_paper, trade_live or admin".to_owned())
        });
        let networks = read_all("allowed_ips", "invalid_network", &self.allowed_ips, |text| {
            text.parse().map_err(|why: plimsoll_auth::IpNetworkError| why.to_string())
        });
        match (scopes, networks) {
            (Ok(scopes), Ok(allowed_ips)) => Ok(Wanted {
                name: self.name,
                scopes: scopes.into_iter().collect::<Scopes>(),
                expires_at: self.expires_at,
                allowed_ips,
            }),
            (scopes, networks) => {
                let errors = scopes.err().into_iter().chain(networks.err()).flatten();
                Err(Problem::invalid(errors.collect()))
            }
        }
    }
}

/// Makes an API token. It is shown here and never again; its owner gets a mail.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header, description = "The same on every retry: then there is one token.")),
    request_body = CreateApiToken,
    responses(
        (status = 201, body = schema::NewApiToken),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "api tokens",
    security(("bearer" = []))
)]
#[post("/auth/api-tokens")]
pub async fn create(
    state: web::Data<AppState>,
    caller: SteppedUp,
    key: OptionalKey,
    body: Body<CreateApiToken>,
) -> Result<HttpResponse, Problem> {
    let wanted = body.value.into_wanted()?;
    let new = NewToken {
        id: state.ids.order_id().0,
        token: ApiToken::generate(&mut OsRandom),
        mail_id: state.ids.request_id(),
    };
    let text = new.token.expose_text();
    let (user, act, policy) = (caller.user, caller.act(&state), state.settings.policy.clone());
    let asked =
        Asked { route: "POST /auth/api-tokens", path: "/auth/api-tokens", body: &body.raw, secret: true };
    let made = move |tx: &mut Tx<'_>| {
        let record = match api_tokens::create(tx, &policy, &act, user, &new, wanted)? {
            Ok(record) => record,
            // A refusal for want of rights is on record.
            Err(refusal) => return Ok(Err(Problem::from(refusal))),
        };
        let shown = ShownOnce { token: text.expose_secret(), record: TokenView::from(&record) };
        reply(StatusCode::CREATED, &shown).map(Ok)
    };
    key.run_noting(&state, user, asked, made).await
}

fn place(text: &str) -> Result<After, Problem> {
    let (micros, id) = text.split_once('/').ok_or_else(bad_cursor)?;
    let micros: i64 = micros.parse().map_err(|_| bad_cursor())?;
    let created_at = DateTime::from_timestamp_micros(micros).ok_or_else(bad_cursor)?;
    Ok((created_at, id.parse().map_err(|_| bad_cursor())?))
}

/// The caller's API tokens that can still be used, newest first; never the tokens themselves.
#[utoipa::path(
    params(ApiTokensQuery),
    responses(
        (status = 200, body = schema::ApiTokenList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "api tokens",
    security(("bearer" = []))
)]
#[get("/auth/api-tokens")]
pub async fn list(
    state: web::Data<AppState>,
    caller: SessionCaller,
    request: HttpRequest,
    query: web::Query<ApiTokensQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let wanted = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let cursor = query.cursor.as_deref();
    let after = cursor.map(|cursor| place(&decode_cursor("api-tokens", cursor)?)).transpose()?;
    let (user, now) = (caller.user, state.clock.now());
    let mut tokens =
        state.db.read(move |tx| api_tokens::list(tx, user, after, wanted.saturating_add(1), now)).await?;
    let more = tokens.len() > wanted;
    tokens.truncate(wanted);
    let next = tokens.last().filter(|_| more).map(|token| {
        encode_cursor("api-tokens", &format!("{}/{}", token.created_at.timestamp_micros(), token.id))
    });
    let rows: Vec<String> = tokens.iter().map(|token| json(&TokenView::from(token))).collect();
    Ok(page("/auth/api-tokens", request.query_string(), &rows, next))
}

/// Ends an API token at once.
#[utoipa::path(
    params(("id" = String, Path, description = "The token's id.")),
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "api tokens",
    security(("bearer" = []))
)]
#[delete("/auth/api-tokens/{id}")]
pub async fn revoke(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let none = || Problem::new("not_found", "there is no such API token");
    let token: Uuid = path.parse().map_err(|_| none())?;
    let (user, act) = (caller.user, caller.act(&state));
    if state.db.run(move |tx| api_tokens::revoke(tx, &act, user, token)).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(none())
}
