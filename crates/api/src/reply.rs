//! Answers that give a client its session.

use actix_web::HttpResponse;
use actix_web::cookie::{Cookie, SameSite};
use plimsoll_auth::{Session, Transport, User};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::views::At;
use plimsoll_crypto::tokens::SecretToken;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::{Map, Value};

/// The session's cookie.
pub const SESSION_COOKIE: &str = "__Host-plimsoll";

/// The cookie by which a device is known.
pub const DEVICE_COOKIE: &str = "__Host-plimsoll-device";

/// The device's cookie, kept for `life`.
#[must_use]
pub fn device_cookie(value: &str, life: chrono::TimeDelta) -> actix_web::cookie::Cookie<'_> {
    actix_web::cookie::Cookie::build(DEVICE_COOKIE, value)
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(actix_web::cookie::SameSite::Strict)
        .max_age(actix_web::cookie::time::Duration::seconds(life.num_seconds()))
        .finish()
}

/// A user as the API shows one.
#[derive(Serialize)]
pub struct UserView<'a> {
    id: UserId,
    email: String,
    display_name: Option<&'a str>,
    role: &'static str,
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            id: user.id,
            email: user.email.to_string(),
            display_name: user.display_name.as_deref(),
            role: user.role.as_str(),
        }
    }
}

/// 200 with a new session: its token in the body, or in the cookie and then not in the body.
#[must_use]
pub fn signed_in(token: &SecretToken, session: &Session, user: &User) -> HttpResponse {
    let user = serde_json::to_value(UserView::from(user)).unwrap_or_default();
    rotated(token, session, Map::from_iter([("user".to_owned(), user)]))
}

/// 200 with `fields` and the session's new token, which goes where its transport says.
#[must_use]
pub fn rotated(token: &SecretToken, session: &Session, mut fields: Map<String, Value>) -> HttpResponse {
    fields.insert("expires_at".to_owned(), serde_json::to_value(At(session.expires_at)).unwrap_or_default());
    let text = token.expose_text();
    match session.transport {
        Transport::Bearer => {
            fields.insert("token".to_owned(), text.expose_secret().into());
            fields.insert("token_type".to_owned(), "Bearer".into());
            HttpResponse::Ok().json(fields)
        }
        Transport::Cookie => {
            HttpResponse::Ok().cookie(session_cookie(text.expose_secret().to_owned())).json(fields)
        }
    }
}

/// The session's cookie: of this host alone, over https alone, out of scripts' reach, on no request of another site.
fn session_cookie(value: String) -> Cookie<'static> {
    Cookie::build(SESSION_COOKIE, value)
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .finish()
}

/// 204 that ends a session in the browser as well. The cookie by which the device is known stays: it is no credential,
/// and without it a stranger's attempts could keep the owner out.
#[must_use]
pub fn signed_out() -> HttpResponse {
    let mut gone = session_cookie(String::new());
    gone.make_removal();
    HttpResponse::NoContent()
        .cookie(gone)
        .insert_header(("clear-site-data", "\"cache\", \"storage\""))
        .finish()
}
