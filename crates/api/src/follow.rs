//! From a snapshot to what follows it: answers that carry the cursor of their own moment.

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use plimsoll_core_domain::UserId;
use plimsoll_realtime::Cursor;
use plimsoll_storage::platform::streams::StreamHeads;

/// The header with the cursor: a socket that resumes after it misses nothing that the answer does not show.
const CURSOR: HeaderName = HeaderName::from_static("plimsoll-cursor");

/// Adds the cursor of the moment at which the answer's data was read.
pub(crate) fn with_cursor(mut response: HttpResponse, user: UserId, at: StreamHeads) -> HttpResponse {
    let cursor = Cursor { user, user_at: at.user.into(), broadcast_at: at.broadcast.into() };
    // A cursor is base64url.
    if let Ok(value) = HeaderValue::from_str(&cursor.encode()) {
        response.headers_mut().insert(CURSOR, value);
    }
    response
}
