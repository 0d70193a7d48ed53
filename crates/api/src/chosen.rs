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
    if let Err(why) = weakness(state, password, &[email, name.unwrap_or_default()]).await? {
        wrong.push(field("/password", why.code(), why.to_string()));
    }
    match (address, wrong.is_empty()) {
        (Some(address), true) => Ok((address, shown.and_then(Result::ok))),
        _ => Err(Problem::invalid(wrong)),
    }
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
    weakness(state, password, context)
        .await?
        .map_err(|why| Problem::field(pointer, why.code(), why.to_string()))
}

async fn weakness(
    state: &AppState,
    password: &SecretString,
    context: &[&str],
) -> Result<Result<(), WeakPassword>, Problem> {
    let rules = PasswordRules::new(state.settings.policy.registration.password_min_length);
    if let Err(why) = rules.check(password, context) {
        return Ok(Err(why));
    }
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
