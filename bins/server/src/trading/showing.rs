//! What the supervisor shows requests and jobs after a look.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_core_domain::{AccountId, UserId};
use plimsoll_storage::platform::accounts::TradingAccount;

use super::connections::{Known, Picture};
use super::fence::account_of;
use super::supervisor::{Look, Supervisor};

impl Supervisor {
    /// Shows requests and jobs how things stand.
    pub(super) fn show(&mut self, look: &Look, others: &BTreeSet<AccountId>) {
        let ready: BTreeSet<AccountId> = look
            .leases
            .iter()
            .filter(|lease| lease.ready && lease.owner != self.parts.owner)
            .filter_map(|lease| account_of(&lease.name))
            .collect();
        let now = Instant::now();
        let known = |row: &TradingAccount| {
            let running = self.running.get(&row.account.id);
            if let Some(running) = running {
                running.connection.set_loss_limited(row.loss_limited);
                running.connection.set_awaits_comparison(row.awaits_comparison);
            }
            Known {
                row: row.clone(),
                here: running.map(|running| Arc::clone(&running.connection)),
                ready_elsewhere: running.is_none() && ready.contains(&row.account.id),
                unreadable: self.doubts.rests(row.account.id, row.credential_version, now),
            }
        };
        let picture = Picture {
            by_user: look.accounts.iter().map(|row| (row.account.user_id, known(row))).collect(),
            users: look.accounts.iter().map(|row| (row.account.id, row.account.user_id)).collect(),
            elsewhere: others.iter().map(ToString::to_string).collect(),
        };
        self.parts.connections.take_back(self.parts.timings.account_lent, |connection| {
            !picture.of_account(connection.account).is_some_and(|known| {
                known.here.is_none() && known.row.credential_version == connection.version
            })
        });
        self.parts.connections.show(picture);
        self.mark_for_others();
    }

    /// Price ticks are told by the instance that the user's sockets are at, whichever has the account.
    fn mark_for_others(&mut self) {
        let picture = self.parts.connections.picture();
        for known in picture.by_user.values() {
            let user = known.row.account.user_id;
            if known.here.is_none() && !known.is_refused() && self.parts.shop.hub.is_heard(user) {
                drop(self.parts.connections.client(known));
            }
        }
        let lent = self.parts.connections.lent();
        self.marks.retain(|_, (of, _)| lent.iter().any(|connection| Arc::ptr_eq(connection, of)));
        for connection in lent {
            if !self.marks.contains_key(&connection.account) {
                let marks = self.parts.shop.mark(&connection);
                self.marks.insert(connection.account, (connection, marks));
            }
        }
    }

    /// Nothing is connected here any more, and what other instances have is not known.
    pub(super) fn forget_connections(&self) {
        let picture = self.parts.connections.picture();
        let alone = |(user, known): (&UserId, &Known)| {
            (*user, Known { here: None, ready_elsewhere: false, ..known.clone() })
        };
        self.parts.connections.show(Picture {
            by_user: picture.by_user.iter().map(alone).collect(),
            users: picture.users.clone(),
            elsewhere: picture.elsewhere.clone(),
        });
    }
}
