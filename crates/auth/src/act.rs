use chrono::{DateTime, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::ClientInfo;

/// The circumstances of an act: from where, in which request and session, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// From where.
    pub client: ClientInfo,
    /// In which request.
    pub request_id: Option<Uuid>,
    /// In which session (its id, which opens nothing).
    pub session: Option<Uuid>,
    /// Now.
    pub at: DateTime<Utc>,
}

impl Act {
    /// An act outside any request, such as a command line's or a clean-up's.
    #[must_use]
    pub fn without_request(at: DateTime<Utc>) -> Self {
        Self { client: ClientInfo::default(), request_id: None, session: None, at }
    }

    /// An audit entry of this act. `detail` is a JSON object, or null for none; the session is added to it.
    #[must_use]
    pub fn entry(
        &self,
        action: &str,
        outcome: AuditOutcome,
        actor: Option<UserId>,
        subject: Option<UserId>,
        detail: Value,
    ) -> AuditEntry {
        let mut detail = match detail {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        if let Some(session) = self.session {
            detail.entry("session_id").or_insert_with(|| session.to_string().into());
        }
        AuditEntry {
            at: self.at,
            action: action.to_owned(),
            outcome,
            actor_id: actor,
            subject_id: subject,
            ip: self.client.ip().map(|ip| ip.to_string()),
            user_agent: self.client.user_agent().map(str::to_owned),
            request_id: self.request_id,
            detail: Value::Object(detail),
        }
    }
}
