//! Users, for administrators. Nothing here sets or shows a password.

pub mod get;
pub mod list;
pub mod logout;
pub mod logout_everybody;
pub mod patch;
pub mod reset_2fa;

use plimsoll_auth::admin::Listed;
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::views::At;
use serde::Serialize;

use crate::problem::Problem;

/// A user as administrators see one.
#[derive(Serialize)]
struct ListedView<'a> {
    id: UserId,
    email: &'a str,
    display_name: Option<&'a str>,
    role: &'static str,
    state: &'static str,
    email_verified_at: Option<At>,
    created_at: At,
    two_factor_enabled: bool,
    password_disabled: bool,
}

impl<'a> From<&'a Listed> for ListedView<'a> {
    fn from(listed: &'a Listed) -> Self {
        let user = &listed.user;
        Self {
            id: user.id,
            email: user.email.as_str(),
            display_name: user.display_name.as_deref(),
            role: user.role.as_str(),
            state: user.state.as_str(),
            email_verified_at: user.email_verified_at.map(At),
            created_at: At(listed.created_at),
            two_factor_enabled: listed.two_factor,
            password_disabled: listed.password_disabled,
        }
    }
}

fn no_user() -> Problem {
    Problem::new("not_found", "there is no such user")
}

/// A user's id in a path; text that is none names nobody.
fn user_id(text: &str) -> Result<UserId, Problem> {
    text.parse().map(UserId).map_err(|_| no_user())
}
