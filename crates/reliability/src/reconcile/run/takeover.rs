//! Taking over what only the broker has.

use plimsoll_core_domain::broker::BrokerOrder;

use super::super::port::Adopted;
use super::super::report::Subject;
use super::super::table::Case;
use super::{Attempt, ReconcileError, word};

impl Attempt<'_> {
    /// Takes over what the broker lists and is not on record: orders, and legs that stand alone.
    pub(super) async fn take_over(&mut self, listed: Vec<BrokerOrder>) -> Result<(), ReconcileError> {
        if listed.is_empty() {
            return Ok(());
        }
        let ids = listed.iter().map(|seen| (seen.id.clone(), seen.client_order_id.clone())).collect();
        let unknown = self.books.unknown(ids).await?;
        let legs = self.progress.legs.clone();
        for seen in listed {
            if unknown.contains(&seen.id) {
                self.adopt(seen).await?;
            } else if !legs.contains(&seen.id) {
                // On record by now, or final here: whichever report is better counts.
                self.report(seen, &[]).await?;
            }
        }
        Ok(())
    }

    /// Takes one order over with its fills.
    pub(super) async fn adopt(&mut self, seen: BrokerOrder) -> Result<(), ReconcileError> {
        let ours = self.books.is_ours(&seen.client_order_id);
        let case = if ours { Case::OrderLost } else { Case::OrderExternal };
        match self.books.adopt(&seen, ours).await? {
            Adopted::Known => {}
            Adopted::Taken(_) => {
                tracing::warn!(broker.order.id = %seen.id, ours, "an order of the broker was taken over");
                let of = Subject::AtBroker(seen.id.clone(), seen.symbol.clone());
                self.find(case, of, "none", word(&seen));
            }
            Adopted::Unreadable(why) => {
                let of = Subject::AtBroker(seen.id.clone(), seen.symbol.clone());
                self.find(Case::OrderUnreadable, of, "none", format!("{}: {why}", word(&seen)));
                return Ok(());
            }
        }
        let fills = if seen.filled_qty.is_zero() && seen.legs.iter().all(|leg| leg.filled_qty.is_zero()) {
            Vec::new()
        } else {
            self.fills_of(&seen.id).await?
        };
        let legs = seen.legs.clone();
        // What follows from the taking over is no difference of its own.
        let before = self.progress.findings.len();
        self.report(seen, &fills).await?;
        for leg in legs {
            let fills = if leg.filled_qty.is_zero() { Vec::new() } else { self.fills_of(&leg.id).await? };
            self.report(leg, &fills).await?;
        }
        let mut found = self.progress.findings.split_off(before);
        found.retain(|finding| !matches!(finding.case, Case::BrokerAhead | Case::FillMissing));
        self.progress.findings.extend(found);
        Ok(())
    }
}
