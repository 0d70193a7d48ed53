//! `GET /admin/users`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_auth::admin::{self, Filter};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::views::json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ListedView;
use crate::caller::AdminCaller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The longest text to search for.
const MAX_SEARCH_CHARS: usize = 254;

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct UsersQuery {
    /// A part of the address or the name, in any case.
    search: Option<String>,
    /// `active` or `disabled`.
    state: Option<String>,
    /// `user` or `admin`.
    role: Option<String>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

impl UsersQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let too_long = |text: &&String| text.chars().count() > MAX_SEARCH_CHARS || text.contains('\0');
        if self.search.as_ref().filter(too_long).is_some() {
            return Err(Problem::field(
                "?search",
                "invalid",
                "must have at most 254 characters, none of them NUL",
            ));
        }
        let state = self.state.as_deref().map(str::parse).transpose();
        let role = self.role.as_deref().map(str::parse).transpose();
        Ok(Filter {
            text: self.search.clone().filter(|text| !text.is_empty()),
            state: state.map_err(|_| Problem::field("?state", "invalid", "must be active or disabled"))?,
            role: role.map_err(|_| Problem::field("?role", "invalid", "must be user or admin"))?,
        })
    }
}

/// The users, newest first. The look is recorded.
#[utoipa::path(
    params(UsersQuery),
    responses(
        (status = 200, body = schema::AdminUserList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/users")]
pub async fn list(
    state: web::Data<AppState>,
    caller: AdminCaller,
    request: HttpRequest,
    query: web::Query<UsersQuery>,
) -> Result<HttpResponse, Problem> {
    let wanted = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let filter = query.filter()?;
    let place = |cursor: &str| decode_cursor("users", cursor)?.parse().map(UserId).map_err(|_| bad_cursor());
    let before = query.cursor.as_deref().map(place).transpose()?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let mut users =
        state.db.run(move |tx| admin::list(tx, &act, by, &filter, before, wanted.saturating_add(1))).await?;
    let more = users.len() > wanted;
    users.truncate(wanted);
    let next = users.last().filter(|_| more).map(|last| encode_cursor("users", &last.user.id.to_string()));
    let rows: Vec<String> = users.iter().map(|user| json(&ListedView::from(user))).collect();
    Ok(page("/admin/users", request.query_string(), &rows, next))
}
