//! Dead letters, slots and batches, against a real server.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use plimsoll_auth::Act;
use plimsoll_core_domain::order::Side;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_reliability::jobs::{
    Claim, JobFilter, JobId, JobLease, JobQueue, JobState, JobStore, LetterFilter, NewJob, Resolution,
    Schedule, Settlement,
};
use plimsoll_reliability::submit::{BROKER_QUEUE, SUBMIT_ORDER};
use plimsoll_storage::Db;
use plimsoll_storage::jobs::ReplayJob;
use plimsoll_storage::platform::letters::{LetterDone, ReplayRange, Replays, Unreplayable};
use plimsoll_testkit::TestDb;
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, at, market};

const SECOND: Duration = Duration::from_secs(1);

fn act() -> Act {
    Act::without_request(at(0))
}

fn enqueue(db: &Db, job: &NewJob) -> JobId {
    db.transaction::<_, StoreError, _>(|tx| tx.enqueue(job)).unwrap().unwrap()
}

/// A job that was given up.
fn dead(db: &Db, job: &NewJob, error: &str) -> JobId {
    let id = enqueue(db, job);
    let claim = Claim {
        queue: &job.queue,
        kinds: std::slice::from_ref(&job.kind),
        except: &[],
        limit: 1_000,
        owner: Uuid::from_u128(1),
        lease: SECOND * 30,
    };
    for claimed in db.autocommit::<_, StoreError, _>(|tx| tx.claim(&claim)).unwrap() {
        let settlement = Settlement::Dead { error: error.to_owned() };
        assert!(db.autocommit::<_, StoreError, _>(|tx| tx.settle(claimed.lease, &settlement)).unwrap());
    }
    id
}

fn letter(db: &Db, n: i64) -> JobId {
    dead(db, &NewJob::new("q", "k", &json!({ "n": n })).dedup(format!("key-{n}")), "no use")
}

fn replay(db: &Db, by: Option<UserId>, id: JobId) -> LetterDone<ReplayJob> {
    db.run_blocking(|tx| tx.replay_letter(&act(), by, id)).unwrap()
}

fn replay_many(db: &Db, filter: &LetterFilter, most: usize, pace: Duration, dry_run: bool) -> Replays {
    let up_to = db.read_blocking(|tx| tx.newest_letter()).unwrap().unwrap_or(JobId(0));
    let range = ReplayRange { after: JobId(0), up_to, most, pace };
    db.run_blocking(|tx| tx.replay_letters(&act(), None, filter, &range, dry_run)).unwrap()
}

fn open(db: &Db) -> Vec<JobId> {
    let letters = db.read_blocking(|tx| tx.letters(&LetterFilter::default(), None, None, 1_000)).unwrap();
    letters.iter().map(|letter| letter.id).collect()
}

fn actions(test: &TestDb) -> Vec<String> {
    let rows = test.rows("SELECT action FROM audit_log ORDER BY chain, seq");
    rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_replay_is_a_new_job_with_the_same_key_and_payload_and_the_letter_stays_on_record() {
    let world = World::new();
    let id = letter(&world.db, 1);
    let LetterDone::Done(done) = replay(&world.db, Some(world.user), id) else { panic!("not replayed") };
    let (letter, job) = world
        .db
        .read_blocking(|tx| Ok::<_, StoreError>((tx.job_record(id)?, tx.job_record(done.job)?)))
        .unwrap();
    let (letter, job) = (letter.unwrap(), job.unwrap());
    assert_eq!((job.state, job.parent, job.attempt), (JobState::Ready, Some(id), 0));
    assert_eq!((&job.payload, &job.dedup_key), (&letter.payload, &letter.dedup_key));
    assert_eq!((job.max_attempts, &job.queue, &job.kind), (letter.max_attempts, &letter.queue, &letter.kind));
    let resolved = letter.resolved.unwrap();
    assert_eq!((letter.state, resolved.how), (JobState::Dead, Resolution::Replayed));
    assert_eq!((resolved.by, resolved.replay), (Some(world.user), Some(done.job)));
    assert_eq!(letter.last_error.as_deref(), Some("no use"));
    assert_eq!(open(&world.db), []);
    // once only
    assert_eq!(replay(&world.db, None, id), LetterDone::Resolved(Resolution::Replayed));
    assert_eq!(replay(&world.db, None, done.job), LetterDone::NotFound, "it is no letter");
    assert_eq!(replay(&world.db, None, JobId(999_999)), LetterDone::NotFound);
    assert_eq!(actions(&world.test), ["dead_letter.replay"]);
}

#[test]
fn of_twenty_replays_of_one_letter_one_is_done() {
    let world = World::new();
    let id = letter(&world.db, 1);
    let barrier = Barrier::new(20);
    let done: usize = thread::scope(|scope| {
        let tries: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let db = world.test.db();
                    let db = db.with_keys(std::sync::Arc::clone(&world.keys));
                    barrier.wait();
                    matches!(replay(&db, None, id), LetterDone::Done(_))
                })
            })
            .collect();
        tries.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    });
    assert_eq!(done, 1);
    assert_eq!(world.test.rows("SELECT id FROM jobs WHERE parent_id IS NOT NULL").len(), 1);
    assert_eq!(actions(&world.test).len(), 1);
}

#[test]
fn a_letter_whose_key_is_open_again_is_left_as_it_is() {
    let world = World::new();
    let id = letter(&world.db, 1);
    enqueue(&world.db, &NewJob::new("q", "k", &json!({ "n": 1 })).dedup("key-1"));
    assert_eq!(replay(&world.db, None, id), LetterDone::Refused(Unreplayable::Open));
    let all = replay_many(&world.db, &LetterFilter::default(), 10, SECOND, false);
    assert_eq!((all.matched, all.replayed, all.refused), (1, 0, vec![(id, Unreplayable::Open)]));
    assert_eq!(open(&world.db), [id]);
    assert_eq!(actions(&world.test), Vec::<String>::new());
}

/// A backlog never fires stale orders, and neither does an operator.
#[test]
fn a_submit_past_its_deadline_is_not_replayed() {
    let world = World::new();
    let submit = |symbol: &str| {
        let order = world.sent(market(symbol, Side::Buy, 1));
        let payload = json!({ "order_id": order, "account_id": world.account });
        world.test.execute("DELETE FROM jobs WHERE state = 'ready'");
        let id = dead(&world.db, &NewJob::new(BROKER_QUEUE, SUBMIT_ORDER, &payload), "gone");
        (order, id)
    };
    let (late_order, late) = submit("SPY");
    let (good_order, good) = submit("QQQ");
    let deadline = |order: plimsoll_core_domain::OrderId, shift: &str| {
        world.test.execute(&format!(
            "UPDATE orders SET submit_deadline = now() {shift} interval '1 minute' WHERE id = '{order}'"
        ));
    };
    deadline(late_order, "-");
    deadline(good_order, "+");
    assert_eq!(replay(&world.db, None, late), LetterDone::Refused(Unreplayable::PastDeadline));
    let plan = replay_many(&world.db, &LetterFilter::default(), 10, SECOND, true);
    assert_eq!((plan.matched, plan.replayed, open(&world.db).len()), (2, 1, 2), "a dry run does nothing");
    let all = replay_many(&world.db, &LetterFilter::default(), 10, SECOND, false);
    assert_eq!((all.replayed, all.refused), (1, vec![(late, Unreplayable::PastDeadline)]));
    assert_eq!(open(&world.db), [late]);
    assert_eq!(world.test.rows(&format!("SELECT id FROM jobs WHERE parent_id = {}", good.0)).len(), 1);
}

#[test]
fn a_filter_finds_its_letters_and_replays_are_spread_over_time() {
    let world = World::new();
    let ids: Vec<JobId> = (0..6).map(|n| letter(&world.db, n)).collect();
    let other = dead(&world.db, &NewJob::new("other", "k", &()), "50 % of_it");
    let find = |filter: LetterFilter| -> Vec<JobId> {
        let found = world.db.read_blocking(|tx| tx.letters(&filter, None, None, 100)).unwrap();
        found.iter().map(|letter| letter.id).collect()
    };
    let queue = |queue: &str| LetterFilter { queue: Some(queue.to_owned()), ..LetterFilter::default() };
    let error = |text: &str| LetterFilter { error: Some(text.to_owned()), ..LetterFilter::default() };
    assert_eq!(find(queue("other")), [other]);
    assert_eq!(find(error("50 % OF_")), [other]);
    assert_eq!(find(error("5% of")), [], "a part stands for itself");
    assert_eq!(find(LetterFilter { kind: Some("none".to_owned()), ..LetterFilter::default() }), []);
    let now = chrono::Utc::now();
    let hour = chrono::TimeDelta::hours(1);
    assert_eq!(find(LetterFilter { from: Some(now + hour), ..LetterFilter::default() }), []);
    assert_eq!(find(LetterFilter { to: Some(now - hour), ..LetterFilter::default() }), []);
    assert_eq!(find(LetterFilter { from: Some(now - hour), to: Some(now + hour), ..queue("q") }).len(), 6);

    // three now; the next three queue up behind them
    let first = replay_many(&world.db, &queue("q"), 3, SECOND, false);
    assert_eq!((first.matched, first.replayed, first.next), (3, 3, Some(ids[2])));
    replay_many(&world.db, &queue("q"), 3, SECOND, false);
    let rows = world.test.rows(
        "SELECT round(extract(epoch FROM run_at - min(run_at) OVER ()))::bigint AS second, parent_id \
         FROM jobs WHERE parent_id IS NOT NULL ORDER BY run_at",
    );
    let seconds: Vec<i64> = rows.iter().map(|row| row["second"].as_i64().unwrap()).collect();
    let parents: Vec<i64> = rows.iter().map(|row| row["parent_id"].as_i64().unwrap()).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4, 5]);
    assert_eq!(parents, ids.iter().map(|id| id.0).collect::<Vec<_>>(), "the oldest first");
    assert_eq!(open(&world.db), [other]);
    let entries = world.test.rows("SELECT detail FROM audit_log");
    assert_eq!(entries.len(), 2);
    assert!(entries[0]["detail"].to_string().contains("cli"), "{entries:?}");
}

#[test]
fn a_discarded_letter_stays_with_its_reason_and_cannot_come_back() {
    let world = World::new();
    let id = letter(&world.db, 1);
    let discard =
        |id| world.db.run_blocking(|tx| tx.discard_letter(&act(), Some(world.user), id, "twice")).unwrap();
    assert_eq!(discard(id), LetterDone::Done(()));
    assert_eq!(discard(id), LetterDone::Resolved(Resolution::Discarded));
    assert_eq!(discard(JobId(999_999)), LetterDone::NotFound);
    assert_eq!(replay(&world.db, None, id), LetterDone::Resolved(Resolution::Discarded));
    let found = world
        .db
        .read_blocking(|tx| tx.letters(&LetterFilter::default(), Some(Resolution::Discarded), None, 10))
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].resolved.as_ref().unwrap().reason.as_deref(), Some("twice"));
    assert_eq!((open(&world.db).len(), actions(&world.test)), (0, vec!["dead_letter.discard".to_owned()]));
}

#[test]
fn jobs_are_listed_page_by_page_and_counted() {
    let world = World::new();
    let ids: Vec<JobId> = (0..5).map(|n| enqueue(&world.db, &NewJob::new("q", "k", &n))).collect();
    letter(&world.db, 9);
    let page = |filter: &JobFilter, before| -> Vec<JobId> {
        let jobs = world.db.read_blocking(|tx| tx.job_records(filter, before, 2)).unwrap();
        jobs.iter().map(|job| job.id).collect()
    };
    // the claim of the letter took the others with it
    let all = JobFilter { kind: Some("k".to_owned()), ..JobFilter::default() };
    assert_eq!(page(&all, Some(ids[4])), [ids[3], ids[2]]);
    assert_eq!(page(&all, Some(ids[2])), [ids[1], ids[0]]);
    assert_eq!(page(&all, Some(ids[0])), []);
    assert_eq!(page(&JobFilter { state: Some(JobState::Ready), ..JobFilter::default() }, None), []);
    assert_eq!(page(&JobFilter { queue: Some("other".to_owned()), ..JobFilter::default() }, None), []);
    enqueue(&world.db, &NewJob::new("q", "k", &()));
    let counts = world.db.read_blocking(|tx| tx.job_counts()).unwrap();
    let counts: Vec<_> = counts.iter().map(|count| (count.state, count.jobs)).collect();
    assert_eq!(counts, [(JobState::Dead, 6), (JobState::Ready, 1)]);
}

#[test]
fn administrators_are_told_of_each_letter_once() {
    let world = World::new();
    for n in 0..3 {
        letter(&world.db, n);
    }
    let untold = |most| world.db.run_blocking(|tx| tx.take_untold_letters(most)).unwrap();
    let first = untold(2);
    assert_eq!((first.len(), first[0].letters, first[0].kind.as_str()), (1, 2, "k"));
    assert_eq!(first[0].error.as_deref(), Some("no use"));
    assert_eq!(untold(10)[0].letters, 1);
    assert_eq!(untold(10), []);
}

/// Two instances, one slot: exactly one job, however late one of them asks.
#[test]
fn a_slot_is_given_out_once_to_any_number_of_instances() {
    let test = TestDb::platform();
    let schedule = Schedule::new("q", "tick", Duration::from_millis(50));
    let barrier = Barrier::new(4);
    let kinds = ["tick".to_owned()];
    thread::scope(|scope| {
        for n in 0..4 {
            let (test, barrier, schedule, kinds) = (&test, &barrier, &schedule, &kinds);
            scope.spawn(move || {
                let db = test.db();
                barrier.wait();
                for _ in 0..60 {
                    db.transaction::<_, StoreError, _>(|tx| tx.enqueue_slot(schedule)).unwrap();
                    // whoever is first does it, so that its key is free again
                    let owner = Uuid::from_u128(n);
                    let claim =
                        Claim { queue: "q", kinds, except: &[], limit: 10, owner, lease: SECOND * 30 };
                    for job in db.autocommit::<_, StoreError, _>(|tx| tx.claim(&claim)).unwrap() {
                        let done =
                            db.autocommit::<_, StoreError, _>(|tx| tx.settle(job.lease, &Settlement::Done));
                        assert!(done.unwrap());
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
    let rows = test.rows("SELECT payload->>'slot' AS slot FROM jobs");
    let slots: HashSet<&str> = rows.iter().map(|row| row["slot"].as_str().unwrap()).collect();
    assert!(slots.len() > 3, "{rows:?}");
    assert_eq!(slots.len(), rows.len(), "no slot twice: {rows:?}");
    let due =
        test.rows("SELECT 1 AS x FROM jobs WHERE run_at <> to_timestamp((payload->>'slot')::bigint * 0.05)");
    assert_eq!(due.len(), 0, "each is due when its slot begins");
}

#[test]
fn slots_do_not_pile_up_and_a_period_may_be_endless() {
    let test = TestDb::platform();
    let db = test.db();
    let ask = |schedule: &Schedule| {
        db.transaction::<_, StoreError, _>(|tx| tx.enqueue_slot(schedule)).unwrap().is_some()
    };
    let minute = Schedule::new("q", "k", Duration::from_secs(60));
    assert!(ask(&minute));
    assert!(!ask(&minute));
    test.execute("UPDATE jobs SET run_at = now() - interval '61 seconds'");
    test.execute("UPDATE job_slots SET begins_at = now() - interval '61 seconds'");
    assert!(!ask(&minute), "one waits already");
    test.execute("UPDATE jobs SET state = 'done', finished_at = now()");
    assert!(ask(&minute));
    assert!(ask(&Schedule::new("q", "endless", Duration::MAX)));
    assert!(!ask(&Schedule::new("q", "endless", Duration::MAX)));
}

#[test]
fn a_batch_is_settled_by_one_statement_and_a_lost_lease_shows() {
    let test = TestDb::platform();
    let db = test.db();
    for n in 0..20 {
        enqueue(&db, &NewJob::new("q", "k", &n));
    }
    let kinds = ["k".to_owned()];
    let claim =
        Claim { queue: "q", kinds: &kinds, except: &[], limit: 20, owner: Uuid::nil(), lease: SECOND * 30 };
    let jobs = db.autocommit::<_, StoreError, _>(|tx| tx.claim(&claim)).unwrap();
    let mut leases: Vec<JobLease> = jobs.iter().map(|job| job.lease).collect();
    leases[7].token -= 1;
    let counter = db.count_queries();
    assert_eq!(db.autocommit::<_, StoreError, _>(|tx| tx.settle_done(&leases)).unwrap(), 19);
    assert_eq!(counter.sent(), 1);
    assert_eq!(test.rows("SELECT id FROM jobs WHERE state = 'done'").len(), 19);
    assert_eq!(db.autocommit::<_, StoreError, _>(|tx| tx.settle_done(&leases)).unwrap(), 0);
}
