//! `user …`.

use std::path::Path;

use plimsoll_auth::admin::Listed;
use plimsoll_auth::password_rules::PasswordRules;
use plimsoll_auth::{AccountState, EmailAddress};
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::Passwords;
use serde_json::json;

use super::user_admin::{self, Opened};
use super::{OneUser, OneUserCommand, UserCommand, password, setup_token};
use crate::bootstrap::StartError;
use crate::config::{Environment, Settings};
use crate::runtime::api_settings;
use crate::users;

/// Runs a command on users; works beside a running server.
///
/// # Errors
/// It is refused, or the database cannot be used.
pub(super) fn run(
    settings: &Settings,
    environment: &Environment,
    command: UserCommand,
) -> Result<(), StartError> {
    match command {
        UserCommand::CreateAdmin { email, password_file } => {
            create_admin(settings, environment, &email, password_file.as_deref())
        }
        UserCommand::SetupToken => setup_token::print(settings, environment),
        UserCommand::List { json } => list(&Opened::beside(settings, environment)?, json),
        UserCommand::LogoutEverybody { json } => {
            user_admin::logout_everybody(&Opened::beside(settings, environment)?)?.print(json);
            Ok(())
        }
        UserCommand::One(command) => one(settings, environment, command),
    }
}

fn one(settings: &Settings, environment: &Environment, command: OneUserCommand) -> Result<(), StartError> {
    let opened = Opened::beside(settings, environment)?;
    let policy = api_settings(settings, settings.bind)?.policy;
    let (said, as_json) = match command {
        OneUserCommand::ResetPassword(OneUser { email, json }) => {
            (user_admin::reset_password(&opened, &policy, &email)?, json)
        }
        OneUserCommand::ResetTwoFactor(OneUser { email, json }) => {
            (user_admin::reset_2fa(&opened, &policy, &email)?, json)
        }
        OneUserCommand::Lock(OneUser { email, json }) => {
            (user_admin::set_state(&opened, &email, AccountState::Disabled)?, json)
        }
        OneUserCommand::Logout(OneUser { email, json }) => (user_admin::logout(&opened, &email)?, json),
        OneUserCommand::Unlock(OneUser { email, json }) => {
            (user_admin::set_state(&opened, &email, AccountState::Active)?, json)
        }
        OneUserCommand::Delete(OneUser { email, json }) => {
            (user_admin::delete(&opened, settings, &email)?, json)
        }
    };
    said.print(as_json);
    Ok(())
}

/// Makes an administrator; works beside a running server.
///
/// # Errors
/// The address or password is refused, the address is taken, or the database cannot be used.
fn create_admin(
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
    let opened = Opened::beside(settings, environment)?;
    let passwords = Passwords::new(settings.limits.argon2, &mut OsRandom)
        .map_err(|why| StartError::Setting { setting: "ARGON2_MEMORY_KIB", message: why.to_string() })?;
    let shown = email.as_str().to_owned();
    let made = users::create_admin(&opened.db, &passwords, email, password, SystemClock.now());
    let id = made.map_err(|error| match error {
        users::UserError::Store(error) => StartError::Store(error),
        other => StartError::Refused(other.to_string()),
    })?;
    println!("made the administrator {shown}, user {id}");
    Ok(())
}

/// Prints all users, oldest first.
fn list(opened: &Opened, as_json: bool) -> Result<(), StartError> {
    let users = user_admin::list(opened)?;
    if as_json {
        let row = |listed: &Listed| {
            json!({
                "id": listed.user.id,
                "email": listed.user.email.as_str(),
                "role": listed.user.role,
                "state": listed.user.state,
                "email_verified_at": listed.user.email_verified_at,
                "two_factor_enabled": listed.two_factor,
            })
        };
        let rows: Vec<_> = users.iter().map(row).collect();
        println!("{}", serde_json::to_string_pretty(&rows).expect("texts serialise"));
        return Ok(());
    }
    for Listed { user, .. } in users {
        println!("{}  {}  {}  {}", user.id, user.email.as_str(), user.role, user.state);
    }
    Ok(())
}
