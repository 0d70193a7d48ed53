//! `GET /fills`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::views::{FillView, json};
use plimsoll_storage::platform::portfolio::FillCursor;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::body::symbol_filter;
use crate::caller::Caller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which fills.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FillsQuery {
    /// Of one symbol.
    symbol: Option<String>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

fn place(text: &str) -> Result<FillCursor, Problem> {
    let (micros, id) = text.split_once('/').ok_or_else(bad_cursor)?;
    let micros: i64 = micros.parse().map_err(|_| bad_cursor())?;
    let created_at = DateTime::<Utc>::from_timestamp_micros(micros).ok_or_else(bad_cursor)?;
    Ok(FillCursor { created_at, id: id.parse().map_err(|_| bad_cursor())? })
}

/// The caller's fills, newest first.
#[utoipa::path(
    params(FillsQuery),
    responses(
        (status = 200, body = schema::FillList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[get("/fills")]
pub async fn fills(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    query: web::Query<FillsQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let limit = limit(query.limit)?;
    let before = query.cursor.as_deref().map(|cursor| place(&decode_cursor("fills", cursor)?)).transpose()?;
    let symbol = symbol_filter(query.symbol)?;
    let mut rows =
        state.db.read(move |tx| tx.fills_page(caller.user, symbol.as_deref(), before, limit + 1)).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|(_, at)| encode_cursor("fills", &format!("{}/{}", at.created_at.timestamp_micros(), at.id)));
    let rows: Vec<String> = rows.iter().map(|(fill, _)| json(&FillView::from(fill))).collect();
    Ok(page("/fills", request.query_string(), &rows, next))
}
