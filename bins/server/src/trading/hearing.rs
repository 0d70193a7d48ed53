//! What follows from what a connection tells.

use std::time::Instant;

use plimsoll_auth::Act;
use plimsoll_auth::vault::{BrokerName, CredentialState, Judgement, judge};
use plimsoll_core_domain::{AccountId, StoreError};
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::leases::LeaseStore;

use super::fence::lease_of;
use super::reports::{Report, Told};
use super::supervisor::{Running, Supervisor, wake_all};
use crate::service::random_id;

impl Supervisor {
    fn running(&mut self, account: AccountId, version: i64) -> Option<&mut Running> {
        self.running.get_mut(&account).filter(|running| running.connection.version == version)
    }

    /// Writes a report down and acts on it. What cannot be written now is written with the next look.
    pub(super) async fn hear(&mut self, told: Told) {
        let written = match &told.report {
            Report::Agreed => self.agreed(&told).await,
            Report::Refused(why) => {
                let why = why.clone();
                self.refused(&told, &why).await
            }
            Report::Unreadable => {
                tracing::error!(account.id = %told.account, user.id = %told.user, "the account's credentials do not open: it is disconnected");
                self.unreadable.insert(told.account, (told.version, Instant::now()));
                self.end(&[told.account]).await;
                self.give_back(&told).await
            }
        };
        if let Err(error) = written {
            tracing::warn!(account.id = %told.account, %error, "what the broker says of the account could not be written down yet");
            self.unwritten.push(told);
        }
    }

    /// The account is compared: every instance may take its orders.
    async fn agreed(&mut self, told: &Told) -> Result<(), StoreError> {
        let Some(running) = self.running(told.account, told.version).filter(|running| !running.told) else {
            return Ok(());
        };
        let environment = running.connection.environment;
        let (owner, name) = (self.parts.owner, lease_of(told.account));
        self.parts
            .control
            .run(move |tx| {
                if tx.mark_ready(&name, owner)? {
                    wake_all(tx);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        self.judge(told, CredentialState::Valid, None).await?;
        if let Some(running) = self.running(told.account, told.version) {
            running.told = true;
        }
        tracing::debug!(account.id = %told.account, environment = environment.as_str(), "all instances take the account's orders");
        Ok(())
    }

    /// The broker refuses the key: nothing more is tried with it.
    async fn refused(&mut self, told: &Told, why: &str) -> Result<(), StoreError> {
        let first = self.refused.get(&told.account) != Some(&told.version);
        if first {
            tracing::warn!(account.id = %told.account, user.id = %told.user, why, "the account's credentials are refused: it is disconnected");
            self.refused.insert(told.account, told.version);
            if self.running(told.account, told.version).is_some() {
                self.end(&[told.account]).await;
            }
        }
        self.judge(told, CredentialState::Invalid, Some(why.to_owned())).await?;
        if first { self.give_back(told).await } else { Ok(()) }
    }

    async fn judge(
        &self,
        told: &Told,
        state: CredentialState,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        let (user, version, mail) = (told.user, told.version, random_id(&mut OsRandom));
        let act = Act::without_request(self.parts.connections.clock.now());
        self.parts
            .control
            .run(move |tx| {
                let judgement = Judgement { version, state, reason: reason.as_deref() };
                judge(tx, user, BrokerName::Alpaca, &judgement, mail, &act)
            })
            .await
            .map(drop)
    }

    async fn give_back(&self, told: &Told) -> Result<(), StoreError> {
        let (owner, name) = (self.parts.owner, lease_of(told.account));
        self.parts
            .control
            .run(move |tx| {
                if tx.release_lease(&name, owner)? {
                    wake_all(tx);
                }
                Ok(())
            })
            .await
    }
}
