//! `GET /admin/audit/verify`.

use actix_web::{HttpResponse, get, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_storage::platform::audit::{AuditReport, BadEntry};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::body::NoQuery;
use crate::caller::AdminCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// One at a time: it reads everything.
static TURN: Semaphore = Semaphore::const_new(1);

#[derive(Serialize)]
struct BadView {
    user_id: Option<i64>,
    entry_id: String,
    reason: &'static str,
}

#[derive(Serialize)]
struct ReportView {
    ok: bool,
    chains: u64,
    entries: u64,
    checkpoints: u64,
    newest_checkpoint: Option<String>,
    first_bad: Option<BadView>,
}

impl From<&AuditReport> for ReportView {
    fn from(report: &AuditReport) -> Self {
        let bad =
            |bad: &BadEntry| BadView { user_id: bad.user_id(), entry_id: bad.entry_id(), reason: bad.reason };
        Self {
            ok: report.first_bad.is_none(),
            chains: report.chains,
            entries: report.entries,
            checkpoints: report.checkpoints,
            newest_checkpoint: report.newest.map(|anchor| anchor.to_string()),
            first_bad: report.first_bad.as_ref().map(bad),
        }
    }
}

/// Computes every MAC of the audit log again and names the first entry that does not verify. 200 in either case.
#[utoipa::path(
    responses(
        (status = 200, body = schema::AuditVerification),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/audit/verify")]
pub async fn verify(
    state: web::Data<AppState>,
    caller: AdminCaller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let Ok(_turn) = TURN.try_acquire() else {
        return Err(Problem::new("unavailable", "the audit log is being verified already").retry_after(5));
    };
    let report = state.db.read_snapshot(|tx| tx.verify_audit()).await?;
    let (act, reader) = (caller.act(&state), caller.user);
    let outcome = match &report.first_bad {
        None => AuditOutcome::Success,
        Some(bad) => {
            tracing::error!(
                audit.entry = bad.entry_id(),
                reason = bad.reason,
                "The audit log does not verify."
            );
            AuditOutcome::Failure
        }
    };
    let view = ReportView::from(&report);
    let detail = serde_json::json!({
        "entries": report.entries,
        "first_bad": report.first_bad.as_ref().map(BadEntry::entry_id),
    });
    let entry = act.entry("audit.verify", outcome, Some(reader), None, detail);
    // A chain that is broken may take no more entries; the finding is told all the same.
    if let Err(error) = state.db.run(move |tx| tx.append_audit(Some(reader), &entry)).await {
        if report.first_bad.is_none() {
            return Err(error.into());
        }
        tracing::error!(%error, "The finding could not be recorded.");
    }
    Ok(HttpResponse::Ok().json(view))
}
