//! Holding an order against the account's limits and halts.

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::risk::{Candidate, Halts, RiskLimits, RiskRefusal, Unclear, check, check_unclear};
use plimsoll_core_domain::{AccountId, StoreError};
use rust_decimal::Decimal;

use super::write::detail_of_terms;
use super::{AcceptKey, AcceptOrder, Accepted, InternalKey};
use crate::db::Tx;
use crate::platform::risk::ExposureQuery;

/// What came of it.
pub(super) enum Held {
    Passes,
    /// A close of more than open orders leave of the position.
    TooMuch {
        closable: Decimal,
    },
    Refused(RiskRefusal),
}

impl Tx<'_> {
    /// Reads what the account holds and has open, in a statement of its own, begun under the account's lock: it sees every
    /// order that was accepted before.
    pub(super) fn hold_against(
        &mut self,
        accept: &AcceptOrder,
        account: AccountId,
        limits: &RiskLimits,
        halts: Halts,
        unclear: &Unclear,
    ) -> Result<Held, StoreError> {
        let terms = &accept.terms;
        let exposure = self.exposure(&ExposureQuery {
            account,
            terms,
            reference: accept.reference_price,
            without: &[],
            before: None,
            last_minute: limits.max_orders_per_minute.unwrap_or(0),
            now: accept.now,
        })?;
        if accept.closes {
            let closable = exposure.closable(terms.side);
            if terms.qty().is_none_or(|qty| qty.get() > closable) {
                return Ok(Held::TooMuch { closable });
            }
        }
        let candidate =
            Candidate { terms, reference: accept.reference_price, closes: accept.closes, replaces: None };
        let checked = check(&candidate, limits, halts, &exposure)
            .and_then(|()| check_unclear(&candidate, unclear, &exposure));
        Ok(match checked {
            Ok(()) => Held::Passes,
            Err(refusal) => Held::Refused(refusal),
        })
    }

    /// A refusal, which is on record; but for a signal's for want of a price, since the broker may be asked for one.
    pub(super) fn refuse(
        &mut self,
        accept: &AcceptOrder,
        refusal: RiskRefusal,
    ) -> Result<Accepted, StoreError> {
        self.withdraw_key(accept)?;
        let asks =
            matches!(accept.key, AcceptKey::Internal(InternalKey::Signal(_))) && refusal.price_unknown();
        if !asks {
            self.record_refusal(accept, &refusal)?;
        }
        Ok(Accepted::Risk(refusal))
    }

    /// Puts a refusal on record: what was asked for, the rule, its limit and the actual value.
    ///
    /// # Errors
    /// The store's own.
    pub fn record_refusal(&mut self, accept: &AcceptOrder, refusal: &RiskRefusal) -> Result<(), StoreError> {
        let mut entry = accept.audit.clone();
        entry.outcome = AuditOutcome::Denied;
        entry.subject_id = Some(accept.user);
        let mut detail = detail_of_terms(&accept.terms);
        if let (Some(detail), Some(given)) = (detail.as_object_mut(), entry.detail.as_object()) {
            for (name, value) in given {
                detail.entry(name).or_insert_with(|| value.clone());
            }
        }
        detail["rule"] = refusal.rule.as_str().into();
        detail["limit"] = refusal.limit.clone().into();
        detail["actual"] = refusal.actual.clone().into();
        entry.detail = detail;
        self.append_audit(Some(accept.user), &entry)?;
        tracing::info!(user.id = %accept.user, rule = refusal.rule.as_str(), limit = refusal.limit, actual = refusal.actual, "an order was refused");
        Ok(())
    }
}
