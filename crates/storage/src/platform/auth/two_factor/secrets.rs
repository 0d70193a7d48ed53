//! Time-based secrets, sealed under their user's data key.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary};
use plimsoll_auth::totp::TotpSecret;
use plimsoll_auth::two_factor::StoredSecret;
use plimsoll_auth::vault::user_ring;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::{Aad, DataKey, KeyRing, OsRandom, open, seal};
use secrecy::ExposeSecret;

use super::{SECRET, TABLE};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

impl Tx<'_> {
    /// The ring that seals for a user, with a data key made now when there is none yet.
    fn sealing_ring(&mut self, user: UserId, at: DateTime<Utc>) -> Result<KeyRing, StoreError> {
        let keys = self.platform_keys()?;
        user_ring(self, &keys.ring, user, at, &mut OsRandom)?
            .map_err(|why| StoreError::inconsistent("user_keys", "wrapped", user, why))
    }

    pub(super) fn seal_totp(
        &mut self,
        user: UserId,
        column: &str,
        secret: &TotpSecret,
        at: DateTime<Utc>,
    ) -> Result<Vec<u8>, StoreError> {
        let row = user.to_string();
        let aad = Aad { table: TABLE, column, row: &row, owner: Some(user.0) };
        Ok(seal(&self.sealing_ring(user, at)?, &aad, secret.expose_bytes(), &mut OsRandom))
    }

    pub(super) fn open_totp(
        &self,
        user: UserId,
        column: &str,
        sealed: &[u8],
        wrapped: Option<&[u8]>,
    ) -> Result<StoredSecret, StoreError> {
        let row = user.to_string();
        let aad = Aad { table: TABLE, column, row: &row, owner: Some(user.0) };
        let installation = &self.platform_keys()?.ring;
        let ring = match wrapped {
            Some(wrapped) => DataKey::unwrap(installation, user.0, wrapped).map(|key| key.ring(installation)),
            None => Ok(installation.clone()),
        };
        let secret = match ring.and_then(|ring| open(&ring, &aad, sealed)) {
            Ok(plaintext) => TotpSecret::from_bytes(plaintext.expose_secret()).map_err(|why| why.to_string()),
            Err(why) => Err(why.to_string()),
        };
        Ok(match secret {
            Ok(secret) => StoredSecret::Readable(secret),
            Err(why) => {
                tracing::error!(user.id = user.0, column, why, "a stored TOTP secret does not open");
                StoredSecret::Unreadable
            }
        })
    }

    /// Moves a secret of before there were data keys under the user's own.
    pub(super) fn move_under_data_key(
        &mut self,
        user: UserId,
        sealed: &[u8],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let StoredSecret::Readable(secret) = self.open_totp(user, SECRET, sealed, None)? else {
            return Ok(());
        };
        let moved = self.seal_totp(user, SECRET, &secret, at)?;
        prepared("UPDATE user_2fa SET secret = ? WHERE user_id = ? AND secret = ?")
            .bind::<Binary, _>(moved)
            .bind::<BigInt, _>(user.0)
            .bind::<Binary, _>(sealed)
            .execute(self.conn())
            .store()?;
        Ok(())
    }
}
