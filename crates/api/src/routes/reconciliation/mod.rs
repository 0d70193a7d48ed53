//! Reconciliation: runs, differences, and who decides about them.

pub mod resolve;
pub mod run;
pub mod run_get;
pub mod runs;
pub mod stale_orders;
pub mod status;

use actix_web::{FromRequest, HttpRequest, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::views::At;
use plimsoll_core_domain::{AccountId, UserId};
use plimsoll_storage::platform::reconciliation::{Discrepancy, RunRow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::caller::{AdminCaller, Caller};
use crate::problem::Problem;
use crate::state::AppState;

/// Of which account.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AccountQuery {
    /// The account's id, instead of the caller's account; another user's is for administrators.
    account: Option<i64>,
}

/// Whose comparisons a request is about.
struct Whose {
    /// Who asks.
    caller: Caller,
    /// Whose they are.
    user: UserId,
    /// The account that was named.
    account: Option<AccountId>,
}

impl Whose {
    /// The caller's own; or those of the account that was named, which only administrators may name of others. Their looks
    /// are recorded.
    ///
    /// # Errors
    /// 401 and 403 as for every route; 404 when an administrator names an account that is not there.
    async fn of(
        state: &web::Data<AppState>,
        request: &HttpRequest,
        account: Option<i64>,
    ) -> Result<Self, Problem> {
        let Some(id) = account.map(AccountId) else {
            let caller = Caller::extract(request).await?;
            return Ok(Self { user: caller.user, caller, account: None });
        };
        // A token of an administrator's need not have the scopes for an account of its owner's own.
        let caller = match Caller::extract(request).await {
            Ok(caller) => caller,
            Err(_) => AdminCaller::extract(request).await?.0,
        };
        let owner = state.db.read(move |tx| tx.account_owner(id)).await?;
        if owner.is_some_and(|owner| owner.user == caller.user) {
            return Ok(Self { user: caller.user, caller, account: Some(id) });
        }
        let caller = AdminCaller::extract(request).await?.0;
        let Some(owner) = owner else { return Err(no_account()) };
        if request.method() == actix_web::http::Method::GET {
            let (by, act, path) = (Some(caller.user), caller.act(state), request.path().to_owned());
            let entry = act.entry(
                "admin.reconciliation_read",
                AuditOutcome::Success,
                by,
                Some(owner.user),
                serde_json::json!({ "account": id.0, "path": path }),
            );
            state.db.run(move |tx| tx.append_audit(Some(owner.user), &entry)).await?;
        }
        Ok(Self { caller, user: owner.user, account: Some(id) })
    }

    /// Whether something of this account is asked for.
    fn wants(&self, account: i64) -> bool {
        self.account.is_none_or(|wanted| wanted.0 == account)
    }
}

fn no_account() -> Problem {
    Problem::new("not_found", "there is no such account")
}

/// A comparison of an account with its broker, without what it found.
#[derive(Serialize, ToSchema)]
#[schema(as = ReconciliationRun)]
pub struct RunView {
    #[schema(value_type = String)]
    run_id: Uuid,
    account_id: i64,
    /// `queued`, `running`, or how it ended: `ok` (every difference is explained, adopted or adjusted), `attention` (some
    /// need a human), `partial` (some questions were not answered) or `failed`.
    status: String,
    /// `start`, `reconnect`, `interval`, `watch`, `unknown`, `demand` or another reason.
    trigger: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    started_at: At,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    finished_at: Option<At>,
    /// Orders, positions and balances that were compared.
    scanned: i32,
    /// Differences that it settled.
    fixed: i32,
    /// Why it failed.
    error: Option<String>,
}

impl From<&RunRow> for RunView {
    fn from(row: &RunRow) -> Self {
        Self {
            run_id: row.id,
            account_id: row.account_id,
            status: row.status.clone(),
            trigger: row.trigger.clone(),
            started_at: At(row.started_at),
            finished_at: row.finished_at.map(At),
            scanned: row.scanned,
            fixed: row.fixed,
            error: row.error.clone(),
        }
    }
}

/// A difference as a run found it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct FoundDiscrepancy {
    /// By which it is resolved.
    id: i64,
    /// `missing_order`, `extra_order`, `status`, `filled_qty`, `missing_fill`, `extra_fill`, `position_qty`, `avg_price`,
    /// `cash` or `stale`.
    kind: String,
    symbol: Option<String>,
    order_id: Option<String>,
    /// What is, or was, on record.
    local: String,
    /// What the broker shows.
    broker: String,
    /// `timing`, `explained`, `adopted`, `adjusted` or `needs_human`.
    class: String,
    /// What was done about it.
    action: String,
    first_seen_at: chrono::DateTime<chrono::Utc>,
}

/// A comparison with what it found.
#[derive(Serialize, ToSchema)]
#[schema(as = ReconciliationReport)]
pub struct ReportView {
    #[serde(flatten)]
    run: RunView,
    #[schema(value_type = Vec<FoundDiscrepancy>)]
    discrepancies: Box<RawValue>,
}

impl ReportView {
    fn new(row: RunRow) -> Result<Self, Problem> {
        let run = RunView::from(&row);
        let discrepancies = RawValue::from_string(row.found)
            .map_err(|why| Problem::internal(format!("what run {} found cannot be read: {why}", row.id)))?;
        Ok(Self { run, discrepancies })
    }
}

/// A difference between an account's record and its broker.
#[derive(Serialize, ToSchema)]
#[schema(as = Discrepancy)]
pub struct DiscrepancyView {
    id: i64,
    account_id: i64,
    /// The run that found it last.
    #[schema(value_type = String)]
    run_id: Uuid,
    /// `missing_order`, `extra_order`, `status`, `filled_qty`, `missing_fill`, `extra_fill`, `position_qty`, `avg_price`,
    /// `cash` or `stale`.
    kind: String,
    symbol: Option<String>,
    #[schema(value_type = Option<String>)]
    order_id: Option<Uuid>,
    /// What is on record.
    local: String,
    /// What the broker shows.
    broker: String,
    /// `timing`, `explained`, `adopted`, `adjusted` or `needs_human`.
    class: String,
    action: String,
    /// It keeps new entries on the symbol out until it is resolved.
    blocks: bool,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    first_seen_at: At,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    last_seen_at: At,
    /// When its owner was told.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    told_at: Option<At>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    resolved_at: Option<At>,
    /// `settled` by a run, `gone` by itself, or decided: `accept_broker`, `keep_local`.
    resolution: Option<String>,
    note: Option<String>,
}

impl From<Discrepancy> for DiscrepancyView {
    fn from(row: Discrepancy) -> Self {
        Self {
            id: row.id,
            account_id: row.account_id,
            run_id: row.run_id,
            kind: row.kind,
            symbol: row.symbol,
            order_id: row.order_id,
            local: row.local,
            broker: row.broker,
            class: row.class,
            action: row.action,
            blocks: row.blocks,
            first_seen_at: At(row.first_seen_at),
            last_seen_at: At(row.last_seen_at),
            told_at: row.alerted_at.map(At),
            resolved_at: row.resolved_at.map(At),
            resolution: row.resolution,
            note: row.note,
        }
    }
}

/// With whose money, as answers say it.
fn word(environment: Environment) -> &'static str {
    environment.as_str()
}
