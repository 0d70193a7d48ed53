//! A database, a broker, servers and traders, all of them real: what a fault happens to.

use std::time::{Duration, Instant};

use plimsoll_core_domain::stream::{StreamHead, StreamId};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_testkit::free_port;
use tempfile::TempDir;

use super::broker::Broker;
use super::database::Database;
use super::desk::Desk;
use super::instance::Instance;
use super::watcher::Watcher;
use crate::people::{Installation, KEY};

/// For what happens at once, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Every duration of the reliable parts is that many times shorter, unless real time is asked for.
const PACE: f64 = 0.1;

/// What to make a [`World`] of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    own_server: Option<Vec<(&'static str, &'static str)>>,
    settings: Vec<(String, String)>,
    broker: Vec<&'static str>,
    replay: bool,
    pace: Option<f64>,
    empty: bool,
}

impl Setup {
    /// The database has no schema yet, and nobody can trade.
    pub(crate) fn empty(mut self) -> Self {
        self.empty = true;
        self
    }

    /// The database gets a PostgreSQL server of its own, with further settings of the server.
    pub(crate) fn own_server(mut self, settings: &[(&'static str, &'static str)]) -> Self {
        self.own_server = Some(settings.to_vec());
        self
    }

    /// A setting of every server.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Options of the simulator.
    pub(crate) fn broker(mut self, options: &[&'static str]) -> Self {
        self.broker = options.to_vec();
        self
    }

    /// The simulator replays its recorded market data.
    pub(crate) fn replay(mut self) -> Self {
        self.replay = true;
        self
    }

    /// Another pace than a tenth; not where real time is asked for.
    pub(crate) fn pace(mut self, pace: f64) -> Self {
        self.pace = Some(pace);
        self
    }

    pub(crate) async fn build(self) -> World {
        World::new(self).await
    }
}

pub(crate) struct World {
    pub(crate) instances: Vec<Instance>,
    pub(crate) broker: Broker,
    pub(crate) desks: Vec<Desk>,
    pub(crate) watchers: Vec<Watcher>,
    /// No text of these may be in a log.
    pub(super) secrets: Vec<String>,
    /// `None` where the database has no schema to write them into.
    people: Option<Installation>,
    pub(crate) database: Database,
    pub(crate) http: reqwest::Client,
    settings: Vec<(String, String)>,
    scale: f64,
    folder: TempDir,
}

impl World {
    /// A database, a broker, and nobody.
    async fn new(setup: Setup) -> Self {
        plimsoll_broker::install_crypto_provider();
        let database = match &setup.own_server {
            Some(settings) => Database::own(settings),
            None if setup.empty => Database::empty(),
            None => Database::shared(),
        };
        let folder = tempfile::Builder::new().prefix("plm").tempdir().unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let broker = Broker::start(folder.path().join("broker"), &setup.broker, setup.replay, http.clone());
        let scale = if real_time() { 1.0 } else { setup.pace.unwrap_or(PACE) };
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let own = [
            ("PROFILE", "development".to_owned()),
            ("ENCRYPTION_KEY", KEY.to_owned()),
            // nobody's: there is no administrator
            ("ALPACA_API_KEY", text(&broker.login["api_key"])),
            ("ALPACA_API_SECRET", text(&broker.login["api_secret"])),
            ("ALPACA_BASE_URL", broker.url.clone()),
            ("ARGON2_MEMORY_KIB", "12288".to_owned()),
            ("LOG_LEVEL", "info".to_owned()),
            ("RATE_LIMIT_ORDERS", "off".to_owned()),
            ("TIME_SCALE", scale.to_string()),
        ];
        let mut settings: Vec<_> = own.map(|(name, value)| (name.to_owned(), value)).to_vec();
        settings.extend(setup.settings);
        Self {
            instances: Vec::new(),
            desks: Vec::new(),
            watchers: Vec::new(),
            secrets: vec![KEY.to_owned(), text(&broker.login["api_secret"])],
            people: (!setup.empty).then(|| Installation::new(database.pool())),
            broker,
            database,
            http,
            settings,
            scale,
            folder,
        }
    }

    /// A duration of reliability's, at the pace of this world.
    pub(crate) fn time(&self, real: Duration) -> Duration {
        real.mul_f64(self.scale)
    }

    /// A server that is not started yet.
    pub(crate) fn instance(&mut self, name: &str) -> usize {
        let (folder, url) = (self.folder.path(), self.database.url());
        let mut settings = self.settings.clone();
        // Each has a listener of its own.
        settings.push(("METRICS_ADDR".to_owned(), format!("127.0.0.1:{}", free_port())));
        self.instances.push(Instance::new(name, folder, url, settings, self.http.clone()));
        self.instances.len() - 1
    }

    /// Starts a server and waits until it serves.
    pub(crate) async fn serve(&mut self, name: &str) -> usize {
        let at = self.instance(name);
        self.instances[at].restart().await;
        at
    }

    /// The address of a server.
    pub(crate) fn url(&self, at: usize) -> String {
        self.instances[at].url.clone()
    }

    /// A trader with an account of their own at the broker, whose key is saved.
    pub(crate) async fn trader(&mut self, name: &str) -> Desk {
        let login = self.broker.account().await;
        let text = |field: &str| login[field].as_str().unwrap().to_owned();
        let people = self.people.as_ref().expect("a database with a schema");
        let (user, token) = people.user(name);
        people.save_key(user, &text("api_key"), &text("api_secret"));
        self.secrets.extend([token.clone(), text("api_secret")]);
        let keys = (text("api_key"), text("api_secret"));
        let desk = Desk::new(user, text("account_id"), keys, token, self.http.clone());
        self.desks.push(desk.clone());
        desk
    }

    /// Somebody with a session and without an account at the broker, and the session's token.
    pub(crate) fn person(&mut self, name: &str) -> (UserId, String) {
        let person = self.people.as_ref().expect("a database with a schema").user(name);
        self.secrets.push(person.1.clone());
        person
    }

    /// Where these streams stand in the database.
    pub(crate) fn heads(&self, streams: &[StreamId]) -> Vec<(StreamId, StreamHead)> {
        let heads = self.database.pool().read_blocking(|tx| tx.stream_heads(streams));
        let mut heads = heads.unwrap_or_else(|why: StoreError| panic!("{why}"));
        heads.sort_by_key(|(stream, _)| stream.key());
        heads
    }

    /// Waits until the trader's account takes orders at this server.
    pub(crate) async fn trades(&self, desk: &Desk, at: usize) {
        let followed = format!(
            "leases JOIN accounts a ON name = 'account:' || a.id WHERE a.user_id = {} AND expires_at > now() AND ready",
            desk.user()
        );
        let url = self.url(at);
        until("the account takes orders", async || {
            self.database.count(&followed) == 1
                && desk
                    .send(&url, reqwest::Method::GET, "/account", None, None)
                    .await
                    .is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// A client of the trader's stream over these servers; the oracle looks at what it got.
    pub(crate) async fn watch(&mut self, desk: &Desk, instances: &[usize]) {
        let urls: Vec<String> = instances.iter().map(|at| self.url(*at)).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        self.watchers.push(Watcher::start(desk, &urls).await);
    }

    /// A world with one server and one trader whose account takes orders.
    pub(crate) async fn with_one(setup: Setup) -> (Self, Desk) {
        let mut world = setup.build().await;
        world.serve("one").await;
        let desk = world.trader("ann").await;
        world.trades(&desk, 0).await;
        (world, desk)
    }

    /// The status of an order as the database has it.
    pub(crate) fn status(&self, id: &str) -> String {
        let rows = self.database.rows(&format!("SELECT status FROM orders WHERE id = '{id}'"));
        rows.first().map(|row| row["status"].as_str().unwrap().to_owned()).unwrap_or_default()
    }

    /// The causes of an order's changes, oldest first.
    pub(crate) fn causes(&self, id: &str) -> Vec<String> {
        let query = format!("SELECT cause FROM order_history WHERE order_id = '{id}' ORDER BY version");
        self.database.rows(&query).iter().map(|row| row["cause"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an order has one of these statuses.
    pub(crate) async fn becomes(&self, id: &str, statuses: &[&str]) {
        let what = format!("order {id} is {statuses:?}");
        until(&what, async || statuses.contains(&self.status(id).as_str())).await;
    }
}

/// Waits for something, and answers how long it took.
pub(crate) async fn until(what: &str, met: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while !met().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

/// Whether durations are to be as they are in production.
#[expect(clippy::disallowed_methods, reason = "the environment is how a test run is configured")]
pub(crate) fn real_time() -> bool {
    std::env::var_os("FAULTS_REAL_TIME").is_some_and(|value| value == "1")
}
