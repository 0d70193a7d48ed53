//! A delivery's body, by its bytes: whatever its headers say, at most 64 KiB, and not for ever.

use std::time::Duration;

use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{HttpRequest, http::header::CONTENT_LENGTH};
use futures_util::StreamExt;
use plimsoll_core_domain::signals::Reason;

use crate::body::MAX_BODY;

/// What arrived.
pub(super) struct Arrived {
    /// The body, as far as it was read: at most 64 KiB.
    pub(super) bytes: Bytes,
    /// Its size, as far as it is known.
    pub(super) size: i64,
    /// Why it is not whole.
    pub(super) cut: Option<Reason>,
}

/// Reads a body.
pub(super) async fn read(request: &HttpRequest, mut payload: Payload, within: Duration) -> Arrived {
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<i64>().ok())
        .unwrap_or(0);
    let mut bytes = BytesMut::new();
    let reading = async {
        while let Some(chunk) = payload.next().await {
            let Ok(chunk) = chunk else { return Some(Reason::TooSlow) };
            let room = MAX_BODY - bytes.len();
            if chunk.len() > room {
                bytes.extend_from_slice(&chunk[..room]);
                return Some(Reason::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        None
    };
    let cut = tokio::time::timeout(within, reading).await.unwrap_or(Some(Reason::TooSlow));
    let seen = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let size = if cut.is_some() { announced.max(seen) } else { seen };
    Arrived { bytes: bytes.freeze(), size, cut }
}
