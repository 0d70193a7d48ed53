//! Old rows, deleted in batches along an index. A batch passes over rows that others have locked, so it waits for nobody
//! and nobody deadlocks with it.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::clean_up::Old;
use plimsoll_auth::ports::CleanUpStore;
use plimsoll_core_domain::{StoreError, UserId};

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Deletes the oldest rows of a table. In the condition each `?` is the time before which a row is old.
macro_rules! oldest {
    ($table:literal by $time:literal where $condition:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY(ARRAY(SELECT ctid FROM ",
            $table,
            " WHERE ",
            $condition,
            " ORDER BY ",
            $time,
            " LIMIT ? FOR UPDATE SKIP LOCKED))"
        )
    };
    ($table:literal by $time:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY(ARRAY(SELECT ctid FROM ",
            $table,
            " WHERE ",
            $time,
            " < ? ORDER BY ",
            $time,
            " LIMIT ? FOR UPDATE SKIP LOCKED))"
        )
    };
}

/// One that somebody gave an account or a role to, or that an administrator disabled, is not forgotten.
macro_rules! unverified {
    () => {
        oldest!(
            "users" by "created_at"
            where "email_verified_at IS NULL AND deleted_at IS NULL AND created_at < ? \
             AND role = 'user' AND state = 'active' \
             AND NOT EXISTS (SELECT FROM email_verification_tokens t WHERE t.user_id = users.id AND t.expires_at >= ?) \
             AND NOT EXISTS (SELECT FROM accounts a WHERE a.user_id = users.id)"
        )
    };
}

const fn statement(what: Old) -> &'static str {
    match what {
        Old::VerificationTokens => oldest!("email_verification_tokens" by "expires_at"),
        Old::ResetTokens => oldest!("password_reset_tokens" by "expires_at"),
        Old::EmailChanges => oldest!("email_changes" by "expires_at"),
        Old::CancelTokens => oldest!("cancel_tokens" by "expires_at"),
        Old::SetupTokens => oldest!("setup_tokens" by "expires_at"),
        Old::Registrations => oldest!("registrations" by "expires_at"),
        Old::Challenges => oldest!("login_challenges" by "expires_at"),
        Old::WsTickets => oldest!("ws_tickets" by "expires_at"),
        Old::Sessions => oldest!("sessions" by "expires_at"),
        Old::ApiTokens => oldest!("api_tokens" by "expires_at"),
        Old::LoginAttempts => oldest!("login_attempts" by "at"),
        Old::FactorAttempts => oldest!("user_2fa_attempts" by "at"),
        Old::LoginPlaces => oldest!("login_places" by "last_seen_at"),
        Old::FailedPairs => oldest!("failed_pairs" by "at"),
        Old::Throttles => oldest!(
            "throttles" by "updated_at"
            where "updated_at < ? AND greatest(updated_at, blocked_until, arrival) < ?"
        ),
        Old::SentMails => {
            oldest!("mail_outbox" by "created_at" where "created_at < ? AND sent_at IS NOT NULL")
        }
        Old::UnsentMails => {
            oldest!("mail_outbox" by "created_at" where "created_at < ? AND sent_at IS NULL")
        }
        // Whoever sets a factor up has the user's row locked.
        Old::PendingFactors => {
            "WITH old AS MATERIALIZED (SELECT f.user_id FROM users u JOIN user_2fa f ON f.user_id = u.id \
               WHERE f.pending_expires_at < ? ORDER BY f.pending_expires_at LIMIT ? \
               FOR NO KEY UPDATE OF u, f SKIP LOCKED), \
             codes AS (DELETE FROM user_2fa_backup_codes c USING old WHERE c.user_id = old.user_id AND c.pending) \
             UPDATE user_2fa f SET pending_secret = NULL, pending_expires_at = NULL FROM old \
             WHERE f.user_id = old.user_id"
        }
        Old::UnverifiedAccounts => unverified!(),
    }
}

#[derive(QueryableByName)]
struct Gone {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl CleanUpStore for Tx<'_> {
    fn delete_old(&mut self, what: Old, before: DateTime<Utc>, limit: usize) -> Result<usize, StoreError> {
        if what == Old::UnverifiedAccounts {
            return self.delete_unverified(before, limit).map(|gone| gone.len());
        }
        let text = statement(what);
        let mut query = prepared(text);
        // The last one is the limit.
        for _ in 1..text.matches('?').count() {
            query = query.bind::<Timestamptz, _>(before);
        }
        query.bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX)).execute(self.conn()).store()
    }

    fn delete_unverified(&mut self, before: DateTime<Utc>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let gone = prepared(concat!(unverified!(), " RETURNING id"))
            .bind::<Timestamptz, _>(before)
            .bind::<Timestamptz, _>(before)
            .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
            .load::<Gone>(self.conn())
            .store()?;
        let mut gone: Vec<UserId> = gone.into_iter().map(|row| UserId(row.id)).collect();
        gone.sort_unstable();
        Ok(gone)
    }
}
