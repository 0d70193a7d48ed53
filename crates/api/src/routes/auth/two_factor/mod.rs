//! The second factor of a user.

pub mod disable;
pub mod enable;
pub mod regenerate_codes;
pub mod setup;
pub mod status;
pub mod verify;

use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use plimsoll_auth::two_factor::{Begun, CodeRefusal};
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::Problem;
use crate::state::AppState;

/// A code of the second factor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Six digits, or where backup codes count eight symbols.
    #[schema(value_type = String, format = Password)]
    pub(super) code: SecretString,
}

/// Of answers that hold secrets.
const NO_STORE: (actix_web::http::header::HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// Ids of mails.
pub(super) fn ids(state: &AppState) -> impl FnMut() -> Uuid + Send + 'static {
    let ids = std::sync::Arc::clone(&state.ids);
    move || ids.request_id()
}

/// 422. Why is in the user's own audit log only.
pub(super) fn invalid_code(_: CodeRefusal) -> Problem {
    Problem::new("invalid_code", "the code is not valid")
}

/// 429.
pub(super) fn throttled(retry_after: Duration) -> Problem {
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
    Problem::new("rate_limited", "too many wrong codes").retry_after(seconds)
}

/// 503.
pub(super) fn unreadable() -> Problem {
    Problem::new("credential_unavailable", "the second factor cannot be read")
}

/// What keeps a code from being looked at; `without` is the code of the problem when there is no factor.
fn not_begun(begun: Begun, without: &'static str, detail: &str) -> Problem {
    match begun {
        Begun::Throttled { retry_after } => throttled(retry_after),
        Begun::Unreadable => unreadable(),
        Begun::NoFactor => Problem::new(without, detail),
        Begun::Ready(_) => Problem::internal("a code that is ready was taken for one that is not"),
    }
}

/// 409 without a second factor.
fn not_enabled(begun: Begun) -> Problem {
    not_begun(begun, "two_factor_not_enabled", "the second factor is not enabled")
}
