//! Broker accounts of users.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{AccountId, StoreError, UserId};

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
        })
    }
}

impl Tx<'_> {
    /// The broker account of a user.
    ///
    /// # Errors
    /// The store's own.
    pub fn account_of_user(&mut self, user: UserId) -> Result<Option<BrokerAccountRow>, StoreError> {
        prepared("SELECT id, user_id, environment, broker_account, state FROM accounts WHERE user_id = ? AND broker = 'alpaca'")
            .bind::<BigInt, _>(user.0)
            .get_result::<Row>(self.conn())
            .optional()
            .store()?
            .map(BrokerAccountRow::try_from)
            .transpose()
    }

    /// Every account that takes orders, in ascending order.
    ///
    /// # Errors
    /// The store's own.
    pub fn active_accounts(&mut self) -> Result<Vec<BrokerAccountRow>, StoreError> {
        prepared("SELECT id, user_id, environment, broker_account, state FROM accounts WHERE state = 'active' ORDER BY id")
            .load::<Row>(self.conn())
            .store()?
            .into_iter()
            .map(BrokerAccountRow::try_from)
            .collect()
    }

    /// Connects a user with the broker.
    ///
    /// # Errors
    /// Kind `Duplicate` when the user has an account there; the store's own.
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
             VALUES (?, 'alpaca', ?, ?, ?) RETURNING id",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(environment.as_str())
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .get_result::<Id>(self.conn())
        .store()?;
        Ok(AccountId(row.id))
    }

    /// Keeps the broker's own number of an account, the first time that it is seen. `false` when another one is on
    /// record: the credentials belong to another account.
    ///
    /// # Errors
    /// The store's own.
    pub fn claim_broker_account(&mut self, account: AccountId, number: &str) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE accounts SET broker_account = ?, updated_at = now() \
             WHERE id = ? AND (broker_account IS NULL OR broker_account = ?)",
        )
        .bind::<Text, _>(number)
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(number)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}
