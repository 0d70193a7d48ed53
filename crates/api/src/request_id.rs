//! The id of a request: ours, or the caller's where it sent a UUID. Every answer and every problem carries it.

use std::cell::Cell;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use uuid::Uuid;

use crate::state::AppState;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: Cell<Uuid>;
}

/// The id of a request, among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub Uuid);

/// The id of the request that this task serves; `None` outside of any.
#[must_use]
pub fn current() -> Option<Uuid> {
    CURRENT.try_with(Cell::get).ok()
}

/// Gives each request its id and each answer the id's header and the headers that every answer of an API should have
/// (OWASP ASVS 5.0, 3.4: nosniff, no referrer, no framing, nothing cached).
///
/// # Errors
/// Those of the service behind it.
pub async fn identify(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let given = request
        .headers()
        .get(&HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let id = match (given, request.app_data::<web::Data<AppState>>()) {
        (Some(id), _) => id,
        (None, Some(state)) => state.ids.request_id(),
        (None, None) => Uuid::nil(),
    };
    request.extensions_mut().insert(RequestId(id));
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cache-control", "no-store"),
    ];
    CURRENT
        .scope(Cell::new(id), async {
            // Refusals of handlers and extractors come as answers already, written while the id is known.
            let mut response = next.call(request).await?;
            let headers = response.headers_mut();
            for (name, value) in fixed {
                let name = HeaderName::from_static(name);
                if !headers.contains_key(&name) {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
                headers.insert(HEADER, value);
            }
            Ok(response)
        })
        .await
}
