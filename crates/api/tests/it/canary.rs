//! Recognisable secrets go through every route of accounts, and are found nowhere but where they belong: not in the log at
//! its most talkative, not in an audit entry, not in the body of a refusal, in no column of the database in the clear.

use std::process::Command;

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD, HEXLOWER};
use plimsoll_observability::logging::{LogFormat, init};

use crate::story::{Story, lived};
use crate::world::World;

/// Where a text may hide a secret: as it is, as hexadecimal digits, in base64; and the bytes that it encodes.
fn forms(secret: &str) -> Vec<String> {
    let mut forms =
        vec![secret.to_owned(), HEXLOWER.encode(secret.as_bytes()), BASE64.encode(secret.as_bytes())];
    for decoded in [BASE64URL_NOPAD.decode(secret.as_bytes()), BASE32_NOPAD.decode(secret.as_bytes())] {
        forms.extend(decoded.ok().filter(|bytes| bytes.len() >= 16).map(|bytes| HEXLOWER.encode(&bytes)));
    }
    forms
}

/// A code of six digits as text in a line or a document: not a part of a longer number or of a time.
fn holds_code(text: &str, code: &str) -> bool {
    [format!("\"{code}\""), format!("code={code}"), format!("code: {code}"), format!(":{code},")]
        .iter()
        .any(|form| text.contains(form))
}

/// The whole database as text, table by table.
fn dump(world: &World) -> Vec<(String, String)> {
    let tables = world.rows(
        "SELECT c.relname::text AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace",
    );
    let one = |name: &str| {
        let rows = world.rows(&format!("SELECT t::text AS row FROM \"{name}\" t"));
        rows.iter().map(|row| row["row"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
    };
    tables.iter().map(|row| row["name"].as_str().unwrap()).map(|name| (name.to_owned(), one(name))).collect()
}

fn assert_nothing_of(story: &Story, place: &str, text: &str) {
    let lower = text.to_lowercase();
    for secret in &story.secrets {
        for form in forms(secret) {
            assert!(!text.contains(&form), "{place} holds {form}");
        }
        assert!(!lower.contains(&secret.to_lowercase()), "{place} holds {secret}");
    }
    for code in story.codes.iter().filter(|code| *code != "000000") {
        assert!(!holds_code(text, code), "{place} holds the code {code}");
    }
}

/// AUD-6, ENC-11, REG-3, SES-1, TFA-13: no secret stands in a row in the clear, in an audit entry, or in a refusal.
#[tokio::test]
async fn secrets_are_in_no_row_and_in_no_refusal() {
    let story = lived().await;
    assert!(story.secrets.len() > 40 && story.codes.len() > 5 && story.refused.len() > 20);
    let dump = dump(&story.world);
    assert!(dump.iter().any(|(name, text)| name == "audit_log" && !text.is_empty()));
    assert!(dump.iter().any(|(name, text)| name == "mail_outbox" && !text.is_empty()));
    for (table, text) in &dump {
        assert_nothing_of(&story, table, text);
    }
    for (request, answer) in &story.refused {
        assert_nothing_of(&story, request, answer);
    }
}

/// Set for the child of [`secrets_are_in_no_log`], which lives through the story: the log of a process is one.
const CHILD: &str = "STORY_IS_TOLD_TO_THE_LOG";
/// Separates what a child prints for its parent from its log.
const PLANTED: &str = "planted:";

async fn tell_the_story() {
    // the client of this test shares the process: what it writes of itself is no part of the service
    init("trace,reqwest=off,hyper=off,hyper_util=off,rustls=off", LogFormat::Json).unwrap();
    let story = lived().await;
    for text in story.secrets.iter().chain(&story.codes) {
        println!("{PLANTED}{text}");
    }
}

/// ENC-11, REG-3, AUD-6: at trace level the log holds none of them.
#[tokio::test]
async fn secrets_are_in_no_log() {
    if std::env::var_os(CHILD).is_some() {
        return tell_the_story().await;
    }
    let program = std::env::current_exe().unwrap();
    let child = tokio::task::spawn_blocking(move || {
        let this = "canary::secrets_are_in_no_log";
        Command::new(program).args([this, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap()
    });
    let output = child.await.unwrap();
    let (told, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    let planted: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix(PLANTED)).collect();
    assert!(planted.len() > 40, "{} secrets", planted.len());
    assert!(log.lines().count() > 100, "the log is on: {} lines", log.lines().count());
    for line in log.lines() {
        for secret in &planted {
            if secret.len() == 6 {
                assert!(*secret == "000000" || !holds_code(line, secret), "the log holds {secret}: {line}");
            } else {
                assert!(
                    forms(secret).iter().all(|form| !line.contains(form)),
                    "the log holds {secret}: {line}"
                );
            }
        }
    }
}
