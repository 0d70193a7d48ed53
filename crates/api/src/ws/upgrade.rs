//! The two routes: from a request to a socket.
#![expect(unreachable_pub, reason = "actix's route macro repeats the handler's visibility inside a function")]

use std::time::Instant;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::UserId;
use secrecy::SecretString;
use serde::Deserialize;

use super::auth::{WsAuthError, WsCredential};
use super::connection::Connection;
use super::limits::Full;
use super::places::{self, Places};
use super::refusal::UpgradeRefused;
use super::{WebSockets, socket::Socket};
use crate::identity::Shown;
use crate::proxies::client_ip;

/// Opens a WebSocket on the caller's own stream and the broadcast.
///
/// Authentication is a bearer header, a ticket of `POST /ws/ticket`, the session's cookie with an allowed `Origin`, or a
/// first message `{"type":"auth","token":"…"}`. With `cursor`, what was missed since then is sent first.
#[utoipa::path(
    tag = "realtime",
    params(
        ("cursor" = Option<String>, Query, description = "The `id` of the last event seen"),
        ("ticket" = Option<String>, Query, description = "A ticket, which is used up"),
    ),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 400, description = "Not a WebSocket handshake", content_type = "application/problem+json"),
        (status = 401, description = "The bearer token or ticket is not accepted", content_type = "application/problem+json"),
        (status = 403, description = "The origin is not allowed", content_type = "application/problem+json"),
        (status = 426, description = "Another WebSocket version", content_type = "application/problem+json"),
        (status = 503, description = "Shutting down or too busy", content_type = "application/problem+json"),
    )
)]
#[get("/ws")]
pub async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    sockets: web::Data<WebSockets>,
) -> Result<HttpResponse, UpgradeRefused> {
    upgrade(request, payload, sockets, None).await
}

/// Opens a WebSocket on a named user's stream and the broadcast: one's own, or anybody's for an administrator.
#[utoipa::path(
    tag = "realtime",
    params(
        ("user_id" = i64, Path, description = "Whose stream"),
        ("cursor" = Option<String>, Query, description = "The `id` of the last event seen"),
        ("ticket" = Option<String>, Query, description = "A ticket, which is used up"),
    ),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 400, description = "Not a WebSocket handshake", content_type = "application/problem+json"),
        (status = 401, description = "The bearer token or ticket is not accepted", content_type = "application/problem+json"),
        (status = 403, description = "Another user's stream", content_type = "application/problem+json"),
        (status = 426, description = "Another WebSocket version", content_type = "application/problem+json"),
        (status = 503, description = "Shutting down or too busy", content_type = "application/problem+json"),
    )
)]
#[get("/ws/{user_id}")]
pub async fn connect_to_user(
    request: HttpRequest,
    payload: web::Payload,
    sockets: web::Data<WebSockets>,
    user: web::Path<i64>,
) -> Result<HttpResponse, UpgradeRefused> {
    upgrade(request, payload, sockets, Some(UserId(*user))).await
}

#[derive(Deserialize)]
struct UpgradeQuery {
    cursor: Option<String>,
    ticket: Option<SecretString>,
}

async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    sockets: web::Data<WebSockets>,
    subject: Option<UserId>,
) -> Result<HttpResponse, UpgradeRefused> {
    if sockets.draining.is_cancelled() {
        return Err(UpgradeRefused::Unavailable);
    }
    check_origin(request.headers(), &sockets.settings.allowed_origins)?;
    let query = web::Query::<UpgradeQuery>::from_query(request.query_string());
    let UpgradeQuery { cursor, ticket } = query.map_err(|_| UpgradeRefused::Malformed)?.into_inner();
    if !speaks_version_13(request.headers()) {
        return Err(UpgradeRefused::Version);
    }
    let (response, session, messages) =
        actix_ws::handle(&request, payload).map_err(|_| UpgradeRefused::Malformed)?;

    // A client that has too many sockets is told so by a close code, which a browser's page can read.
    let ip = client_ip(&request);
    let places = match sockets.limits.admit(ip, Instant::now()) {
        Err(Full::Server) => return Err(UpgradeRefused::Unavailable),
        other => other.ok().map(Places::new),
    };
    let caller = match credential(&request, ticket)? {
        Some(credential) if places.is_some() => {
            let caller = sockets.authenticator.authenticate(&credential, ip).await?;
            sockets.let_in(&caller, subject, ip).await?;
            Some(caller)
        }
        _ => None,
    };
    let socket = Socket::new(session, messages, &sockets.settings);
    let response = match &places {
        Some(places) => places::hold(places.clone(), response),
        None => response,
    };
    actix_web::rt::spawn(Connection { sockets, subject, cursor, socket, ip, places }.run(caller));
    Ok(response)
}

/// Pages of foreign sites may not connect, whatever they know. `null` (a sandboxed frame, a file) is never in the list.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), UpgradeRefused> {
    let is_allowed =
        |origin: &header::HeaderValue| allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if headers.get_all(header::ORIGIN).all(is_allowed) { Ok(()) } else { Err(UpgradeRefused::Forbidden) }
}

/// Whether no other version is asked for (RFC 6455, 4.4); the rest of the handshake is checked by actix-ws.
fn speaks_version_13(headers: &HeaderMap) -> bool {
    headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version == "13")
}

/// What the handshake shows: a bearer token, else a ticket, else the cookie of a page whose origin was found to be
/// allowed.
fn credential(
    request: &HttpRequest,
    ticket: Option<SecretString>,
) -> Result<Option<WsCredential>, UpgradeRefused> {
    if let Some(token) = bearer(request.headers())? {
        return Ok(Some(WsCredential::BearerHeader(token)));
    }
    if let Some(ticket) = ticket {
        return Ok(Some(WsCredential::Ticket(ticket)));
    }
    let from_page = request.headers().contains_key(header::ORIGIN);
    Ok(match Shown::by(request) {
        Shown::Cookie(token) if from_page => Some(WsCredential::Cookie(token)),
        _ => None,
    })
}

/// The bearer token, if there is an `Authorization` header at all.
fn bearer(headers: &HeaderMap) -> Result<Option<SecretString>, UpgradeRefused> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty())
        .map(|(_, token)| SecretString::from(token.trim()));
    token.map(Some).ok_or(WsAuthError::Refused.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use secrecy::ExposeSecret;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let request =
            pairs.iter().fold(TestRequest::get(), |request, pair| request.append_header(pair.clone()));
        request.to_http_request().headers().clone()
    }

    #[test]
    fn origins_are_compared_exactly() {
        let allowed = ["https://trade.example.com".to_owned()];
        let check = |origins: &[&str]| {
            let pairs: Vec<_> = origins.iter().map(|origin| (header::ORIGIN, *origin)).collect();
            check_origin(&headers(&pairs), &allowed).is_ok()
        };
        assert!(check(&[]));
        assert!(check(&["https://trade.example.com"]));
        for bad in [
            "null",
            "",
            "http://trade.example.com",
            "https://trade.example.com:444",
            "https://trade.example.com.evil.example",
            "https://TRADE.example.com",
        ] {
            assert!(!check(&[bad]), "{bad}");
        }
        assert!(!check(&["https://trade.example.com", "null"]), "two of them");
    }

    #[test]
    fn only_a_whole_bearer_header_is_a_token() {
        let token = |value: &str| {
            let token = bearer(&headers(&[(header::AUTHORIZATION, value)]));
            token.map(|token| token.map(|token| token.expose_secret().to_owned()))
        };
        assert!(bearer(&headers(&[])).unwrap().is_none());
        for good in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(token(good), Ok(Some("abc".into())), "{good}");
        }
        for bad in ["", "abc", "Bearer", "Bearer ", "Basic YTpi"] {
            assert_eq!(token(bad), Err(UpgradeRefused::Unauthenticated), "{bad}");
        }
    }
}
