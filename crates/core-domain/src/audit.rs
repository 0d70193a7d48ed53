//! The audit log: what was done, by whom, with which outcome, in the transaction of the act itself.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::clock::to_micros;
use crate::ids::UserId;
use crate::store::StoreError;

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// Done.
    Success,
    /// Tried, and it failed.
    Failure,
    /// Refused.
    Denied,
}

impl AuditOutcome {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

impl std::str::FromStr for AuditOutcome {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Success, Self::Failure, Self::Denied]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or("an outcome is success, failure or denied")
    }
}

/// One act. Never holds a secret, token or code; texts are capped and without control characters.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: DateTime<Utc>,
    /// What, as a stable word such as `order.create`; at most 64 characters.
    pub action: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Who acted, where known.
    pub actor_id: Option<UserId>,
    /// Whom it concerns.
    pub subject_id: Option<UserId>,
    /// From which address.
    pub ip: Option<String>,
    /// With which client.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: Option<Uuid>,
    /// What else is worth keeping: decimals as strings.
    pub detail: Value,
}

/// Longest `detail` in bytes.
const MAX_DETAIL: usize = 8192;

impl AuditEntry {
    /// The entry as it is kept: times cut to microseconds, texts capped, and every character that ends a line, steers
    /// a terminal or turns the direction of text replaced by a space.
    #[must_use]
    pub fn neutral(&self) -> Self {
        let clean = |text: &str, longest: usize| -> String {
            text.chars().map(|c| if is_active(c) { ' ' } else { c }).take(longest).collect()
        };
        Self {
            at: to_micros(self.at),
            action: clean(&self.action, 64),
            ip: self.ip.as_deref().map(|text| clean(text, 64)),
            user_agent: self.user_agent.as_deref().map(|text| clean(text, 400)),
            ..self.clone()
        }
    }

    /// The detail as canonical JSON text: keys sorted, no white space between tokens, the characters that
    /// [`neutral`](Self::neutral) replaces escaped. A detail of more than 8,192 bytes is replaced by its length.
    #[must_use]
    pub fn canonical_detail(&self) -> String {
        let mut text = String::new();
        write_canonical(&self.detail, &mut text);
        if text.len() > MAX_DETAIL { format!("{{\"omitted_bytes\":{}}}", text.len()) } else { text }
    }
}

/// Whether a character does something to whoever prints it: C0 and C1 controls (CR, LF, the escapes of terminals),
/// the other line ends, and the marks that turn the direction of text.
fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write_text(text: &str, out: &mut String) {
    // JSON itself only asks for the C0 controls to be escaped.
    for c in Value::from(text).to_string().chars() {
        if is_active(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (at, key) in keys.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write_canonical(&fields[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        plain => out.push_str(&plain.to_string()),
    }
}

/// Where audit entries go: in the transaction of the act, so that either both are kept or neither.
pub trait AuditLog {
    /// Appends to the chain of `owner`; without one, to one of the system's chains.
    ///
    /// # Errors
    /// The store's own; the act must then fail too.
    fn append_audit(&mut self, owner: Option<UserId>, entry: &AuditEntry) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry(detail: Value) -> AuditEntry {
        AuditEntry {
            at: DateTime::UNIX_EPOCH,
            action: "login\r\nforged".into(),
            outcome: AuditOutcome::Success,
            actor_id: None,
            subject_id: None,
            ip: None,
            user_agent: Some(format!("\u{1b}[31m{}", "x".repeat(500))),
            request_id: None,
            detail,
        }
    }

    #[test]
    fn detail_has_one_form() {
        let text = entry(json!({"b": [1, {"z": null, "a": "x\n"}], "a": "1.50"})).canonical_detail();
        assert_eq!(text, r#"{"a":"1.50","b":[1,{"a":"x\n","z":null}]}"#);
        assert_eq!(entry(json!("x".repeat(9000))).canonical_detail(), r#"{"omitted_bytes":9002}"#);
    }

    #[test]
    fn nothing_in_a_detail_can_steer_a_terminal_or_end_a_line() {
        let text = entry(json!({"\u{9b}2J": "\u{7f}\u{85}\u{2028}\u{202e}\u{1b}"})).canonical_detail();
        assert_eq!(text, r#"{"\u009b2J":"\u007f\u0085\u2028\u202e\u001b"}"#);
    }

    fn details() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_canonical_detail_reads_back_and_is_its_own_form(detail in details()) {
            let text = entry(detail.clone()).canonical_detail();
            prop_assume!(!text.starts_with("{\"omitted_bytes"));
            let back: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&back, &detail);
            prop_assert!(!text.chars().any(is_active));
            prop_assert_eq!(entry(back).canonical_detail(), text);
        }
    }

    #[test]
    fn control_characters_and_length_are_neutralised() {
        let kept = entry(Value::Null).neutral();
        assert_eq!(kept.action, "login  forged");
        let agent = kept.user_agent.unwrap();
        assert!(agent.starts_with(" [31m") && agent.chars().count() == 400);
    }
}
