//! The first hour of a new user, over HTTP against the demonstration: register, confirm, sign in, second factor, backup
//! code, reset, and the audit log that tells of all of it.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use plimsoll_auth::totp::TotpSecret;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::demo::Demo;

const EMAIL: &str = "newcomer@example.com";
const PASSWORD: &str = "umbrella-Kestrel 41 pavement";
const NEW_PASSWORD: &str = "lantern-Otter 92 quarry";

struct Newcomer<'a> {
    demo: &'a Demo,
}

impl Newcomer<'_> {
    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = self.demo.http.request(method, format!("{}{path}", self.demo.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, token, body).await
    }

    /// The 200 answer of a post.
    async fn done(&self, path: &str, token: Option<&str>, body: Value) -> Value {
        let (status, answer) = self.post(path, token, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// The newest mail to the newcomer with this subject.
    async fn mail(&self, subject: &str) -> Value {
        let outbox = self.demo.logins["outbox_url"].as_str().expect("the outbox has an address");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let request = self.demo.http.get(outbox).header("accept", "application/json");
            let mails: Value = request.send().await.unwrap().json().await.unwrap();
            let found =
                mails["items"].as_array().unwrap().iter().find(|mail| {
                    mail["to"] == EMAIL && mail["subject"].as_str().unwrap().starts_with(subject)
                });
            if let Some(mail) = found {
                return mail.clone();
            }
            assert!(Instant::now() < deadline, "no mail `{subject}` among {mails}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The token of the link to `page` in a mail's text: it stands in the fragment.
fn token_of(mail: &Value, page: &str) -> String {
    let text = mail["text"].as_str().unwrap();
    let link = text.split_whitespace().find(|word| word.contains(&format!("{page}#"))).expect("a link");
    let fragment = link.split_once('#').unwrap().1;
    fragment.rsplit('=').next().unwrap().to_owned()
}

/// The code of this moment, or so many steps later.
#[expect(clippy::disallowed_methods, reason = "the server under test reads the same clock")]
fn code(secret: &TotpSecret, later: i64) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let step = i64::try_from(seconds / 30).unwrap() + later;
    secret.code_of(step).expose_text().expose_secret().to_owned()
}

/// What a phone would read: the QR code's text, by a reader that has nothing to do with us.
fn scan(qr_code: &str) -> Option<String> {
    let png = BASE64.decode(qr_code.strip_prefix("data:image/png;base64,").unwrap().as_bytes()).unwrap();
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    std::fs::write(file.path(), png).unwrap();
    let output = Command::new("zbarimg").args(["--quiet", "--raw"]).arg(file.path()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[tokio::test]
async fn a_newcomer_s_first_hour() {
    let demo = Demo::start(&[]).await;
    let newcomer = Newcomer { demo: &demo };

    let registration = json!({ "email": EMAIL, "password": PASSWORD });
    let (status, registered) = newcomer.post("/auth/register", None, registration).await;
    assert_eq!((status, &registered["status"]), (StatusCode::ACCEPTED, &json!("verification_sent")));
    let credentials = json!({ "email": EMAIL, "password": PASSWORD });
    let (status, refused) = newcomer.post("/auth/login", None, credentials.clone()).await;
    assert_eq!((status, &refused["code"]), (StatusCode::FORBIDDEN, &json!("email_unverified")));

    let token = token_of(&newcomer.mail("Verify your e-mail").await, "/verify");
    newcomer.done("/auth/verify-email", None, json!({ "token": token })).await;
    newcomer.mail("Welcome").await;
    let login = newcomer.done("/auth/login", None, credentials.clone()).await;
    let session = login["token"].as_str().unwrap().to_owned();

    // A second factor, from what the phone's camera sees.
    let stepped = newcomer.done("/auth/step-up", Some(&session), json!({ "password": PASSWORD })).await;
    let session = stepped["token"].as_str().unwrap().to_owned();
    let setup = newcomer.done("/auth/2fa/setup", Some(&session), json!({})).await;
    let Some(uri) = scan(setup["qr_code"].as_str().unwrap()) else {
        println!("SKIPPED: zbarimg is not installed (Debian: zbar-tools)");
        return;
    };
    assert_eq!(uri, setup["otpauth_uri"].as_str().unwrap());
    let secret = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let secret = TotpSecret::parse(secret).unwrap();
    let enabling = json!({ "code": code(&secret, 0) });
    let enabled = newcomer.done("/auth/2fa/enable", Some(&session), enabling).await;
    assert_eq!(enabled["enabled"], true);
    newcomer.mail("Two-factor authentication enabled").await;

    // The step that enrolled is used up: the next one is within what is accepted.
    let challenge = newcomer.done("/auth/login", None, credentials.clone()).await;
    assert_eq!(challenge["two_factor_required"], true, "{challenge}");
    let answer = json!({ "challenge": challenge["challenge"], "code": code(&secret, 1) });
    newcomer.done("/auth/2fa/verify", None, answer).await;

    let challenge = newcomer.done("/auth/login", None, credentials).await;
    let answer = json!({ "challenge": challenge["challenge"], "code": setup["backup_codes"][3] });
    let login = newcomer.done("/auth/2fa/verify", None, answer.clone()).await;
    let session = login["token"].as_str().unwrap().to_owned();
    assert_eq!(newcomer.post("/auth/2fa/verify", None, answer).await.0, StatusCode::UNAUTHORIZED);
    newcomer.mail("Backup code used").await;

    let (status, _) = newcomer.post("/auth/request-reset", None, json!({ "email": EMAIL })).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let token = token_of(&newcomer.mail("Reset your password").await, "/reset");
    let reset = json!({ "token": token, "new_password": NEW_PASSWORD });
    newcomer.done("/auth/reset-password", None, reset).await;
    newcomer.mail("Your password was changed").await;
    let (status, _) = newcomer.call(Method::GET, "/auth/me", Some(&session), Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the old session is dead");

    let credentials = json!({ "email": EMAIL, "password": NEW_PASSWORD });
    let challenge = newcomer.done("/auth/login", None, credentials).await;
    let answer = json!({ "challenge": challenge["challenge"], "code": setup["backup_codes"][7] });
    let login = newcomer.done("/auth/2fa/verify", None, answer).await;
    let session = login["token"].as_str().unwrap().to_owned();
    let (status, audit) = newcomer.call(Method::GET, "/audit?limit=200", Some(&session), Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{audit}");
    let actions: Vec<&str> =
        audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in [
        "register",
        "email.verify",
        "login",
        "2fa.setup",
        "2fa.enable",
        "password.reset_request",
        "password.reset",
    ] {
        assert!(actions.contains(&action), "{action} is not among {actions:?}");
    }
    let users = demo.logins["users"].as_array().unwrap();
    let admin = users.iter().find(|user| user["role"] == "admin").unwrap();
    let credentials = json!({ "email": admin["email"], "password": admin["password"] });
    let login = newcomer.done("/auth/login", None, credentials).await;
    let (status, verified) =
        newcomer.call(Method::GET, "/admin/audit/verify", login["token"].as_str(), Value::Null).await;
    assert_eq!((status, &verified["ok"]), (StatusCode::OK, &json!(true)), "{verified}");
}
