//! The paper broker's books: what is saved is loaded, once, and by one writer.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use plimsoll_paper_exchange::order::Side;
use plimsoll_paper_exchange::{
    AccountId, Change, ClockState, Exchange, ExchangeConfig, MarketData, NewOrder, Record, ReplayClock,
};
use plimsoll_storage::paper::{ApiKey, Batch, Books, SaveError, Watchlist, WriterToken};
use plimsoll_storage::{Db, DbSettings, PoolKind};
use plimsoll_testkit::TestDb;
use uuid::Uuid;

struct Bench {
    test: TestDb,
    db: Db,
    exchange: Exchange,
    account: AccountId,
    now: DateTime<Utc>,
}

impl Bench {
    fn new() -> Self {
        let test = TestDb::paper();
        // One connection, which knows its statements: whether another has them is a matter of luck.
        let db = test.db_with(DbSettings::new(PoolKind::Http, 1));
        let now = Utc.with_ymd_and_hms(2026, 11, 24, 15, 0, 0).unwrap();
        let market = MarketData::fixed_price(100.into()).unwrap();
        let mut exchange = Exchange::new(ExchangeConfig::default(), market, 7, now);
        let account = exchange.create_account(None, now);
        Self { test, db, exchange, account, now }
    }

    fn writer(&self) -> WriterToken {
        self.db.run_blocking(|tx| tx.take_paper_writer()).unwrap()
    }

    fn save(&self, writer: WriterToken, batch: &Batch) -> Result<(), SaveError> {
        self.db.run_blocking(|tx| tx.save_paper_batch(writer, batch))
    }

    fn books(&self) -> Books {
        self.db.run_blocking(|tx| tx.load_paper_books()).unwrap()
    }

    /// What the exchange changed since it was last asked.
    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for change in self.exchange.drain() {
            if let Change::Record(record) = change {
                batch.add(record);
            }
        }
        batch
    }

    fn trade(&mut self, orders: usize) {
        for _ in 0..orders {
            self.exchange
                .submit(self.account, NewOrder::market("SPY", Side::Buy, 1.into()), self.now)
                .unwrap();
            self.now += TimeDelta::seconds(1);
            self.exchange.advance(self.now);
        }
    }
}

/// The newest record of each thing, by its JSON.
fn newest(records: &[Record]) -> BTreeMap<String, Record> {
    let key = |record: &Record| match record {
        Record::Exchange(_) => "exchange".to_owned(),
        Record::Account(row) => format!("account {}", row.id),
        Record::Order(row) => format!("order {}", row.order.id),
        Record::Execution(row) => format!("execution {}", row.id),
    };
    records.iter().map(|record| (key(record), record.clone())).collect()
}

#[test]
fn an_empty_database_has_empty_books() {
    let bench = Bench::new();
    let books = bench.books();
    assert!(books.records.is_empty() && books.clock.is_none() && books.keys.is_empty());
}

#[test]
fn what_is_saved_is_loaded_and_restores_the_exchange() {
    let mut bench = Bench::new();
    let writer = bench.writer();
    let mut all = Vec::new();
    for round in 0..4 {
        bench.trade(round);
        let mut batch = Batch::default();
        for change in bench.exchange.drain() {
            if let Change::Record(record) = change {
                all.push(record.clone());
                batch.add(record);
            }
        }
        bench.save(writer, &batch).unwrap();
        // a commit whose answer was lost is written again
        bench.save(writer, &batch).unwrap();
    }
    let books = bench.books();
    assert_eq!(newest(&books.records), newest(&all));
    assert_eq!(books.records.len(), newest(&all).len(), "each thing once");
    let market = MarketData::fixed_price(100.into()).unwrap();
    let restored = Exchange::restore(ExchangeConfig::default(), market, books.records).unwrap();
    assert_eq!(restored.positions(bench.account).unwrap(), bench.exchange.positions(bench.account).unwrap());
    assert_eq!(
        restored.account_view(bench.account).unwrap(),
        bench.exchange.account_view(bench.account).unwrap()
    );
}

#[test]
fn keys_clock_and_watchlists_are_kept() {
    let mut bench = Bench::new();
    let writer = bench.writer();
    let clock: ClockState = ReplayClock::start(bench.now, 60.into()).unwrap().state().clone();
    let key = ApiKey { key_id: "PK1".into(), account: bench.account, secret_sha256: [9; 32] };
    let list = |number: u128, name: &str| Watchlist {
        id: Uuid::from_u128(number),
        account: bench.account,
        name: name.into(),
        symbols: vec!["SPY".into(), "BTC/USD".into()],
        created_at: bench.now,
        updated_at: bench.now,
    };
    let (kept, gone) = (list(1, "kept"), list(2, "gone"));
    let mut batch = bench.batch();
    batch.set_clock(clock.clone());
    batch.add_key(key.clone());
    batch.save_watchlist(kept.clone());
    batch.save_watchlist(gone.clone());
    bench.save(writer, &batch).unwrap();
    let books = bench.books();
    assert_eq!(
        (books.clock, books.keys, books.watchlists),
        (Some(clock), vec![key], vec![kept.clone(), gone.clone()])
    );

    let mut batch = Batch::default();
    let renamed = Watchlist { name: "renamed".into(), symbols: vec![], ..kept };
    batch.save_watchlist(renamed.clone());
    batch.delete_watchlist(bench.account, gone.id);
    assert!(!batch.is_empty());
    bench.save(writer, &batch).unwrap();
    assert_eq!(bench.books().watchlists, [renamed]);
}

#[test]
fn only_the_newest_writer_writes() {
    let mut bench = Bench::new();
    let old = bench.writer();
    let batch = bench.batch();
    bench.save(old, &batch).unwrap();
    let new = bench.writer();
    bench.trade(1);
    let batch = bench.batch();
    assert!(matches!(bench.save(old, &batch), Err(SaveError::TakenOver)));
    let orders = || bench.books().records.iter().filter(|record| matches!(record, Record::Order(_))).count();
    assert_eq!(orders(), 0, "nothing of it was written");
    bench.save(new, &batch).unwrap();
    assert_eq!(orders(), 1);
}

#[test]
fn a_batch_of_orders_is_one_statement() {
    let mut bench = Bench::new();
    let writer = bench.writer();
    let batch = bench.batch();
    bench.save(writer, &batch).unwrap();
    bench.trade(1);
    let batch = bench.batch();
    bench.save(writer, &batch).unwrap();
    bench.trade(20);
    let batch = bench.batch();
    let counter = bench.db.count_queries();
    bench.save(writer, &batch).unwrap();
    assert_eq!(
        (counter.sent(), counter.prepared()),
        (3, 0),
        "BEGIN, one statement, COMMIT: {:?}",
        counter.texts()
    );
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let mut bench = Bench::new();
    let writer = bench.writer();
    bench.trade(1);
    let batch = bench.batch();
    bench.save(writer, &batch).unwrap();
    bench.test.execute("UPDATE orders SET record = '{}'");
    let error = bench.db.run_blocking(|tx| tx.load_paper_books()).unwrap_err();
    assert_eq!(error.kind(), plimsoll_core_domain::StoreErrorKind::Inconsistent);
    assert!(error.to_string().contains("orders.record"), "{error}");
}
