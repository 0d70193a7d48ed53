//! What must hold after every fault, once everything is healed and quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use serde_json::Value;

use super::desk::market;
use super::world::{PATIENCE, Setup, World, until};

/// Statuses in which something is still to be done here.
const UNSETTLED: &str =
    "('pending_submit', 'submitting', 'unknown', 'pending_cancel', 'pending_replace', 'accepted')";

fn dec(value: &Value) -> Decimal {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl World {
    /// Heals every fault and waits until nothing is under way any more.
    pub(crate) async fn quiesce(&mut self) {
        self.broker.heal().await;
        for instance in &mut self.instances {
            instance.proxy.heal();
        }
        assert!(
            self.instances.iter().any(super::instance::Instance::runs),
            "no server is left to settle anything"
        );
        // what was given up is looked for during a week, and a wish to cancel it waits for that
        let jobs = "jobs j WHERE state = 'leased' OR (state = 'ready' AND (run_at <= now() OR (queue = 'broker' \
                    AND kind <> 'watch_order' AND NOT (kind = 'cancel_order' AND EXISTS (SELECT 1 FROM orders o \
                    WHERE o.id::text = j.payload ->> 'order_id' AND o.status = 'not_sent')))))";
        let orders = format!("orders WHERE status IN {UNSETTLED}");
        // twice in a row: what was just settled may have called for more
        let mut quiet = 0;
        let began = Instant::now();
        while quiet < 2 {
            let open = (self.database.count(&orders), self.database.count(jobs));
            quiet = if open == (0, 0) { quiet + 1 } else { 0 };
            assert!(began.elapsed() < PATIENCE, "not quiet: {open:?} orders and jobs: {}", self.unsettled());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn unsettled(&self) -> String {
        let orders =
            format!("SELECT id, status, status_reason FROM orders WHERE status IN {UNSETTLED} LIMIT 5");
        let jobs = "SELECT id, kind, state, attempt, crash_count, run_at, last_error FROM jobs \
                    WHERE state IN ('leased', 'ready') LIMIT 10";
        format!("{:?} {:?}", self.database.rows(&orders), self.database.rows(jobs))
    }

    /// The oracle: heals, waits until all is quiet, and fails the test with every rule that is broken.
    pub(crate) async fn verdict(&mut self) {
        self.quiesce().await;
        let broken = self.broken(PATIENCE).await;
        assert!(broken.is_empty(), "{} rules are broken:\n{}", broken.len(), broken.join("\n"));
    }

    /// Every rule that is broken; `patience` for what may still be on its way.
    async fn broken(&self, patience: Duration) -> Vec<String> {
        // fills come over a stream that has its own pace
        let began = Instant::now();
        let mut broken = self.books().await;
        while !broken.is_empty() && began.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(250)).await;
            broken = self.books().await;
        }
        broken.extend(self.promises().await);
        broken.extend(self.streams().await);
        broken.extend(self.jobs());
        broken.extend(self.audit());
        broken.extend(self.holdings().await);
        broken.extend(self.leaks());
        broken
    }

    /// The oracle, then the end of every server by SIGTERM, which must be a clean one; the logs are read last.
    pub(crate) async fn finish(mut self) {
        self.verdict().await;
        for at in 0..self.instances.len() {
            if self.instances[at].runs() {
                let status = self.instances[at].stop();
                let log = self.instances[at].log();
                let end: Vec<&str> = log.lines().rev().take(10).collect();
                assert_eq!(status.code(), Some(0), "{}: {end:#?}", self.instances[at].name);
            }
        }
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }

    /// Orders, fills and positions against the broker's ledger.
    async fn books(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let here = self.database.rows(
            "SELECT o.id, client_order_id, o.status, o.filled_qty::text AS filled, o.closed_at IS NOT NULL AS closed, \
             coalesce((SELECT sum(f.qty) FROM fills f WHERE f.account_id = o.account_id AND f.order_id = o.id), 0)::text \
             AS fills FROM orders o",
        );
        let (ledger, executions) = (self.broker.orders().await, self.broker.fills().await);
        let mut there: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for row in &ledger {
            there.entry(text(&row["client_order_id"])).or_default().push(row);
        }
        let mut filled: BTreeMap<String, Decimal> = BTreeMap::new();
        for row in &executions {
            *filled.entry(text(&row["client_order_id"])).or_default() += dec(&row["qty"]);
        }
        let mut known = BTreeSet::new();
        for order in &here {
            let id = text(&order["client_order_id"]);
            let (status, closed) = (text(&order["status"]), order["closed"] == true);
            let rows = there.get(&id).map_or(&[][..], Vec::as_slice);
            if status == "conflict" {
                // somebody else's order has its id: a human decides
                known.insert(id);
                continue;
            }
            let taken: Vec<_> = rows.iter().filter(|row| row["status"] != "rejected").collect();
            if taken.len() > 1 {
                broken.push(format!("the broker has {} orders for {order}", taken.len()));
            }
            match taken.first() {
                Some(row) => {
                    let there = text(&row["status"]);
                    let open = ["new", "partially_filled", "accepted", "pending_new", "held"];
                    let same = if closed { there == status } else { open.contains(&there.as_str()) };
                    if !same {
                        broken.push(format!("{order}, at the broker: {there}"));
                    }
                }
                None if matches!(status.as_str(), "not_sent" | "rejected" | "canceled" | "expired") => {}
                None => broken.push(format!("the broker has no order for {order}")),
            }
            let (sum, total) = (dec(&order["fills"]), dec(&order["filled"]));
            let at_broker = filled.get(&id).copied().unwrap_or_default();
            if sum != total || total != at_broker {
                broken.push(format!("{order}: filled {total}, fills {sum}, at the broker {at_broker}"));
            }
            known.insert(id);
        }
        for id in there.keys().filter(|id| !known.contains(*id)) {
            broken.push(format!("the broker has an order that nobody here knows: {id}"));
        }
        broken.extend(self.positions(&executions));
        broken
    }

    fn positions(&self, executions: &[Value]) -> Vec<String> {
        let mut there: BTreeMap<(String, String), Decimal> = BTreeMap::new();
        for fill in executions {
            let qty = if fill["side"] == "buy" { dec(&fill["qty"]) } else { -dec(&fill["qty"]) };
            *there.entry((text(&fill["account"]), text(&fill["symbol"]))).or_default() += qty;
        }
        let mut broken = Vec::new();
        for desk in &self.desks {
            let query =
                format!("SELECT symbol, qty::text AS qty FROM positions WHERE user_id = {}", desk.user());
            let mut here: BTreeMap<String, Decimal> = BTreeMap::new();
            for row in self.database.rows(&query) {
                here.insert(text(&row["symbol"]), dec(&row["qty"]));
            }
            let symbols: BTreeSet<String> = there
                .keys()
                .filter(|(account, _)| account == desk.account())
                .map(|(_, symbol)| symbol.clone())
                .chain(here.keys().cloned())
                .collect();
            for symbol in symbols {
                let ours = here.get(&symbol).copied().unwrap_or_default();
                let theirs =
                    there.get(&(desk.account().to_owned(), symbol.clone())).copied().unwrap_or_default();
                if ours != theirs {
                    broken.push(format!("user {} has {ours} {symbol}, at the broker {theirs}", desk.user()));
                }
            }
        }
        broken
    }

    /// Each good answer has its order, and is given again byte by byte. No order was accepted twice by the broker.
    async fn promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let server = self.instances.iter().find(|instance| instance.runs()).unwrap();
        for desk in &self.desks {
            let promised = desk.promised().clone();
            for (key, promise) in promised {
                let (path, body) = (promise.path.as_str(), promise.body.clone());
                let again = desk.send(&server.url, promise.method, path, Some(&key), body).await.unwrap();
                let same = (again.status, &again.text) == (promise.answer.status, &promise.answer.text);
                if !same || !again.replayed {
                    broken.push(format!("{key} was answered {:?}, and later {again:?}", promise.answer));
                }
                let json = promise.answer.json();
                let id = json["id"].as_str().or(json["order_id"].as_str()).unwrap_or_default();
                if path.starts_with("/orders")
                    && self.database.count(&format!("orders WHERE id::text = '{id}'")) != 1
                {
                    broken
                        .push(format!("{key} was answered {:?}, and there is no such order", promise.answer));
                }
            }
            let keys = format!(
                "(SELECT order_id FROM idempotency_keys WHERE user_id = {} AND order_id IS NOT NULL \
                 AND route LIKE 'POST /orders%' GROUP BY order_id HAVING count(*) > 1) q",
                desk.user()
            );
            if self.database.count(&keys) > 0 {
                broken.push("two keys have the same order".to_owned());
            }
        }
        let mut posts: BTreeMap<String, usize> = BTreeMap::new();
        for row in self.broker.requests().await {
            let path = text(&row["path"]);
            if row["method"] == "POST" && path.ends_with("/orders") && row["status"] == 200 {
                *posts.entry(text(&row["client_order_id"])).or_default() += 1;
            }
        }
        broken.extend(
            posts
                .iter()
                .filter(|(_, count)| **count > 1)
                .map(|(id, count)| format!("the broker accepted {id} {count} times")),
        );
        broken
    }

    /// Streams are dense from 1 to their head, and each client got a prefix without gap and without repetition.
    async fn streams(&self) -> Vec<String> {
        let mut broken: Vec<String> = self
            .database
            .rows(
                "SELECT h.stream_id, h.head, count(e.off) AS events, count(DISTINCT e.off) AS offsets, \
                 coalesce(min(e.off), 1) AS first, coalesce(max(e.off), 0) AS last FROM stream_head h \
                 LEFT JOIN stream_event e USING (stream_id) GROUP BY 1, 2 \
                 HAVING count(e.off) <> h.head OR coalesce(max(e.off), 0) <> h.head OR coalesce(min(e.off), 1) <> 1",
            )
            .iter()
            .map(|row| format!("a stream is not dense: {row}"))
            .collect();
        for watcher in &self.watchers {
            let id = watcher.stream.strip_prefix("user:").unwrap();
            let query =
                format!("SELECT coalesce(max(head), 0) AS head FROM stream_head WHERE stream_id = {id}");
            let head = self.database.rows(&query)[0]["head"].as_i64().unwrap();
            until("a client has heard everything", async || watcher.newest() >= head).await;
            let heard = watcher.heard();
            let began = heard.began.unwrap();
            let expected: Vec<i64> = (began + 1..=head).collect();
            if heard.offsets != expected {
                let at = heard.offsets.iter().zip(&expected).position(|(got, due)| got != due);
                broken.push(format!(
                    "a client of {} heard {} events of {} after {} connections, wrong from {at:?} on: {:?}",
                    watcher.stream,
                    heard.offsets.len(),
                    expected.len(),
                    heard.connected,
                    heard.kinds
                ));
            }
        }
        broken
    }

    /// No lease is forgotten; no local effect was made twice.
    fn jobs(&self) -> Vec<String> {
        let rules = [
            (
                "a job's lease ran out and nobody took it back",
                "jobs WHERE state = 'leased' AND lease_until < now()",
            ),
            (
                "an order has more than one job that sends it, or none",
                "(SELECT o.id FROM orders o LEFT JOIN jobs j ON j.kind = 'submit_order' AND j.parent_id IS NULL \
                 AND j.payload ->> 'order_id' = o.id::text \
                 WHERE o.source_kind <> 'external' AND o.replaces IS NULL AND o.role = 'entry' \
                 AND NOT EXISTS (SELECT FROM order_history h WHERE h.account_id = o.account_id AND h.order_id = o.id \
                   AND h.cause = 'imported') \
                 GROUP BY o.id HAVING count(j.id) <> 1) q",
            ),
            (
                "an order was taken twice",
                "(SELECT order_id FROM order_history WHERE from_status IN ('submitting', 'unknown') \
                 AND to_status NOT IN ('submitting', 'unknown', 'pending_submit') GROUP BY order_id HAVING count(*) > 1) q",
            ),
            (
                "an order's versions have gaps",
                "(SELECT o.id FROM orders o LEFT JOIN order_history h ON h.account_id = o.account_id AND h.order_id = o.id \
                 GROUP BY o.id HAVING count(*) <> count(DISTINCT h.to_status || h.version)) q",
            ),
            (
                "orders and their audit entries differ in number",
                "(SELECT 1 FROM orders o JOIN users u ON u.id = o.user_id WHERE o.source_kind IN ('api', 'strategy') \
                 GROUP BY o.user_id HAVING count(*) <> (SELECT count(*) FROM audit_log a \
                 WHERE a.subject_id = o.user_id AND a.action IN ('order.create', 'order.replace', 'position.close') \
                 AND a.outcome = 'success')) q",
            ),
        ];
        rules
            .iter()
            .filter_map(|(rule, from)| {
                let count = self.database.count(from);
                (count > 0).then(|| format!("{rule}: {count}"))
            })
            .collect()
    }

    fn audit(&self) -> Option<String> {
        let mut command = self.instances.first()?.command();
        command.env("DATABASE_URL", self.database.url()).env("LOG_LEVEL", "error");
        let output = command.args(["audit", "verify", "--json"]).output().unwrap();
        (output.status.code() != Some(0)).then(|| format!("the audit log does not verify: {output:?}"))
    }

    /// Threads, files, memory and connections are back to what they were.
    async fn holdings(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let mut broken: Vec<String> = Vec::new();
            let running: Vec<_> = self.instances.iter().filter(|instance| instance.runs()).collect();
            broken.extend(running.iter().filter_map(|instance| instance.excess()));
            let open = self.database.count(
                "pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'plimsoll-%' \
                 AND state IS DISTINCT FROM 'active' AND pid <> pg_backend_pid()",
            );
            // 23 of the pools, listener, notifier, and the two of this test
            let most = 27 * i64::try_from(running.len()).unwrap() + 2;
            if open > most {
                broken.push(format!("{open} connections are open, {most} may be"));
            }
            if broken.is_empty() || began.elapsed() > PATIENCE {
                return broken;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// No secret stands in a log.
    fn leaks(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for instance in &self.instances {
            let log = instance.log();
            for secret in &self.secrets {
                if let Some(line) = log.lines().find(|line| line.contains(secret.as_str())) {
                    broken.push(format!("{} logged a secret: {line}", instance.name));
                }
            }
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                broken.push(format!("{} panicked: {line}", instance.name));
            }
        }
        broken
    }
}

/// Each rule is broken once, and the oracle names it.
#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_sees_what_is_wrong() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for n in 0..3 {
        let answer = ann.insist(&[&url], &format!("right-{n}"), &market("buy")).await;
        world.becomes(&answer.text_of("id"), &["filled"]).await;
    }
    world.verdict().await;

    let wrong = |what: &str| format!("SET session_replication_role = replica; {what}");
    let newest = "(SELECT id FROM orders ORDER BY id DESC LIMIT 1)";
    for (harm, mend, named) in [
        (
            "UPDATE positions SET qty = qty + 1".to_owned(),
            "UPDATE positions SET qty = qty - 1".to_owned(),
            "at the broker 3",
        ),
        (
            format!("UPDATE orders SET filled_qty = 0.5 WHERE id = {newest}"),
            format!("UPDATE orders SET filled_qty = 1 WHERE id = {newest}"),
            "filled 0.5",
        ),
        (
            format!("UPDATE orders SET status = 'canceled' WHERE id = {newest}"),
            format!("UPDATE orders SET status = 'filled' WHERE id = {newest}"),
            "at the broker: filled",
        ),
        (
            format!("UPDATE orders SET client_order_id = client_order_id || 'x' WHERE id = {newest}"),
            format!("UPDATE orders SET client_order_id = rtrim(client_order_id, 'x') WHERE id = {newest}"),
            "nobody here knows",
        ),
        (
            "UPDATE idempotency_keys SET body = body || '\\x20' WHERE key = 'right-1'".to_owned(),
            "UPDATE idempotency_keys SET body = substr(body, 1, length(body) - 1) WHERE key = 'right-1'"
                .to_owned(),
            "right-1 was answered",
        ),
        (
            "UPDATE stream_event SET off = off + 1000 WHERE off = (SELECT max(off) FROM stream_event)"
                .to_owned(),
            "UPDATE stream_event SET off = off - 1000 WHERE off > 1000".to_owned(),
            "not dense",
        ),
        (
            "UPDATE audit_log SET outcome = 'denied' WHERE action = 'order.create'".to_owned(),
            "UPDATE audit_log SET outcome = 'success' WHERE action = 'order.create'".to_owned(),
            "does not verify",
        ),
        (
            format!(
                "UPDATE jobs SET payload = jsonb_set(payload, '{{order_id}}', to_jsonb({newest})) WHERE kind = 'submit_order'"
            ),
            "UPDATE jobs j SET payload = jsonb_set(payload, '{order_id}', to_jsonb(o.id)) FROM orders o \
             WHERE j.dedup_key = o.client_order_id"
                .to_owned(),
            "more than one job that sends it",
        ),
    ] {
        world.database.execute(&wrong(&harm));
        let broken = world.broken(Duration::ZERO).await;
        assert!(broken.iter().any(|rule| rule.contains(named)), "after {harm}: {broken:#?}");
        world.database.execute(&wrong(&mend));
    }
    world.watchers[0].mishear();
    let broken = world.broken(Duration::ZERO).await;
    assert!(broken.len() == 1 && broken[0].contains("heard"), "{broken:#?}");
    world.watchers.clear();
    world.secrets.push("SPY".to_owned());
    std::fs::write(&world.instances[0].log, "an order for SPY").unwrap();
    let broken = world.broken(Duration::ZERO).await;
    assert!(broken.len() == 1 && broken[0].contains("logged a secret"), "{broken:#?}");
    world.secrets.pop();
    world.finish().await;
}
