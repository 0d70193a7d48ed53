//! Whether a signal is from the sender that its hook is for.
//!
//! The work is the same whether or not there is such a hook: where there is none, a secret that nobody has takes the place
//! of its secret.

use std::net::IpAddr;

use actix_web::http::header::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::signals::Reason;
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_crypto::{Aad, DataKey, KeyRing, OsRandom, WebhookSecret, open, seal};
use plimsoll_storage::platform::signals::{Door, HookAuth, NewSecret};
use secrecy::ExposeSecret;

use super::BuiltinHook;

/// How far a signature's time may be from now.
const TOLERANCE: TimeDelta = TimeDelta::seconds(300);
/// The longest id of a signed message.
const MAX_ID: usize = 256;

/// The place that a hook's secret is sealed for.
pub(crate) fn place<'a>(column: &'a str, hook: &'a str, owner: i64) -> Aad<'a> {
    Aad { table: "inbound_hooks", column, row: hook, owner: Some(owner) }
}

/// The column of a hook's secret. One that is replaced moves on as it is, so there is one place for both.
pub(crate) const SECRET: &str = "secret";

/// What a signature is made of.
pub(super) struct Signed<'a> {
    id: &'a str,
    timestamp: &'a str,
    signatures: &'a str,
}

impl<'a> Signed<'a> {
    /// The three headers of Standard Webhooks, where any of them is there.
    pub(super) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let parts = [text("webhook-id"), text("webhook-timestamp"), text("webhook-signature")];
        if parts.iter().all(Option::is_none) {
            return None;
        }
        let [id, timestamp, signatures] = parts.map(Option::unwrap_or_default);
        Some(Self { id, timestamp, signatures })
    }

    fn is_of_now(&self, now: DateTime<Utc>) -> bool {
        let seconds = self.timestamp.parse::<i64>().ok().filter(|_| !self.timestamp.starts_with('+'));
        seconds
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .is_some_and(|at| now.signed_duration_since(at).abs() <= TOLERANCE)
    }
}

/// A secret that nobody has, sealed like that of a hook.
pub(super) struct Decoy {
    wrapped: Vec<u8>,
    secret: NewSecret,
}

const NOBODY: i64 = 0;
const NO_HOOK: &str = "00000000-0000-0000-0000-000000000000";

impl Decoy {
    pub(super) fn new(ring: &KeyRing) -> Self {
        let key = DataKey::generate(&mut OsRandom);
        let wrapped = key.wrap(ring, NOBODY, &mut OsRandom);
        let secret = WebhookSecret::generate(&mut OsRandom);
        let text = secret.expose_text();
        let sealed = seal(&key.ring(ring), &place(SECRET, NO_HOOK, NOBODY), secret.expose(), &mut OsRandom);
        let sha256 = TokenDigest::of(text.expose_secret().as_bytes()).0;
        Self { wrapped, secret: NewSecret { sealed, sha256 } }
    }
}

/// What a delivery shows, and at which door.
pub(super) struct Shown<'a> {
    pub(super) door: Option<&'a Door>,
    /// The secret of the door's that is a setting.
    pub(super) builtin: Option<&'a BuiltinHook>,
    pub(super) body_secret: Option<&'a str>,
    pub(super) signed: Option<Signed<'a>>,
    pub(super) raw: &'a [u8],
    pub(super) ip: Option<IpAddr>,
    pub(super) now: DateTime<Utc>,
}

impl Shown<'_> {
    /// Checks all of it, and then says what is wrong; the id of a message that is signed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn check(&self, ring: &KeyRing, decoy: &Decoy) -> Result<Option<String>, Reason> {
        let auth = self.door.map_or(HookAuth::Any, |door| door.hook.settings.auth);
        let by_secret = self.secret_is_right(decoy);
        let by_signature = self.signed.as_ref().map(|signed| self.signature_is_right(signed, ring, decoy));
        let Some(door) = self.door else { return Err(Reason::WrongSecret) };
        let (proven, signed) = match (auth, by_signature) {
            (HookAuth::BodySecret, _) | (HookAuth::Any, None) => (by_secret, None),
            (HookAuth::Hmac | HookAuth::Any, Some(right)) => (right, self.signed.as_ref()),
            (HookAuth::Hmac, None) => (false, None),
        };
        if !proven {
            return Err(Reason::WrongSecret);
        }
        if !door.hook.settings.enabled || !door.owner_active {
            return Err(Reason::HookDisabled);
        }
        let allowed = &door.hook.settings.allowed_ips;
        let from_allowed = self.ip.is_some_and(|ip| allowed.iter().any(|network| network.contains(ip)));
        if !allowed.is_empty() && !from_allowed {
            return Err(Reason::AddressNotAllowed);
        }
        match signed {
            Some(signed) if !signed.is_of_now(self.now) => Err(Reason::SignatureTime),
            Some(signed) => Ok(Some(signed.id.to_owned())),
            None => Ok(None),
        }
    }

    fn old(&self) -> Option<&NewSecret> {
        let (secret, until) = self.door?.secrets.old.as_ref()?;
        (self.now < *until).then_some(secret)
    }

    /// Compares the secret in the body with two hashes, always.
    fn secret_is_right(&self, decoy: &Decoy) -> bool {
        let shown = TokenDigest::of(self.body_secret.unwrap_or_default().as_bytes());
        let builtin = self.builtin.map(|builtin| TokenDigest::of(builtin.secret.expose_secret().as_bytes()));
        let present = self.door.and_then(|door| door.secrets.present.as_ref());
        let nobodys = TokenDigest(decoy.secret.sha256);
        let present = builtin.or(present.map(|secret| TokenDigest(secret.sha256))).unwrap_or(nobodys);
        let old = self.old().map_or(nobodys, |secret| TokenDigest(secret.sha256));
        let (first, second) = (shown == present, shown == old);
        (first | second) & self.body_secret.is_some()
    }

    /// Opens two secrets and compares with both signatures, always.
    fn signature_is_right(&self, signed: &Signed<'_>, ring: &KeyRing, decoy: &Decoy) -> bool {
        let verify = |secret: Option<WebhookSecret>| {
            let there = secret.is_some();
            // a value that does not open proves nothing
            let secret = secret.unwrap_or_else(|| WebhookSecret::generate(&mut OsRandom));
            secret.verify(signed.id, signed.timestamp, self.raw, signed.signatures) & there
        };
        let opened = |secret: Option<&NewSecret>| match (self.door, secret) {
            (Some(door), Some(secret)) => {
                let (owner, row) = (door.hook.user.0, door.hook.id.to_string());
                door.wrapped_key.as_deref().and_then(|wrapped| unseal(ring, wrapped, &row, owner, secret))
            }
            _ => unseal(ring, &decoy.wrapped, NO_HOOK, NOBODY, &decoy.secret),
        };
        let present = opened(self.door.and_then(|door| door.secrets.present.as_ref()));
        let present = match self.builtin {
            Some(builtin) => WebhookSecret::parse(builtin.secret.expose_secret()).ok(),
            None => present,
        };
        let (first, second) = (verify(present), verify(opened(self.old())));
        let id = !signed.id.is_empty() && signed.id.len() <= MAX_ID;
        (first | second) & id
    }
}

fn unseal(
    ring: &KeyRing,
    wrapped: &[u8],
    hook: &str,
    owner: i64,
    secret: &NewSecret,
) -> Option<WebhookSecret> {
    let key = DataKey::unwrap(ring, owner, wrapped).ok()?;
    let bytes = open(&key.ring(ring), &place(SECRET, hook, owner), &secret.sealed).ok()?;
    WebhookSecret::from_bytes(bytes.expose_secret()).ok()
}
