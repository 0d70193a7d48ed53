//! What people choose for their accounts: address, name, password.

use plimsoll_auth::EmailAddress;
use plimsoll_auth::password_rules::{PasswordRules, WeakPassword};
use plimsoll_auth::registration::display_name;
use secrecy::SecretString;

use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;

/// Checks the fields of a new account, all of them, and gives address and name as they are stored.
///
/// # Errors
/// 422 with everything that is wrong.
pub async fn account(
    state: &AppState,
    email: &str,
    password: &SecretString,
    name: Option<&str>,
) -> Result<(EmailAddress, Option<String>), Problem> {
    let mut wrong = Vec::new();
    let address = EmailAddress::parse(email)
        .map_err(|why| wrong.push(field("/email", "invalid_email", why.to_string())))
        .ok();
    let shown = name.map(|name| {
        display_name(name).map_err(|why| wrong.push(field("/display_name", "invalid", why.to_string())))
    });
    // Only what was accepted is compared with: its length is known then.
    let known = [
        address.as_ref().map_or("", EmailAddress::as_str),
        shown.as_ref().and_then(|shown| shown.as_ref().ok()).map_or("", String::as_str),
    ];
    if let Err(why) = rules(state).check(password, &known) {
        wrong.push(field("/password", why.code(), why.to_string()));
    }
    match (address, wrong.is_empty()) {
        (Some(address), true) => Ok((address, shown.and_then(Result::ok))),
        _ => Err(Problem::invalid(wrong)),
    }
}

/// Looks a password up among breached ones, where that is set up: a call over a network, so limits come first.
///
/// # Errors
/// 422 at `/password`.
pub async fn unbreached(state: &AppState, password: &SecretString) -> Result<(), Problem> {
    let found = breach(state, password).await?;
    found.map_err(|why| Problem::field("/password", why.code(), why.to_string()))
}

/// Checks a new password. `context` is what others know of the user.
///
/// # Errors
/// 422 at `pointer`, with the reason.
pub async fn password(
    state: &AppState,
    pointer: &str,
    password: &SecretString,
    context: &[&str],
) -> Result<(), Problem> {
    let refused = |why: WeakPassword| Problem::field(pointer, why.code(), why.to_string());
    rules(state).check(password, context).map_err(refused)?;
    breach(state, password).await?.map_err(refused)
}

fn rules(state: &AppState) -> PasswordRules {
    PasswordRules::new(state.settings.policy.registration.password_min_length)
}

async fn breach(state: &AppState, password: &SecretString) -> Result<Result<(), WeakPassword>, Problem> {
    let rules = rules(state);
    let Some(breaches) = state.breaches.clone() else { return Ok(Ok(())) };
    let password = password.clone();
    let answer = tokio::task::spawn_blocking(move || {
        rules.check_breaches(&password, &*breaches, |error| {
            tracing::warn!(%error, "A new password was not looked up among breached ones.");
        })
    });
    answer.await.map_err(|error| Problem::internal(error.to_string()))
}

fn field(pointer: &str, code: &str, detail: String) -> FieldProblem {
    FieldProblem { pointer: pointer.to_owned(), code: code.to_owned(), detail }
}
