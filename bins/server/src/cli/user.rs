//! `user …`.

use std::path::Path;
use std::sync::Arc;

use plimsoll_auth::EmailAddress;
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::Passwords;
use plimsoll_storage::platform::keys::PlatformKeys;
use secrecy::ExposeSecret;

use super::password;
use crate::bootstrap::{Databases, StartError, key_ring, prepare};
use crate::config::{Environment, Settings};
use crate::users;

/// A command's few connections.
const POOLS: [u32; 3] = [2, 2, 2];

/// Makes an administrator; works beside a running server.
///
/// # Errors
/// The address or password is refused, the address is taken, or the database cannot be used.
pub(super) fn create_admin(
    settings: &Settings,
    environment: &Environment,
    email: &str,
    password_file: Option<&Path>,
) -> Result<(), StartError> {
    let email = EmailAddress::parse(email).map_err(|why| StartError::Refused(why.to_string()))?;
    let password = password::read(password_file)?;
    let least = settings.limits.password_min_length;
    if password.expose_secret().chars().count() < least {
        return Err(StartError::Refused(format!("the password needs at least {least} characters")));
    }
    let data_dir = prepare(&settings.data_dir)?;
    let databases = Databases::open_beside(settings, environment)?;
    databases.migrate()?;
    let ring = key_ring(&settings.keys, &data_dir, &mut OsRandom)?;
    let pools = databases.pools(POOLS)?;
    let keys = Arc::new(PlatformKeys::load_or_create(&pools.control, &ring, &mut OsRandom)?);
    let pools = pools.with_keys(&keys);
    let passwords = Passwords::new(settings.limits.argon2, &mut OsRandom)
        .map_err(|why| StartError::Setting { setting: "ARGON2_MEMORY_KIB", message: why.to_string() })?;
    let shown = email.as_str().to_owned();
    let id = users::create_admin(
        &pools.http,
        &passwords,
        email,
        password,
        settings.broker.environment,
        SystemClock.now(),
    )
    .map_err(|error| match error {
        users::UserError::Store(error) => StartError::Store(error),
        other => StartError::Refused(other.to_string()),
    })?;
    println!("made the administrator {shown}, user {id}");
    Ok(())
}
