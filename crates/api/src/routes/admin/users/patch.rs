//! `PATCH /admin/users/{id}`.

use actix_web::{HttpResponse, patch, web};
use plimsoll_auth::admin::{self, Change, Changed};
use plimsoll_auth::{AccountState, Role};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ListedView, no_user, user_id};
use crate::body::Body;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
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
    let change = Change { role: body.value.role, state: body.value.state };
    let changed = state.db.run(move |tx| admin::change(tx, &act, by, user, change)).await?;
    match changed {
        Changed::Done(listed) => {
            state.session_cache.forget_user(user);
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
