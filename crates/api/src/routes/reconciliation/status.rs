//! `GET /reconciliation/status`.

use actix_web::{FromRequest, HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::At;
use plimsoll_core_domain::{AccountId, UserId};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::reconciliation::{AccountStanding, Discrepancy};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{DiscrepancyView, RunView, Whose, word};
use crate::caller::AdminCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Of which accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct StatusQuery {
    /// The account's id, instead of the caller's accounts; another user's is for administrators.
    account: Option<i64>,
    /// Everybody's accounts, for administrators: those that need a human first, then those that were compared the longest
    /// ago, at most 500.
    #[serde(default)]
    all: bool,
}

/// Units that came from outside the platform.
#[derive(Serialize, ToSchema)]
pub struct OutsideUnits {
    symbol: String,
    /// Negative when short.
    qty: String,
}

/// Where an account's comparison stands.
#[derive(Serialize, ToSchema)]
#[schema(as = ReconciliationAccount)]
pub struct StandingView {
    account_id: i64,
    user_id: i64,
    #[schema(value_type = schema::EnvironmentWord)]
    environment: &'static str,
    /// When it was last compared to the end.
    #[schema(value_type = Option<DateTime<Utc>>)]
    reconciled_at: Option<At>,
    /// Since then.
    age_seconds: Option<i64>,
    open_discrepancies: i64,
    /// Those of them that need a human.
    needs_human: i64,
    /// Symbols that take no new entries until somebody has decided.
    blocked_symbols: Vec<String>,
    /// What is held and came from outside the platform: a halt does not close it.
    outside: Vec<OutsideUnits>,
    last_run: Option<RunView>,
}

/// Where comparisons stand.
#[derive(Serialize, ToSchema)]
#[schema(as = ReconciliationStatus)]
pub struct StatusView {
    accounts: Vec<StandingView>,
    /// The open differences, oldest first, at most 500.
    discrepancies: Vec<DiscrepancyView>,
}

fn standing(of: AccountStanding, now: DateTime<Utc>) -> StandingView {
    let units = |(symbol, qty): (String, rust_decimal::Decimal)| OutsideUnits {
        symbol,
        qty: qty.normalize().to_string(),
    };
    StandingView {
        account_id: of.account.0,
        user_id: of.user.0,
        environment: word(of.environment),
        reconciled_at: of.reconciled_at.map(At),
        age_seconds: of.reconciled_at.map(|at| (now - at).num_seconds().max(0)),
        open_discrepancies: of.open,
        needs_human: of.needs_human,
        blocked_symbols: of.blocked,
        outside: of.outside.into_iter().map(units).collect(),
        last_run: of.last_run.as_ref().map(RunView::from),
    }
}

/// Where the comparisons of the caller's accounts stand, and the differences that are open.
#[utoipa::path(
    params(StatusQuery),
    responses(
        (status = 200, body = StatusView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "reconciliation",
    security(("bearer" = []))
)]
#[get("/reconciliation/status")]
pub async fn status(
    state: web::Data<AppState>,
    request: HttpRequest,
    query: web::Query<StatusQuery>,
) -> Result<HttpResponse, Problem> {
    if query.all && query.account.is_some() {
        return Err(Problem::field("?all", "invalid", "is either this or `account`"));
    }
    let (user, account) = if query.all {
        let caller = AdminCaller::extract(&request).await?;
        let entry = caller.act(&state).entry(
            "admin.reconciliation_read",
            AuditOutcome::Success,
            Some(caller.user),
            None,
            serde_json::json!({ "path": request.path() }),
        );
        state.db.run(move |tx| tx.append_audit(None, &entry)).await?;
        (None, None)
    } else {
        let whose = Whose::of(&state, &request, query.account).await?;
        (Some(whose.user), whose.account)
    };
    let (standings, open) = state.db.read_snapshot(move |tx| read(tx, user, account)).await?;
    let now = state.clock.now();
    let view = StatusView {
        accounts: standings.into_iter().map(|of| standing(of, now)).collect(),
        discrepancies: open.into_iter().map(DiscrepancyView::from).collect(),
    };
    Ok(HttpResponse::Ok().json(view))
}

fn read(
    tx: &mut Tx<'_>,
    user: Option<UserId>,
    account: Option<AccountId>,
) -> Result<(Vec<AccountStanding>, Vec<Discrepancy>), Problem> {
    Ok((tx.account_standings(user, account)?, tx.open_discrepancies(user, account)?))
}
