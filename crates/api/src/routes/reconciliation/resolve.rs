//! `POST /reconciliation/discrepancies/{id}/resolve`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_storage::platform::reconciliation::{Resolution, Resolved};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{AccountQuery, DiscrepancyView, Whose};
use crate::body::Body;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The broker: the record follows where it can.
    AcceptBroker,
    /// The record: this very difference is not told again.
    KeepLocal,
}

impl From<Decision> for Resolution {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::AcceptBroker => Self::AcceptBroker,
            Decision::KeepLocal => Self::KeepLocal,
        }
    }
}

/// A decision about a difference.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Who is right.
    action: Decision,
    /// Why, for the record: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    note: String,
}

fn none() -> Problem {
    Problem::new("not_found", "there is no such difference")
}

/// Decides about a difference, and opens its symbol for new entries again.
///
/// `accept_broker` books an adjustment of a position or of the cash, and ends an order that the broker does not have. Of
/// everything else the difference is closed, and found again by the next run if it is still there. `keep_local` changes
/// nothing, and the same difference is not told again. A difference that is not what it was when it was noted is left alone:
/// run a comparison first.
#[utoipa::path(
    params(("id" = i64, Path, description = "The difference's id."), AccountQuery),
    request_body = Resolve,
    responses(
        (status = 200, body = DiscrepancyView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "reconciliation",
    security(("bearer" = []))
)]
#[post("/reconciliation/discrepancies/{id}/resolve")]
pub async fn resolve(
    state: web::Data<AppState>,
    request: HttpRequest,
    path: web::Path<String>,
    query: web::Query<AccountQuery>,
    body: Body<Resolve>,
) -> Result<HttpResponse, Problem> {
    let whose = Whose::of(&state, &request, query.account).await?;
    let Resolve { action, note } = body.value;
    if note.trim().is_empty() || note.chars().count() > 500 {
        return Err(Problem::field("/note", "out_of_range", "must have 1 to 500 characters"));
    }
    let id: i64 = path.parse().map_err(|_| none())?;
    let (owner, account, by, now) = (whose.user, whose.account, whose.caller, state.clock.now());
    let seed = u64::from(now.timestamp_subsec_micros());
    let resolution = Resolution::from(action);
    let done = state
        .db
        .run_retrying(seed, move |tx| {
            let done = tx.resolve_discrepancy(id, Some(owner), by.user, resolution, Some(&note), now)?;
            let Resolved::Done(row) = &done else { return Ok(done) };
            if account.is_some_and(|account| account.0 != row.account_id) {
                return Err(none());
            }
            let detail = json!({
                "discrepancy": id, "account": row.account_id, "kind": row.kind, "symbol": row.symbol,
                "order": row.order_id, "local": row.local, "broker": row.broker,
                "decision": resolution.as_str(), "note": note,
            });
            let mut entry = by.audit("reconciliation.resolve", AuditOutcome::Success, now, detail);
            entry.subject_id = Some(owner);
            tx.append_audit(Some(owner), &entry)?;
            Ok::<_, Problem>(done)
        })
        .await?;
    match done {
        Resolved::Unknown => Err(none()),
        Resolved::Already => Err(Problem::new("duplicate", "the difference is resolved already")),
        Resolved::Changed => {
            let why = "the record has changed since the difference was noted: run a comparison first";
            Err(Problem::new("discrepancy_changed", why))
        }
        Resolved::Done(row) => {
            tracing::warn!(
                account.id = row.account_id,
                discrepancy.id = row.id,
                decision = resolution.as_str(),
                "somebody decided about a difference from the broker"
            );
            Ok(HttpResponse::Ok().json(DiscrepancyView::from(*row)))
        }
    }
}
