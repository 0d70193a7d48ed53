//! `GET /orders`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::order::{Side, SourceKind};
use plimsoll_storage::platform::orders::{ListedOrder, OrderFilter, OrderPage};
use plimsoll_storage::platform::streams::StreamHeads;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::body::symbol_filter;
use crate::caller::Caller;
use crate::follow::with_cursor;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which orders by state.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatusFilter {
    /// Those that are not final.
    Open,
    /// Those that are final.
    Closed,
    /// All.
    #[default]
    All,
}

/// Which orders.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// `open`, `closed` or `all` (the default).
    #[serde(default)]
    status: StatusFilter,
    /// Of one symbol.
    symbol: Option<String>,
    /// `buy` or `sell`.
    #[param(value_type = Option<schema::SideWord>)]
    side: Option<Side>,
    /// `api`, `webhook`, `external` or `strategy`.
    #[param(value_type = Option<String>)]
    source: Option<SourceKind>,
    /// Created at or after.
    from: Option<DateTime<Utc>>,
    /// Created before.
    to: Option<DateTime<Utc>>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// The caller's orders, newest first; legs stand within their entries. The header `Plimsoll-Cursor` is where a WebSocket
/// goes on from this answer.
#[utoipa::path(
    params(ListQuery),
    responses(
        (status = 200, body = schema::OrderList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "orders",
    security(("bearer" = []))
)]
#[get("/orders")]
pub async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let limit = limit(query.limit)?;
    let before = match &query.cursor {
        Some(cursor) => Some(decode_cursor("orders", cursor)?.parse().map_err(|_| bad_cursor())?),
        None => None,
    };
    let asked = OrderPage {
        filter: match query.status {
            StatusFilter::All => OrderFilter::All,
            StatusFilter::Open => OrderFilter::Open,
            StatusFilter::Closed => OrderFilter::Closed,
        },
        symbol: symbol_filter(query.symbol)?,
        side: query.side.map(|side| side.as_str().to_owned()),
        source: query.source.map(|source| source.as_str().to_owned()),
        from: query.from,
        to: query.to,
        before,
        limit: limit + 1,
    };
    let (mut orders, at) = read(&state, caller.user, asked).await?;
    let more = orders.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    orders.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = orders.last().filter(|_| more).map(|last| encode_cursor("orders", &last.id.to_string()));
    let page = page("/orders", request.query_string(), orders.iter().map(|order| order.json.as_str()), next);
    Ok(with_cursor(page, caller.user, at))
}

/// The page and where the streams stood then: by one statement, or where that does not do in a snapshot.
async fn read(
    state: &AppState,
    user: UserId,
    asked: OrderPage,
) -> Result<(Vec<ListedOrder>, StreamHeads), Problem> {
    let asked = Arc::new(asked);
    let first = Arc::clone(&asked);
    match state.db.read(move |tx| Ok::<_, Problem>(tx.order_list_at(user, &first)?)).await? {
        (orders, Some(at)) => Ok((orders, at)),
        (_, None) => {
            let both = state.db.read_snapshot(move |tx| {
                Ok::<_, Problem>((tx.order_list(user, &asked)?, tx.heads_of(user)?))
            });
            both.await
        }
    }
}
