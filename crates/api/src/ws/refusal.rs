//! Upgrades that are answered with a problem instead.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};

use super::auth::WsAuthError;

/// Why a request was not upgraded. What becomes known only after the upgrade is a close code instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeRefused {
    /// No WebSocket handshake (RFC 6455, 4.2.1), or a query that cannot be read.
    #[error("a WebSocket handshake is wanted here")]
    Malformed,
    /// Another version of the protocol than 13.
    #[error("WebSocket version 13 is wanted here")]
    Version,
    /// The bearer token is not accepted.
    #[error("the token is unknown, expired or revoked")]
    Unauthenticated,
    /// Another user's stream, or an origin that is not allowed.
    #[error("this stream, or this origin, is not allowed")]
    Forbidden,
    /// The server shuts down, has enough sockets, or cannot check credentials now.
    #[error("no socket can be opened now")]
    Unavailable,
}

impl UpgradeRefused {
    /// The problem's stable word.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed | Self::Version => "malformed",
            Self::Unauthenticated => "authentication_failed",
            Self::Forbidden => "access_denied",
            Self::Unavailable => "unavailable",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Malformed | Self::Version => "Malformed request",
            Self::Unauthenticated => "Authentication failed",
            Self::Forbidden => "Access denied",
            Self::Unavailable => "Unavailable",
        }
    }
}

impl From<WsAuthError> for UpgradeRefused {
    fn from(error: WsAuthError) -> Self {
        match error {
            WsAuthError::Refused => Self::Unauthenticated,
            WsAuthError::Forbidden => Self::Forbidden,
            WsAuthError::Unavailable => Self::Unavailable,
        }
    }
}

impl ResponseError for UpgradeRefused {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        match self {
            Self::Unauthenticated => drop(response.insert_header((header::WWW_AUTHENTICATE, "Bearer"))),
            Self::Version => drop(response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"))),
            Self::Unavailable => drop(response.insert_header((header::RETRY_AFTER, "1"))),
            Self::Malformed | Self::Forbidden => {}
        }
        let code = self.code();
        let problem = serde_json::json!({
            "type": format!("/problems/{code}"),
            "title": self.title(),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "code": code,
            "request_id": crate::request_id::current().map(|id| id.to_string()),
        });
        response.content_type("application/problem+json").body(problem.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;

    #[actix_web::test]
    async fn each_refusal_is_a_problem_with_what_a_client_needs() {
        use UpgradeRefused::*;
        for (refusal, status, code, header) in [
            (Malformed, 400, "malformed", None),
            (Version, 426, "malformed", Some(("sec-websocket-version", "13"))),
            (Unauthenticated, 401, "authentication_failed", Some(("www-authenticate", "Bearer"))),
            (Forbidden, 403, "access_denied", None),
            (Unavailable, 503, "unavailable", Some(("retry-after", "1"))),
        ] {
            let response = refusal.error_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
            if let Some((name, value)) = header {
                assert_eq!(response.headers().get(name).unwrap(), value);
            }
            let body = to_bytes(response.into_body()).await.unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["status"], status);
            assert_eq!(problem["code"], code);
            assert_eq!(problem["type"], format!("/problems/{code}"));
            assert!(problem["title"].is_string() && problem["detail"].is_string());
        }
    }
}
