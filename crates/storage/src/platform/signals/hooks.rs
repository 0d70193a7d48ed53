//! Inbound hooks: their rows, and what a delivery needs to know of one.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::IpNetwork;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::signals::{Action, HookRules, Sizing, SymbolMap};
use plimsoll_core_domain::{StoreError, Symbol, UserId};
use rust_decimal::Decimal;
use serde_json::Value;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// How a hook knows its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAuth {
    /// By a signature where one is shown, else by the secret in the body.
    Any,
    /// By the secret in the body alone.
    BodySecret,
    /// By a signature alone.
    Hmac,
}

impl HookAuth {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Any, Self::BodySecret, Self::Hmac];

    /// The word in answers and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::BodySecret => "body_secret",
            Self::Hmac => "hmac",
        }
    }
}

impl std::str::FromStr for HookAuth {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|auth| auth.as_str() == text).ok_or("must be any, body_secret or hmac")
    }
}

/// What its owner chooses of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSettings {
    /// What its owner calls it.
    pub name: String,
    /// With whose money.
    pub environment: Environment,
    /// Whether it takes signals.
    pub enabled: bool,
    /// What it allows.
    pub rules: HookRules,
    /// From where it may be called; none: from anywhere.
    pub allowed_ips: Vec<IpNetwork>,
    /// How it knows its sender.
    pub auth: HookAuth,
    /// After so many seconds without a signal its owner is told.
    pub silent_alert_after_s: Option<i32>,
}

/// A hook, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundHook {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub user: UserId,
    /// It is the one of the route for the server's own secret.
    pub builtin: bool,
    /// What its owner chose.
    pub settings: HookSettings,
    /// Until when the secret before the present one is still good.
    pub old_secret_until: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A secret to be kept.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Sealed under the user's data key.
    pub sealed: Vec<u8>,
    /// Of its text.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewSecret(redacted)")
    }
}

/// The live secrets of a hook: the present one, and within its overlap the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The present one; none of the hook whose secret is a setting.
    pub present: Option<NewSecret>,
    /// The one before, with its end.
    pub old: Option<(NewSecret, DateTime<Utc>)>,
}

/// What a delivery needs to know.
#[derive(Clone, Debug)]
pub struct Door {
    /// The hook.
    pub hook: InboundHook,
    /// Its secrets.
    pub secrets: Secrets,
    /// The user's data key, wrapped.
    pub wrapped_key: Option<Vec<u8>>,
    /// Whether the owner may sign in.
    pub owner_active: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    environment: String,
    #[diesel(sql_type = Bool)]
    enabled: bool,
    #[diesel(sql_type = Bool)]
    builtin: bool,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    symbols: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    actions: Option<Vec<String>>,
    #[diesel(sql_type = Jsonb)]
    symbol_map: Value,
    #[diesel(sql_type = Text)]
    sizing_mode: String,
    #[diesel(sql_type = Nullable<Numeric>)]
    sizing_value: Option<Decimal>,
    #[diesel(sql_type = Nullable<Integer>)]
    max_age_s: Option<i32>,
    #[diesel(sql_type = Array<Text>)]
    allowed_ips: Vec<String>,
    #[diesel(sql_type = Text)]
    auth: String,
    #[diesel(sql_type = Nullable<Integer>)]
    silent_alert_after_s: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    old_secret_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

macro_rules! hook_columns {
    () => {
        "h.user_id, h.id, h.name, h.environment, h.enabled, h.builtin, h.symbols, h.actions, h.symbol_map, h.sizing_mode, \
         h.sizing_value, h.max_age_s, h.allowed_ips, h.auth, h.silent_alert_after_s, h.old_secret_until, h.created_at, \
         h.updated_at"
    };
}

#[derive(QueryableByName)]
struct DoorRow {
    #[diesel(embed)]
    hook: Row,
    #[diesel(sql_type = Nullable<Binary>)]
    secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    secret_sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    old_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    old_secret_sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    wrapped: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    owner_active: bool,
}

/// A hook of a user that is not deleted; with a lock, or without.
macro_rules! hook_of {
    ($lock:literal) => {
        concat!(
            "SELECT ",
            hook_columns!(),
            " FROM inbound_hooks h WHERE h.user_id = ? AND h.id = ? AND h.deleted_at IS NULL",
            $lock
        )
    };
}

macro_rules! door_of {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            hook_columns!(),
            ", h.secret, h.secret_sha256, h.old_secret, h.old_secret_sha256, k.wrapped, u.state = 'active' AS owner_active \
             FROM inbound_hooks h JOIN users u ON u.id = h.user_id LEFT JOIN user_keys k ON k.user_id = h.user_id \
             WHERE h.deleted_at IS NULL AND ",
            $condition
        )
    };
}

fn map_of(stored: &Value) -> Result<SymbolMap, String> {
    let mut map = SymbolMap::default();
    for (ticker, symbol) in stored.as_object().into_iter().flatten() {
        let symbol = Symbol::new(symbol.as_str().unwrap_or_default()).map_err(|why| why.to_string())?;
        map.insert(ticker, symbol)?;
    }
    Ok(map)
}

fn symbols(texts: Vec<String>) -> Result<Vec<Symbol>, plimsoll_core_domain::IdError> {
    texts.into_iter().map(Symbol::new).collect()
}

impl TryFrom<Row> for InboundHook {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = |column: &str, why: &dyn std::fmt::Display| {
            StoreError::inconsistent("inbound_hooks", column, row.id, why)
        };
        let actions = |texts: Vec<String>| {
            texts.iter().map(|text| text.parse::<Action>()).collect::<Result<Vec<_>, _>>()
        };
        let networks: Result<Vec<IpNetwork>, _> = row.allowed_ips.iter().map(|text| text.parse()).collect();
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            builtin: row.builtin,
            settings: HookSettings {
                name: row.name,
                environment: row.environment.parse().map_err(|why| bad("environment", &why))?,
                enabled: row.enabled,
                rules: HookRules {
                    symbol_map: map_of(&row.symbol_map).map_err(|why| bad("symbol_map", &why))?,
                    symbols: row.symbols.map(symbols).transpose().map_err(|why| bad("symbols", &why))?,
                    actions: row.actions.map(actions).transpose().map_err(|why| bad("actions", &why))?,
                    sizing: Sizing::new(&row.sizing_mode, row.sizing_value.map(|value| value.normalize()))
                        .map_err(|(_, why)| bad("sizing_value", &why))?,
                    max_age: row.max_age_s.map(|seconds| TimeDelta::seconds(seconds.into())),
                },
                allowed_ips: networks.map_err(|why| bad("allowed_ips", &why))?,
                auth: row.auth.parse().map_err(|why: &str| bad("auth", &why))?,
                silent_alert_after_s: row.silent_alert_after_s,
            },
            old_secret_until: row.old_secret_until,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

impl TryFrom<DoorRow> for Door {
    type Error = StoreError;
    fn try_from(row: DoorRow) -> Result<Self, StoreError> {
        let id = row.hook.id;
        let secret =
            |sealed: Option<Vec<u8>>, sha256: Option<Vec<u8>>| -> Result<Option<NewSecret>, StoreError> {
                let Some((sealed, sha256)) = sealed.zip(sha256) else { return Ok(None) };
                let sha256 = sha256.try_into().map_err(|_| {
                    StoreError::inconsistent("inbound_hooks", "secret_sha256", id, "not 32 bytes")
                })?;
                Ok(Some(NewSecret { sealed, sha256 }))
            };
        let old = secret(row.old_secret, row.old_secret_sha256)?;
        let secrets = Secrets {
            present: secret(row.secret, row.secret_sha256)?,
            old: old.zip(row.hook.old_secret_until),
        };
        Ok(Self {
            hook: row.hook.try_into()?,
            secrets,
            wrapped_key: row.wrapped,
            owner_active: row.owner_active,
        })
    }
}

/// The values of a hook's settings as they are bound.
struct Bound {
    symbols: Option<Vec<String>>,
    actions: Option<Vec<&'static str>>,
    symbol_map: Value,
    max_age_s: Option<i32>,
    allowed_ips: Vec<String>,
}

impl Bound {
    fn of(settings: &HookSettings) -> Self {
        let rules = &settings.rules;
        Self {
            symbols: rules
                .symbols
                .as_ref()
                .map(|symbols| symbols.iter().map(|symbol| symbol.as_str().to_owned()).collect()),
            actions: rules
                .actions
                .as_ref()
                .map(|actions| actions.iter().map(|action| action.as_str()).collect()),
            symbol_map: rules
                .symbol_map
                .iter()
                .map(|(ticker, symbol)| (ticker.to_owned(), Value::from(symbol.as_str())))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            max_age_s: rules.max_age.and_then(|age| i32::try_from(age.num_seconds()).ok()),
            allowed_ips: settings.allowed_ips.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Tx<'_> {
    /// Keeps a new hook. One without a secret is the user's hook of the server's own secret; `None` when the user has
    /// that one already.
    ///
    /// # Errors
    /// The store's own.
    pub fn insert_hook(
        &mut self,
        user: UserId,
        id: Uuid,
        settings: &HookSettings,
        secret: Option<&NewSecret>,
        now: DateTime<Utc>,
    ) -> Result<Option<InboundHook>, StoreError> {
        let bound = Bound::of(settings);
        prepared(concat!(
            "INSERT INTO inbound_hooks AS h (user_id, id, name, broker, environment, enabled, builtin, symbols, actions, \
             symbol_map, sizing_mode, sizing_value, max_age_s, allowed_ips, auth, silent_alert_after_s, armed_at, secret, \
             secret_sha256, created_at, updated_at) \
             VALUES (?, ?, ?, 'alpaca', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (user_id) WHERE builtin DO NOTHING RETURNING ",
            hook_columns!()
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(settings.name.as_str())
        .bind::<Text, _>(settings.environment.as_str())
        .bind::<Bool, _>(settings.enabled)
        .bind::<Bool, _>(secret.is_none())
        .bind::<Nullable<Array<Text>>, _>(bound.symbols)
        .bind::<Nullable<Array<Text>>, _>(bound.actions)
        .bind::<Jsonb, _>(bound.symbol_map)
        .bind::<Text, _>(settings.rules.sizing.mode())
        .bind::<Nullable<Numeric>, _>(settings.rules.sizing.value())
        .bind::<Nullable<Integer>, _>(bound.max_age_s)
        .bind::<Array<Text>, _>(bound.allowed_ips)
        .bind::<Text, _>(settings.auth.as_str())
        .bind::<Nullable<Integer>, _>(settings.silent_alert_after_s)
        .bind::<Timestamptz, _>(now)
        .bind::<Nullable<Binary>, _>(secret.map(|secret| secret.sealed.as_slice()))
        .bind::<Nullable<Binary>, _>(secret.map(|secret| secret.sha256.as_slice()))
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?
        .map(InboundHook::try_from)
        .transpose()
    }

    /// How many hooks a user has.
    ///
    /// # Errors
    /// The store's own.
    pub fn count_hooks(&mut self, user: UserId) -> Result<i64, StoreError> {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            hooks: i64,
        }
        prepared("SELECT count(*) AS hooks FROM inbound_hooks WHERE user_id = ? AND deleted_at IS NULL")
            .bind::<BigInt, _>(user.0)
            .get_result::<Count>(self.conn())
            .store()
            .map(|row| row.hooks)
    }

    /// A hook of a user.
    ///
    /// # Errors
    /// The store's own.
    pub fn hook(&mut self, user: UserId, id: Uuid) -> Result<Option<InboundHook>, StoreError> {
        self.one_hook(hook_of!(""), user, id)
    }

    /// A hook of a user, locked: nobody else changes it before the transaction ends.
    ///
    /// # Errors
    /// The store's own.
    pub fn lock_hook(&mut self, user: UserId, id: Uuid) -> Result<Option<InboundHook>, StoreError> {
        self.one_hook(hook_of!(" FOR UPDATE"), user, id)
    }

    fn one_hook(
        &mut self,
        text: &'static str,
        user: UserId,
        id: Uuid,
    ) -> Result<Option<InboundHook>, StoreError> {
        prepared(text)
            .bind::<BigInt, _>(user.0)
            .bind::<SqlUuid, _>(id)
            .get_result::<Row>(self.conn())
            .optional()
            .store()?
            .map(InboundHook::try_from)
            .transpose()
    }

    /// A user's hooks, newest first, after the one with this id.
    ///
    /// # Errors
    /// The store's own.
    pub fn hooks(
        &mut self,
        user: UserId,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<InboundHook>, StoreError> {
        prepared(concat!(
            "SELECT ",
            hook_columns!(),
            " FROM inbound_hooks h WHERE h.user_id = ? AND h.deleted_at IS NULL AND h.id < ? ORDER BY h.id DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(after.unwrap_or(Uuid::max()))
        .bind::<BigInt, _>(limit)
        .load::<Row>(self.conn())
        .store()?
        .into_iter()
        .map(InboundHook::try_from)
        .collect()
    }

    /// Changes a hook's settings. Its silence counts anew.
    ///
    /// # Errors
    /// The store's own.
    pub fn update_hook(
        &mut self,
        user: UserId,
        id: Uuid,
        settings: &HookSettings,
        now: DateTime<Utc>,
    ) -> Result<Option<InboundHook>, StoreError> {
        let bound = Bound::of(settings);
        self.logins_changed(user);
        prepared(concat!(
            "UPDATE inbound_hooks h SET name = ?, environment = ?, enabled = ?, symbols = ?, actions = ?, symbol_map = ?, sizing_mode = ?, \
             sizing_value = ?, max_age_s = ?, allowed_ips = ?, auth = ?, silent_alert_after_s = ?, silent_alert_at = NULL, \
             armed_at = ?, updated_at = ? WHERE h.user_id = ? AND h.id = ? AND h.deleted_at IS NULL RETURNING ",
            hook_columns!()
        ))
        .bind::<Text, _>(settings.name.as_str())
        .bind::<Text, _>(settings.environment.as_str())
        .bind::<Bool, _>(settings.enabled)
        .bind::<Nullable<Array<Text>>, _>(bound.symbols)
        .bind::<Nullable<Array<Text>>, _>(bound.actions)
        .bind::<Jsonb, _>(bound.symbol_map)
        .bind::<Text, _>(settings.rules.sizing.mode())
        .bind::<Nullable<Numeric>, _>(settings.rules.sizing.value())
        .bind::<Nullable<Integer>, _>(bound.max_age_s)
        .bind::<Array<Text>, _>(bound.allowed_ips)
        .bind::<Text, _>(settings.auth.as_str())
        .bind::<Nullable<Integer>, _>(settings.silent_alert_after_s)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?
        .map(InboundHook::try_from)
        .transpose()
    }

    /// Gives a hook another secret; the present one is good until `overlap_until`, one before it no more. `None`: there is
    /// no such hook, or its secret is a setting.
    ///
    /// # Errors
    /// The store's own.
    pub fn rotate_hook(
        &mut self,
        user: UserId,
        id: Uuid,
        secret: &NewSecret,
        overlap_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<InboundHook>, StoreError> {
        self.logins_changed(user);
        prepared(concat!(
            "UPDATE inbound_hooks h SET old_secret = secret, old_secret_sha256 = secret_sha256, old_secret_until = ?, \
             secret = ?, secret_sha256 = ?, updated_at = ? \
             WHERE h.user_id = ? AND h.id = ? AND h.deleted_at IS NULL AND NOT h.builtin RETURNING ",
            hook_columns!()
        ))
        .bind::<Timestamptz, _>(overlap_until)
        .bind::<Binary, _>(secret.sealed.as_slice())
        .bind::<Binary, _>(secret.sha256.as_slice())
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?
        .map(InboundHook::try_from)
        .transpose()
    }

    /// Ends a hook: its secrets are gone, its signals stay on record.
    ///
    /// # Errors
    /// The store's own.
    pub fn delete_hook(&mut self, user: UserId, id: Uuid, now: DateTime<Utc>) -> Result<bool, StoreError> {
        self.logins_changed(user);
        let changed = prepared(
            "UPDATE inbound_hooks SET deleted_at = ?, updated_at = ?, enabled = false, secret = NULL, \
             secret_sha256 = NULL, old_secret = NULL, old_secret_sha256 = NULL, old_secret_until = NULL \
             WHERE user_id = ? AND id = ? AND deleted_at IS NULL AND NOT builtin",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }

    /// What a delivery to a hook needs to know; `None`: there is no such hook.
    ///
    /// # Errors
    /// The store's own.
    pub fn door(&mut self, hook: Uuid) -> Result<Option<Door>, StoreError> {
        prepared(door_of!("h.id = ?"))
            .bind::<SqlUuid, _>(hook)
            .get_result::<DoorRow>(self.conn())
            .optional()
            .store()?
            .map(Door::try_from)
            .transpose()
    }

    /// The same of the hook of the server's own secret, for the user with this folded address.
    ///
    /// # Errors
    /// The store's own.
    pub fn builtin_door(&mut self, email_folded: &str) -> Result<Option<Door>, StoreError> {
        prepared(door_of!("h.builtin AND u.email_folded = ?"))
            .bind::<Text, _>(email_folded)
            .get_result::<DoorRow>(self.conn())
            .optional()
            .store()?
            .map(Door::try_from)
            .transpose()
    }
}
