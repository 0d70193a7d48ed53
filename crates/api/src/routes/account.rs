//! `GET /account`.

use actix_web::{HttpResponse, get, web};
use plimsoll_core_domain::views::AccountView;

use crate::body::NoQuery;
use crate::caller::Caller;
use crate::follow::with_cursor;
use crate::gateway::GatewayError;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::NoAccount | GatewayError::NotFound => Self::new("not_found", error.to_string()),
            GatewayError::Refused(words) => Self::new("validation_failed", words),
            GatewayError::KeyRefused => Self::new("credential_refused", error.to_string()),
            GatewayError::KeyUnreadable => {
                Self::new("credential_unavailable", error.to_string()).retry_after(60)
            }
            GatewayError::NotOffered => Self::new("environment_not_offered", error.to_string()),
            GatewayError::Unavailable { retry_after } => {
                Self::new("unavailable", "the broker cannot be asked at the moment")
                    .retry_after(retry_after.as_secs())
            }
        }
    }
}

/// The broker account: `stale` when the broker cannot be asked at the moment and these are its last words. The header
/// `Plimsoll-Cursor` is where a WebSocket goes on from it.
#[utoipa::path(
    responses(
        (status = 200, body = schema::Account),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[get("/account")]
pub async fn account(
    state: web::Data<AppState>,
    caller: Caller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    // The broker's word is in no transaction of ours: what is told of it after this moment may be in it already.
    let user = caller.user;
    let at = state.db.read(move |tx| tx.heads_of(user)).await?;
    let seen = state.gateway.account(user).await?;
    let view = AccountView::new(&seen.account, seen.environment, seen.as_of, seen.stale);
    Ok(with_cursor(HttpResponse::Ok().json(view), user, at))
}
