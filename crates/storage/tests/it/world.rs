//! A small platform in a database of its own: a user with a broker account, and what tests ask of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::{EmailAddress, NewUser, Role};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::broker::{BrokerOrder, BrokerStatus};
use plimsoll_core_domain::fill::{Execution, FillSource};
use plimsoll_core_domain::order::{
    Environment, NewOrder, OrderRequest, OrderSource, OrderStatus, OrderType, Side, SourceKind, TimeInForce,
};
use plimsoll_core_domain::{AccountId, OrderId, Price, Quantity, StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::{KeyRing, MasterKey, OsRandom, Stretching};
use plimsoll_reliability::idempotency::{Fingerprint, IdempotencyKey};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::platform::orders::{AcceptKey, AcceptOrder, Accepted, OrderReport, RequestKey};
use plimsoll_storage::platform::risk::{Halt, NewHalt, carry_halts};
use plimsoll_testkit::TestDb;
use uuid::Uuid;

/// A valid argon2id hash of no password that anybody knows.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";

pub(crate) struct World {
    pub(crate) test: TestDb,
    pub(crate) db: Db,
    pub(crate) keys: Arc<PlatformKeys>,
    pub(crate) user: UserId,
    pub(crate) account: AccountId,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000 + second, 0).unwrap()
}

pub(crate) fn ring(text: &str) -> KeyRing {
    let stretching = Stretching::new([7; 16].to_vec(), 600_000).unwrap();
    KeyRing::new(&MasterKey::parse(text, &stretching).unwrap())
}

pub(crate) const KEY: &str = "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";

pub(crate) fn add_user(db: &Db, email: &str) -> (UserId, AccountId) {
    let user = NewUser {
        email: EmailAddress::parse(email).unwrap(),
        display_name: None,
        role: Role::User,
        password_hash: PasswordHash::parse(HASH).unwrap(),
        email_verified_at: Some(at(0)),
        created_at: at(0),
    };
    db.run_blocking(|tx| {
        let user = tx.insert_user(&user)?;
        let account = tx.insert_account(user, Environment::Paper, at(0))?;
        Ok::<_, StoreError>((user, account))
    })
    .unwrap()
}

/// See [`carry_halts`].
pub(crate) fn carry(db: &Db, user: Option<UserId>, within: Duration) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(carry_halts(db, user, within)).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let test = TestDb::platform();
        let db = test.db();
        let keys = Arc::new(PlatformKeys::load_or_create(&db, &ring(KEY), &mut OsRandom).unwrap());
        let db = db.with_keys(Arc::clone(&keys));
        let (user, account) = add_user(&db, "trader@example.com");
        Self { test, db, keys, user, account }
    }

    pub(crate) fn accept(&self, accept: &AcceptOrder) -> Result<Accepted, StoreError> {
        self.db.run_blocking(|tx| tx.accept_order(accept, &*self.keys))
    }

    /// Accepts an order and brings it to the broker's door.
    pub(crate) fn sent(&self, terms: NewOrder) -> OrderId {
        let accept = accept(self.user, &format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed)), terms);
        let Accepted::New { order, .. } = self.accept(&accept).unwrap() else { panic!("not new") };
        self.test.execute(&format!(
            "UPDATE orders SET status = 'submitting', submit_attempts = 1 WHERE id = '{}'",
            order.id
        ));
        order.id
    }

    pub(crate) fn apply(&self, report: &OrderReport, second: i64) {
        self.db.run_blocking(|tx| tx.apply_report(self.account, report, at(second))).unwrap();
    }

    /// Brings halts to the accounts of a user, or of everybody; all are reached.
    pub(crate) fn carry(&self, user: Option<UserId>) {
        assert_eq!(carry(&self.db, user, Duration::from_secs(30)), 0);
    }

    pub(crate) fn halt(&self, new: &NewHalt<'_>) -> Halt {
        let halt = self.db.run_blocking(|tx| tx.halt_user(self.user, new)).unwrap();
        self.carry(Some(self.user));
        halt
    }

    pub(crate) fn halt_everybody(&self, new: &NewHalt<'_>) -> Halt {
        let halt = self.db.run_blocking(|tx| tx.halt_everybody(new)).unwrap();
        self.carry(None);
        halt
    }

    pub(crate) fn count(&self, query: &str) -> i64 {
        self.test.rows(&format!("SELECT count(*)::bigint AS n FROM {query}"))[0]["n"].as_i64().unwrap()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let rows = self
            .test
            .rows(&format!("SELECT kind FROM stream_event WHERE stream_id = {} ORDER BY off", self.user));
        rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn market(symbol: &str, side: Side, qty: i64) -> NewOrder {
    OrderRequest {
        symbol: symbol.into(),
        side: Some(side),
        order_type: Some(OrderType::Market),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(qty.into()),
        ..OrderRequest::default()
    }
    .validate()
    .unwrap()
}

pub(crate) fn request_key(key: &str) -> RequestKey {
    RequestKey {
        key: IdempotencyKey::new(key).unwrap(),
        route: "POST /orders",
        fingerprint: Fingerprint::of("POST", "/orders", format!("\"{key}\"").as_bytes()).unwrap(),
        in_flight: TimeDelta::seconds(5),
        answered_at_once: false,
    }
}

pub(crate) fn accept(user: UserId, key: &str, terms: NewOrder) -> AcceptOrder {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    AcceptOrder {
        id: OrderId(Uuid::from_u128((0x0190_0000_0000_7000_8000_0000_0000_0000_u128) + u128::from(n))),
        user,
        account: None,
        key: AcceptKey::Request(request_key(key)),
        reference_price: None,
        closes: false,
        terms,
        source: OrderSource { kind: SourceKind::Api, id: None },
        audit: AuditEntry {
            at: at(1),
            action: "order.create".into(),
            outcome: AuditOutcome::Success,
            actor_id: Some(user),
            subject_id: Some(user),
            ip: Some("127.0.0.1".into()),
            user_agent: Some("test\r\n\u{1b}[31m".into()),
            request_id: Some(Uuid::from_u128(9)),
            detail: serde_json::Value::Null,
        },
        submit_within: (TimeDelta::seconds(60), TimeDelta::minutes(5)),
        now: at(1),
    }
}

pub(crate) fn client_order_id(world: &World, id: OrderId) -> String {
    world.test.rows(&format!("SELECT client_order_id FROM orders WHERE id = '{id}'"))[0]["client_order_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(crate) fn seen(world: &World, id: OrderId, status: OrderStatus, second: i64, filled: i64) -> BrokerOrder {
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    let terms = order.terms;
    BrokerOrder {
        id: format!("b-{id}").parse().unwrap(),
        client_order_id: client_order_id(world, id),
        symbol: terms.symbol.to_string(),
        side: Some(terms.side),
        order_type: Some(terms.pricing.order_type()),
        time_in_force: Some(TimeInForce::Day),
        class: None,
        role: None,
        qty: terms.qty().map(Quantity::get),
        notional: None,
        limit_price: None,
        stop_price: None,
        trail_price: None,
        trail_percent: None,
        extended_hours: false,
        status: BrokerStatus::Known(status),
        filled_qty: filled.into(),
        filled_avg_price: None,
        submitted_at: Some(at(second)),
        updated_at: at(second),
        replaces: None,
        replaced_by: None,
        legs: Vec::new(),
    }
}

pub(crate) fn report(seen: BrokerOrder, executions: Vec<Execution>) -> OrderReport {
    OrderReport { seen, executions, cause: "stream:test".into(), reason: None }
}

pub(crate) fn execution(qty: i64, cum: i64, price: &str) -> Execution {
    Execution {
        qty: Quantity::new(qty.into()).unwrap(),
        price: price.parse::<Price>().unwrap(),
        cum_qty: Quantity::new(cum.into()).unwrap(),
        source: FillSource::Stream,
        executed_at: at(cum),
        broker_id: None,
    }
}
