use std::collections::HashMap;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::MemoryStore;
use crate::ports::{
    Claim, NewRegistration, NewVerification, RegistrationStatus, UsedVerification, VerificationStore,
};

/// Registrations and links.
#[derive(Debug, Default, Clone)]
pub(super) struct Kept {
    registrations: HashMap<Uuid, NewRegistration>,
    links: Vec<Link>,
}

#[derive(Debug, Clone)]
struct Link {
    new: NewVerification,
    /// When it was used or voided.
    ended_at: Option<DateTime<Utc>>,
    used: bool,
    /// Whether what it carried is gone.
    forgotten: bool,
}

impl Link {
    fn claim(&self) -> Option<Claim> {
        self.new.claim.clone().filter(|_| !self.forgotten)
    }
}

impl VerificationStore for MemoryStore {
    fn insert_registration(&mut self, registration: &NewRegistration) -> Result<(), StoreError> {
        self.call()?;
        self.verifications.registrations.insert(registration.id, registration.clone());
        Ok(())
    }

    fn registration_status(&mut self, id: Uuid) -> Result<Option<RegistrationStatus>, StoreError> {
        self.call()?;
        let kept = &self.verifications;
        let Some(found) = kept.registrations.get(&id) else { return Ok(None) };
        let belongs = |link: &Link| match &link.new.claim {
            Some(claim) => claim.registration == id,
            None => Some(link.new.user) == found.user,
        };
        let verified = kept.links.iter().any(|link| link.used && belongs(link));
        Ok(Some(RegistrationStatus { verified, expires_at: found.expires_at }))
    }

    fn insert_verification(&mut self, link: &NewVerification) -> Result<(), StoreError> {
        self.call()?;
        self.verifications.links.push(Link {
            new: link.clone(),
            ended_at: None,
            used: false,
            forgotten: false,
        });
        Ok(())
    }

    fn last_claim_of(&mut self, user: UserId) -> Result<Option<Claim>, StoreError> {
        self.call()?;
        let of_user = self.verifications.links.iter().filter(|link| link.new.user == user);
        Ok(of_user.max_by_key(|link| link.new.created_at).and_then(Link::claim))
    }

    fn void_verifications_of(
        &mut self,
        user: UserId,
        registration: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        self.call()?;
        let open = self.verifications.links.iter_mut().filter(|link| {
            let of = link.new.claim.as_ref().map(|claim| claim.registration);
            link.new.user == user && link.ended_at.is_none() && of == registration
        });
        Ok(open.map(|link| link.ended_at = Some(at)).count() as u64)
    }

    fn close_verifications_of(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.call()?;
        for link in self.verifications.links.iter_mut().filter(|link| link.new.user == user) {
            link.ended_at.get_or_insert(at);
            link.forgotten = true;
        }
        Ok(())
    }

    fn verification_owner(&mut self, digest: &TokenDigest) -> Result<Option<UserId>, StoreError> {
        self.call()?;
        let found = self.verifications.links.iter().find(|link| link.new.digest == *digest);
        Ok(found.map(|link| link.new.user))
    }

    fn use_verification(
        &mut self,
        digest: &TokenDigest,
        at: DateTime<Utc>,
    ) -> Result<Option<UsedVerification>, StoreError> {
        self.call()?;
        let open =
            self.verifications.links.iter_mut().find(|link| {
                link.new.digest == *digest && link.ended_at.is_none() && link.new.expires_at > at
            });
        Ok(open.map(|link| {
            (link.ended_at, link.used) = (Some(at), true);
            UsedVerification { user: link.new.user, claim: link.claim() }
        }))
    }

    fn set_email_verified(
        &mut self,
        user: UserId,
        claim: Option<&Claim>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        if let Some(account) = self.accounts.get_mut(&user.0) {
            account.user.email_verified_at.get_or_insert(at);
            if let Some(claim) = claim {
                account.password_hash = claim.password_hash.clone();
                account.user.display_name = claim.display_name.clone();
            }
        }
        Ok(())
    }
}
