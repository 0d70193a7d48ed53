//! `plimsoll user …`: what an operator does to users, and what of it stands in the audit log.

use std::fs;
use std::path::Path;
use std::process::Output;

use plimsoll_testkit::TestDb;
use serde_json::Value;
use tempfile::TempDir;

use crate::config::{plimsoll, stderr, stdout};

struct Desk {
    folder: TempDir,
    database: TestDb,
}

impl Desk {
    /// With an administrator, `boss@example.com`, and a user, `ann@example.com`.
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), database: TestDb::platform() };
        let password = desk.folder.path().join("password");
        fs::write(&password, "umbrella-Kestrel 41 pavement\n").unwrap();
        for email in ["boss@example.com", "ann@example.com"] {
            let file = password.display();
            desk.done(&format!("user create-admin {email} --password-file {file}"));
        }
        desk.database
            .execute("UPDATE users SET role = 'user', display_name = 'Ann A' WHERE email LIKE 'ann%'");
        desk
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, words: &str) -> Output {
        let mut command = plimsoll(self.path());
        command.args(words.split(' ')).args(["--data-dir"]).arg(self.path().join("data"));
        command.env("DATABASE_URL", self.database.url()).env("PROFILE", "development");
        command.env("ARGON2_MEMORY_KIB", "12288").output().unwrap()
    }

    fn done(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
        stdout(&output)
    }

    /// One line on standard error, exit code 1.
    fn refused(&self, words: &str, why: &str) {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{words}: {}", stderr(&output));
    }

    fn count(&self, from: &str) -> i64 {
        let rows = self.database.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"));
        rows[0]["n"].as_i64().unwrap()
    }
}

/// ADM-4, ADM-6: an operator locks, unlocks and, in two steps, deletes a user; the last administrator stays.
#[test]
fn an_operator_locks_unlocks_and_deletes() {
    let desk = Desk::new();
    desk.refused("user lock boss@example.com", "last active administrator");
    desk.refused("user lock nobody@example.com", "no user of this address");
    desk.refused("user delete ann@example.com", "user lock");
    assert_eq!(desk.count("users WHERE state = 'active'"), 2);

    let locked: Value = serde_json::from_str(&desk.done("user lock ann@example.com --json")).unwrap();
    assert_eq!(locked["state"], "disabled");
    assert!(desk.done("user unlock ann@example.com").contains("active"));
    desk.done("user lock ann@example.com");
    let deleted: Value = serde_json::from_str(&desk.done("user delete ann@example.com --json")).unwrap();
    assert_eq!((&deleted["id"], &deleted["deleted"]), (&locked["id"], &Value::from(true)));
    desk.refused("user unlock ann@example.com", "no user of this address");
    let users: Vec<Value> = serde_json::from_str(&desk.done("user list --json")).unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(
        (&users[0]["email"], &users[0]["role"]),
        (&Value::from("boss@example.com"), &Value::from("admin"))
    );

    for table in ["users", "audit_log", "mail_outbox"] {
        let named = format!("{table} t WHERE t::text ILIKE '%ann@example%' OR t::text ILIKE '%Ann A%'");
        assert_eq!(desk.count(&named), 0, "{table}");
    }
    for action in ["user.disable", "user.enable", "user.delete", "admin.users_list"] {
        let entry = format!(
            "audit_log WHERE action = '{action}' AND actor_id IS NULL AND detail LIKE '%\"via\":\"cli\"%'"
        );
        assert!(desk.count(&entry) >= 1, "{action}");
    }
}

/// SES-8: an operator ends the sessions of one user, and of everybody.
#[test]
fn an_operator_signs_users_out() {
    let desk = Desk::new();
    let open = |who: &str| {
        desk.database.execute(&format!(
            "INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, expires_at, transport) \
             SELECT id, gen_random_uuid(), decode(md5(random()::text) || md5(random()::text), 'hex'), now(), now(), \
             now() + interval '1 hour', now() + interval '1 hour', 'bearer' FROM users WHERE email LIKE '{who}'"
        ));
    };
    for who in ["ann%", "ann%", "boss%"] {
        open(who);
    }
    desk.refused("user logout nobody@example.com", "no user of this address");
    let said: Value = serde_json::from_str(&desk.done("user logout ann@example.com --json")).unwrap();
    assert_eq!(said["sessions_ended"], 2);
    open("ann%");
    let said: Value = serde_json::from_str(&desk.done("user logout-everybody --json")).unwrap();
    assert_eq!((&said["users"], &said["sessions_ended"]), (&Value::from(2), &Value::from(2)));
    assert_eq!(desk.count("sessions WHERE revoked_at IS NULL"), 0);
    assert_eq!(desk.count("audit_log WHERE action = 'user.logout' AND actor_id IS NULL"), 3);
}

/// ADM-5: an operator starts resets and sees no secret of them.
#[test]
fn an_operator_starts_resets() {
    let desk = Desk::new();
    desk.refused("user reset-2fa ann@example.com", "no second factor");
    let said = desk.done("user reset-password ann@example.com --json");
    assert!(said.contains("\"asked\":true") && said.len() < 60, "{said}");
    assert_eq!(desk.count("password_reset_tokens WHERE used_at IS NULL AND voided_at IS NULL"), 1);
    assert_eq!(desk.count("mail_outbox WHERE kind = 'reset_password'"), 1);
    assert_eq!(desk.count("audit_log WHERE action = 'user.reset_password' AND actor_id IS NULL"), 1);

    desk.database.execute(
        "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) \
         SELECT id, '\\x00', now(), now() FROM users WHERE email = 'ann@example.com'",
    );
    let begun: Value = serde_json::from_str(&desk.done("user reset-2fa ann@example.com --json")).unwrap();
    assert!(begun["due_at"].is_string(), "{begun}");
    assert_eq!(desk.count("two_factor_resets WHERE cancelled_at IS NULL AND done_at IS NULL"), 1);
    desk.done("user lock ann@example.com");
    desk.refused("user reset-password ann@example.com", "locked");
}

/// An operator halts trading, looks, and ends the halt.
#[test]
fn an_operator_halts_and_resumes() {
    let desk = Desk::new();
    let shown = |words: &str| -> Value { serde_json::from_str(&desk.done(words)).unwrap() };
    assert_eq!(shown("risk show --json")["global"], Value::Null);
    desk.refused(
        "risk halt --user nobody@example.com --level flatten --reason test",
        "no user of this address",
    );
    let wrong = desk.run("risk halt --level everything --reason test");
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));

    let halted = shown("risk halt --user ann@example.com --level reduce_only --reason drill --json");
    assert_eq!((&halted["level"], &halted["reason"]), (&Value::from("reduce_only"), &Value::from("drill")));
    let said = desk.done("risk halt --level block_entries --reason drill");
    assert!(said.contains("everybody's trading is halted at block_entries"), "{said}");
    let both = shown("risk show --user ann@example.com --json");
    assert_eq!(
        (&both["global"]["level"], &both["operator"]["level"]),
        (&"block_entries".into(), &"reduce_only".into())
    );
    assert_eq!(both["limits"]["max_open_orders"], Value::Null);
    assert!(desk.done("risk show --user ann@example.com").contains("daily_loss_action: block_entries"));

    assert_eq!(shown("risk resume --user ann@example.com --json")["ended"]["level"], "reduce_only");
    assert!(desk.done("risk resume --user ann@example.com").contains("nothing was halted"));
    assert!(desk.done("risk resume").contains("block_entries is lifted"));
    assert_eq!(halted["pending_accounts"], 0);
    assert_eq!(shown("risk show --json")["global"], Value::Null);
    for (action, scope) in
        [("risk.halt", "user"), ("risk.halt", "global"), ("risk.resume", "user"), ("risk.resume", "global")]
    {
        let entry = format!(
            "audit_log WHERE action = '{action}' AND actor_id IS NULL AND detail LIKE '%\"via\":\"cli\"%' \
             AND detail LIKE '%\"scope\":\"{scope}\"%'"
        );
        assert_eq!(desk.count(&entry), 1, "{action} {scope}");
    }
}
