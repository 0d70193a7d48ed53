//! Sessions: found by the digest of their token, which is nowhere itself.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::SessionStore;
use plimsoll_auth::{Session, User};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::users::{UserRow, user_columns};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct SessionRow {
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = BigInt)]
    session_user: i64,
    #[diesel(sql_type = Timestamptz)]
    session_created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    last_seen_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    idle_expires_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    revoked_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    user_agent: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    step_up_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    step_up_ip: Option<String>,
    #[diesel(sql_type = Text)]
    transport: String,
}

macro_rules! session_columns {
    () => {
        "s.id AS session_id, s.user_id AS session_user, s.created_at AS session_created_at, s.last_seen_at, \
         s.idle_expires_at, s.expires_at, s.revoked_at, host(s.ip) AS ip, s.user_agent, s.step_up_until, host(s.step_up_ip) AS step_up_ip, \
         s.transport"
    };
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;
    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        let id = row.session_id;
        let address = |column: &'static str, text: Option<String>| {
            text.map(|text| text.parse::<IpAddr>())
                .transpose()
                .map_err(|why| StoreError::inconsistent("sessions", column, id, why))
        };
        let (ip, step_up_ip) = (address("ip", row.ip)?, address("step_up_ip", row.step_up_ip)?);
        Ok(Self {
            id: row.session_id,
            user_id: UserId(row.session_user),
            created_at: row.session_created_at,
            last_seen_at: row.last_seen_at,
            idle_expires_at: row.idle_expires_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            ip,
            user_agent: row.user_agent,
            step_up_until: row.step_up_until,
            step_up_ip,
            transport: row
                .transport
                .parse()
                .map_err(|why: &str| StoreError::inconsistent("sessions", "transport", id, why))?,
        })
    }
}

#[derive(QueryableByName)]
struct Both {
    #[diesel(embed)]
    session: SessionRow,
    #[diesel(embed)]
    user: UserRow,
}

impl SessionStore for Tx<'_> {
    fn insert_session(&mut self, digest: &TokenDigest, session: &Session) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, expires_at, \
             step_up_until, step_up_ip, transport, ip, user_agent) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?::inet, ?, ?::inet, ?)",
        )
        .bind::<BigInt, _>(session.user_id.0)
        .bind::<SqlUuid, _>(session.id)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(session.created_at)
        .bind::<Timestamptz, _>(session.last_seen_at)
        .bind::<Timestamptz, _>(session.idle_expires_at)
        .bind::<Timestamptz, _>(session.expires_at)
        .bind::<Nullable<Timestamptz>, _>(session.step_up_until)
        .bind::<Nullable<Text>, _>(session.step_up_ip.map(|ip| ip.to_string()))
        .bind::<Text, _>(session.transport.as_str())
        .bind::<Nullable<Text>, _>(session.ip.map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(session.user_agent.as_deref())
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn session_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<(Session, User)>, StoreError> {
        let found = prepared(concat!(
            "SELECT ",
            session_columns!(),
            ", ",
            user_columns!(),
            " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_digest = ?"
        ))
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .get_result::<Both>(self.conn())
        .optional()
        .store()?;
        found.map(|both| Ok((both.session.try_into()?, both.user.try_into()?))).transpose()
    }

    fn live_sessions_of(&mut self, user: UserId, now: DateTime<Utc>) -> Result<Vec<Session>, StoreError> {
        prepared(concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions s WHERE s.user_id = ? AND s.revoked_at IS NULL AND s.expires_at > ? \
             AND s.idle_expires_at > ? ORDER BY s.created_at, s.id"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .load::<SessionRow>(self.conn())
        .store()?
        .into_iter()
        .map(Session::try_from)
        .collect()
    }

    fn touch_session(
        &mut self,
        user: UserId,
        session: Uuid,
        last_seen_at: DateTime<Utc>,
        idle_expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE sessions SET last_seen_at = greatest(last_seen_at, ?), idle_expires_at = greatest(idle_expires_at, ?) \
             WHERE user_id = ? AND id = ? AND revoked_at IS NULL",
        )
        .bind::<Timestamptz, _>(last_seen_at)
        .bind::<Timestamptz, _>(idle_expires_at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(session)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn revoke_session(&mut self, user: UserId, session: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE sessions SET revoked_at = ? WHERE user_id = ? AND id = ? AND revoked_at IS NULL",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(session)
        .execute(self.conn())
        .store()?;
        self.logins_changed(user);
        Ok(changed == 1)
    }

    fn revoke_all_sessions_of(
        &mut self,
        user: UserId,
        except: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let changed = prepared(
            "UPDATE sessions SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL AND id IS DISTINCT FROM ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<Nullable<SqlUuid>, _>(except)
        .execute(self.conn())
        .store()?;
        self.logins_changed(user);
        Ok(changed as u64)
    }

    fn rotate_session(
        &mut self,
        user: UserId,
        session: Uuid,
        digest: &TokenDigest,
        step_up: Option<(DateTime<Utc>, Option<IpAddr>)>,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let (until, ip) = step_up.unzip();
        let changed = prepared(
            "UPDATE sessions SET token_digest = ?, step_up_until = coalesce(?, step_up_until), \
             step_up_ip = CASE WHEN ? THEN ?::inet ELSE step_up_ip END \
             WHERE user_id = ? AND id = ? AND revoked_at IS NULL AND expires_at > ? AND idle_expires_at > ?",
        )
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Nullable<Timestamptz>, _>(until)
        .bind::<diesel::sql_types::Bool, _>(until.is_some())
        .bind::<Nullable<Text>, _>(ip.flatten().map(|ip| ip.to_string()))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(session)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        self.logins_changed(user);
        Ok(changed == 1)
    }

    fn close_doors(
        &mut self,
        user: UserId,
        except: Option<Uuid>,
        with_api_tokens: bool,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let ended = self.revoke_all_sessions_of(user, except, at)?;
        for statement in [
            "UPDATE login_challenges SET voided_at = ? WHERE user_id = ? AND used_at IS NULL AND voided_at IS NULL",
            "UPDATE password_reset_tokens SET voided_at = ? WHERE user_id = ? AND used_at IS NULL AND voided_at IS NULL",
            "UPDATE email_changes SET cancelled_at = ? \
             WHERE user_id = ? AND confirmed_at IS NULL AND cancelled_at IS NULL",
        ] {
            prepared(statement)
                .bind::<Timestamptz, _>(at)
                .bind::<BigInt, _>(user.0)
                .execute(self.conn())
                .store()?;
        }
        if with_api_tokens {
            // Events went to addresses that whoever is locked out may have chosen.
            prepared(
                "UPDATE outbound_hooks SET state = 'paused', state_reason = 'locked_out', updated_at = ? \
                 WHERE user_id = ? AND state = 'active'",
            )
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
            prepared("UPDATE api_tokens SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL")
                .bind::<Timestamptz, _>(at)
                .bind::<BigInt, _>(user.0)
                .execute(self.conn())
                .store()?;
        }
        Ok(ended)
    }
}

/// The topic of a change of who may use what of the user's.
#[must_use]
pub fn logins_topic(user: UserId) -> String {
    format!("{LOGINS}{user}")
}

/// The user that a topic made by [`logins_topic`] is about.
#[must_use]
pub fn user_of_logins_topic(topic: &str) -> Option<UserId> {
    topic.strip_prefix(LOGINS)?.parse().ok().map(UserId)
}

const LOGINS: &str = "logins:";

impl Tx<'_> {
    /// Tells every instance, after the commit, that what it knows of the user's sessions, tokens, hooks, role and state is
    /// old.
    pub(crate) fn logins_changed(&mut self, user: UserId) {
        self.wake(logins_topic(user));
    }
}
