//! `POST /auth/2fa/setup`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::backup_codes::BackupCode;
use plimsoll_auth::qr;
use plimsoll_auth::throttle::{Verdict, hash_work};
use plimsoll_auth::totp::TotpSecret;
use plimsoll_auth::two_factor::setup as keep;
use plimsoll_core_domain::views::At;
use plimsoll_crypto::OsRandom;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::NO_STORE;
use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The text forms of codes, for an answer that shows them once.
pub(super) fn shown(codes: &[BackupCode]) -> Value {
    codes.iter().map(|code| code.expose_text().expose_secret().to_owned()).collect()
}

/// A new secret and ten new backup codes, shown once. They are in force when a code has confirmed them; until then what
/// was in force stays so.
#[utoipa::path(
    responses(
        (status = 200, body = schema::TwoFactorSetup),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[post("/auth/2fa/setup")]
pub async fn setup(state: web::Data<AppState>, caller: SteppedUp) -> Result<HttpResponse, Problem> {
    let (user, act, policy) = (caller.user, caller.act(&state), state.settings.policy.clone());
    let secret = TotpSecret::generate(&mut OsRandom);
    state.hashing.check_room()?;
    let (limit, now) = (policy.login.hashes_per_user, act.at);
    if let Verdict::Blocked { retry_after } = state.db.run(move |tx| hash_work(tx, limit, user, now)).await? {
        return Err(Problem::throttled("too many new secrets", retry_after));
    }
    let backup = state.backup_codes.clone();
    let new = state.hashing.run(move |_| backup.generate(user, &mut OsRandom)).await?;
    let uri = secret.uri(&policy.two_factor.issuer, caller.signed_in.user.email.as_str());
    let picture = qr::data_uri(&uri).map_err(|why| Problem::internal(why.to_string()))?;
    let text = secret.expose_text();
    let hashes = new.hashes;
    let expires_at = state.db.run(move |tx| keep(tx, &policy, user, &secret, &hashes, &act)).await?;
    Ok(HttpResponse::Ok().insert_header(NO_STORE).json(json!({
        "secret": text.expose_secret(),
        "otpauth_uri": uri.expose_secret(),
        "qr_code": picture.expose_secret(),
        "backup_codes": shown(&new.codes),
        "expires_at": At(expires_at),
    })))
}
