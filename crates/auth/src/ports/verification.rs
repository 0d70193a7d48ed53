use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::ClientInfo;

/// A link that confirms an address, about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVerification {
    /// Names the row.
    pub id: Uuid,
    /// Whose address it confirms.
    pub user: UserId,
    /// Of the link's token; the token itself is stored nowhere.
    pub digest: TokenDigest,
    /// From when.
    pub created_at: DateTime<Utc>,
    /// Until when, that instant excluded.
    pub expires_at: DateTime<Utc>,
    /// Who asked for it.
    pub client: ClientInfo,
}

/// A registration, as it can be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRegistration {
    /// What its client asks by.
    pub id: Uuid,
    /// The user it made; `None` when the address had an account.
    pub user: Option<UserId>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When the link of its mail ends.
    pub expires_at: DateTime<Utc>,
}

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// Whether the address was confirmed. Never for an address that had an account.
    pub verified: bool,
    /// When the link of its first mail ends.
    pub expires_at: DateTime<Utc>,
}

/// Where registrations and the links that confirm addresses are kept.
pub trait VerificationStore {
    /// Stores a registration.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_registration(&mut self, registration: &NewRegistration) -> Result<(), StoreError>;

    /// How a registration stands; `None` when there is none of this id.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn registration_status(&mut self, id: Uuid) -> Result<Option<RegistrationStatus>, StoreError>;

    /// Stores a link of a user that exists.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_verification(&mut self, link: &NewVerification) -> Result<(), StoreError>;

    /// Makes every open link of the user useless, and returns how many there were.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn void_verifications_of(&mut self, user: UserId, at: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Whose link it is, whether or not it can still be used; without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn verification_owner(&mut self, digest: &TokenDigest) -> Result<Option<UserId>, StoreError>;

    /// Uses the link up, in one statement, unless it was used, voided or has expired at `at`. Whose it is, once.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn use_verification(
        &mut self,
        digest: &TokenDigest,
        at: DateTime<Utc>,
    ) -> Result<Option<UserId>, StoreError>;

    /// Notes that the user's address is confirmed. The first time stays.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_email_verified(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError>;
}
