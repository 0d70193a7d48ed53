use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;

use super::*;

fn token() -> MailToken {
    MailToken::from(&SecretToken::generate(&mut OsRandom))
}

fn circumstances() -> Circumstances {
    Circumstances {
        at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        ip: Some("203.0.113.9".to_owned()),
        user_agent: Some("<b>Browser</b>\r\nBcc: x@example.com".to_owned()),
    }
}

/// Every mail, with what its subject begins with.
fn all() -> Vec<(Mail, &'static str)> {
    let (at, here) = (circumstances().at, circumstances);
    vec![
        (
            Mail::VerifyEmail { token: token(), expires_at: at, circumstances: Some(here()) },
            "Verify your e-mail",
        ),
        (Mail::AlreadyRegistered { circumstances: here() }, "You already have an account"),
        (Mail::Welcome { display_name: Some("Ann\r\nBcc: x".to_owned()) }, "Welcome"),
        (
            Mail::ResetPassword { token: token(), cancel: token(), expires_at: at, circumstances: here() },
            "Reset your password",
        ),
        (
            Mail::PasswordChanged { requested: Some(here()), circumstances: here() },
            "Your password was changed",
        ),
        (Mail::ConfirmNewEmail { token: token(), expires_at: at }, "Confirm your new e-mail"),
        (
            Mail::EmailChangeAsked {
                new_email: "n@example.com".to_owned(),
                cancel: token(),
                expires_at: at,
                circumstances: here(),
            },
            "A change of your e-mail",
        ),
        (
            Mail::EmailChanged {
                old_email: "o@example.com".to_owned(),
                new_email: "n@example.com".to_owned(),
                circumstances: here(),
            },
            "Your e-mail address was changed",
        ),
        (Mail::TwoFactorEnabled { circumstances: here() }, "Two-factor authentication enabled"),
        (Mail::TwoFactorDisabled { circumstances: here() }, "Two-factor authentication disabled"),
        (
            Mail::TwoFactorResetBegun { due_at: at, cancel: token() },
            "Two-factor authentication will be reset",
        ),
        (
            Mail::BrokerKeysRefused {
                broker: "alpaca".to_owned(),
                environment: "paper".to_owned(),
                key_last4: "WXYZ".to_owned(),
                at,
            },
            "Your broker refuses",
        ),
        (
            Mail::WebhookAdded {
                name: "bot".to_owned(),
                host: "hooks.example".to_owned(),
                moved: true,
                circumstances: here(),
            },
            "A webhook was added",
        ),
        (
            Mail::SignalHookAdded {
                name: "sma cross".to_owned(),
                environment: "paper".to_owned(),
                circumstances: here(),
            },
            "A hook for signals was added",
        ),
        (
            Mail::AccountDiffers {
                differences: vec!["cash of the account: 1 here, <b>2 at the broker\r\nBcc: x".to_owned()],
                more: 3,
                at,
            },
            "Your account and your broker differ",
        ),
        (
            Mail::WebhookDisabled {
                name: "bot".to_owned(),
                host: "hooks.example".to_owned(),
                gone: false,
                at,
            },
            "A webhook was disabled",
        ),
        (Mail::BackupCodeUsed { left: 3, circumstances: here() }, "Backup code used"),
        (Mail::NewBackupCodes { circumstances: here() }, "New backup codes"),
        (
            Mail::NewApiToken {
                name: "bot".to_owned(),
                scopes: vec!["read".to_owned(), "trade_paper".to_owned()],
                expires_at: at,
                circumstances: here(),
            },
            "New API token",
        ),
        (Mail::ApiTokenExpires { name: "bot".to_owned(), expires_at: at }, "An API token expires"),
        (
            Mail::NewSignIn {
                reason: SignInReason::NewPlace,
                logout_everywhere: token(),
                circumstances: here(),
            },
            "New sign-in",
        ),
        (Mail::UnfinishedSignIn { circumstances: here() }, "New sign-in"),
        (
            Mail::FactorDisabled { factor: "password".to_owned(), circumstances: here() },
            "Your password was disabled",
        ),
    ]
}

/// REG-9, RST-8: links begin with the configured address and carry the token in the fragment, never in a query.
#[test]
fn every_mail_renders_and_its_links_lead_home() {
    let to = "ann@example.com".parse().unwrap();
    let links = Links::new("https://trade.example.com/");
    for (mail, subject) in all() {
        let letter = render(&mail, &to, &links).unwrap();
        assert!(letter.subject.starts_with(subject), "{}", letter.subject);
        for body in [&letter.text, &letter.html] {
            assert!(
                !body.contains("http://") && !body.contains("<b>Browser") || body == &letter.text,
                "{body}"
            );
            assert!(!body.contains('?'), "no query anywhere: {body}");
            assert!(!body.contains("<img") && !body.contains("<script") && !body.contains("src="));
        }
        let urls: Vec<_> = letter.text.split_whitespace().filter(|word| word.contains("#token=")).collect();
        for url in &urls {
            assert!(url.starts_with("https://trade.example.com/"), "{url}");
            assert!(letter.html.contains(&format!("href=\"{url}\"")), "the same link in both");
        }
    }
}

/// Nothing that a user typed ends a line: no header and no line of its own can be smuggled in.
#[test]
fn line_ends_do_not_pass() {
    let to = "ann@example.com".parse().unwrap();
    for (mail, _) in all() {
        let letter = render(&mail, &to, &Links::new("http://localhost")).unwrap();
        assert!(!letter.subject.contains(char::is_control));
        assert!(!letter.text.lines().any(|line| line.starts_with("Bcc")), "{}", letter.text);
        assert!(!letter.html.contains("<b>"), "{}", letter.html);
    }
}

/// REG-8: whoever confirms an address sees from where the password comes that is put in force.
#[test]
fn a_confirmation_says_who_registered() {
    let mail = Mail::VerifyEmail {
        token: token(),
        expires_at: circumstances().at,
        circumstances: Some(circumstances()),
    };
    let letter = render(&mail, &"ann@example.com".parse().unwrap(), &Links::new("http://localhost")).unwrap();
    for body in [&letter.text, &letter.html] {
        assert!(body.contains("Registered from") && body.contains("203.0.113.9"), "{body}");
    }
}

#[test]
fn a_stored_mail_reads_back_and_is_never_printed_with_its_tokens() {
    for (mail, _) in all() {
        let text = serde_json::to_string(&mail).unwrap();
        assert_eq!(serde_json::from_str::<Mail>(&text).unwrap(), mail);
    }
    let token = token();
    let mail =
        Mail::VerifyEmail { token: token.clone(), expires_at: circumstances().at, circumstances: None };
    let mut before = serde_json::to_value(&mail).unwrap();
    before.as_object_mut().unwrap().remove("circumstances");
    assert_eq!(serde_json::from_value::<Mail>(before).unwrap(), mail, "one that waited since before");
    let printed = format!("{mail:?}");
    assert!(!printed.contains(token.expose()) && printed.contains("redacted"), "{printed}");
}
