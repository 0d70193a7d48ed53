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
                if self.doubts.unopened(told.account, told.version, Instant::now()) {
                    tracing::error!(account.id = %told.account, user.id = %told.user, "the account's credentials do not open: it is disconnected");
                }
                if self.cut(&told).await {
                    self.give_back(&told).await;
                }
                Ok(())
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
        self.doubts.opened(told.account, told.version);
        self.judge(told, CredentialState::Valid, None).await?;
        if let Some(running) = self.running(told.account, told.version) {
            running.told = true;
        }
        tracing::debug!(account.id = %told.account, environment = environment.as_str(), "all instances take the account's orders");
        Ok(())
    }

    /// The broker refuses the key: nothing more is tried with it.
    async fn refused(&mut self, told: &Told, why: &str) -> Result<(), StoreError> {
        if self.doubts.refuse(told.account, told.version) {
            tracing::warn!(account.id = %told.account, user.id = %told.user, why, "the account's credentials are refused: it is disconnected");
        }
        let cut = self.cut(told).await;
        let judged = self.judge(told, CredentialState::Invalid, Some(why.to_owned())).await;
        if cut {
            self.give_back(told).await;
        }
        judged?;
        self.doubts.written(told.account, told.version);
        Ok(())
    }

    /// Ends the account's connection, where it runs with the version that this is about; whether it did.
    async fn cut(&mut self, told: &Told) -> bool {
        let runs = self.running(told.account, told.version).is_some();
        if runs {
            self.end(&[told.account]).await;
        }
        runs
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

    /// Gives a lease back whose connection has ended. One that cannot be given back runs out by itself.
    async fn give_back(&self, told: &Told) {
        let (owner, name) = (self.parts.owner, lease_of(told.account));
        let given = self
            .parts
            .control
            .run(move |tx| {
                if tx.release_lease(&name, owner)? {
                    wake_all(tx);
                }
                Ok::<_, StoreError>(())
            })
            .await;
        if let Err(error) = given {
            tracing::debug!(account.id = %told.account, %error, "the account's lease will run out by itself");
        }
    }
}
