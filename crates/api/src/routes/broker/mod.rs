//! The keys that users trade with.

pub mod credentials_delete;
pub mod credentials_list;
pub mod credentials_put;
pub mod credentials_test;
pub mod live;

use plimsoll_auth::vault::{BrokerName, CredentialView};
use plimsoll_core_domain::views::At;
use serde::Serialize;

use crate::problem::Problem;

/// What is shown of a credential: nothing that opens anything.
#[derive(Serialize)]
struct Shown<'a> {
    broker: &'static str,
    environment: &'static str,
    key_last4: &'a str,
    fingerprint: &'a str,
    state: &'static str,
    updated_at: At,
}

impl<'a> From<&'a CredentialView> for Shown<'a> {
    fn from(view: &'a CredentialView) -> Self {
        Self {
            broker: view.broker.as_str(),
            environment: view.environment.as_str(),
            key_last4: &view.key_last4,
            fingerprint: &view.fingerprint,
            state: view.state.as_str(),
            updated_at: At(view.updated_at),
        }
    }
}

fn broker(text: &str) -> Result<BrokerName, Problem> {
    text.parse().map_err(|_| Problem::new("not_found", "there is no such broker"))
}

fn no_credential() -> Problem {
    Problem::new("not_found", "there is no credential for this broker")
}

fn unreadable() -> Problem {
    Problem::new("credential_unavailable", "the stored credential cannot be used at the moment")
        .retry_after(60)
}
