//! `PATCH /admin/users/{id}`.

use actix_web::{HttpResponse, patch, web};
use plimsoll_auth::admin::{self, Change, Changed};
use plimsoll_auth::{AccountState, Role};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_storage::Tx;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{ListedView, no_user, user_id};
use crate::body::Body;
use crate::caller::{AdminSteppedUp, Caller};
use crate::problem::Problem;
use crate::routes::orders::cancel::wish_all;
use crate::schema;
use crate::state::AppState;

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What the user may do.
    #[schema(value_type = Option<schema::RoleWord>)]
    role: Option<Role>,
    /// Whether the user may sign in.
    #[schema(value_type = Option<schema::StateWord>)]
    state: Option<AccountState>,
    /// What becomes of a disabled user's open orders: `keep` (the default, since some may protect a position) or `cancel`.
    /// They are followed either way. Only together with the state `disabled`.
    open_orders: Option<OpenOrders>,
}

/// What becomes of open orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenOrders {
    /// They stay at the broker.
    Keep,
    /// Each is asked to be canceled.
    Cancel,
}

/// Changes a user's role or state. Another role, and being disabled, ends the user's sessions, sockets and API tokens.
#[utoipa::path(
    params(("id" = String, Path, description = "The user's id.")),
    request_body = ChangeUser,
    responses(
        (status = 200, body = schema::AdminUser),
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
    tag = "admin",
    security(("bearer" = []))
)]
#[patch("/admin/users/{id}")]
pub async fn patch(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    body: Body<ChangeUser>,
) -> Result<HttpResponse, Problem> {
    let user = user_id(&path)?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let orders = body.value.open_orders;
    if orders.is_some() && body.value.state != Some(AccountState::Disabled) {
        let detail = "goes with the state disabled only";
        return Err(Problem::field("/open_orders", "invalid", detail.to_owned()));
    }
    let change = Change { role: body.value.role, state: body.value.state };
    let changed = state.db.run(move |tx| admin::change(tx, &act, by, user, change)).await?;
    match changed {
        Changed::Done(listed) => {
            state.session_cache.forget_user(user);
            if orders == Some(OpenOrders::Cancel) {
                cancel_open_orders(&state, &caller, user).await?;
            }
            Ok(HttpResponse::Ok().json(ListedView::from(&listed)))
        }
        Changed::LastAdmin => {
            Err(Problem::new("last_admin", "the last active administrator cannot be demoted or disabled"))
        }
        Changed::Unverified => Err(Problem::new(
            "business_rule",
            "the user's address is not confirmed: administrators are users who can sign in",
        )),
        Changed::NotFound => Err(no_user()),
    }
}

/// Asks for the cancellation of every open order of a user who makes no new ones any more. It is a transaction of its own,
/// after that of the change: orders are locked before anything of the audit log.
async fn cancel_open_orders(state: &AppState, admin: &Caller, user: UserId) -> Result<(), Problem> {
    let (by, act) = (Some(admin.user), admin.act(state));
    let cancel = move |tx: &mut Tx<'_>| {
        let Some(account) = tx.account_of_user(user)?.map(|account| account.id) else { return Ok(()) };
        for (_, order) in wish_all(tx, account, act.at)?.into_iter().filter_map(|(_, wished)| wished.ok()) {
            let detail =
                json!({ "order_id": order.id, "symbol": order.terms.symbol, "reason": "user_disabled" });
            let entry = act.entry("order.cancel", AuditOutcome::Success, by, Some(user), detail);
            tx.append_audit(Some(user), &entry)?;
        }
        Ok(())
    };
    state.db.run(cancel).await
}
