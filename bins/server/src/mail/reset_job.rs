use std::sync::Arc;

use plimsoll_auth::AccountPolicy;
use plimsoll_auth::login::LoginKeys;
use plimsoll_auth::reset::{NewReset, request};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::Db;
use plimsoll_storage::platform::auth::ResetRequest;
use plimsoll_storage::platform::keys::PlatformKeys;

use crate::service::random_id;

/// Looks whether an address for which a new password was asked has an account, and posts the mail. It runs after the
/// answer, so that the answer takes as long for every address.
pub(super) struct RequestReset {
    pub(super) policy: Arc<AccountPolicy>,
    pub(super) keys: Arc<PlatformKeys>,
}

impl Handler<Db> for RequestReset {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let asked: ResetRequest = job.decode()?;
        let email = asked.email().ok_or_else(|| JobFailure::permanent("the address is none"))?;
        let act = asked.act();
        let keys = LoginKeys { pepper: &self.keys.pepper, devices: &self.keys.device_cookies };
        let new = NewReset {
            id: random_id(&mut OsRandom),
            token: SecretToken::generate(&mut OsRandom),
            cancel_id: random_id(&mut OsRandom),
            cancel: SecretToken::generate(&mut OsRandom),
            mail: random_id(&mut OsRandom),
        };
        context.settle_with(|tx| {
            request(tx, &self.policy, keys, &email, &new, &act)?;
            Ok(Settlement::Done)
        })
    }
}
