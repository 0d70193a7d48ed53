//! WebSocket clients are authenticated as requests are: by the session or API token behind what they show.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::web;
use futures_util::future::BoxFuture;
use plimsoll_auth::Role;
use plimsoll_auth::admin::{Entrance, enter};
use plimsoll_auth::api_tokens::Scope;
use plimsoll_auth::sessions::Activity;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::caller::{Origin, lacks_demanded_factor};
use crate::identity::{Identity, identity_of};
use crate::problem::Problem;
use crate::state::AppState;
use crate::ws::{WsAuthError, WsAuthenticator, WsCaller, WsCredential};

/// Authenticates over the session store. An open socket is no activity: it does not keep a session alive.
pub struct SessionAuthenticator(pub web::Data<AppState>);

fn auth_error(problem: &Problem) -> WsAuthError {
    if problem.status().is_client_error() { WsAuthError::Refused } else { WsAuthError::Unavailable }
}

impl SessionAuthenticator {
    async fn caller(&self, token: &SecretString, ip: Option<IpAddr>) -> Result<WsCaller, WsAuthError> {
        let found = identity_of(&self.0, token, Activity::Background, ip).await;
        let identity = found.map_err(|problem| auth_error(&problem))?;
        let user = identity.account();
        let (may_read, may_administrate) = match &identity {
            Identity::Session(_) => (true, user.role == Role::Admin),
            Identity::ApiToken(token) => (token.scopes.has(Scope::Read), token.scopes.has(Scope::Admin)),
        };
        let unfit = lacks_demanded_factor(&self.0, user).await.map_err(|problem| auth_error(&problem))?;
        if !may_read || unfit {
            return Err(WsAuthError::Forbidden);
        }
        Ok(WsCaller {
            user_id: user.id,
            is_admin: may_administrate,
            session_id: identity.login().to_string(),
        })
    }

    /// Uses a ticket up. It stands for the session that it was asked with, so it has all rights of that and no others.
    async fn holder(&self, ticket: &SecretString) -> Result<WsCaller, WsAuthError> {
        let ticket = SecretToken::parse(ticket.expose_secret()).map_err(|_| WsAuthError::Refused)?;
        let (digest, now) = (ticket.digest(), self.0.clock.now());
        // One statement: when its answer is lost, the ticket is lost with it.
        let taken = self.0.db.read(move |tx| tx.take_ws_ticket(&digest, now)).await;
        let (user, session) =
            taken.map_err(|_: StoreError| WsAuthError::Unavailable)?.ok_or(WsAuthError::Refused)?;
        if lacks_demanded_factor(&self.0, &user).await.map_err(|problem| auth_error(&problem))? {
            return Err(WsAuthError::Forbidden);
        }
        let is_admin = user.role == Role::Admin;
        Ok(WsCaller { user_id: user.id, is_admin, session_id: session.to_string() })
    }

    /// An administrator comes in as over HTTP, and whose data is heard is recorded.
    async fn look_at(
        &self,
        caller: &WsCaller,
        subject: UserId,
        ip: Option<IpAddr>,
    ) -> Result<(), WsAuthError> {
        let login: Uuid = caller.session_id.parse().map_err(|_| WsAuthError::Refused)?;
        let origin = Origin { ip, ..Origin::default() };
        let (by, act) = (caller.user_id, origin.act(Some(login), self.0.clock.now()));
        let policy = Arc::clone(&self.0.settings.policy);
        let entrance = self.0.db.run(move |tx| {
            let entrance = enter(tx, &policy, &act, by)?;
            if entrance == Entrance::Open {
                let entry =
                    act.entry("admin.stream_open", AuditOutcome::Success, Some(by), Some(subject), json!({}));
                tx.append_audit(Some(subject), &entry)?;
            }
            Ok::<_, StoreError>(entrance)
        });
        match entrance.await.map_err(|_| WsAuthError::Unavailable)? {
            Entrance::Open => Ok(()),
            Entrance::WrongNetwork => Err(WsAuthError::Forbidden),
            Entrance::TooOften { .. } => Err(WsAuthError::Unavailable),
        }
    }

    async fn live(&self, caller: &WsCaller) -> Result<(), WsAuthError> {
        let login: Uuid = caller.session_id.parse().map_err(|_| WsAuthError::Refused)?;
        let (user, now) = (caller.user_id, self.0.clock.now());
        let role = self.0.db.read(move |tx| tx.role_of_live_login(user, login, now)).await;
        match role.map_err(|_| WsAuthError::Unavailable)? {
            None => Err(WsAuthError::Refused),
            Some(Role::User) if caller.is_admin => Err(WsAuthError::Forbidden),
            Some(_) => Ok(()),
        }
    }
}

impl WsAuthenticator for SessionAuthenticator {
    fn authenticate<'a>(
        &'a self,
        credential: &'a WsCredential,
        ip: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<WsCaller, WsAuthError>> {
        Box::pin(async move {
            match credential {
                WsCredential::BearerHeader(token)
                | WsCredential::FirstMessage(token)
                | WsCredential::Cookie(token) => self.caller(token, ip).await,
                WsCredential::Ticket(ticket) => self.holder(ticket).await,
            }
        })
    }

    fn open_foreign<'a>(
        &'a self,
        caller: &'a WsCaller,
        subject: UserId,
        ip: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<(), WsAuthError>> {
        Box::pin(self.look_at(caller, subject, ip))
    }

    fn still_valid<'a>(&'a self, caller: &'a WsCaller) -> BoxFuture<'a, Result<(), WsAuthError>> {
        Box::pin(self.live(caller))
    }
}
