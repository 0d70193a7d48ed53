//! Which accounts this instance connects: those that are to trade, shared out over all instances by leases.
//!
//! It looks when a credential or an account has changed, when an instance comes or goes, and every `account_look`: takes
//! what is its share and free, gives back what is above it, connects anew what has new credentials, and ends what should
//! not trade any more or belongs to another instance by now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use super::connections::{Connections, Known, Picture};
use super::fence::{ACCOUNT, Fence, INSTANCE, account_of, lease_of};
use super::reports::Told;
use super::seed::Sower;
use super::shares::{Shares, shares};
use super::tasks::{AccountTasks, Shop};

/// What wakes the supervisors of all instances begins with this.
pub(crate) const TOPIC: &str = "accounts:";
/// Between two looks, however often it is woken.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// An account that this instance has.
pub(super) struct Running {
    pub(super) connection: Arc<Connection>,
    pub(super) token: FenceToken,
    /// All instances know that it was compared.
    pub(super) told: bool,
    tasks: AccountTasks,
}

/// What a look at the database brings.
struct Look {
    /// The leases that were renewed; `None` when that was not due.
    renewed: Option<Vec<String>>,
    accounts: Vec<TradingAccount>,
    leases: Vec<LiveLease>,
}

/// The supervisor of one instance.
pub(super) struct Supervisor {
    pub(super) control: Db,
    pub(super) shop: Shop,
    pub(super) connections: Arc<Connections>,
    pub(super) timings: Timings,
    pub(super) owner: Uuid,
    pub(super) woken: Arc<Notify>,
    pub(super) reports: mpsc::UnboundedReceiver<Told>,
    pub(super) sower: Option<Sower>,
    running: BTreeMap<AccountId, Running>,
    /// Price marks of accounts that other instances have.
    marks: BTreeMap<AccountId, (Arc<Connection>, AccountTasks)>,
    /// Versions of credentials that could not be opened, and since when.
    unreadable: HashMap<AccountId, (i64, Instant)>,
    /// Versions of credentials that were refused, until the database says so too.
    refused: HashMap<AccountId, i64>,
    /// Reports that are still to be written down.
    unwritten: Vec<Told>,
    renewed: Option<Instant>,
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

impl Supervisor {
    pub(super) fn new(parts: SupervisorParts) -> Self {
        let SupervisorParts { control, shop, connections, timings, owner, woken, reports, sower } = parts;
        Self {
            control,
            shop,
            connections,
            timings,
            owner,
            woken,
            reports,
            sower,
            running: BTreeMap::new(),
            marks: BTreeMap::new(),
            unreadable: HashMap::new(),
            refused: HashMap::new(),
            unwritten: Vec::new(),
            renewed: None,
        }
    }

    /// Runs until `stop`, then gives everything back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let woken = Arc::clone(&self.woken);
        loop {
            let pause = tokio::time::sleep(self.timings.account_look);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = self.reports.recv() => self.hear(told).await,
                () = woken.notified() => {}
                () = pause => {}
            }
            while let Ok(told) = self.reports.try_recv() {
                self.hear(told).await;
            }
            self.turn().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SHORTEST_PAUSE) => {}
            }
        }
        self.leave().await;
    }

    /// One look, and what follows from it.
    pub(super) async fn turn(&mut self) {
        for told in std::mem::take(&mut self.unwritten) {
            self.hear(told).await;
        }
        if let Some(sower) = &mut self.sower
            && sower.sow(&self.control).await
        {
            self.sower = None;
        }
        let began = Instant::now();
        match self.look().await {
            Ok(look) => {
                if let Some(names) = &look.renewed {
                    self.renewed = Some(began);
                    self.connections.renewed(began);
                    self.end_lost(names).await;
                }
                if let Err(error) = self.follow(&look).await {
                    tracing::warn!(%error, "the accounts' leases could not be changed now");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the accounts could not be looked at now");
                if !self.connections.is_trusted() && !self.running.is_empty() {
                    tracing::warn!("the leases could not be renewed in time: every account is let go");
                    let all: Vec<AccountId> = self.running.keys().copied().collect();
                    self.end(&all).await;
                    self.forget_connections();
                }
            }
        }
    }

    fn instance(&self) -> String {
        format!("{INSTANCE}:{}", self.owner)
    }

    async fn look(&self) -> Result<Look, StoreError> {
        let due = self.renewed.is_none_or(|at| at.elapsed() >= self.timings.lease_renew);
        let (owner, ttl, instance) = (self.owner, self.timings.lease_ttl, self.instance());
        let mut names: Vec<String> = self.running.keys().map(|account| lease_of(*account)).collect();
        names.push(instance.clone());
        self.control
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
                let (accounts, leases) = (tx.trading_accounts()?, tx.live_leases(&[ACCOUNT, INSTANCE])?);
                Ok(Look { renewed, accounts, leases })
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
        self.unreadable.retain(|_, (_, since)| since.elapsed() < self.timings.account_retry);
        self.refused.retain(|account, version| {
            look.accounts.iter().any(|row| row.account.id == *account && row.credential_version == *version)
        });
        let wanted: BTreeMap<AccountId, &TradingAccount> = look
            .accounts
            .iter()
            .filter(|row| self.may_connect(row))
            .map(|row| (row.account.id, row))
            .collect();
        let instances = look.leases.iter().filter(|lease| account_of(&lease.name).is_none()).count();
        let others: BTreeSet<AccountId> = look
            .leases
            .iter()
            .filter(|lease| lease.owner != self.owner)
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
        let Shares { take, mut give_back } = shares(&ids, &mine, &others, instances);
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
            self.woken.notify_one();
        }
        self.show(look, &others);
        Ok(())
    }

    fn may_connect(&self, row: &TradingAccount) -> bool {
        let version = row.credential_version;
        let (unreadable, refused) = (self.unreadable.get(&row.account.id), self.refused.get(&row.account.id));
        row.state != plimsoll_auth::vault::CredentialState::Invalid
            && self.connections.links.offers(row.account.environment)
            && unreadable.is_none_or(|(of, _)| *of != version)
            && refused.is_none_or(|of| *of != version)
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
        let owner = self.owner;
        self.control
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
        let (owner, ttl) = (self.owner, self.timings.lease_ttl);
        let names: Vec<String> = accounts.iter().map(|account| lease_of(*account)).collect();
        let all = names.clone();
        let taken = match self.control.run(move |tx| tx.acquire_leases(&all, owner, ttl)).await {
            Ok(taken) => taken,
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "accounts are taken one by one");
                let mut taken = Vec::new();
                for name in names {
                    match self.control.run(move |tx| tx.acquire_leases(&[name], owner, ttl)).await {
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
        let Some(connection) = self.connections.links.connect(row) else { return };
        let account = row.account.id;
        self.marks.remove(&account);
        let teller = self.connections.links.teller(row);
        let tasks = self.shop.open(&connection, Fence::new(account, token), teller);
        tracing::info!(account.id = %account, user.id = %row.account.user_id, "the account is connected here");
        self.running.insert(account, Running { connection, token, told: false, tasks });
    }

    /// Shows requests and jobs how things stand.
    fn show(&mut self, look: &Look, others: &BTreeSet<AccountId>) {
        let ready: BTreeSet<AccountId> = look
            .leases
            .iter()
            .filter(|lease| lease.ready && lease.owner != self.owner)
            .filter_map(|lease| account_of(&lease.name))
            .collect();
        let known = |row: &TradingAccount| {
            let running = self.running.get(&row.account.id);
            Known {
                row: row.clone(),
                here: running.map(|running| Arc::clone(&running.connection)),
                ready_elsewhere: running.is_none() && ready.contains(&row.account.id),
                unreadable: self.unreadable.get(&row.account.id).is_some_and(|(of, _)| *of == row.credential_version),
            }
        };
        let picture = Picture {
            by_user: look.accounts.iter().map(|row| (row.account.user_id, known(row))).collect(),
            users: look.accounts.iter().map(|row| (row.account.id, row.account.user_id)).collect(),
            elsewhere: others.iter().map(ToString::to_string).collect(),
        };
        self.connections.take_back(self.timings.account_lent, |connection| {
            !picture.of_account(connection.account).is_some_and(|known| {
                known.here.is_none() && known.row.credential_version == connection.version
            })
        });
        self.connections.show(picture);
        self.mark_for_others();
    }

    /// Price ticks are told by the instance that the user's sockets are at, whichever has the account.
    fn mark_for_others(&mut self) {
        let picture = self.connections.picture();
        for known in picture.by_user.values() {
            let user = known.row.account.user_id;
            if known.here.is_none() && !known.is_refused() && self.shop.hub.is_heard(user) {
                drop(self.connections.client(known));
            }
        }
        let lent = self.connections.lent();
        self.marks.retain(|_, (of, _)| lent.iter().any(|connection| Arc::ptr_eq(connection, of)));
        for connection in lent {
            if !self.marks.contains_key(&connection.account) {
                let marks = self.shop.mark(&connection);
                self.marks.insert(connection.account, (connection, marks));
            }
        }
    }

    /// Nothing is connected here any more, and what other instances have is not known.
    fn forget_connections(&self) {
        let picture = self.connections.picture();
        let alone = |(user, known): (&plimsoll_core_domain::UserId, &Known)| {
            (*user, Known { here: None, ready_elsewhere: false, ..known.clone() })
        };
        self.connections.show(Picture {
            by_user: picture.by_user.iter().map(alone).collect(),
            users: picture.users.clone(),
            elsewhere: picture.elsewhere.clone(),
        });
    }

    pub(super) fn running(&mut self, account: AccountId, version: i64) -> Option<&mut Running> {
        self.running.get_mut(&account).filter(|running| running.connection.version == version)
    }

    pub(super) fn set_unreadable(&mut self, account: AccountId, version: i64) {
        self.unreadable.insert(account, (version, Instant::now()));
    }

    pub(super) fn is_refused(&self, account: AccountId, version: i64) -> bool {
        self.refused.get(&account) == Some(&version)
    }

    pub(super) fn set_refused(&mut self, account: AccountId, version: i64) {
        self.refused.insert(account, version);
    }

    pub(super) fn write_later(&mut self, told: Told) {
        self.unwritten.push(told);
    }

    /// Ends everything and gives it back, so that another instance can have it at once.
    async fn leave(&mut self) {
        let mut names: Vec<String> = self.running.keys().map(|account| lease_of(*account)).collect();
        let all: Vec<AccountId> = self.running.keys().copied().collect();
        self.end(&all).await;
        self.forget_connections();
        names.push(self.instance());
        let owner = self.owner;
        let given = self
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
