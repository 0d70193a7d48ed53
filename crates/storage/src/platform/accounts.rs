//! Broker accounts of users. A user has one for each environment; where the user trades is the one that is not inactive.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::vault::CredentialState;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{AccountId, StoreError, StoreErrorKind, UserId};

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// A user's account at the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAccountRow {
    /// Its id.
    pub id: AccountId,
    /// Whose.
    pub user_id: UserId,
    /// With whose money.
    pub environment: Environment,
    /// The broker's own number, once it was seen.
    pub broker_account: Option<String>,
    /// Whether it takes orders.
    pub active: bool,
    /// Whether its owner has allowed orders with real money; without meaning for play money.
    pub live_enabled: bool,
}

/// An account that is to be connected with its broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradingAccount {
    /// The account.
    pub account: BrokerAccountRow,
    /// Of the credential that it trades with; another one is another connection.
    pub credential_version: i64,
    /// The broker's word on that credential.
    pub state: CredentialState,
    /// Its owner has a limit of the daily loss.
    pub loss_limited: bool,
    /// It takes no entries until it was compared with its broker.
    pub awaits_comparison: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    environment: String,
    #[diesel(sql_type = Nullable<Text>)]
    broker_account: Option<String>,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Bool)]
    live_enabled: bool,
}

/// Whether the account `a` may be the one with a number at the broker, which is bound twice.
macro_rules! may_have_number {
    () => {
        "(a.broker_account IS NULL OR a.broker_account = ? \
           OR (NOT EXISTS (SELECT 1 FROM orders o WHERE o.account_id = a.id AND o.closed_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM positions p WHERE p.account_id = a.id AND p.qty <> 0))) \
         AND NOT EXISTS (SELECT 1 FROM accounts b WHERE b.user_id = a.user_id AND b.broker = a.broker \
           AND b.environment <> a.environment AND b.broker_account = ?)"
    };
}

/// The columns of a [`Row`] of `accounts` under the alias `a`.
macro_rules! account_columns {
    () => {
        "a.id, a.user_id, a.environment, a.broker_account, a.state, a.live_enabled"
    };
}

#[derive(QueryableByName)]
struct TradingRow {
    #[diesel(embed)]
    account: Row,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    credential_state: String,
    #[diesel(sql_type = Bool)]
    loss_limited: bool,
    #[diesel(sql_type = Bool)]
    awaits_comparison: bool,
}

impl TryFrom<Row> for BrokerAccountRow {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: AccountId(row.id),
            user_id: UserId(row.user_id),
            environment: row
                .environment
                .parse()
                .map_err(|why| StoreError::inconsistent("accounts", "environment", row.id, why))?,
            broker_account: row.broker_account,
            active: row.state == "active",
            live_enabled: row.live_enabled,
        })
    }
}

impl Tx<'_> {
    /// The broker account that a user trades with.
    ///
    /// # Errors
    /// The store's own.
    pub fn account_of_user(&mut self, user: UserId) -> Result<Option<BrokerAccountRow>, StoreError> {
        prepared(concat!(
            "SELECT ",
            account_columns!(),
            " FROM accounts a WHERE a.user_id = ? AND a.broker = 'alpaca' AND a.state <> 'inactive'"
        ))
        .bind::<BigInt, _>(user.0)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?
        .map(BrokerAccountRow::try_from)
        .transpose()
    }

    /// Every broker account of a user, those that rest too, in ascending order.
    ///
    /// # Errors
    /// The store's own.
    pub fn accounts_of_user(&mut self, user: UserId) -> Result<Vec<BrokerAccountRow>, StoreError> {
        prepared(concat!("SELECT ", account_columns!(), " FROM accounts a WHERE a.user_id = ? ORDER BY a.id"))
            .bind::<BigInt, _>(user.0)
            .load::<Row>(self.conn())
            .store()?
            .into_iter()
            .map(BrokerAccountRow::try_from)
            .collect()
    }

    /// Every account that is to be connected with its broker: it takes orders, its owner is active or has orders that are
    /// not final, and there is a credential for its environment. In ascending order.
    ///
    /// # Errors
    /// The store's own.
    pub fn trading_accounts(&mut self) -> Result<Vec<TradingAccount>, StoreError> {
        prepared(concat!(
            "SELECT ",
            account_columns!(),
            ", c.version, c.state AS credential_state, coalesce(a.risk_limits ->> 'max_daily_loss', '') <> '' AS loss_limited, \
             a.compare_after IS NOT NULL AS awaits_comparison FROM accounts a \
             JOIN broker_credentials c ON c.user_id = a.user_id AND c.broker = a.broker AND c.environment = a.environment \
             JOIN users u ON u.id = a.user_id WHERE a.state = 'active' AND (u.state = 'active' \
             OR EXISTS (SELECT FROM orders o WHERE o.account_id = a.id AND o.closed_at IS NULL)) ORDER BY a.id"
        ))
        .load::<TradingRow>(self.conn())
        .store()?
        .into_iter()
        .map(|row| {
            let state = row.credential_state.parse().map_err(|why| {
                StoreError::inconsistent("broker_credentials", "state", row.account.user_id, why)
            })?;
            Ok(TradingAccount {
                account: row.account.try_into()?,
                credential_version: row.version,
                state,
                loss_limited: row.loss_limited,
                awaits_comparison: row.awaits_comparison,
            })
        })
        .collect()
    }

    /// Every account that takes orders, in ascending order.
    ///
    /// # Errors
    /// The store's own.
    pub fn active_accounts(&mut self) -> Result<Vec<BrokerAccountRow>, StoreError> {
        prepared(concat!(
            "SELECT ",
            account_columns!(),
            " FROM accounts a WHERE a.state = 'active' ORDER BY a.id"
        ))
        .load::<Row>(self.conn())
        .store()?
        .into_iter()
        .map(BrokerAccountRow::try_from)
        .collect()
    }

    /// Gives a user an account at the broker.
    ///
    /// # Errors
    /// Kind `Duplicate` when the user trades there already; the store's own.
    pub fn insert_account(
        &mut self,
        user: UserId,
        environment: Environment,
        now: DateTime<Utc>,
    ) -> Result<AccountId, StoreError> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let row = prepared(
            "INSERT INTO accounts (user_id, broker, environment, created_at, updated_at) \
             VALUES (?, 'alpaca', ?, ?, ?) ON CONFLICT (user_id, broker, environment) DO UPDATE SET state = 'active', \
             updated_at = excluded.updated_at WHERE accounts.state = 'inactive' RETURNING id",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(environment.as_str())
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .get_result::<Id>(self.conn())
        .optional()
        .store()?
        .ok_or_else(|| StoreError::new(StoreErrorKind::Duplicate, "the user has this account already"))?;
        self.copy_risk(user)?;
        self.accounts_changed(user);
        Ok(AccountId(row.id))
    }

    /// Keeps the broker's own number of an account: the first time that it is seen, and when the credentials are of
    /// another account at the broker by now and nothing is held or open in the one before. `false` when something is, or
    /// when the number is on record for the other environment: play money and real money are never mixed up.
    ///
    /// # Errors
    /// The store's own.
    pub fn claim_broker_account(&mut self, account: AccountId, number: &str) -> Result<bool, StoreError> {
        let changed = prepared(concat!(
            "UPDATE accounts a SET broker_account = ?, updated_at = now() WHERE a.id = ? AND ",
            may_have_number!()
        ))
        .bind::<Text, _>(number)
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(number)
        .bind::<Text, _>(number)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }

    /// Whether [`claim_broker_account`](Self::claim_broker_account) would take this number now.
    ///
    /// # Errors
    /// The store's own.
    pub fn may_claim_broker_account(&mut self, account: AccountId, number: &str) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct Answer {
            #[diesel(sql_type = Bool)]
            may: bool,
        }
        prepared(concat!(
            "SELECT EXISTS (SELECT 1 FROM accounts a WHERE a.id = ? AND ",
            may_have_number!(),
            ") AS may"
        ))
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(number)
        .bind::<Text, _>(number)
        .get_result::<Answer>(self.conn())
        .store()
        .map(|answer| answer.may)
    }
}
