//! Ids and secrets from the operating system.

use std::sync::OnceLock;

use plimsoll_api::state::IdSource;
use plimsoll_core_domain::OrderId;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use uuid::Uuid;

/// The one adapter over ambient randomness and time for ids.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

#[expect(clippy::disallowed_methods, reason = "this is the adapter over ambient randomness for ids")]
fn version_7() -> Uuid {
    Uuid::now_v7()
}

#[expect(clippy::disallowed_methods, reason = "this is the adapter over ambient randomness for ids")]
fn random() -> Uuid {
    Uuid::new_v4()
}

impl SystemIds {
    /// This process, the same whenever it is asked.
    #[must_use]
    pub fn process(&self) -> Uuid {
        static PROCESS: OnceLock<Uuid> = OnceLock::new();
        *PROCESS.get_or_init(random)
    }

    /// A seed for spreading pauses; no secret.
    #[must_use]
    pub fn seed(&self) -> u64 {
        random().as_u64_pair().0
    }
}

impl IdSource for SystemIds {
    fn order_id(&self) -> OrderId {
        OrderId(version_7())
    }

    fn request_id(&self) -> Uuid {
        version_7()
    }

    fn session_token(&self) -> SecretToken {
        SecretToken::generate(&mut OsRandom)
    }
}
