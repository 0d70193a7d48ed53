//! `POST /reconciliation/run`.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::TimeDelta;
use plimsoll_auth::ports::ThrottleStore;
use plimsoll_auth::throttle::{Limit, Verdict};
use plimsoll_auth::vault::{CredentialState, list};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{AccountId, OrderId, UserId};
use plimsoll_reliability::reconcile::{RunStatus, Trigger};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::reconciliation::RunRow;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use uuid::Uuid;

use super::run_get::no_run;
use super::{ReportView, Whose};
use crate::gateway::{GatewayError, Trading};
use crate::problem::Problem;
use crate::routes::orders::no_account;
use crate::schema;
use crate::state::AppState;

/// Runs that one caller asks for.
const ASKS: Limit = Limit::new(12, TimeDelta::minutes(1), 12);
/// How long a request waits for the end of its run.
const WAIT: Duration = Duration::from_secs(60);
/// How often it looks without being woken: an instance elsewhere may do the run.
const LOOK: Duration = Duration::from_millis(500);

/// Which account, and how the request is answered.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// The account's id, instead of the caller's account; another user's is for administrators.
    account: Option<i64>,
    /// Answer when the run has ended, at most a minute later.
    #[serde(default)]
    wait: bool,
}

/// Compares an account with its broker now. While a run is asked for or under way, a second request is about the same one.
///
/// 202 with the run as it stands; with `wait=true` 200 with its report, or 202 when it has not ended within a minute. At most
/// 12 requests a minute.
#[utoipa::path(
    params(RunQuery),
    responses(
        (status = 200, body = ReportView, description = "It has ended."),
        (status = 202, body = ReportView, description = "It is asked for."),
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
#[post("/reconciliation/run")]
pub async fn run(
    state: web::Data<AppState>,
    request: HttpRequest,
    query: web::Query<RunQuery>,
) -> Result<HttpResponse, Problem> {
    let whose = Whose::of(&state, &request, query.account).await?;
    let (user, wanted) = (whose.user, whose.account);
    let account = state.db.read(move |tx| usable(tx, user, wanted)).await?;
    reachable(state.gateway.trading(user))?;
    let (by, now, id) = (whose.caller.clone(), state.clock.now(), state.ids.order_id().0);
    // Registered before the commit: the end may come right after it.
    let waiter = query
        .wait
        .then(|| (state.waiters.register(user, OrderId(id)), state.hub.watch(StreamId::User(user))));
    let asked = state
        .db
        .run(move |tx| {
            if let Verdict::Blocked { retry_after } =
                tx.take("reconciliation.run", &by.user.0.to_be_bytes(), ASKS, now)?
            {
                return Ok(Err(Problem::throttled("too many comparisons were asked for", retry_after)));
            }
            let asked = tx.ask_for_run(account, user, Trigger::Demand, id, now)?;
            let detail = json!({ "account": account.0, "run": asked });
            let mut entry = by.audit("reconciliation.run", AuditOutcome::Success, now, detail);
            entry.subject_id = Some(user);
            tx.append_audit(Some(user), &entry)?;
            Ok::<_, Problem>(Ok(asked))
        })
        .await??;
    let Some((waiter, _watch)) = waiter else {
        let row = load(&state, user, asked).await?;
        return Ok(HttpResponse::Accepted().json(ReportView::new(row)?));
    };
    let until = Instant::now() + WAIT;
    loop {
        let row = load(&state, user, asked).await?;
        let ended = row.status.parse::<RunStatus>().is_ok_and(RunStatus::is_final);
        if ended {
            return Ok(HttpResponse::Ok().json(ReportView::new(row)?));
        }
        let left = until.saturating_duration_since(Instant::now());
        let draining =
            tokio::time::timeout(left.min(LOOK), waiter.woken()).await.is_ok_and(|goes_on| !goes_on);
        if draining || left.is_zero() {
            return Ok(HttpResponse::Accepted().json(ReportView::new(row)?));
        }
    }
}

async fn load(state: &AppState, user: UserId, id: Uuid) -> Result<RunRow, Problem> {
    state.db.read(move |tx| tx.run_of(user, id)).await?.ok_or_else(no_run)
}

/// The account that was named, or the one that its owner trades with, where there is a key for it.
fn usable(tx: &mut Tx<'_>, user: UserId, wanted: Option<AccountId>) -> Result<AccountId, Problem> {
    let Some(account) = tx.account_of_user(user)? else { return Err(no_account()) };
    if wanted.is_some_and(|wanted| wanted != account.id) {
        let why =
            "its owner does not trade with this account at present: it is not connected with the broker";
        return Err(Problem::new("business_rule", why));
    }
    let credentials = list(tx, user)?;
    let key = credentials.iter().find(|credential| credential.environment == account.environment);
    match key {
        None => Err(no_account()),
        Some(key) if key.state == CredentialState::Invalid => Err(GatewayError::KeyRefused.into()),
        Some(_) => Ok(account.id),
    }
}

/// What this instance knows to be in the way; a key that was saved a moment ago may not have been heard of yet.
fn reachable(trading: Trading) -> Result<(), Problem> {
    match trading {
        Trading::Open | Trading::Reconciling | Trading::NoAccount | Trading::KeyRefused => Ok(()),
        Trading::KeyUnreadable => Err(GatewayError::KeyUnreadable.into()),
        Trading::NotOffered => Err(GatewayError::NotOffered.into()),
    }
}
