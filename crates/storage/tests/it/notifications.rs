//! Topics from one process to another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use plimsoll_storage::notify::{Delivery, Listener, Notifier, NotifierSettings, Wakeups};
use plimsoll_testkit::TestDb;

#[derive(Debug, PartialEq)]
enum Heard {
    Topics(Vec<String>),
    Sweep,
}

struct Ear(Sender<Heard>);

impl Wakeups for Ear {
    fn topics(&self, topics: &[&str]) {
        let _ = self.0.send(Heard::Topics(topics.iter().map(ToString::to_string).collect()));
    }

    fn sweep(&self) {
        let _ = self.0.send(Heard::Sweep);
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn listen(database: &TestDb) -> (Listener, Receiver<Heard>) {
    let (sender, heard) = channel();
    let listener = Listener::start(database.url(), Arc::new(Ear(sender))).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Sweep, "a sweep comes first");
    (listener, heard)
}

fn until_works(listener: &Listener) {
    let start = Instant::now();
    while listener.delivery() != Delivery::Works {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_flagged_topic_arrives_in_few_notifications() {
    let database = TestDb::empty();
    let (listener, heard) = listen(&database);
    until_works(&listener);
    let notifier = Notifier::start(database.url(), NotifierSettings::default()).unwrap();
    for id in 0..500 {
        notifier.flag(format!("user:{}", id % 50));
    }
    let mut seen = BTreeSet::new();
    let mut notifications = 0;
    while seen.len() < 50 {
        let Heard::Topics(topics) = heard.recv_timeout(PATIENCE).unwrap() else { panic!("no sweep was due") };
        seen.extend(topics);
        notifications += 1;
    }
    assert!(notifications <= 10, "{notifications} notifications for topics flagged at once");
}

#[test]
fn too_many_topics_become_a_sweep() {
    let database = TestDb::empty();
    let (listener, heard) = listen(&database);
    until_works(&listener);
    // a long first interval gathers all topics in one notification
    let settings = NotifierSettings { interval: Duration::from_millis(300), ..NotifierSettings::default() };
    let notifier = Notifier::start(database.url(), settings).unwrap();
    notifier.flag("first");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Topics(vec!["first".into()]));
    for id in 0..2_000 {
        notifier.flag(format!("user:{id}"));
    }
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Sweep);
}

#[test]
fn what_waits_at_the_end_is_still_sent() {
    let database = TestDb::empty();
    let (_listener, heard) = listen(&database);
    let notifier = Notifier::start(database.url(), NotifierSettings::default()).unwrap();
    notifier.flag("last");
    drop(notifier);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Topics(vec!["last".into()]));
}

#[test]
fn both_halves_reconnect_and_a_reconnected_listener_sweeps() {
    let database = TestDb::empty();
    let (listener, heard) = listen(&database);
    until_works(&listener);
    let notifier = Notifier::start(database.url(), NotifierSettings::default()).unwrap();
    notifier.flag("before");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Topics(vec!["before".into()]));
    database.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Sweep);
    notifier.flag("after");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Heard::Topics(vec!["after".into()]));
}

#[test]
fn a_server_that_is_away_hinders_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgresql:///x?host={}", folder.path().display());
    let (sender, heard) = channel();
    let listener = Listener::start(&url, Arc::new(Ear(sender))).unwrap();
    let notifier = Notifier::start(&url, NotifierSettings::default()).unwrap();
    for id in 0..10_000 {
        notifier.flag(format!("user:{id}"));
    }
    assert_eq!(listener.delivery(), Delivery::Unknown);
    let start = Instant::now();
    drop((listener, notifier));
    assert!(start.elapsed() < Duration::from_secs(5), "both end at once: {:?}", start.elapsed());
    assert!(heard.recv().is_err(), "nothing was heard");
}
