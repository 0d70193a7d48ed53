//! Who calls, and with what rights: the types by which a route says whom it serves.

use std::future::Future;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use plimsoll_auth::admin::{Entrance, enter};
use plimsoll_auth::api_tokens::{ApiCaller, Scope};
use plimsoll_auth::sessions::{Activity, Authenticated};
use plimsoll_auth::{Act, ClientInfo, Role, User, two_factor};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::error::BusinessError;
use plimsoll_core_domain::order::Environment;
use uuid::Uuid;

use crate::csrf;
use crate::identity::{Identity, Shown, identity_of};
use crate::problem::Problem;
use crate::proxies::client_ip;
use crate::refusals::Known;
use crate::request_id::RequestId;
use crate::state::AppState;

/// A client sends it with what nobody asked for at that moment, such as polling.
const BACKGROUND: &str = "x-plimsoll-background";

/// Where a request came from, for audit entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// Its user agent, at most 400 characters.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: Option<Uuid>,
}

impl Origin {
    /// From a request.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            ip: client_ip(request),
            user_agent: user_agent.map(|text| text.chars().take(400).collect()),
            request_id: request.extensions().get::<RequestId>().map(|id| id.0),
        }
    }

    /// The circumstances of an act from here.
    #[must_use]
    pub fn act(&self, session: Option<Uuid>, at: chrono::DateTime<chrono::Utc>) -> Act {
        let client = ClientInfo::new(self.ip, self.user_agent.as_deref());
        Act { client, request_id: self.request_id, session, at }
    }
}

/// Who calls: a user, by a session or an API token.
///
/// An API token reads with the scope `read`, and changes something with the trade scope of the account's environment.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    identity: Identity,
    /// From where.
    pub origin: Origin,
}

/// What an API token needs a scope for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// What is the owner's: reading it, or trading with it.
    Own,
    /// Telling the owner something: an outside program's progress.
    Publish,
    /// The administration.
    Admin,
    /// What only a session may do.
    Session,
}

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

fn state_of(request: &HttpRequest) -> Result<web::Data<AppState>, Problem> {
    let state = request.app_data::<web::Data<AppState>>();
    state.cloned().ok_or_else(|| Problem::internal("the service was mounted without its state"))
}

impl Caller {
    async fn of(request: &HttpRequest, need: Need) -> Result<Self, Problem> {
        let state = state_of(request)?;
        let token = match Shown::by(request) {
            Shown::Bearer(token) => token,
            Shown::Cookie(token) => {
                csrf::check_cookie(request, &state.settings.public_url)?;
                token
            }
            Shown::Nothing | Shown::Unknown => return Err(BusinessError::AuthenticationFailed.into()),
        };
        let origin = Origin::of(request);
        let identity = identity_of(&state, &token, activity(request), origin.ip).await?;
        let caller = Self { user: identity.account().id, identity, origin };
        request.extensions_mut().insert(Known { user: caller.user, session: caller.session_id() });
        if let Identity::ApiToken(token) = &caller.identity {
            check_scopes(&state, request.method(), token, need).await?;
        }
        if !serves_enrolment(request.path()) && lacks_demanded_factor(&state, caller.account()).await? {
            let detail = "enable a second factor: POST /auth/2fa/setup";
            return Err(Problem::new("two_factor_enrolment_required", detail));
        }
        Ok(caller)
    }

    /// The user as stored.
    #[must_use]
    pub fn account(&self) -> &User {
        self.identity.account()
    }

    /// The circumstances of what the caller does now.
    #[must_use]
    pub fn act(&self, state: &AppState) -> Act {
        self.origin.act(self.session_id(), state.clock.now())
    }

    /// An audit entry of an act of the caller's on the own account, with the session or API token that it came by.
    #[must_use]
    pub fn audit(
        &self,
        action: &str,
        outcome: AuditOutcome,
        at: chrono::DateTime<chrono::Utc>,
        mut detail: serde_json::Value,
    ) -> AuditEntry {
        if let Identity::ApiToken(token) = &self.identity {
            detail["api_token_id"] = token.token_id.to_string().into();
        }
        let act = self.origin.act(self.session_id(), at);
        act.entry(action, outcome, Some(self.user), Some(self.user), detail)
    }

    /// For what needs, by the request's body, a session whose factor was proven a moment ago.
    ///
    /// # Errors
    /// 403 `step_up_required`, or `access_denied` to an API token.
    pub async fn check_proven(&self, request: &HttpRequest) -> Result<(), Problem> {
        match &self.identity {
            Identity::Session(signed_in) => {
                let caller = SessionCaller { signed_in: Arc::clone(signed_in), caller: self.clone() };
                caller.check_step_up(request).await
            }
            Identity::ApiToken(_) => {
                Err(Problem::new("access_denied", "an API token may not do this: sign in"))
            }
        }
    }

    /// As [`check_proven`](Self::check_proven), of an administrator.
    ///
    /// # Errors
    /// 403 as there, and to everybody else.
    pub async fn check_proven_admin(&self, request: &HttpRequest) -> Result<(), Problem> {
        self.check_admin(request).await?;
        self.check_proven(request).await
    }

    fn session_id(&self) -> Option<Uuid> {
        match &self.identity {
            Identity::Session(signed_in) => Some(signed_in.session.id),
            Identity::ApiToken(_) => None,
        }
    }
}

async fn check_scopes(
    state: &AppState,
    method: &Method,
    token: &ApiCaller,
    need: Need,
) -> Result<(), Problem> {
    let lacking =
        |scope: Scope| Problem::new("access_denied", format!("the API token lacks the scope {scope}"));
    let scope = match need {
        Need::Session => {
            return Err(Problem::new("access_denied", "an API token may not do this: sign in"));
        }
        Need::Admin => Scope::Admin,
        Need::Publish => Scope::TradePaper,
        Need::Own if !csrf::changes_state(method) => Scope::Read,
        Need::Own => {
            let user = token.user.id;
            match state.db.read(move |tx| tx.account_of_user(user)).await? {
                Some(account) if account.environment == Environment::Live => Scope::TradeLive,
                Some(_) => Scope::TradePaper,
                // there is nothing to trade with, and the route says so to whoever may trade at all
                None if token.scopes.has(Scope::TradeLive) => Scope::TradeLive,
                None => Scope::TradePaper,
            }
        }
    };
    if token.scopes.has(scope) { Ok(()) } else { Err(lacking(scope)) }
}

/// Whether the user is an administrator without the second factor that is demanded of those.
pub(crate) async fn lacks_demanded_factor(state: &AppState, user: &User) -> Result<bool, Problem> {
    let demanded = state.settings.policy.require_admin_2fa && user.role == Role::Admin;
    Ok(demanded && !has_second_factor(state, user.id).await?)
}

impl Caller {
    /// Only administrators, from where they may come in, and not too often.
    async fn check_admin(&self, request: &HttpRequest) -> Result<(), Problem> {
        if self.account().role != Role::Admin {
            return Err(Problem::new("access_denied", "this is for administrators"));
        }
        let state = state_of(request)?;
        let (user, act, policy) = (self.user, self.act(&state), Arc::clone(&state.settings.policy));
        match state.db.run(move |tx| enter(tx, &policy, &act, user)).await? {
            Entrance::Open => Ok(()),
            Entrance::WrongNetwork => {
                Err(Problem::new("access_denied", "administration is closed to this address"))
            }
            Entrance::TooOften { retry_after } => {
                let problem = Problem::new("rate_limited", "too many requests to the administration");
                Err(problem.retry_after(retry_after.as_secs() + 1))
            }
        }
    }
}

/// The routes that an administrator needs to enable a second factor.
fn serves_enrolment(path: &str) -> bool {
    matches!(path, "/auth/me" | "/auth/logout" | "/auth/step-up") || path.starts_with("/auth/2fa/")
}

async fn has_second_factor(state: &AppState, user: UserId) -> Result<bool, Problem> {
    Ok(state.db.read(move |tx| two_factor::is_enabled(tx, user)).await?)
}

/// What a client does by itself, such as polling, keeps no session alive: it says so in a header.
fn activity(request: &HttpRequest) -> Activity {
    if request.headers().contains_key(BACKGROUND) { Activity::Background } else { Activity::User }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::of(&request, Need::Own).await })
    }
}

/// A caller of an open route: nobody is signed in, or it does not matter.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// From where.
    pub origin: Origin,
    same_site: bool,
}

impl Visitor {
    /// The circumstances of what the visitor does now.
    #[must_use]
    pub fn act(&self, state: &AppState) -> Act {
        self.origin.act(None, state.clock.now())
    }

    /// Whether a session may be put into a cookie: pages of other origins may call, and get none.
    ///
    /// # Errors
    /// 403 `csrf_failed`.
    pub fn check_cookie_allowed(&self) -> Result<(), Problem> {
        if self.same_site { Ok(()) } else { Err(csrf::refused()) }
    }
}

impl FromRequest for Visitor {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = state_of(&request)?;
            let same_site = csrf::is_own_or_no_page(request.headers(), &state.settings.public_url);
            Ok(Self { origin: Origin::of(&request), same_site })
        })
    }
}

/// A caller with a session: an API token may not change the account itself.
#[derive(Clone, Debug)]
pub struct SessionCaller {
    /// The session and its user.
    pub signed_in: Arc<Authenticated>,
    caller: Caller,
}

impl Deref for SessionCaller {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl SessionCaller {
    async fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let caller = Caller::of(request, Need::Session).await?;
        match &caller.identity {
            Identity::Session(signed_in) => Ok(Self { signed_in: Arc::clone(signed_in), caller }),
            Identity::ApiToken(_) => Err(BusinessError::AccessDenied.into()),
        }
    }

    async fn check_step_up(&self, request: &HttpRequest) -> Result<(), Problem> {
        self.prove(&*state_of(request)?).await
    }

    /// Whether a factor was proven a moment ago, for routes that need it now and then.
    ///
    /// # Errors
    /// 403 `step_up_required`.
    pub async fn prove(&self, state: &AppState) -> Result<(), Problem> {
        if self.signed_in.session.is_stepped_up(self.origin.ip, state.clock.now()) {
            return Ok(());
        }
        let methods = if has_second_factor(state, self.user).await? {
            serde_json::json!(["totp", "backup_code"])
        } else {
            serde_json::json!(["password"])
        };
        let problem = Problem::new("step_up_required", "prove a factor again first: POST /auth/step-up");
        Err(problem.with("methods", methods))
    }
}

impl FromRequest for SessionCaller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::of(&request).await })
    }
}

/// Callers with more to show than those inside them.
macro_rules! stricter {
    ($(#[$doc:meta])* $name:ident($inner:ident), |$request:ident| $checked:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub $inner);

        impl Deref for $name {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl FromRequest for $name {
            type Error = Problem;
            type Future = Extracted<Self>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let $request = request.clone();
                Box::pin(async move { Ok(Self($checked)) })
            }
        }
    };
}

stricter!(
    /// A session whose factor was proven a moment ago, from this address.
    SteppedUp(SessionCaller),
    |request| {
        let caller = SessionCaller::of(&request).await?;
        caller.check_step_up(&request).await?;
        caller
    }
);
stricter!(
    /// Whoever may publish to the own stream: a session, or an API token with the scope `trade_paper`.
    Publisher(Caller),
    |request| Caller::of(&request, Need::Publish).await?
);
stricter!(
    /// An administrator, by a session or by an API token with the scope `admin`.
    AdminCaller(Caller),
    |request| {
        let caller = Caller::of(&request, Need::Admin).await?;
        caller.check_admin(&request).await?;
        caller
    }
);
stricter!(
    /// An administrator whose factor was proven a moment ago, from this address.
    AdminSteppedUp(SessionCaller),
    |request| {
        let caller = SessionCaller::of(&request).await?;
        caller.check_admin(&request).await?;
        caller.check_step_up(&request).await?;
        caller
    }
);
