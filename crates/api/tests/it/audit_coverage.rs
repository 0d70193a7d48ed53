//! Every act that must leave an audit entry does: an account's whole life over HTTP, and what stands in the log after it.

use std::collections::BTreeSet;

use crate::story::lived;

/// Action and outcome of everything that must be on record afterwards.
const EXPECTED: &[(&str, &str)] = &[
    ("2fa.disable", "success"),
    ("2fa.enable", "success"),
    ("2fa.regenerate_codes", "success"),
    ("2fa.reset_cancel", "success"),
    ("2fa.reset_request", "success"),
    ("2fa.setup", "success"),
    ("2fa.verify", "denied"),
    ("access.refused", "denied"),
    ("admin.user_read", "success"),
    ("admin.users_list", "success"),
    ("api_token.create", "denied"),
    ("api_token.create", "success"),
    ("api_token.revoke", "success"),
    ("audit.read", "success"),
    ("audit.verify", "success"),
    ("email.change", "success"),
    ("email.change_cancel", "success"),
    ("email.change_request", "success"),
    ("email.resend", "success"),
    ("email.verify", "success"),
    ("login", "denied"),
    ("login", "success"),
    ("login.password", "success"),
    ("logout", "success"),
    ("order.cancel", "success"),
    ("order.create", "success"),
    ("order.replace", "success"),
    ("password.change", "denied"),
    ("password.change", "success"),
    ("password.reset", "success"),
    ("password.reset_cancel", "success"),
    ("password.reset_request", "success"),
    ("register", "success"),
    ("request.throttled", "denied"),
    ("session.end", "success"),
    ("session.end_others", "success"),
    ("setup.token", "success"),
    ("step_up", "denied"),
    ("step_up", "success"),
    ("user.create", "success"),
    ("user.disable", "success"),
    ("user.enable", "success"),
    ("user.logout", "success"),
    ("user.role_change", "success"),
];

/// AUD-4: sign-ins and their failures, second factors, resets, changes of credentials, tokens and roles, ends of
/// sessions, administrators' acts and reads, orders, throttle hits and refused authorisation.
#[tokio::test]
async fn every_act_leaves_its_entry() {
    let story = lived().await;
    let rows = story.world.rows("SELECT DISTINCT action, outcome FROM audit_log ORDER BY 1, 2");
    let found: BTreeSet<(&str, &str)> =
        rows.iter().map(|row| (row["action"].as_str().unwrap(), row["outcome"].as_str().unwrap())).collect();
    let lacking: Vec<_> = EXPECTED.iter().filter(|expected| !found.contains(*expected)).collect();
    assert!(lacking.is_empty(), "{lacking:?} are not among {found:?}");
    // placed three times and closed once; canceled alone, and what was left all together
    let count = |what: &str| {
        let of = format!("SELECT 1 AS x FROM audit_log WHERE chain = {} AND action = '{what}'", story.ann);
        story.world.rows(&of).len()
    };
    assert_eq!((count("order.create"), count("order.replace")), (4, 1));
    assert!(count("order.cancel") >= 3, "{}", count("order.cancel"));
}

/// AUD-5: each entry of a request says when, who, from where, with what and in which request.
#[tokio::test]
async fn entries_say_from_where() {
    let story = lived().await;
    let ann = story.ann;
    let lacking = story.world.rows(&format!(
        "SELECT action FROM audit_log WHERE chain = {ann} AND (ip IS DISTINCT FROM '127.0.0.1' OR request_id IS NULL)"
    ));
    assert!(lacking.is_empty(), "{lacking:?}");
    let sessions = story.world.rows(&format!(
        "SELECT 1 AS x FROM audit_log WHERE chain = {ann} AND action = 'order.cancel' AND detail LIKE '%session_id%'"
    ));
    assert!(!sessions.is_empty());
    let report = story.world.db.read_snapshot(|tx| tx.verify_audit()).await.unwrap();
    assert_eq!(report.first_bad, None);
    assert!(report.entries > 50, "{}", report.entries);
}
