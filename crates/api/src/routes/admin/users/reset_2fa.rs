//! `POST /admin/users/{id}/reset-2fa`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::admin;
use plimsoll_auth::two_factor_reset::{NewReset, Requested};
use plimsoll_core_domain::views::At;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use serde::Serialize;

use super::{no_user, user_id};
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

#[derive(Serialize)]
struct Begun {
    due_at: At,
}

/// Starts the reset of a lost second factor. It takes effect after a day, unless the owner stops it: the owner gets a mail.
#[utoipa::path(
    params(("id" = String, Path, description = "The user's id.")),
    responses(
        (status = 202, body = schema::TwoFactorReset),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[post("/admin/users/{id}/reset-2fa")]
pub async fn reset_2fa(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = user_id(&path)?;
    let (by, act, policy) = (Some(caller.user), caller.act(&state), state.settings.policy.clone());
    let new = NewReset { id: state.ids.request_id(), cancel: SecretToken::generate(&mut OsRandom) };
    let ids = std::sync::Arc::clone(&state.ids);
    let requested = state
        .db
        .run(move |tx| {
            let mut ids = || ids.request_id();
            admin::request_two_factor_reset(tx, &policy, &act, by, user, &new, &mut ids)
        })
        .await?;
    match requested {
        Requested::Begun { due_at } | Requested::AlreadyBegun { due_at } => {
            Ok(HttpResponse::Accepted().json(Begun { due_at: At(due_at) }))
        }
        Requested::NotEnabled => Err(Problem::new("business_rule", "the user has no second factor")),
        Requested::NoSuchUser => Err(no_user()),
    }
}
