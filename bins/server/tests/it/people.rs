//! Users with sessions and broker keys, written straight into a database: for tests whose matter is something else.

use std::sync::Arc;

use chrono::TimeDelta;
use plimsoll_auth::ports::{AccountStore, SessionStore};
use plimsoll_auth::vault::{self, BrokerKeys, BrokerName, Saved, VaultKeys};
use plimsoll_auth::{Act, EmailAddress, NewUser, Role, Session, Transport};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Clock, StoreError, SystemClock, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{KeyRing, MasterKey, OsRandom, Stretching};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use secrecy::ExposeSecret;
use uuid::Uuid;

/// The installation's ENCRYPTION_KEY.
pub(crate) const KEY: &str = "c2l4dGVlbiByYW5kb20gd29yZHMgb2YgYSB0ZXN0ISE=";
/// An argon2id hash of no password that anybody knows.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";

/// A migrated database under [`KEY`].
pub(crate) struct Installation {
    pub(crate) db: Db,
    ring: KeyRing,
    pepper: plimsoll_crypto::Pepper,
}

impl Installation {
    /// Over a pool on the database.
    pub(crate) fn new(db: Db) -> Self {
        let stretching = Stretching::new([7; 16].to_vec(), 600_000).unwrap();
        let ring = KeyRing::new(&MasterKey::parse(KEY, &stretching).unwrap());
        let keys = PlatformKeys::load_or_create(&db, &ring, &mut OsRandom).unwrap();
        let pepper = keys.pepper.clone();
        Self { db: db.with_keys(Arc::new(keys)), ring, pepper }
    }

    /// A user with a session that has just been stepped up, and its token.
    pub(crate) fn user(&self, name: &str) -> (UserId, String) {
        let now = SystemClock.now();
        let user = NewUser {
            email: EmailAddress::parse(&format!("{name}@example.com")).unwrap(),
            display_name: None,
            role: Role::User,
            password_hash: PasswordHash::parse(HASH).unwrap(),
            email_verified_at: Some(now),
            created_at: now,
        };
        let token = SecretToken::generate(&mut OsRandom);
        let digest = token.digest();
        let id = self
            .db
            .run_blocking(|tx| {
                let id = tx.insert_user(&user)?;
                let session = Session {
                    id: Uuid::from_u128(0x5e55 << 96 | u128::try_from(id.0).unwrap()),
                    user_id: id,
                    created_at: now,
                    last_seen_at: now,
                    idle_expires_at: now + TimeDelta::minutes(30),
                    expires_at: now + TimeDelta::hours(12),
                    revoked_at: None,
                    ip: None,
                    user_agent: None,
                    step_up_until: Some(now + TimeDelta::minutes(30)),
                    step_up_ip: Some(std::net::Ipv4Addr::LOCALHOST.into()),
                    transport: Transport::Bearer,
                };
                tx.insert_session(&digest, &session)?;
                Ok::<_, StoreError>(id)
            })
            .unwrap();
        (id, token.expose_text().expose_secret().to_owned())
    }

    /// Saves a key pair of the user's for the paper environment. Nobody is woken: the next regular look finds it.
    pub(crate) fn save_key(&self, user: UserId, key: &str, secret: &str) {
        let keys = BrokerKeys::parse(key.to_owned().into(), secret.to_owned().into()).unwrap();
        let (installation, act) =
            (VaultKeys { ring: &self.ring, pepper: &self.pepper }, Act::without_request(SystemClock.now()));
        let (environment, broker) = (Environment::Paper, BrokerName::Alpaca);
        let saved = self.db.run_blocking(|tx| {
            vault::save(tx, installation, Some(user), user, broker, environment, &keys, &act, &mut OsRandom)
        });
        assert!(matches!(saved.unwrap(), Saved::Done(_)));
    }
}
