//! `POST /auth/login`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_auth::Transport;
use plimsoll_auth::login::{
    Arrival, Begun, LoginKeys, NewArrival, NewLogin, NewSession, Outcome, Refusal, RefusalReason, begin,
    finish,
};
use plimsoll_auth::two_factor::Method;
use plimsoll_core_domain::views::At;
use plimsoll_crypto::{DeviceId, OsRandom};
use plimsoll_storage::platform::keys::PlatformKeys;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{reply, schema};

/// Who wants to sign in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// How the session travels; in the `Authorization` header unless said otherwise.
    #[schema(value_type = Option<String>, example = "bearer")]
    transport: Option<Transport>,
}

/// The password is right, a second factor is wanted.
#[derive(Serialize, ToSchema)]
pub struct ChallengeView {
    #[schema(value_type = bool)]
    two_factor_required: bool,
    /// For `POST /auth/2fa/verify`, once.
    challenge: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: At,
    methods: [&'static str; 2],
}

/// A session, or the challenge for a second factor.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum LoginReply {
    /// Signed in.
    SignedIn(schema::SignedIn),
    /// A second factor is wanted.
    Challenge(ChallengeView),
}

/// Signs in: a session, or the challenge for a second factor. The session's token goes into the body once, or into a
/// cookie and then not into the body.
#[utoipa::path(
    request_body = Login,
    responses(
        (status = 200, body = LoginReply),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/login")]
pub async fn login(
    state: web::Data<AppState>,
    request: HttpRequest,
    visitor: Visitor,
    body: Body<Login>,
) -> Result<HttpResponse, Problem> {
    if body.value.transport == Some(Transport::Cookie) {
        visitor.check_cookie_allowed()?;
    }
    let device = request.cookie(reply::DEVICE_COOKIE).map(|cookie| cookie.value().to_owned());
    let mut outcome = attempt(&state, &visitor, &body.value, device.clone()).await?;
    if let (Outcome::Refused(Refusal { reason: RefusalReason::PasswordChanged, .. }), _) = &outcome {
        // A parallel login may only have hashed the same password anew.
        outcome = attempt(&state, &visitor, &body.value, device).await?;
    }
    let (outcome, new) = outcome;
    match outcome {
        Outcome::SignedIn(signed_in) => {
            let answer = reply::signed_in(&new.new.token, &signed_in.session, &signed_in.user);
            Ok(with_device(&state, answer, &signed_in.arrival))
        }
        Outcome::SecondFactor { expires_at, .. } => Ok(HttpResponse::Ok().json(ChallengeView {
            two_factor_required: true,
            challenge: new.new.token.expose_text().expose_secret().to_owned(),
            expires_at: At(expires_at),
            methods: Method::SECOND.map(Method::as_str),
        })),
        Outcome::Refused(_) => Err(Problem::new("authentication_failed", "wrong e-mail address or password")),
        Outcome::EmailUnverified { .. } => {
            Err(Problem::new("email_unverified", "confirm the e-mail address before signing in"))
        }
    }
}

/// The keys of logins.
pub(crate) fn login_keys(keys: &PlatformKeys) -> LoginKeys<'_> {
    LoginKeys { pepper: &keys.pepper, devices: &keys.device_cookies }
}

/// The random parts of what goes with a sign-in.
pub(crate) fn new_arrival(state: &AppState) -> NewArrival {
    NewArrival {
        device: DeviceId::generate(&mut OsRandom),
        logout_everywhere: state.ids.session_token(),
        link: state.ids.request_id(),
        mail: state.ids.request_id(),
    }
}

/// Adds the cookie by which the device is known the next time.
pub(crate) fn with_device(state: &AppState, mut answer: HttpResponse, arrival: &Arrival) -> HttpResponse {
    let cookie = reply::device_cookie(&arrival.device_cookie, state.settings.policy.login.device_cookie);
    // A value of base64url is always a valid cookie.
    drop(answer.add_cookie(&cookie));
    answer
}

async fn attempt(
    state: &AppState,
    visitor: &Visitor,
    asked: &Login,
    device: Option<String>,
) -> Result<(Outcome, Arc<NewLogin>), Problem> {
    // An attempt that would find no room is not counted.
    state.hashing.check_room()?;
    let (policy, keys, act) = (state.settings.policy.clone(), state.keys.clone(), visitor.act(state));
    let email = asked.email.clone();
    let begun = state
        .db
        .run(move |tx| begin(tx, &policy, login_keys(&keys), &email, device.as_deref(), &act))
        .await?;
    let prepared = match begun {
        Begun::Ready(prepared) => prepared,
        Begun::Throttled { retry_after } => {
            return Err(Problem::throttled("too many attempts to sign in", retry_after));
        }
    };
    let (keys, password) = (state.keys.clone(), asked.password.clone());
    let verified = state
        .hashing
        .run(move |passwords| prepared.verify(passwords, login_keys(&keys), &password, &mut OsRandom))
        .await?;
    let new = Arc::new(NewLogin {
        new: NewSession { id: state.ids.request_id(), token: state.ids.session_token() },
        transport: asked.transport.unwrap_or_default(),
        arrival: new_arrival(state),
    });
    let (policy, keys, act) = (state.settings.policy.clone(), state.keys.clone(), visitor.act(state));
    let taken = Arc::clone(&new);
    let outcome =
        state.db.run(move |tx| finish(tx, &policy, login_keys(&keys), verified, &taken, &act)).await?;
    Ok((outcome, new))
}
