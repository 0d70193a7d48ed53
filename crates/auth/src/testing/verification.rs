use std::collections::HashMap;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::MemoryStore;
use crate::ports::{NewRegistration, NewVerification, RegistrationStatus, VerificationStore};

/// Registrations, and links with the time at which they were used or voided.
#[derive(Debug, Default, Clone)]
pub(super) struct Kept {
    registrations: HashMap<Uuid, NewRegistration>,
    links: Vec<(NewVerification, Option<DateTime<Utc>>)>,
}

impl VerificationStore for MemoryStore {
    fn insert_registration(&mut self, registration: &NewRegistration) -> Result<(), StoreError> {
        self.call()?;
        self.verifications.registrations.insert(registration.id, registration.clone());
        Ok(())
    }

    fn registration_status(&mut self, id: Uuid) -> Result<Option<RegistrationStatus>, StoreError> {
        self.call()?;
        let Some(found) = self.verifications.registrations.get(&id) else { return Ok(None) };
        let account = found.user.and_then(|user| self.accounts.get(&user.0));
        let verified = account.is_some_and(|account| account.user.email_verified_at.is_some());
        Ok(Some(RegistrationStatus { verified, expires_at: found.expires_at }))
    }

    fn insert_verification(&mut self, link: &NewVerification) -> Result<(), StoreError> {
        self.call()?;
        self.verifications.links.push((link.clone(), None));
        Ok(())
    }

    fn void_verifications_of(&mut self, user: UserId, at: DateTime<Utc>) -> Result<u64, StoreError> {
        self.call()?;
        let open =
            self.verifications.links.iter_mut().filter(|(link, end)| link.user == user && end.is_none());
        Ok(open.map(|(_, end)| *end = Some(at)).count() as u64)
    }

    fn verification_owner(&mut self, digest: &TokenDigest) -> Result<Option<UserId>, StoreError> {
        self.call()?;
        Ok(self
            .verifications
            .links
            .iter()
            .find(|(link, _)| link.digest == *digest)
            .map(|(link, _)| link.user))
    }

    fn use_verification(
        &mut self,
        digest: &TokenDigest,
        at: DateTime<Utc>,
    ) -> Result<Option<UserId>, StoreError> {
        self.call()?;
        let mut links = self.verifications.links.iter_mut();
        let open = links.find(|(link, end)| link.digest == *digest && end.is_none() && link.expires_at > at);
        Ok(open.map(|(link, end)| {
            *end = Some(at);
            link.user
        }))
    }

    fn set_email_verified(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.call()?;
        if let Some(account) = self.accounts.get_mut(&user.0) {
            account.user.email_verified_at.get_or_insert(at);
        }
        Ok(())
    }
}
