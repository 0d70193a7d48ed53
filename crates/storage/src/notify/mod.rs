//! Waking other processes over `NOTIFY`. A notification saves a wait and is never needed: whoever listens also sweeps
//! regularly.
//!
//! `NOTIFY` inside a business transaction would serialise all commits of the database, so a [`Notifier`] collects the
//! topics of committed transactions and sends them from a thread and a connection of its own.

mod listener;
mod notifier;

pub use self::listener::{Delivery, Listener, Wakeups};
pub use self::notifier::{Notifier, NotifierSettings};

/// The channel on which all topics travel.
pub const CHANNEL: &str = "plimsoll";

/// Stands for "any topic": sent when a list is too long for one notification.
pub(crate) const EVERYTHING: &str = "*";

/// PostgreSQL takes payloads of less than 8,000 bytes.
const LONGEST_PAYLOAD: usize = 7_900;

/// The topics in one payload, or [`EVERYTHING`] when they do not fit.
fn payload<'a>(topics: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for topic in topics {
        if topic == EVERYTHING || all.len() + 1 + topic.len() > LONGEST_PAYLOAD {
            return EVERYTHING.to_owned();
        }
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(topic);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_joined() {
        assert_eq!(payload(["jobs:broker", "user:7"]), "jobs:broker,user:7");
        assert_eq!(payload([]), "");
    }

    #[test]
    fn a_list_that_is_too_long_becomes_everything() {
        let topics: Vec<String> = (0..1_000).map(|id| format!("user:{id}")).collect();
        let short = payload(topics.iter().take(800).map(String::as_str));
        assert!(short.len() <= LONGEST_PAYLOAD && short.ends_with("user:799"));
        assert_eq!(payload(topics.iter().map(String::as_str)), EVERYTHING);
        assert_eq!(payload(["a", EVERYTHING]), EVERYTHING);
    }
}
