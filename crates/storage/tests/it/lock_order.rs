//! One lock order everywhere: two writers through every pair of use cases, on one account, find no deadlock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::broker::ReplaceOrder;
use plimsoll_core_domain::order::{OrderStatus, Side};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel, RiskLimits};
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_reliability::reconcile::{Case, Finding, Outcome, Scope, Subject, Trigger};
use plimsoll_reliability::submit::{OrderEvent, SubmitStore};
use plimsoll_storage::platform::orders::{ApplyError, NewReplacement};
use plimsoll_storage::platform::reconciliation::{AccountOwner, FinishedRun, Resolution};
use plimsoll_storage::platform::risk::{NewHalt, Worth};

use crate::world::{World, accept, at, execution, market, report, seen};

static SECOND: AtomicI64 = AtomicI64::new(100);

const ROUNDS: usize = 15;

type UseCase = (&'static str, fn(&World, usize) -> Result<(), StoreError>);

fn store_error(error: ApplyError) -> Result<(), StoreError> {
    match error {
        ApplyError::Store(error) => Err(error),
        ApplyError::Contradiction { .. } => Ok(()),
    }
}

fn tick() -> i64 {
    SECOND.fetch_add(1, Ordering::Relaxed)
}

/// The orders that both writers work on.
fn shared(world: &World) -> plimsoll_core_domain::OrderId {
    let rows = world.test.rows("SELECT id::text AS id FROM orders ORDER BY id LIMIT 1");
    rows[0]["id"].as_str().unwrap().parse().unwrap()
}

const USE_CASES: &[UseCase] = &[
    ("accept", |world, n| {
        let accept = accept(world.user, &format!("lock-{}-{n}", tick()), market("SPY", Side::Buy, 1));
        world.accept(&accept).map(|_| ())
    }),
    ("apply a fill", |world, _| {
        let id = shared(world);
        let second = tick();
        let cum = second % 9 + 1;
        let report = report(
            seen(world, id, OrderStatus::PartiallyFilled, second, cum),
            vec![execution(1, cum, "100")],
        );
        let done = world.db.run_blocking(|tx| tx.apply_report(world.account, &report, at(second)));
        done.map(|_| ()).or_else(store_error)
    }),
    ("wish to cancel", |world, _| {
        let (id, second) = (shared(world), tick());
        world.db.run_blocking(|tx| {
            tx.wish_cancel(world.account, id, at(second))?;
            tx.append_audit(Some(world.user), &entry(second))
        })
    }),
    ("wish to replace", |world, _| {
        let (id, second) = (shared(world), tick());
        let new = accept(world.user, "unused", market("SPY", Side::Buy, 1));
        let replacement = NewReplacement {
            id: new.id,
            client_order_id: format!("replace-{second}").parse().unwrap(),
            deadline: at(second + 60),
        };
        let change = ReplaceOrder { qty: Some("20".parse().unwrap()), ..ReplaceOrder::default() };
        world.db.run_blocking(|tx| {
            tx.wish_replace(world.account, id, &change, replacement, &|_| None, at(second))?;
            tx.append_audit(Some(world.user), &entry(second))
        })
    }),
    ("record an answer", |world, _| {
        let (id, second) = (shared(world), tick());
        world.db.run_blocking(|tx| {
            let locked = SubmitStore::lock_order(tx, id)?.unwrap();
            let mut after = locked.order.clone();
            after.version += 1;
            after.submit.probes += 1;
            tx.save_order(&locked.order, &after, &OrderEvent::Missed, at(second))
        })
    }),
    ("halt and resume", |world, n| {
        let second = tick();
        let new = NewHalt {
            level: HaltLevel::BlockEntries,
            cause: HaltCause::Manual,
            reason: "a test",
            by: None,
            now: at(second),
        };
        let user = (n % 4 < 2).then_some(world.user);
        world.db.run_blocking(|tx| {
            match n % 4 {
                0 => drop(tx.halt_user(world.user, &new)?),
                1 => drop(tx.resume_user(world.user, at(second))?),
                2 => drop(tx.halt_everybody(&new)?),
                _ => drop(tx.resume_everybody(at(second))?),
            }
            tx.append_audit(Some(world.user), &entry(second))
        })?;
        world.carry(user);
        Ok(())
    }),
    ("end a comparison and decide about a difference", |world, n| {
        let second = tick();
        let of = AccountOwner {
            account: world.account,
            user: world.user,
            environment: plimsoll_core_domain::order::Environment::Paper,
        };
        let off = Finding {
            subject: Subject::Position(format!("X{}", n % 3)),
            case: Case::PositionUnexplained,
            local: "0".into(),
            broker: second.to_string(),
        };
        let run = FinishedRun {
            id: uuid::Uuid::from_u128(u128::try_from(second).unwrap()),
            trigger: Trigger::Watch,
            scope: Scope::Orders,
            started_at: at(second),
            outcome: Ok(Outcome::new(1, vec![off], true)),
        };
        world.db.run_blocking(|tx| tx.finish_run(of, &run, at(second)))?;
        let open = world.db.read_blocking(|tx| tx.open_discrepancies(Some(world.user), None))?;
        let Some(one) = open.first() else { return Ok(()) };
        let (by, word) = (world.user, Resolution::KeepLocal);
        world
            .db
            .run_blocking(|tx| tx.resolve_discrepancy(one.id, Some(by), by, word, None, at(second)))
            .map(drop)
    }),
    ("set limits and look at the loss", |world, _| {
        let second = tick();
        let limits = RiskLimits { max_daily_loss: Some("100".parse().unwrap()), ..RiskLimits::default() };
        world.db.run_blocking(|tx| tx.set_risk_limits(world.user, &limits, at(second)))?;
        world.db.run_blocking(|tx| {
            let worth = Worth {
                equity: (900 - second % 50).into(),
                last_equity: 1_000.into(),
                moved: 0.into(),
                certain: true,
            };
            tx.look_at_loss(world.account, worth, at(second)).map(drop)
        })
    }),
    ("claim and give back jobs", |world, n| {
        let owner = uuid::Uuid::from_u128(n as u128 + 1);
        let kinds = ["submit_order".to_owned(), "cancel_order".to_owned(), "sync_order".to_owned()];
        let claim = plimsoll_reliability::jobs::Claim {
            queue: "broker",
            kinds: &kinds,
            except: &[],
            limit: 5,
            owner,
            lease: std::time::Duration::from_secs(30),
        };
        let jobs = world.db.read_blocking(|tx| tx.claim(&claim))?;
        let leases: Vec<_> = jobs.iter().map(|job| job.lease).collect();
        world.db.read_blocking(|tx| tx.give_back(&leases)).map(|_| ())
    }),
];

fn entry(second: i64) -> AuditEntry {
    AuditEntry {
        at: at(second),
        action: "test".into(),
        outcome: AuditOutcome::Success,
        actor_id: None,
        subject_id: None,
        ip: None,
        user_agent: None,
        request_id: None,
        detail: serde_json::Value::Null,
    }
}

#[test]
fn no_pair_of_use_cases_deadlocks() {
    let world = Arc::new(World::new());
    let id = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, id, OrderStatus::New, 2, 0), vec![]), 2);
    for (at, (first, one)) in USE_CASES.iter().enumerate() {
        for (second, other) in &USE_CASES[at..] {
            let barrier = Arc::new(Barrier::new(2));
            let writers: Vec<_> = [*one, *other]
                .into_iter()
                .enumerate()
                .map(|(writer, work)| {
                    let (world, barrier) = (Arc::clone(&world), Arc::clone(&barrier));
                    std::thread::spawn(move || {
                        barrier.wait();
                        (0..ROUNDS).try_for_each(|n| work(&world, writer * 1000 + n))
                    })
                })
                .collect();
            for writer in writers {
                let done = writer.join().unwrap();
                assert!(done.is_ok(), "{first} against {second}: {:?}", done.err());
            }
        }
    }
    let report = world.db.read_blocking(|tx| tx.verify_audit()).unwrap();
    assert_eq!(report.first_bad, None);
    let dense = "(SELECT h.stream_id FROM stream_head h LEFT JOIN stream_event e USING (stream_id) \
                 GROUP BY h.stream_id, h.head HAVING count(e.off) <> h.head) AS holes";
    assert_eq!(world.count(dense), 0);
}
