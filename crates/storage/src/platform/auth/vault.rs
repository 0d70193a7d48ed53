//! Users' data keys and the credentials sealed under them.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::VaultStore;
use plimsoll_auth::vault::{
    Alert, Audience, BrokerName, CredentialState, CredentialView, NewCredential, SealedCredential,
};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::sealing::sealed_with;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Wrapped {
    #[diesel(sql_type = Binary)]
    wrapped: Vec<u8>,
}

#[derive(QueryableByName)]
struct ViewRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    broker: String,
    #[diesel(sql_type = Text)]
    environment: String,
    #[diesel(sql_type = Text)]
    key_last4: String,
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

/// The columns of a [`ViewRow`] of `broker_credentials` under the alias `c`.
macro_rules! view_columns {
    () => {
        "c.user_id, c.broker, c.environment, c.key_last4, c.fingerprint, c.state, c.updated_at, c.version"
    };
}

#[derive(QueryableByName)]
struct SealedRow {
    #[diesel(embed)]
    view: ViewRow,
    #[diesel(sql_type = Binary)]
    api_key: Vec<u8>,
    #[diesel(sql_type = Binary)]
    api_secret: Vec<u8>,
}

impl TryFrom<ViewRow> for CredentialView {
    type Error = StoreError;
    fn try_from(row: ViewRow) -> Result<Self, StoreError> {
        let id = format!("{}:{}", row.user_id, row.broker);
        let bad =
            |column: &str, why: String| StoreError::inconsistent("broker_credentials", column, &id, why);
        Ok(Self {
            broker: row.broker.parse::<BrokerName>().map_err(|why| bad("broker", why.to_string()))?,
            environment: row
                .environment
                .parse::<Environment>()
                .map_err(|why| bad("environment", why.to_string()))?,
            key_last4: row.key_last4,
            fingerprint: row.fingerprint,
            state: row.state.parse::<CredentialState>().map_err(|why| bad("state", why.to_string()))?,
            updated_at: row.updated_at,
            version: row.version,
        })
    }
}

/// The topic of a change of what a user trades with: a credential, an account or the user's state.
#[must_use]
pub fn accounts_topic(user: UserId) -> String {
    format!("{ACCOUNTS}{user}")
}

/// The user that a topic made by [`accounts_topic`] is about.
#[must_use]
pub fn user_of_accounts_topic(topic: &str) -> Option<UserId> {
    topic.strip_prefix(ACCOUNTS)?.parse().ok().map(UserId)
}

const ACCOUNTS: &str = "accounts:";

impl Tx<'_> {
    /// Tells every instance, after the commit, that what it knows of the user's accounts and credentials is old.
    pub(crate) fn accounts_changed(&mut self, user: UserId) {
        self.wake(accounts_topic(user));
    }

    fn active_admins(&mut self) -> Result<Vec<UserId>, StoreError> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let rows = prepared("SELECT id FROM users WHERE role = 'admin' AND state = 'active' ORDER BY id")
            .load::<Id>(self.conn())
            .store()?;
        Ok(rows.into_iter().map(|row| UserId(row.id)).collect())
    }
}

impl VaultStore for Tx<'_> {
    fn wrapped_key(&mut self, user: UserId) -> Result<Option<Vec<u8>>, StoreError> {
        let row = prepared("SELECT wrapped FROM user_keys WHERE user_id = ?")
            .bind::<BigInt, _>(user.0)
            .get_result::<Wrapped>(self.conn())
            .optional()
            .store()?;
        Ok(row.map(|row| row.wrapped))
    }

    fn keep_key(&mut self, user: UserId, wrapped: &[u8], at: DateTime<Utc>) -> Result<Vec<u8>, StoreError> {
        let key = sealed_with(wrapped)
            .map_err(|why| StoreError::inconsistent("user_keys", "wrapped", user, why))?;
        prepared(
            "INSERT INTO user_keys (user_id, key_id, wrapped, created_at, updated_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (user_id) DO NOTHING",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(key.to_string())
        .bind::<Binary, _>(wrapped)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        // Of two that insert at once the second waits for the first one's commit, and reads what that kept.
        self.wrapped_key(user)?
            .ok_or_else(|| StoreError::inconsistent("user_keys", "user_id", user, "gone after its insert"))
    }

    fn sealed_credential(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Result<Option<SealedCredential>, StoreError> {
        let row = prepared(concat!(
            "SELECT ",
            view_columns!(),
            ", c.api_key, c.api_secret FROM broker_credentials c WHERE c.user_id = ? AND c.broker = ?"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .get_result::<SealedRow>(self.conn())
        .optional()
        .store()?;
        row.map(|row| {
            Ok(SealedCredential {
                view: row.view.try_into()?,
                api_key: row.api_key,
                api_secret: row.api_secret,
            })
        })
        .transpose()
    }

    fn credentials_of(&mut self, user: UserId) -> Result<Vec<CredentialView>, StoreError> {
        prepared(concat!(
            "SELECT ",
            view_columns!(),
            " FROM broker_credentials c WHERE c.user_id = ? ORDER BY c.broker"
        ))
        .bind::<BigInt, _>(user.0)
        .load::<ViewRow>(self.conn())
        .store()?
        .into_iter()
        .map(CredentialView::try_from)
        .collect()
    }

    fn put_credential(
        &mut self,
        user: UserId,
        credential: &NewCredential,
        at: DateTime<Utc>,
    ) -> Result<CredentialView, StoreError> {
        let row = prepared(concat!(
            "INSERT INTO broker_credentials AS c (user_id, broker, environment, api_key, api_secret, key_last4, \
             fingerprint, state, version, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, 'unverified', nextval('broker_credential_versions'), ?, ?) \
             ON CONFLICT (user_id, broker) DO UPDATE SET environment = excluded.environment, \
             api_key = excluded.api_key, api_secret = excluded.api_secret, key_last4 = excluded.key_last4, \
             fingerprint = excluded.fingerprint, state = excluded.state, state_reason = NULL, \
             version = excluded.version, updated_at = excluded.updated_at, checked_at = NULL RETURNING ",
            view_columns!()
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(credential.broker.as_str())
        .bind::<Text, _>(credential.environment.as_str())
        .bind::<Binary, _>(credential.api_key.as_slice())
        .bind::<Binary, _>(credential.api_secret.as_slice())
        .bind::<Text, _>(credential.key_last4.as_str())
        .bind::<Text, _>(credential.fingerprint.as_str())
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .get_result::<ViewRow>(self.conn())
        .store()?;
        self.accounts_changed(user);
        row.try_into()
    }

    fn remove_credential(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Result<Option<CredentialView>, StoreError> {
        let row = prepared(concat!(
            "DELETE FROM broker_credentials c WHERE c.user_id = ? AND c.broker = ? RETURNING ",
            view_columns!()
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .get_result::<ViewRow>(self.conn())
        .optional()
        .store()?;
        if row.is_some() {
            self.accounts_changed(user);
        }
        row.map(CredentialView::try_from).transpose()
    }

    fn set_credential_state(
        &mut self,
        user: UserId,
        broker: BrokerName,
        version: i64,
        state: CredentialState,
        reason: Option<&str>,
        at: DateTime<Utc>,
    ) -> Result<Option<CredentialView>, StoreError> {
        let before = prepared(concat!(
            "SELECT ",
            view_columns!(),
            " FROM broker_credentials c WHERE c.user_id = ? AND c.broker = ? AND c.version = ? FOR NO KEY UPDATE"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .bind::<BigInt, _>(version)
        .get_result::<ViewRow>(self.conn())
        .optional()
        .store()?
        .map(CredentialView::try_from)
        .transpose()?;
        let Some(before) = before else { return Ok(None) };
        prepared(
            "UPDATE broker_credentials SET state = ?, state_reason = ?, checked_at = ? WHERE user_id = ? AND broker = ?",
        )
        .bind::<Text, _>(state.as_str())
        .bind::<Nullable<Text>, _>(reason)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .execute(self.conn())
        .store()?;
        if before.state != state {
            self.accounts_changed(user);
        }
        Ok(Some(before))
    }

    fn trade_in(
        &mut self,
        user: UserId,
        broker: BrokerName,
        environment: Environment,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct Locked {
            #[diesel(sql_type = BigInt)]
            id: i64,
            #[diesel(sql_type = Text)]
            environment: String,
            #[diesel(sql_type = Text)]
            state: String,
        }
        #[derive(QueryableByName)]
        struct Open {
            #[diesel(sql_type = Bool)]
            open: bool,
        }
        self.share_global_halt()?;
        let accounts = prepared(
            "SELECT id, environment, state FROM accounts WHERE user_id = ? AND broker = ? ORDER BY id \
             FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .load::<Locked>(self.conn())
        .store()?;
        let current = accounts.iter().find(|account| account.state != "inactive");
        if current.is_some_and(|account| account.environment == environment.as_str()) {
            return Ok(true);
        }
        let mut state = "active";
        if let Some(current) = current {
            // Under the account's lock nobody adds an order: what a statement of its own sees now is all there is.
            let row = prepared(
                "SELECT EXISTS (SELECT 1 FROM orders WHERE account_id = ? AND closed_at IS NULL) AS open",
            )
            .bind::<BigInt, _>(current.id)
            .get_result::<Open>(self.conn())
            .store()?;
            if row.open {
                return Ok(false);
            }
            state = &current.state;
            prepared("UPDATE accounts SET state = 'inactive', updated_at = ? WHERE id = ?")
                .bind::<Timestamptz, _>(at)
                .bind::<BigInt, _>(current.id)
                .execute(self.conn())
                .store()?;
        }
        prepared(
            "INSERT INTO accounts (user_id, broker, environment, state, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, broker, environment) \
             DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .bind::<Text, _>(environment.as_str())
        .bind::<Text, _>(state)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        self.copy_risk(user)?;
        self.accounts_changed(user);
        Ok(true)
    }

    fn set_live_enabled(
        &mut self,
        user: UserId,
        broker: BrokerName,
        enabled: bool,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        // Where there is no live account yet, one is made that rests until there are keys for it.
        let changed = prepared(
            "INSERT INTO accounts AS a (user_id, broker, environment, state, live_enabled, created_at, updated_at) \
             SELECT ?, ?, 'live', 'inactive', true, ?, ? WHERE ? \
             ON CONFLICT (user_id, broker, environment) DO UPDATE SET live_enabled = true, \
             updated_at = excluded.updated_at WHERE NOT a.live_enabled",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .bind::<Bool, _>(enabled)
        .execute(self.conn())
        .store()?;
        if enabled {
            return Ok(changed == 1);
        }
        let changed = prepared(
            "UPDATE accounts SET live_enabled = false, updated_at = ? \
             WHERE user_id = ? AND broker = ? AND environment = 'live' AND live_enabled",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }

    fn alert(&mut self, to: Audience, alert: &Alert, at: DateTime<Utc>) -> Result<(), StoreError> {
        let message: String = alert.message.chars().take(500).collect();
        let data = serde_json::json!({ "message": message, "severity": alert.severity }).to_string();
        let event = NewEvent { kind: EventKind::SystemAlert, data: data.into() };
        let users = match to {
            Audience::User(user) => vec![user],
            Audience::Administrators => self.active_admins()?,
        };
        for user in users {
            self.append_event(StreamId::User(user), &event, at)?;
        }
        Ok(())
    }
}
