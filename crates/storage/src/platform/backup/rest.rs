//! A restored copy is of the past: what waited to be sent then has been sent since. Before it takes the database's place,
//! everything that would act by itself is put to rest.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};
use diesel::{PgConnection, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::backup::BackupError;
use plimsoll_reliability::reconcile::Trigger;
use plimsoll_reliability::submit::WATCH_ORDER;

use super::sql::{connect, quote_text, run};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::auth::SEND_MAIL;
use crate::platform::orders::SYNC_ORDER;
use crate::platform::reconciliation::RECONCILE;

/// These only ask the broker; they may go on.
const ONLY_LOOK: [&str; 3] = [SYNC_ORDER, WATCH_ORDER, RECONCILE];
/// A mail that waited longer says nothing any more.
const MAIL_AGE: TimeDelta = TimeDelta::hours(1);

/// Jobs that a restore brought and nobody released yet.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct HeldJobs {
    /// Their kind.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub jobs: i64,
}

/// What became of held jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// They run now.
    pub released: u64,
    /// Mails that were too old to be sent.
    pub dropped: u64,
}

/// Puts a copy to rest, in one transaction: streams get new epochs, so that clients ask for everything anew; every account
/// waits for a comparison with its broker before it takes entries; leases are
/// gone and their fences beyond every token ever given; jobs are held, but those that only look, and those of the queues
/// `recurring`, which come again by themselves and are cancelled; sessions, half-finished logins and links that change
/// passwords are void.
///
/// # Errors
/// The database's own; then nothing was changed.
pub fn put_to_rest(url: &str, recurring: &[&str]) -> Result<(), BackupError> {
    let mut conn: PgConnection = connect(url, Duration::from_secs(5))?;
    let list = |names: &[&str]| {
        let quoted: Vec<String> = names.iter().map(|name| quote_text(name)).collect();
        format!("ARRAY[{}]::text[]", quoted.join(", "))
    };
    let (recurring, only_look) = (list(recurring), list(&ONLY_LOOK));
    let restored = quote_text(Trigger::Restore.as_str());
    run(
        &mut conn,
        &format!(
            "BEGIN;
             UPDATE stream_head SET epoch = gen_random_uuid();
             UPDATE accounts SET compare_after = clock_timestamp(), compare_for = {restored}
                 WHERE reconciled_at IS NOT NULL;
             DELETE FROM leases;
             UPDATE lease_fences SET token = token + 1000000;
             UPDATE jobs SET state = 'cancelled', finished_at = now(), lease_until = NULL, lease_owner = NULL
                 WHERE state IN ('ready', 'leased') AND queue = ANY({recurring});
             UPDATE jobs SET state = CASE WHEN kind = ANY({only_look}) THEN 'ready' ELSE 'held' END,
                 lease_until = NULL, lease_owner = NULL, lease_token = lease_token + 1
                 WHERE state IN ('ready', 'leased');
             UPDATE sessions SET revoked_at = now() WHERE revoked_at IS NULL;
             DELETE FROM login_challenges;
             DELETE FROM setup_tokens;
             UPDATE password_reset_tokens SET voided_at = now() WHERE used_at IS NULL AND voided_at IS NULL;
             COMMIT"
        ),
    )?;
    Ok(())
}

impl Tx<'_> {
    /// Jobs that are held, by kind.
    ///
    /// # Errors
    /// The store's.
    pub fn held_jobs(&mut self) -> Result<Vec<HeldJobs>, StoreError> {
        prepared("SELECT kind, count(*) AS jobs FROM jobs WHERE state = 'held' GROUP BY kind ORDER BY kind")
            .load(self.conn())
            .store()
    }

    /// Lets held jobs of these kinds run. An order whose deadline has passed is not sent by its job, which says so; mails
    /// from more than an hour before `now` are dropped.
    ///
    /// # Errors
    /// The store's.
    pub fn release_held_jobs(
        &mut self,
        kinds: &[String],
        now: DateTime<Utc>,
    ) -> Result<Released, StoreError> {
        let dropped = prepared(
            "UPDATE jobs SET state = 'cancelled', finished_at = now(), \
             last_error = 'older than an hour when its restore was released' \
             WHERE state = 'held' AND kind = ANY(?) AND kind = ? AND created_at < ?",
        )
        .bind::<Array<Text>, _>(kinds)
        .bind::<Text, _>(SEND_MAIL)
        .bind::<Timestamptz, _>(now - MAIL_AGE)
        .execute(self.conn())
        .store()?;
        let released = prepared(
            "UPDATE jobs SET state = 'ready', run_at = now() WHERE state = 'held' AND kind = ANY(?)",
        )
        .bind::<Array<Text>, _>(kinds)
        .execute(self.conn())
        .store()?;
        Ok(Released { released: released as u64, dropped: dropped as u64 })
    }
}
