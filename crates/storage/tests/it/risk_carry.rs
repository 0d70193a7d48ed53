//! Bringing halts to the accounts, whoever holds the locks of some of them.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use plimsoll_core_domain::order::{OrderStatus, Side};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_core_domain::{AccountId, StoreError};
use plimsoll_reliability::submit::{OrderEvent, SubmitStore};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::orders::Accepted;
use plimsoll_storage::platform::risk::NewHalt;

use crate::world::{World, accept, add_user, at, carry, market};

const NOT_LONG: Duration = Duration::from_millis(1);

fn new_halt(level: HaltLevel) -> NewHalt<'static> {
    NewHalt { level, cause: HaltCause::Manual, reason: "a test", by: None, now: at(5) }
}

/// A process that stands still in a transaction, after `work`.
struct Frozen {
    thaw: Sender<()>,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Frozen {
    fn after(
        world: &Arc<World>,
        work: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> Self {
        let (thaw, thawed) = mpsc::channel::<()>();
        let (reached, stands) = mpsc::channel();
        let world = Arc::clone(world);
        let thread = thread::spawn(move || {
            world.db.run_blocking(|tx| {
                work(tx)?;
                reached.send(()).unwrap();
                // Ends also when the test failed.
                thawed.recv().ok();
                Ok(())
            })
        });
        stands.recv().unwrap();
        Self { thaw, thread }
    }

    fn thaw(self) {
        drop(self.thaw);
        self.thread.join().unwrap().unwrap();
    }
}

fn holds_account(world: &Arc<World>, account: AccountId) -> Frozen {
    Frozen::after(world, move |tx| tx.enforce_halt(account, at(4)).map(drop))
}

fn halts(world: &World, account: AccountId) -> (Option<String>, Option<String>) {
    let rows = world.test.rows(&format!("SELECT halt_user, halt_global FROM accounts WHERE id = {account}"));
    let of = |name: &str| rows[0][name].as_str().map(str::to_owned);
    (of("halt_user"), of("halt_global"))
}

#[test]
fn one_account_that_somebody_holds_keeps_the_halt_from_no_other() {
    let world = Arc::new(World::new());
    let others: Vec<_> = (0..3).map(|n| add_user(&world.db, &format!("u{n}@example.com"))).collect();
    let frozen = holds_account(&world, others[1].1);
    world.db.run_blocking(|tx| tx.halt_everybody(&new_halt(HaltLevel::ReduceOnly))).unwrap();
    assert_eq!(carry(&world.db, None, NOT_LONG), 1);
    let reduced = Some("reduce_only".to_owned());
    for account in [world.account, others[0].1, others[2].1] {
        assert_eq!(halts(&world, account).1, reduced);
    }
    assert_eq!(halts(&world, others[1].1).1, None);
    let of = |user| world.db.read_blocking(|tx| tx.halt_state(user)).unwrap();
    assert_eq!((of(None).behind, of(Some(others[1].0)).behind, of(Some(world.user)).behind), (1, 1, 0));
    assert_eq!(of(Some(others[1].0)).global.unwrap().level, HaltLevel::ReduceOnly, "it is on record");
    // Tried on past the time that a lock is waited for, until it is free.
    let bringing = {
        let world = Arc::clone(&world);
        thread::spawn(move || carry(&world.db, None, Duration::from_secs(60)))
    };
    thread::sleep(Duration::from_millis(2_300));
    assert!(!bringing.is_finished());
    frozen.thaw();
    assert_eq!(bringing.join().unwrap(), 0);
    assert_eq!(halts(&world, others[1].1).1, reduced);
    assert_eq!(of(None).behind, 0);
    // Lifting it is no different.
    let frozen = holds_account(&world, world.account);
    world.db.run_blocking(|tx| tx.resume_everybody(at(6))).unwrap();
    assert_eq!(carry(&world.db, None, NOT_LONG), 1);
    assert_eq!((halts(&world, others[0].1).1, halts(&world, world.account).1), (None, reduced));
    frozen.thaw();
    world.carry(None);
    assert_eq!(halts(&world, world.account).1, None);
}

/// What is about to be sent is waited for, and keeps nothing from the rest.
#[test]
fn one_order_that_is_being_sent_keeps_the_halt_from_no_other_account() {
    let world = Arc::new(World::new());
    let (other, others) = add_user(&world.db, "second@example.com");
    let order = accept(world.user, "k", market("SPY", Side::Buy, 1));
    let mine = order.id;
    assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }));
    let theirs = accept(other, "k", market("SPY", Side::Buy, 1));
    assert!(matches!(world.accept(&theirs).unwrap(), Accepted::New { .. }));
    let frozen = Frozen::after(&world, move |tx| {
        let locked = SubmitStore::lock_order(tx, mine)?.unwrap();
        assert_eq!(locked.forbidden, None);
        let mut sent = locked.order.clone();
        sent.move_to(OrderStatus::Submitting, None, at(4)).unwrap();
        tx.save_order(&locked.order, &sent, &OrderEvent::Submitting, at(4))
    });
    world.db.run_blocking(|tx| tx.halt_everybody(&new_halt(HaltLevel::BlockEntries))).unwrap();
    let bringing = {
        let world = Arc::clone(&world);
        thread::spawn(move || carry(&world.db, None, Duration::from_secs(60)))
    };
    let blocked = Some("block_entries".to_owned());
    while halts(&world, world.account).1.is_none() || halts(&world, others).1.is_none() {
        thread::yield_now();
    }
    let forbidden =
        world.db.run_blocking(|tx| SubmitStore::lock_order(tx, theirs.id)).unwrap().unwrap().forbidden;
    assert!(forbidden.unwrap().contains("global_halt"));
    assert!(!bringing.is_finished(), "it is waited for");
    frozen.thaw();
    assert_eq!(bringing.join().unwrap(), 0);
    assert_eq!((halts(&world, world.account).1, halts(&world, others).1), (blocked.clone(), blocked));
    assert_eq!(world.count("jobs WHERE kind = 'enforce_halt'"), 2);
}

#[test]
fn more_accounts_than_go_into_one_transaction_are_all_reached() {
    let world = World::new();
    world.test.execute(
        "INSERT INTO users SELECT u.* FROM generate_series(1, 600) n, \
         LATERAL jsonb_populate_record(NULL::users, (SELECT to_jsonb(q) FROM users q LIMIT 1) \
           || jsonb_build_object('id', 100000 + n, 'email', 'n' || n || '@example.com', \
             'email_folded', 'n' || n || '@example.com')) u",
    );
    world.test.execute(
        "INSERT INTO accounts (user_id, broker, environment, created_at, updated_at) \
         SELECT 100000 + n, 'alpaca', 'paper', now(), now() FROM generate_series(1, 600) n",
    );
    world.halt_everybody(&new_halt(HaltLevel::CancelOpen));
    assert_eq!(world.count("accounts WHERE halt_global = 'cancel_open'"), 601);
}

/// Whoever set it ended before it was brought to the accounts.
#[test]
fn the_sweep_brings_what_nobody_brought() {
    let world = World::new();
    let order = accept(world.user, "k", market("SPY", Side::Buy, 1));
    assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }));
    world.db.run_blocking(|tx| tx.halt_user(world.user, &new_halt(HaltLevel::BlockEntries))).unwrap();
    assert_eq!(halts(&world, world.account), (None, None));
    assert_eq!(world.db.run_blocking(|tx| tx.sweep_halts()).unwrap(), (false, 0));
    assert_eq!(halts(&world, world.account).0.as_deref(), Some("block_entries"));
    assert_eq!(world.count("jobs WHERE kind = 'enforce_halt' AND state = 'ready'"), 1);
    // The owner was deleted: what was halted stays so.
    world.test.execute("DELETE FROM risk_halts WHERE user_id IS NOT NULL");
    world.db.run_blocking(|tx| tx.sweep_halts()).unwrap();
    assert_eq!(halts(&world, world.account).0.as_deref(), Some("block_entries"));
}

/// An account that the previous release adds, which copies nothing, and one that it changes.
#[test]
fn accounts_of_another_release_have_limits_and_halts() {
    let world = World::new();
    let limits = plimsoll_core_domain::risk::RiskLimits { max_open_orders: Some(3), ..Default::default() };
    world.db.run_blocking(|tx| tx.set_risk_limits(world.user, &limits, at(1))).unwrap();
    world.halt(&new_halt(HaltLevel::CancelOpen));
    world.halt_everybody(&new_halt(HaltLevel::ReduceOnly));
    world.test.execute("UPDATE accounts SET state = 'inactive'");
    world.test.execute(&format!(
        "INSERT INTO accounts (user_id, broker, environment, created_at, updated_at) \
         VALUES ({}, 'alpaca', 'live', now(), now())",
        world.user
    ));
    let whole = "accounts WHERE halt_user = 'cancel_open' AND halt_global = 'reduce_only' \
                 AND risk_limits ->> 'max_open_orders' = '3'";
    assert_eq!(world.count(whole), 2);
    world.test.execute("UPDATE accounts SET halt_user = NULL, halt_global = NULL, risk_limits = NULL");
    assert!(!world.db.run_blocking(|tx| tx.sweep_halts()).unwrap().0);
    assert_eq!(world.count(whole), 2);
}
