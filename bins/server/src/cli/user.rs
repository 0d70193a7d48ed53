//! `user …`.

use std::path::Path;
use std::sync::Arc;

use plimsoll_auth::password_rules::PasswordRules;
use plimsoll_auth::{EmailAddress, User};
use plimsoll_core_domain::{Clock, SystemClock, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::Passwords;
use plimsoll_storage::PoolKind;
use plimsoll_storage::platform::keys::PlatformKeys;
use serde_json::json;

use super::password;
use crate::bootstrap::{Databases, StartError, key_ring, prepare};
use crate::config::{Environment, Settings};
use crate::users;

/// Users read at once.
const PAGE: usize = 500;

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
    PasswordRules::new(settings.limits.password_min_length)
        .check(&password, &[email.as_str()])
        .map_err(|why| StartError::Refused(format!("the password {why}")))?;
    let data_dir = prepare(&settings.data_dir)?;
    let databases = Databases::open_beside(settings, environment)?;
    databases.migrate()?;
    let ring = key_ring(&settings.keys, &data_dir, &mut OsRandom)?;
    let db = databases.pool(PoolKind::Control, 2)?;
    let keys = PlatformKeys::load_or_create(&db, &ring, &mut OsRandom)?;
    let db = db.with_keys(Arc::new(keys));
    let passwords = Passwords::new(settings.limits.argon2, &mut OsRandom)
        .map_err(|why| StartError::Setting { setting: "ARGON2_MEMORY_KIB", message: why.to_string() })?;
    let shown = email.as_str().to_owned();
    let id =
        users::create_admin(&db, &passwords, email, password, settings.broker.environment, SystemClock.now())
            .map_err(|error| match error {
                users::UserError::Store(error) => StartError::Store(error),
                other => StartError::Refused(other.to_string()),
            })?;
    println!("made the administrator {shown}, user {id}");
    Ok(())
}

/// Prints all users, oldest first; works beside a running server.
///
/// # Errors
/// The database cannot be used.
pub(super) fn list(settings: &Settings, environment: &Environment, as_json: bool) -> Result<(), StartError> {
    prepare(&settings.data_dir)?;
    let databases = Databases::open_beside(settings, environment)?;
    databases.migrate()?;
    let db = databases.pool(PoolKind::Control, 2)?;
    let mut users: Vec<User> = Vec::new();
    loop {
        let after = users.last().map_or(UserId(0), |user| user.id);
        let page = db.read_blocking(move |tx| tx.users(after, PAGE))?;
        let last = page.len() < PAGE;
        users.extend(page);
        if last {
            break;
        }
    }
    if as_json {
        let row = |user: &User| {
            json!({
                "id": user.id,
                "email": user.email.as_str(),
                "role": user.role,
                "state": user.state,
                "email_verified_at": user.email_verified_at,
            })
        };
        let rows: Vec<_> = users.iter().map(row).collect();
        println!("{}", serde_json::to_string_pretty(&rows).expect("texts serialise"));
        return Ok(());
    }
    for user in users {
        println!("{}  {}  {}  {}", user.id, user.email.as_str(), user.role, user.state);
    }
    Ok(())
}
