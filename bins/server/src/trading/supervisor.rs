//! Which accounts this instance connects: those that are to trade, shared out over all instances by leases.
//!
//! It looks when a credential or an account has changed, when an instance comes or goes, and every `account_look`: takes
//! what is its share and free, gives back what is above it, connects anew what has new credentials, and ends what should
//! not trade any more or belongs to another instance by now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core_domain::{AccountId, StoreError};
use plimsoll_reliability::Timings;
use plimsoll_reliability::leases::{FenceToken, LeaseStore, LiveLease};
use plimsoll_storage::platform::accounts::TradingAccount;
use plimsoll_storage::{Db, Tx};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connection::Connection;
use super::connections::Connections;
use super::doubts::Doubts;
use super::fence::{ACCOUNT, Fence, INSTANCE, account_of, lease_of};
use super::reports::Told;
use super::seed::Sower;
use super::shares::{Balance, Seen, Shares};
use super::tasks::{AccountTasks, Shop};

/// What wakes the supervisors of all instances begins with this.
pub(crate) const TOPIC: &str = "accounts:";
/// Between two looks, however often it is woken.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// An account that this instance has.
pub(super) struct Running {
    pub(super) connection: Arc<Connection>,
    /// All instances know that it was compared.
    pub(super) told: bool,
    tasks: AccountTasks,
}

/// What a look at the database brings.
pub(super) struct Look {
    /// The leases that were renewed; `None` when that was not due.
    renewed: Option<Vec<String>>,
    /// The database's history, where it was looked at.
    timeline: Option<String>,
    pub(super) accounts: Vec<TradingAccount>,
    pub(super) leases: Vec<LiveLease>,
}

/// What a supervisor is made of.
pub(super) struct SupervisorParts {
    pub(super) control: Db,
    pub(super) shop: Shop,
    pub(super) connections: Arc<Connections>,
    pub(super) timings: Timings,
    pub(super) owner: Uuid,
    pub(super) woken: Arc<Notify>,
    pub(super) reports: mpsc::UnboundedReceiver<Told>,
    pub(super) sower: Option<Sower>,
}

/// The supervisor of one instance.
pub(super) struct Supervisor {
    pub(super) parts: SupervisorParts,
    pub(super) running: BTreeMap<AccountId, Running>,
    /// Price marks of accounts that other instances have.
    pub(super) marks: BTreeMap<AccountId, (Arc<Connection>, AccountTasks)>,
    pub(super) doubts: Doubts,
    balance: Balance,
    /// Reports that are still to be written down.
    pub(super) unwritten: Vec<Told>,
    renewed: Option<Instant>,
    /// The database's history as it was last seen.
    pub(super) timeline: Option<String>,
}

impl Supervisor {
    pub(super) fn new(parts: SupervisorParts) -> Self {
        let doubts = Doubts::new(parts.timings.account_retry);
        let balance = Balance::new(2 * parts.timings.account_look);
        Self {
            parts,
            running: BTreeMap::new(),
            marks: BTreeMap::new(),
            doubts,
            balance,
            unwritten: Vec::new(),
            renewed: None,
            timeline: None,
        }
    }

    /// Runs until `stop`, then gives everything back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let woken = Arc::clone(&self.parts.woken);
        loop {
            let pause = tokio::time::sleep(self.parts.timings.account_look);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = self.parts.reports.recv() => self.hear(told).await,
                () = woken.notified() => {}
                () = pause => {}
            }
            while let Ok(told) = self.parts.reports.try_recv() {
                self.hear(told).await;
            }
            self.turn().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SHORTEST_PAUSE.min(self.parts.timings.lease_renew / 2)) => {}
            }
        }
        self.leave().await;
    }

    /// One look, and what follows from it.
    pub(super) async fn turn(&mut self) {
        for told in std::mem::take(&mut self.unwritten) {
            self.hear(told).await;
        }
        if let Some(sower) = &mut self.parts.sower
            && sower.sow(&self.parts.control).await
        {
            self.parts.sower = None;
        }
        let began = Instant::now();
        match self.look().await {
            Ok(look) => {
                if let Some(names) = &look.renewed {
                    self.renewed = Some(began);
                    self.parts.connections.renewed(began);
                    self.end_lost(names).await;
                }
                self.heed_timeline(look.timeline.clone()).await;
                if let Err(error) = self.follow(&look).await {
                    tracing::warn!(%error, "the accounts' leases could not be changed now");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the accounts could not be looked at now");
                if !self.parts.connections.is_trusted() && !self.running.is_empty() {
                    tracing::warn!("the leases could not be renewed in time: every account is let go");
                    let all: Vec<AccountId> = self.running.keys().copied().collect();
                    self.end(&all).await;
                    self.forget_connections();
                }
            }
        }
    }

    fn instance(&self) -> String {
        format!("{INSTANCE}:{}", self.parts.owner)
    }

    async fn look(&self) -> Result<Look, StoreError> {
        let due = self.renewed.is_none_or(|at| at.elapsed() >= self.parts.timings.lease_renew);
        let (owner, ttl, instance) = (self.parts.owner, self.parts.timings.lease_ttl, self.instance());
        let mut names: Vec<String> = self.running.keys().map(|account| lease_of(*account)).collect();
        names.push(instance.clone());
        self.parts
            .control
            .run(move |tx| {
                let renewed = match due {
                    true => {
                        let mut renewed = tx.renew_leases(&names, owner, ttl)?;
                        if !renewed.contains(&instance) {
                            tx.acquire_leases(std::slice::from_ref(&instance), owner, ttl)?;
                            wake_all(tx);
                            renewed.push(instance);
                        }
                        Some(renewed)
                    }
                    false => None,
                };
                let timeline = if due { tx.database_timeline()? } else { None };
                let (accounts, leases) = (tx.trading_accounts()?, tx.live_leases(&[ACCOUNT, INSTANCE])?);
                Ok(Look { renewed, timeline, accounts, leases })
            })
            .await
    }

    /// Ends what could not be renewed: another instance has it.
    async fn end_lost(&mut self, renewed: &[String]) {
        let kept: BTreeSet<AccountId> = renewed.iter().filter_map(|name| account_of(name)).collect();
        let lost: Vec<AccountId> =
            self.running.keys().filter(|account| !kept.contains(account)).copied().collect();
        if !lost.is_empty() {
            tracing::warn!(accounts = lost.len(), "leases of accounts were lost");
            self.end(&lost).await;
        }
    }

    async fn follow(&mut self, look: &Look) -> Result<(), StoreError> {
        self.doubts.keep(&look.accounts);
        let wanted: BTreeMap<AccountId, &TradingAccount> = look
            .accounts
            .iter()
            .filter(|row| self.may_connect(row))
            .map(|row| (row.account.id, row))
            .collect();
        let instances: BTreeSet<Uuid> = look
            .leases
            .iter()
            .filter(|lease| account_of(&lease.name).is_none())
            .map(|lease| lease.owner)
            .collect();
        let others: BTreeSet<AccountId> = look
            .leases
            .iter()
            .filter(|lease| lease.owner != self.parts.owner)
            .filter_map(|lease| account_of(&lease.name))
            .collect();
        // Those with other credentials than they are connected with are given back and taken anew: whatever was said of
        // them, that they were compared too, is void.
        let stale: Vec<AccountId> = self
            .running
            .iter()
            .filter(|(account, running)| {
                wanted.get(account).is_some_and(|row| row.credential_version != running.connection.version)
            })
            .map(|(account, _)| *account)
            .collect();
        let mine: BTreeSet<AccountId> =
            self.running.keys().filter(|account| !stale.contains(account)).copied().collect();
        let ids: BTreeSet<AccountId> = wanted.keys().copied().collect();
        let seen =
            Seen { wanted: &ids, mine: &mine, others: &others, instances: &instances, now: Instant::now() };
        let Shares { take, mut give_back } = self.balance.change(seen);
        give_back.extend(stale);
        if !give_back.is_empty() {
            self.end(&give_back).await;
            self.release(&give_back).await?;
        }
        if !take.is_empty() {
            for (account, token) in self.acquire(&take).await? {
                if let Some(row) = wanted.get(&account) {
                    self.begin(row, token);
                }
            }
            // A new owner renews at once: its time ran while it waited for what the owner before had under way.
            self.renewed = None;
            self.parts.woken.notify_one();
        }
        self.show(look, &others);
        Ok(())
    }

    fn may_connect(&self, row: &TradingAccount) -> bool {
        row.state != plimsoll_auth::vault::CredentialState::Invalid
            && self.parts.connections.links.offers(row.account.environment)
            && !self.doubts.forbids(row.account.id, row.credential_version, Instant::now())
    }

    /// Ends the tasks of accounts.
    pub(super) async fn end(&mut self, accounts: &[AccountId]) {
        let ending: Vec<Running> =
            accounts.iter().filter_map(|account| self.running.remove(account)).collect();
        for running in ending {
            tracing::info!(account.id = %running.connection.account, "the account is disconnected here");
            running.tasks.end().await;
        }
    }

    async fn release(&self, accounts: &[AccountId]) -> Result<(), StoreError> {
        let names: Vec<String> = accounts.iter().map(|account| lease_of(*account)).collect();
        let owner = self.parts.owner;
        self.parts
            .control
            .run(move |tx| {
                if tx.release_leases(&names, owner)? > 0 {
                    wake_all(tx);
                }
                Ok(())
            })
            .await
    }

    /// Takes what is free of these; one by one where an open effect of an earlier owner makes the whole fail.
    async fn acquire(&self, accounts: &[AccountId]) -> Result<Vec<(AccountId, FenceToken)>, StoreError> {
        let (owner, ttl) = (self.parts.owner, self.parts.timings.lease_ttl);
        let names: Vec<String> = accounts.iter().map(|account| lease_of(*account)).collect();
        let all = names.clone();
        let taken = match self.parts.control.run(move |tx| tx.acquire_leases(&all, owner, ttl)).await {
            Ok(taken) => taken,
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "accounts are taken one by one");
                let mut taken = Vec::new();
                for name in names {
                    match self.parts.control.run(move |tx| tx.acquire_leases(&[name], owner, ttl)).await {
                        Ok(one) => taken.extend(one),
                        Err(error) => tracing::debug!(%error, "an account could not be taken now"),
                    }
                }
                taken
            }
        };
        Ok(taken.into_iter().filter_map(|(name, token)| Some((account_of(&name)?, token))).collect())
    }

    fn begin(&mut self, row: &TradingAccount, token: FenceToken) {
        let Some(connection) = self.parts.connections.links.connect(row) else { return };
        let account = row.account.id;
        self.marks.remove(&account);
        let teller = self.parts.connections.links.teller(row);
        let tasks = self.parts.shop.open(&connection, Fence::new(account, token), teller);
        tracing::info!(account.id = %account, user.id = %row.account.user_id, "the account is connected here");
        self.running.insert(account, Running { connection, told: false, tasks });
    }

    /// Ends everything and gives it back, so that another instance can have it at once.
    async fn leave(&mut self) {
        let mut names: Vec<String> = self.running.keys().map(|account| lease_of(*account)).collect();
        let all: Vec<AccountId> = self.running.keys().copied().collect();
        self.end(&all).await;
        self.forget_connections();
        names.push(self.instance());
        let owner = self.parts.owner;
        let given = self
            .parts
            .control
            .run(move |tx| {
                let given = tx.release_leases(&names, owner)?;
                wake_all(tx);
                Ok::<_, StoreError>(given)
            })
            .await;
        match given {
            Ok(given) => tracing::info!(given, "the accounts were given back"),
            Err(error) => tracing::warn!(%error, "the accounts' leases will run out by themselves"),
        }
    }
}

/// Wakes the supervisors of all instances after the commit.
pub(super) fn wake_all(tx: &mut Tx<'_>) {
    tx.wake(format!("{TOPIC}leases"));
}
