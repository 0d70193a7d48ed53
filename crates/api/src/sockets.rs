//! WebSocket clients are authenticated as requests are: by the session behind their token.

use actix_web::web;
use futures_util::future::BoxFuture;
use plimsoll_auth::Role;
use plimsoll_auth::sessions::Activity;
use plimsoll_core_domain::UserId;
use secrecy::{ExposeSecret, SecretString};

use crate::identity::session_of;
use crate::state::AppState;
use crate::ws::{WsAuthError, WsAuthenticator, WsCaller, WsCredential};

/// Authenticates over the session store. An open socket is no activity: it does not keep a session alive.
pub struct SessionAuthenticator(pub web::Data<AppState>);

impl SessionAuthenticator {
    async fn caller(&self, token: &SecretString) -> Result<WsCaller, WsAuthError> {
        let signed_in =
            session_of(&self.0, token.expose_secret(), Activity::Background).await.map_err(|problem| {
                if problem.status().is_client_error() {
                    WsAuthError::Refused
                } else {
                    WsAuthError::Unavailable
                }
            })?;
        Ok(WsCaller {
            user_id: signed_in.user.id,
            is_admin: signed_in.user.role == Role::Admin,
            session_id: signed_in.session.id.to_string(),
        })
    }

    async fn live(&self, user: UserId, session: &str) -> Result<(), WsAuthError> {
        let session: uuid::Uuid = session.parse().map_err(|_| WsAuthError::Refused)?;
        let now = self.0.clock.now();
        let live = self
            .0
            .db
            .read(move |tx| tx.session_is_live(user, session, now))
            .await
            .map_err(|_| WsAuthError::Unavailable)?;
        if live { Ok(()) } else { Err(WsAuthError::Refused) }
    }
}

impl WsAuthenticator for SessionAuthenticator {
    fn authenticate<'a>(
        &'a self,
        credential: &'a WsCredential,
    ) -> BoxFuture<'a, Result<WsCaller, WsAuthError>> {
        Box::pin(async move {
            match credential {
                WsCredential::BearerHeader(token) | WsCredential::FirstMessage(token) => {
                    self.caller(token).await
                }
            }
        })
    }

    fn still_valid<'a>(&'a self, caller: &'a WsCaller) -> BoxFuture<'a, Result<(), WsAuthError>> {
        Box::pin(self.live(caller.user_id, &caller.session_id))
    }
}
