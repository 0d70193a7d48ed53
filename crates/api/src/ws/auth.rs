//! Who may connect: the port to the login sessions and API tokens.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use plimsoll_core_domain::UserId;
use plimsoll_realtime::CloseCode;
use secrecy::SecretString;

/// What a client showed, by the way it came. More ways may be added: an implementation refuses those it does not know.
#[derive(Debug)]
#[non_exhaustive]
pub enum WsCredential {
    /// A session or API token in `Authorization: Bearer`.
    BearerHeader(SecretString),
    /// A session or API token in the first message.
    FirstMessage(SecretString),
    /// A ticket that opens one socket.
    Ticket(SecretString),
    /// A session's cookie; the page's origin is one of those allowed.
    Cookie(SecretString),
}

/// Whom a credential belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsCaller {
    /// The user.
    pub user_id: UserId,
    /// Whether other users' streams may be heard.
    pub is_admin: bool,
    /// The id (not the token) of the login session or API token: what
    /// [`Hub::close_login`](plimsoll_realtime::Hub::close_login) is called with when it ends.
    pub session_id: String,
}

/// Why a credential is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WsAuthError {
    /// Unknown, expired or revoked.
    #[error("authentication failed")]
    Refused,
    /// Known, and not allowed here: a disabled user, a token without the scope, a wrong address.
    #[error("access denied")]
    Forbidden,
    /// It cannot be found out now.
    #[error("credentials cannot be checked now")]
    Unavailable,
}

impl WsAuthError {
    pub(super) fn close_code(self) -> CloseCode {
        match self {
            Self::Refused => CloseCode::Unauthenticated,
            Self::Forbidden => CloseCode::Forbidden,
            Self::Unavailable => CloseCode::InternalError,
        }
    }
}

/// Checks credentials; implemented over the session store. Neither call may count as activity of the session: an open
/// socket does not keep a login alive.
pub trait WsAuthenticator: Send + Sync {
    /// Whom the credential belongs to, shown from the address `ip`.
    ///
    /// # Errors
    /// It is not accepted, or that cannot be found out.
    fn authenticate<'a>(
        &'a self,
        credential: &'a WsCredential,
        ip: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<WsCaller, WsAuthError>>;

    /// An administrator is about to hear the stream of `subject`: the place to refuse or to record it. `ip` as before.
    ///
    /// # Errors
    /// It may not be heard from there, or that cannot be found out.
    fn open_foreign<'a>(
        &'a self,
        caller: &'a WsCaller,
        subject: UserId,
        ip: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<(), WsAuthError>>;

    /// Whether what was true of the caller still is: the login lives, the user is active, an administrator is still one.
    ///
    /// # Errors
    /// It is not, or that cannot be found out.
    fn still_valid<'a>(&'a self, caller: &'a WsCaller) -> BoxFuture<'a, Result<(), WsAuthError>>;
}
