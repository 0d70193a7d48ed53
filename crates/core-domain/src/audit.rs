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
    /// The entry as it is kept: times cut to microseconds, texts capped, control characters (line ends and terminal
    /// escapes among them) replaced by spaces.
    #[must_use]
    pub fn neutral(&self) -> Self {
        let clean = |text: &str, longest: usize| -> String {
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect()
        };
        Self {
            at: to_micros(self.at),
            action: clean(&self.action, 64),
            ip: self.ip.as_deref().map(|text| clean(text, 64)),
            user_agent: self.user_agent.as_deref().map(|text| clean(text, 400)),
            ..self.clone()
        }
    }

    /// The detail as canonical JSON text: keys sorted, no white space, control characters escaped. A detail that is too
    /// long is replaced by its length.
    #[must_use]
    pub fn canonical_detail(&self) -> String {
        let mut text = String::new();
        write_canonical(&self.detail, &mut text);
        if text.len() > MAX_DETAIL { format!("{{\"omitted_bytes\":{}}}", text.len()) } else { text }
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
                out.push_str(&Value::String(key.clone()).to_string());
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
    use super::*;
    use serde_json::json;

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
    fn control_characters_and_length_are_neutralised() {
        let kept = entry(Value::Null).neutral();
        assert_eq!(kept.action, "login  forged");
        let agent = kept.user_agent.unwrap();
        assert!(agent.starts_with(" [31m") && agent.chars().count() == 400);
    }
}
