//! `POST /positions/{symbol}/claim`.

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::Symbol;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::PositionView;
use plimsoll_storage::platform::orders::PositionClaim;
use serde_json::json;

use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

fn none() -> Problem {
    Problem::new("not_found", "there is no such position")
}

/// Claims the units of a position that came from outside the platform: a halt that flattens closes them too from now on.
/// `outside` of `GET /reconciliation/status` tells which there are.
#[utoipa::path(
    params(("symbol" = String, Path, description = "The symbol; the slash of a pair as `%2F`.")),
    responses(
        (status = 200, body = schema::Position),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[post("/positions/{symbol}/claim")]
pub async fn claim(
    state: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    state.count_order(caller.user)?;
    let symbol = Symbol::new(path.into_inner()).map_err(|_| none())?;
    let now = state.clock.now();
    let seed = u64::from(now.timestamp_subsec_micros());
    let (held, done) = state
        .db
        .run_retrying(seed, move |tx| {
            let done = tx.claim_position(caller.user, &symbol)?;
            if let PositionClaim::Done(qty) = done {
                let detail = json!({ "symbol": symbol, "qty": qty.to_string() });
                let entry = caller.audit("position.claim", AuditOutcome::Success, now, detail);
                tx.append_audit(Some(caller.user), &entry)?;
            }
            let held = tx.holdings(caller.user)?.into_iter().find(|held| held.symbol == symbol);
            Ok::<_, Problem>((held, done))
        })
        .await?;
    let held = held.filter(|held| !held.position.qty.is_zero()).ok_or_else(none)?;
    match done {
        PositionClaim::Done(_) => Ok(HttpResponse::Ok().json(PositionView::from(&held))),
        PositionClaim::NothingOutside => Err(Problem::new(
            "duplicate",
            "nothing of the position came from outside, or it is claimed already",
        )),
    }
}
