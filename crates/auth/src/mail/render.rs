use askama::Template;
use chrono::{DateTime, Utc};

use super::{Circumstances, Letter, Mail, MailToken, SignInReason};
use crate::EmailAddress;

/// So many backup codes are few (TFA-12).
const FEW_BACKUP_CODES: usize = 3;

/// Where the links of mails lead: the service as browsers see it, from the settings and never from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    base: String,
}

impl Links {
    /// `public_url` is scheme, host and port, such as `https://trade.example.com`.
    #[must_use]
    pub fn new(public_url: &str) -> Self {
        Self { base: public_url.trim_end_matches('/').to_owned() }
    }

    /// The token stands in the fragment, which no server and no proxy is sent.
    fn to(&self, page: &str, token: &MailToken) -> String {
        format!("{}/{page}#token={}", self.base, token.expose())
    }
}

struct Link {
    label: &'static str,
    url: String,
}

/// What a mail says, before it is laid out.
struct Content {
    subject: String,
    paragraphs: Vec<String>,
    links: Vec<Link>,
    facts: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "mail/layout.txt", escape = "none")]
struct Text<'a> {
    paragraphs: &'a [String],
    links: &'a [Link],
    facts: &'a [(&'static str, String)],
    footer: &'a str,
}

#[derive(Template)]
#[template(path = "mail/layout.html")]
struct Html<'a> {
    subject: &'a str,
    paragraphs: &'a [String],
    links: &'a [Link],
    facts: &'a [(&'static str, String)],
    footer: &'a str,
}

/// A mail that cannot be laid out.
#[derive(Debug, thiserror::Error)]
#[error("the mail cannot be laid out")]
pub struct RenderError(#[from] askama::Error);

/// Lays a mail out, as plain text and as HTML with the same words. Neither loads anything from anywhere.
///
/// # Errors
///
/// When a template fails.
pub fn render(mail: &Mail, to: &EmailAddress, links: &Links) -> Result<Letter, RenderError> {
    let content = content(mail, links);
    let subject = one_line(&content.subject);
    let paragraphs: Vec<String> = content.paragraphs.iter().map(|text| one_line(text)).collect();
    let facts: Vec<_> = content.facts.into_iter().map(|(name, value)| (name, one_line(&value))).collect();
    let footer = format!("Plimsoll at {}. This mail was sent to {}.", links.base, to);
    let footer = footer.as_str();
    let text = Text { paragraphs: &paragraphs, links: &content.links, facts: &facts, footer }.render()?;
    let html =
        Html { subject: &subject, paragraphs: &paragraphs, links: &content.links, facts: &facts, footer }
            .render()?;
    Ok(Letter { to: to.clone(), subject, text, html })
}

/// No line ends and no other control characters: what users typed must not become a header or a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn when(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

fn facts(prefix: [&'static str; 3], circumstances: &Circumstances) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    vec![
        (prefix[0], when(circumstances.at)),
        (prefix[1], circumstances.ip.clone().unwrap_or_else(unknown)),
        (prefix[2], circumstances.user_agent.clone().unwrap_or_else(unknown)),
    ]
}

const HERE: [&str; 3] = ["When", "Address", "Client"];
const REGISTERED: [&str; 3] = ["Registered", "Registered from", "Registered with"];
const ASKED: [&str; 3] = ["Requested", "Requested from", "Requested with"];

const NOT_YOU: &str = "If this was not you, change your password now and look at your account's sessions.";

fn content(mail: &Mail, links: &Links) -> Content {
    let page = |label, page: &str, token: &MailToken| Link { label, url: links.to(page, token) };
    let plain = |subject: &str, paragraphs: &[String], circumstances: Option<&Circumstances>| Content {
        subject: subject.to_owned(),
        paragraphs: paragraphs.to_vec(),
        links: Vec::new(),
        facts: circumstances.map(|circumstances| facts(HERE, circumstances)).unwrap_or_default(),
    };
    let note = |subject: &str, text: &str, circumstances: &Circumstances| {
        plain(subject, &[text.to_owned(), NOT_YOU.to_owned()], Some(circumstances))
    };
    match mail {
        Mail::VerifyEmail { token, expires_at, circumstances } => Content {
            links: vec![page("Confirm this address", "verify", token)],
            facts: circumstances
                .as_ref()
                .map(|circumstances| facts(REGISTERED, circumstances))
                .unwrap_or_default(),
            ..plain(
                "Verify your e-mail address",
                &[
                    "Somebody, probably you, made an account with this address.".to_owned(),
                    format!(
                        "Confirm the address by the link below, until {}. The account then has the password that was \
                         chosen in this registration.",
                        when(*expires_at)
                    ),
                    "If it was not you, do nothing: without confirmation nobody can sign in. If you registered at \
                     another time, use the mail of that time, or register again."
                        .to_owned(),
                ],
                None,
            )
        },
        Mail::AlreadyRegistered { circumstances } => plain(
            "You already have an account",
            &[
                "Somebody, perhaps you, tried to register with this address, which has an account already.".to_owned(),
                "Sign in with your password, or ask for a new one if you have forgotten it. If it was not you, there \
                 is nothing to do: nothing was changed."
                    .to_owned(),
            ],
            Some(circumstances),
        ),
        Mail::Welcome { display_name } => {
            let name = display_name.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
            plain(
                &format!("Welcome to Plimsoll{name}"),
                &[
                    "Your address is confirmed, and you can sign in.".to_owned(),
                    "Switch on two-factor authentication first: it protects what you trade with.".to_owned(),
                ],
                None,
            )
        }
        Mail::ResetPassword { token, cancel, expires_at, circumstances } => Content {
            links: vec![
                page("Choose a new password", "reset", token),
                page("This was not me: make the link useless", "cancel", cancel),
            ],
            ..plain(
                "Reset your password",
                &[
                    "A new password was asked for, for the account with this address.".to_owned(),
                    format!(
                        "The first link below works once, until {}. Your present password stays valid until then.",
                        when(*expires_at)
                    ),
                ],
                Some(circumstances),
            )
        },
        Mail::PasswordChanged { requested, circumstances } => {
            let mut content = note(
                "Your password was changed",
                "The password of your account was changed. Every other session has ended.",
                circumstances,
            );
            if let Some(requested) = requested {
                content.facts.extend(facts(ASKED, requested));
            }
            content
        }
        Mail::ConfirmNewEmail { token, expires_at } => Content {
            links: vec![page("Confirm this address", "confirm-email", token)],
            ..plain(
                "Confirm your new e-mail address",
                &[format!(
                    "This address is to become that of an account. Confirm it by the link below, until {}.",
                    when(*expires_at)
                )],
                None,
            )
        },
        Mail::EmailChangeAsked { new_email, cancel, expires_at, circumstances } => Content {
            links: vec![page("This was not me: keep the address", "cancel", cancel)],
            ..plain(
                "A change of your e-mail address was asked for",
                &[format!(
                    "The address of your account is to become {new_email}. You can stop that by the link below, until \
                     {}.",
                    when(*expires_at)
                )],
                Some(circumstances),
            )
        },
        Mail::EmailChanged { old_email, new_email, circumstances } => note(
            "Your e-mail address was changed",
            &format!("The address of your account was changed from {old_email} to {new_email}."),
            circumstances,
        ),
        Mail::TwoFactorEnabled { circumstances } => note(
            "Two-factor authentication enabled",
            "From now on, signing in takes a code beside your password. Keep your backup codes in a safe place.",
            circumstances,
        ),
        Mail::TwoFactorDisabled { circumstances } => note(
            "Two-factor authentication disabled",
            "Signing in to your account takes the password alone from now on.",
            circumstances,
        ),
        Mail::TwoFactorResetBegun { due_at, cancel } => Content {
            links: vec![page("This was not me: keep two-factor authentication", "cancel", cancel)],
            ..plain(
                "Two-factor authentication will be reset",
                &[format!(
                    "An administrator has started to remove the second factor of your account. It will be gone at {}, \
                     unless you stop it by the link below.",
                    when(*due_at)
                )],
                None,
            )
        },
        Mail::BackupCodeUsed { left, circumstances } => note(
            "Backup code used",
            &if *left > FEW_BACKUP_CODES {
                format!("One of your backup codes was used. {left} are left.")
            } else {
                format!("One of your backup codes was used. Only {left} are left: make new ones before they run out.")
            },
            circumstances,
        ),
        Mail::NewBackupCodes { circumstances } => {
            note("New backup codes", "New backup codes were made; the old ones are void.", circumstances)
        }
        Mail::NewApiToken { name, scopes, expires_at, circumstances } => note(
            "New API token",
            &format!(
                "An API token named {name} was made. It may {} until {}.",
                scopes.join(", ").replace('_', " "),
                when(*expires_at)
            ),
            circumstances,
        ),
        Mail::ApiTokenExpires { name, expires_at } => plain(
            "An API token expires soon",
            &[format!("Your API token named {name} ends at {}. Make a new one in time.", when(*expires_at))],
            None,
        ),
        Mail::NewSignIn { reason, logout_everywhere, circumstances } => {
            let text = match reason {
                SignInReason::NewPlace => "Your account was signed in to from a new device or network.",
                SignInReason::AfterFailures => "Your account was signed in to after wrong passwords.",
            };
            Content {
                links: vec![page("This was not me: sign out everywhere", "cancel", logout_everywhere)],
                ..note("New sign-in to your account", text, circumstances)
            }
        }
        Mail::UnfinishedSignIn { circumstances } => note(
            "New sign-in was not finished",
            "Somebody gave the right password of your account and no code after it. If that was not you, your \
             password is known to somebody else.",
            circumstances,
        ),
        Mail::FactorDisabled { factor, circumstances } => {
            let (what, mend) = match factor.as_str() {
                "password" => ("password", "Reset it by mail to sign in again."),
                _ => ("second factor", "Use a backup code, or ask an administrator to reset it."),
            };
            plain(
                &format!("Your {what} was disabled"),
                &[format!("There were too many wrong attempts in a row, so your {what} was disabled. {mend}")],
                Some(circumstances),
            )
        }
        Mail::WebhookAdded { name, host, moved, circumstances } => {
            let what = if *moved { "now leads to another address" } else { "was added to your account" };
            let text = format!("A webhook {what}: what happens to your orders and positions is posted there.");
            let mut content = note("A webhook was added", &text, circumstances);
            content.facts.extend([("Webhook", name.clone()), ("Host", host.clone())]);
            content
        }
        Mail::SignalHookAdded { name, environment, circumstances } => {
            let text = "Whoever has the secret of this hook can have your account trade, within the hook's rules.";
            let mut content = note("A hook for signals was added", text, circumstances);
            content.facts.extend([("Hook", name.clone()), ("Trades with", format!("{environment} money"))]);
            content
        }
        Mail::WebhookDisabled { name, host, gone, at } => {
            let why = if *gone {
                "Its receiver answered that it wants nothing any more (410)."
            } else {
                "Nothing could be delivered to it for days."
            };
            Content {
                facts: vec![("When", when(*at)), ("Webhook", name.clone()), ("Host", host.clone())],
                ..plain(
                    "A webhook was disabled",
                    &[
                        format!("{why} It gets no events until you make it active again."),
                        "Events of the meantime are not sent later: read what you missed over the API.".to_owned(),
                    ],
                    None,
                )
            }
        }
        Mail::AccountDiffers { differences, more, at } => {
            let mut paragraphs = vec![
                "A comparison of your account with your broker found what needs your decision. Where it is not clear what \
                 you hold, no new positions are opened in that symbol until you have decided."
                    .to_owned(),
            ];
            paragraphs.extend(differences.iter().cloned());
            if *more > 0 {
                paragraphs.push(format!("And {more} more."));
            }
            paragraphs.push(
                "GET /reconciliation/status lists all that is open; POST /reconciliation/discrepancies/{id}/resolve \
                 decides. What agrees again by itself closes by itself."
                    .to_owned(),
            );
            Content {
                facts: vec![("When", when(*at))],
                ..plain("Your account and your broker differ", &paragraphs, None)
            }
        }
        Mail::BrokerKeysRefused { broker, environment, key_last4, at } => Content {
            facts: vec![
                ("When", when(*at)),
                ("Broker", format!("{broker}, {environment}")),
                ("Key", format!("ends in {key_last4}")),
            ],
            ..plain(
                "Your broker refuses your key",
                &[
                    "The broker does not accept the key that you trade with any more. Nothing is traded, and no news of \
                     orders arrives, until you save a new one."
                        .to_owned(),
                    "Look at your open orders and positions at the broker itself meanwhile.".to_owned(),
                ],
                None,
            )
        },
    }
}

#[cfg(test)]
mod tests;
