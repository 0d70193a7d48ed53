//! What every request passes on its way in, and every answer on its way out, whichever route it is for.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use actix_cors::{Cors, CorsError};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, VARY};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError, web};
use futures_util::FutureExt;

use crate::csrf;
use crate::measured::Measured;
use crate::problem::Problem;
use crate::refusals;
use crate::request_id::RequestId;
use crate::state::AppState;

/// The longest path with query, in bytes.
const MAX_URI: usize = 8 * 1024;
/// The most that the names and values of all headers may have, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// On every answer that does not say otherwise itself (OWASP ASVS 5.0, 3.4): browsers come back over https only, guess no
/// types, tell nobody where they were, run and frame nothing, and keep nothing.
const HEADERS: &[(&str, &str)] = &[
    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Gives each request its id, refuses what no route should see, and gives each answer its headers. A panic behind it is
/// an answer too: 500, and nothing but the id.
///
/// # Errors
/// With a finished answer, where the service behind it left no request to answer.
pub(crate) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id);
    let measured = Measured::begin(&request);
    id.scope(async {
        if let Err(problem) = check(&request) {
            let mut response = request.into_response(problem.error_response());
            refusals::record(&response).await;
            add_headers(response.headers_mut(), id);
            if let Some(measured) = measured {
                measured.answered(&response);
            }
            return Ok(response);
        }
        // Called inside, so that a panic before the first await is caught as well.
        let answered = AssertUnwindSafe(async { next.call(request).await }).catch_unwind().await;
        let mut response = match answered {
            // Refusals of handlers and extractors come as answers already, written while the id is known.
            Ok(Ok(response)) => plain_refusals(response.map_into_boxed_body()),
            Ok(Err(error)) => return Err(finished(error.error_response(), id, measured)),
            Err(panic) => return Err(finished(panicked(&*panic).error_response(), id, measured)),
        };
        refusals::record(&response).await;
        add_headers(response.headers_mut(), id);
        if let Some(measured) = measured {
            measured.answered(&response);
        }
        Ok(response)
    })
    .await
}

fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let uri = request.head().uri.path_and_query().map_or("", |text| text.as_str());
    if uri.len() > MAX_URI {
        return Err(Problem::new("uri_too_long", format!("path and query may have {MAX_URI} bytes")));
    }
    let headers = request.headers();
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > MAX_HEADERS {
        return Err(Problem::new("headers_too_large", format!("all headers may have {MAX_HEADERS} bytes")));
    }
    if uri.contains("%00") {
        return Err(Problem::new("malformed", "path and query may not hold NUL"));
    }
    // A page cannot add this header to a foreign request without asking first, see `cors`.
    if csrf::changes_state(request.method()) && !headers.contains_key(AUTHORIZATION) {
        let Some(state) = request.app_data::<web::Data<AppState>>() else { return Ok(()) };
        csrf::check_open(headers, &state.settings.public_url, &state.settings.cors_origins)?;
    }
    Ok(())
}

/// What the layers around the routes refuse in words of their own, as problems.
fn plain_refusals(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let Some(error) = response.response().error().and_then(|error| error.as_error::<CorsError>()) else {
        return response;
    };
    let mut problem = Problem::new("access_denied", error.to_string()).error_response();
    problem.headers_mut().insert(VARY, HeaderValue::from_static("Origin"));
    response.into_response(problem)
}

fn panicked(panic: &(dyn Any + Send)) -> Problem {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let text: String = text.chars().take(200).collect();
    Problem::internal(format!("a panic: {text}"))
}

fn finished(mut response: HttpResponse, id: RequestId, measured: Option<Measured>) -> Error {
    add_headers(response.headers_mut(), id);
    if let Some(measured) = measured {
        measured.failed(response.status().as_u16());
    }
    InternalError::from_response("a request failed", response).into()
}

fn add_headers(headers: &mut HeaderMap, id: RequestId) {
    for &(name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id.0.to_string()) {
        headers.insert(RequestId::HEADER, value);
    }
}

/// Pages of exactly these origins may call and read the answers, without cookies (OWASP ASVS 5.0, 3.4.2): no origin is
/// reflected that is not in the list, and `null` is in none.
pub(crate) fn cors(origins: &[String]) -> Cors {
    origins
        .iter()
        .fold(Cors::default(), |cors, origin| cors.allowed_origin(origin))
        .allowed_methods(["GET", "POST", "PATCH", "PUT", "DELETE"])
        .allowed_headers([
            "authorization",
            "content-type",
            "idempotency-key",
            "x-request-id",
            "x-plimsoll-background",
        ])
        .expose_headers([
            "retry-after",
            "idempotency-replayed",
            "x-request-id",
            "plimsoll-cursor",
            "location",
        ])
        .max_age(3600)
}
