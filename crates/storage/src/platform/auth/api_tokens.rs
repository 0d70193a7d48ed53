//! API tokens: found by the digest of the token, which is nowhere itself.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::api_tokens::{After, DueNotice, Scope, Scopes, TokenRecord};
use plimsoll_auth::ports::{ApiTokenStore, FoundToken};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::users::{UserRow, user_columns};

#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = SqlUuid)]
    token_id: Uuid,
    #[diesel(sql_type = BigInt)]
    token_user: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    allowed_ips: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    token_created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_used_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    last_used_ip: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    revoked_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    warned_at: Option<DateTime<Utc>>,
}

macro_rules! token_columns {
    () => {
        "t.id AS token_id, t.user_id AS token_user, t.name, t.scopes, t.allowed_ips, \
         t.created_at AS token_created_at, t.expires_at, t.last_used_at, host(t.last_used_ip) AS last_used_ip, \
         t.revoked_at, t.warned_at"
    };
}

impl TryFrom<TokenRow> for TokenRecord {
    type Error = StoreError;
    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        let id = row.token_id;
        let bad = |column: &'static str, why: String| StoreError::inconsistent("api_tokens", column, id, why);
        let scopes = row.scopes.iter().map(|name| name.parse::<Scope>());
        let networks = row.allowed_ips.iter().map(|text| text.parse());
        let last_used_ip = row.last_used_ip.map(|text| text.parse::<IpAddr>()).transpose();
        Ok(Self {
            id,
            user_id: UserId(row.token_user),
            name: row.name,
            scopes: scopes.collect::<Result<Scopes, _>>().map_err(|why| bad("scopes", why.to_string()))?,
            allowed_ips: networks
                .collect::<Result<_, plimsoll_auth::IpNetworkError>>()
                .map_err(|why| bad("allowed_ips", why.to_string()))?,
            created_at: row.token_created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            last_used_ip: last_used_ip.map_err(|why| bad("last_used_ip", why.to_string()))?,
            revoked_at: row.revoked_at,
            warned_at: row.warned_at,
        })
    }
}

#[derive(QueryableByName)]
struct Both {
    #[diesel(embed)]
    token: TokenRow,
    #[diesel(embed)]
    user: UserRow,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(embed)]
    both: Both,
    #[diesel(sql_type = Bool)]
    two_factor: bool,
}

impl ApiTokenStore for Tx<'_> {
    fn insert_api_token(&mut self, digest: &TokenDigest, token: &TokenRecord) -> Result<(), StoreError> {
        let allowed: Vec<String> = token.allowed_ips.iter().map(ToString::to_string).collect();
        prepared(
            "INSERT INTO api_tokens (user_id, id, name, token_digest, scopes, allowed_ips, created_at, expires_at, \
             warned_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(token.user_id.0)
        .bind::<SqlUuid, _>(token.id)
        .bind::<Text, _>(token.name.as_str())
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Array<Text>, _>(token.scopes.names())
        .bind::<Array<Text>, _>(allowed)
        .bind::<Timestamptz, _>(token.created_at)
        .bind::<Timestamptz, _>(token.expires_at)
        .bind::<Nullable<Timestamptz>, _>(token.warned_at)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn api_token_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<FoundToken>, StoreError> {
        let found = prepared(concat!(
            "SELECT ",
            token_columns!(),
            ", ",
            user_columns!(),
            ", f.enabled_at IS NOT NULL AS two_factor \
             FROM api_tokens t JOIN users u ON u.id = t.user_id LEFT JOIN user_2fa f ON f.user_id = t.user_id \
             WHERE t.token_digest = ?"
        ))
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .get_result::<Found>(self.conn())
        .optional()
        .store()?;
        let read = |row: Found| {
            Ok(FoundToken {
                token: row.both.token.try_into()?,
                user: row.both.user.try_into()?,
                two_factor: row.two_factor,
            })
        };
        found.map(read).transpose()
    }

    fn touch_api_token(
        &mut self,
        user: UserId,
        token: Uuid,
        ip: Option<IpAddr>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE api_tokens SET last_used_at = ?, last_used_ip = ?::inet \
             WHERE user_id = ? AND id = ? AND (last_used_at IS NULL OR last_used_at < ?)",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<Nullable<Text>, _>(ip.map(|ip| ip.to_string()))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(token)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn live_api_tokens_of(
        &mut self,
        user: UserId,
        after: Option<After>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let (before, id) = after.unzip();
        prepared(concat!(
            "SELECT ",
            token_columns!(),
            " FROM api_tokens t WHERE t.user_id = ? AND t.revoked_at IS NULL AND t.expires_at > ? \
             AND (?::timestamptz IS NULL OR (t.created_at, t.id) < (?, ?)) \
             ORDER BY t.created_at DESC, t.id DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(now)
        .bind::<Nullable<Timestamptz>, _>(before)
        .bind::<Nullable<Timestamptz>, _>(before)
        .bind::<Nullable<SqlUuid>, _>(id)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<TokenRow>(self.conn())
        .store()?
        .into_iter()
        .map(TokenRecord::try_from)
        .collect()
    }

    fn revoke_api_token(&mut self, user: UserId, token: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE api_tokens SET revoked_at = ? WHERE user_id = ? AND id = ? AND revoked_at IS NULL AND expires_at > ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(token)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        self.logins_changed(user);
        Ok(changed == 1)
    }

    fn api_tokens_ending(
        &mut self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<DueNotice>, StoreError> {
        prepared(concat!(
            "SELECT ",
            token_columns!(),
            ", ",
            user_columns!(),
            " FROM api_tokens t JOIN users u ON u.id = t.user_id WHERE t.expires_at > ? AND t.expires_at <= ? \
             AND t.revoked_at IS NULL AND t.warned_at IS NULL AND u.state = 'active' \
             ORDER BY t.expires_at, t.id LIMIT ?"
        ))
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(until)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Both>(self.conn())
        .store()?
        .into_iter()
        .map(|both| Ok(DueNotice { user: both.user.try_into()?, token: both.token.try_into()? }))
        .collect()
    }

    fn mark_api_token_warned(
        &mut self,
        user: UserId,
        token: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE api_tokens SET warned_at = ? WHERE user_id = ? AND id = ? AND warned_at IS NULL \
             AND revoked_at IS NULL AND expires_at > ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(token)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}
