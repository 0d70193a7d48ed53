//! `user setup-token`.

use std::sync::Arc;

use plimsoll_auth::AccountPolicy;
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_crypto::OsRandom;
use plimsoll_storage::PoolKind;
use plimsoll_storage::platform::keys::PlatformKeys;

use crate::bootstrap::{Databases, Settle, StartError, key_ring, prepare};
use crate::config::{Environment, Settings};
use crate::setup;

/// Prints a token that makes the first administrator; works beside a running server.
///
/// # Errors
/// There is an administrator, or the database cannot be used.
pub(super) fn print(settings: &Settings, environment: &Environment) -> Result<(), StartError> {
    let data_dir = prepare(&settings.data_dir)?;
    let databases = Databases::open_beside(settings, environment)?;
    databases.migrate()?;
    let db = databases.pool(PoolKind::Control, 2)?;
    let ring = key_ring(&settings.keys, &data_dir, &db, Settle::Now, &mut OsRandom)?;
    let keys = PlatformKeys::load_or_create(&db, &ring, &mut OsRandom)?;
    let db = db.with_keys(Arc::new(keys));
    let token = setup::setup_token(&db, &AccountPolicy::default(), SystemClock.now())?
        .ok_or_else(|| StartError::Refused("there is an administrator already".to_owned()))?;
    let url = settings.public_url.clone().unwrap_or_else(|| format!("http://{}", settings.bind));
    println!("{}", token.notice(&url));
    Ok(())
}
