//! Every act that must leave an audit entry does: an account's whole life over HTTP, and what stands in the log after it.

use std::collections::BTreeSet;

use crate::story::lived;

/// Action and outcome of everything that must be on record afterwards.
const EXPECTED: &[(&str, &str)] = &[("x", "y")];

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
