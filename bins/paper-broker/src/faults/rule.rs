//! The form of a fault rule, and what it matches.

use serde::{Deserialize, Serialize};

/// A rule that makes the broker misbehave.
///
/// Rules are tried in their order. The first that matches and has hits left acts; [`Action::Delay`] and
/// [`Action::DelayAfter`] let later rules act too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Made where it is absent.
    #[serde(default)]
    pub id: Option<String>,
    /// What it acts on; everything where it is absent.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// How often it acts; for ever where it is absent.
    #[serde(default)]
    pub times: Option<u64>,
    /// So many that match are let through first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<u64>,
    /// What it does.
    pub action: Action,
    /// Milliseconds of real time, for actions that take a time.
    #[serde(default)]
    pub ms: Option<u64>,
    /// HTTP status, for actions that answer one.
    #[serde(default)]
    pub status: Option<u16>,
}

/// Conditions that must all hold; `*` stands for any text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// HTTP method, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path with or without `/v2`; `/stream` for the handshake and for messages of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Symbol of the order or position concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Client id of the order concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// Account id or key id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Event name, for actions on the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Waits `ms` (1000) before the request is processed.
    Delay,
    /// Waits `ms` (1000) between processing and answer, so that the stream is ahead of it.
    DelayAfter,
    /// Closes the connection; nothing was processed.
    Drop,
    /// Processes the request, then closes the connection without an answer.
    AcceptThenDrop,
    /// Answers `status` (503); nothing was processed.
    StatusBefore,
    /// Processes the request, then answers `status` (504).
    StatusAfter,
    /// Processes the request, then answers 200 with a body that is no JSON.
    Garbage,
    /// Answers 429 with a reset `ms` (1000) away; nothing was processed.
    RateLimit,
    /// Does not send the message.
    StreamDrop,
    /// Sends the message twice.
    StreamDuplicate,
    /// Sends the message after the account's next one, at the latest after `ms` (1000).
    StreamReorder,
    /// Sends the account nothing from this message on, for `ms`; while the rule stands where `ms` is absent.
    StreamSilence,
    /// Closes the account's stream connections instead of sending the message.
    StreamCut,
    /// Leaves the order out of lists of orders.
    HideFromList,
    /// Leaves the order's fills out of the account's activities.
    HideFromBook,
    /// Look-ups of one order, by either id, answer 404.
    #[serde(rename = "lookup_404")]
    Lookup404,
}

/// Where an action applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Request,
    Message,
    List,
}

impl Action {
    pub(crate) fn place(self) -> Place {
        match self {
            Self::StreamDrop
            | Self::StreamDuplicate
            | Self::StreamReorder
            | Self::StreamSilence
            | Self::StreamCut => Place::Message,
            Self::HideFromList | Self::HideFromBook => Place::List,
            _ => Place::Request,
        }
    }
}

/// What a request or message is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) symbol: Option<&'a str>,
    pub(crate) client_order_ids: Vec<&'a str>,
    /// Account id and key ids.
    pub(crate) accounts: &'a [String],
    pub(crate) event: Option<&'a str>,
}

impl Match {
    pub(crate) fn matches(&self, facts: &Facts<'_>) -> bool {
        self.matches_caller(facts)
            && self.matches_order(facts.symbol, &facts.client_order_ids)
            && self.event.as_ref().is_none_or(|pattern| facts.event.is_some_and(|event| glob(pattern, event)))
    }

    /// Method, path and account only.
    pub(crate) fn matches_caller(&self, facts: &Facts<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(facts.method))
            && self.path.as_ref().is_none_or(|pattern| {
                let short = facts.path.strip_prefix("/v2").unwrap_or(facts.path);
                glob(pattern, facts.path) || glob(pattern, short)
            })
            && self
                .account
                .as_ref()
                .is_none_or(|pattern| facts.accounts.iter().any(|name| glob(pattern, name)))
    }

    /// Symbol and client id only.
    pub(crate) fn matches_order(&self, symbol: Option<&str>, client_order_ids: &[&str]) -> bool {
        self.symbol.as_ref().is_none_or(|pattern| symbol.is_some_and(|symbol| glob(pattern, symbol)))
            && self
                .client_order_id
                .as_ref()
                .is_none_or(|pattern| client_order_ids.iter().any(|id| glob(pattern, id)))
    }

    pub(crate) fn names_order(&self) -> bool {
        self.symbol.is_some() || self.client_order_id.is_some()
    }
}

/// Whether a text has the form of a pattern in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("plm-*", "plm-abc", true),
            ("plm-*", "x-plm-abc", false),
            ("*", "", true),
            ("/v2/orders*", "/v2/orders/1", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("a*bc", "abc", true),
            ("ab*bc", "abc", false),
            ("same", "same", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let accounts = ["acct".to_owned(), "PKKEY".to_owned()];
        let facts = Facts {
            method: "POST",
            path: "/v2/orders",
            symbol: Some("SPY"),
            client_order_ids: vec!["one", "two"],
            accounts: &accounts,
            event: None,
        };
        let rule = |text: &str| serde_json::from_str::<Match>(text).unwrap().matches(&facts);
        assert!(rule("{}"));
        assert!(rule(
            r#"{"method":"post","path":"/orders","symbol":"SPY","client_order_id":"two","account":"PK*"}"#
        ));
        assert!(rule(r#"{"path":"/v2/orders"}"#));
        for wrong in [
            r#"{"method":"GET"}"#,
            r#"{"path":"/v2/positions"}"#,
            r#"{"symbol":"IBM"}"#,
            r#"{"client_order_id":"three"}"#,
            r#"{"account":"other"}"#,
            r#"{"event":"fill"}"#,
        ] {
            assert!(!rule(wrong), "{wrong}");
        }
    }

    #[test]
    fn unknown_members_are_refused() {
        assert!(serde_json::from_str::<FaultRule>(r#"{"action":"drop","tmes":1}"#).is_err());
        assert!(serde_json::from_str::<FaultRule>(r#"{"action":"explode"}"#).is_err());
        assert!(
            serde_json::from_str::<FaultRule>(r#"{"action":"lookup_404","match":{"symbol":"A"},"times":2}"#)
                .is_ok()
        );
    }
}
