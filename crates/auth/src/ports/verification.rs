use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::ClientInfo;

/// What a registration chose for the account of its address. It holds once the address is confirmed by a link of that
/// registration, and not before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Of which registration.
    pub registration: Uuid,
    /// When it was made.
    pub registered_at: DateTime<Utc>,
    /// From where.
    pub client: ClientInfo,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// What others call the user.
    pub display_name: Option<String>,
}

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
    /// What the account gets with it. `None` for accounts that were registered before links carried it: such a link
    /// confirms the address and leaves the account as it is.
    pub claim: Option<Claim>,
}

/// A link that was just used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedVerification {
    /// Whose address it confirms.
    pub user: UserId,
    /// What the account gets with it.
    pub claim: Option<Claim>,
}

/// A registration, as it can be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRegistration {
    /// What its client asks by.
    pub id: Uuid,
    /// The user it made; `None` when the address had an account, confirmed or not.
    pub user: Option<UserId>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When the link of its mail ends.
    pub expires_at: DateTime<Utc>,
}

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// Whether the address was confirmed by a link of this very registration. One that came later for an address that
    /// waits has links of its own; one for a confirmed address has none.
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

    /// What the newest link of the user carries, whether or not it can still be used.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn last_claim_of(&mut self, user: UserId) -> Result<Option<Claim>, StoreError>;

    /// Makes the user's open links of one registration useless; without one, those that belong to none. Returns how many
    /// there were.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn void_verifications_of(
        &mut self,
        user: UserId,
        registration: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// Makes every open link of the user useless, and forgets what all of them carried.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn close_verifications_of(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Whose link it is, whether or not it can still be used; without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn verification_owner(&mut self, digest: &TokenDigest) -> Result<Option<UserId>, StoreError>;

    /// Uses the link up, in one statement, unless it was used, voided or has expired at `at`. Whose it is and what it
    /// carries, once.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn use_verification(
        &mut self,
        digest: &TokenDigest,
        at: DateTime<Utc>,
    ) -> Result<Option<UsedVerification>, StoreError>;

    /// Notes that the user's address is confirmed, the first time stays, and gives the account the password and name of
    /// `claim`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_email_verified(
        &mut self,
        user: UserId,
        claim: Option<&Claim>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}
