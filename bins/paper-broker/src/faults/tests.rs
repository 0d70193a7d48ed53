use super::*;

fn book(rules: &str) -> Arc<FaultBook> {
    Arc::new(FaultBook::new(serde_json::from_str(rules).unwrap()))
}

fn post<'a>() -> Facts<'a> {
    Facts { method: "POST", path: "/v2/orders", symbol: Some("SPY"), ..Facts::default() }
}

fn hits(book: &FaultBook) -> Vec<u64> {
    book.list().iter().map(|live| live.hits).collect()
}

#[test]
fn the_first_rule_with_hits_left_acts() {
    let book = book(r#"[{"action":"drop","times":1},{"action":"status_after","status":502}]"#);
    assert_eq!(book.plan(&post(), false).fault, Some(RequestFault::Drop));
    assert_eq!(book.plan(&post(), false).fault, Some(RequestFault::StatusAfter(502)));
    assert_eq!(hits(&book), [1, 1]);
}

#[test]
fn delays_let_later_rules_act() {
    let book =
        book(r#"[{"action":"delay","ms":20},{"action":"delay_after","ms":30},{"action":"status_before"}]"#);
    let plan = book.plan(&post(), false);
    assert_eq!((plan.delay, plan.delay_after), (Duration::from_millis(20), Duration::from_millis(30)));
    assert_eq!(plan.fault, Some(RequestFault::StatusBefore(503)));
    assert_eq!(plan.rules, ["rule-1", "rule-2", "rule-3"]);
}

#[test]
fn each_action_keeps_to_its_place() {
    let book = book(r#"[{"action":"stream_cut"},{"action":"hide_from_list"},{"action":"lookup_404"}]"#);
    assert_eq!(book.plan(&post(), false).fault, None);
    assert_eq!(hits(&book), [0, 0, 0]);
    assert_eq!(book.plan(&Facts { method: "GET", ..post() }, true).fault, Some(RequestFault::Lookup404));
    assert_eq!(book.message(&post()), Some(MessageFault::Cut));
    assert_eq!(hits(&book), [1, 0, 1]);
}

#[test]
fn rules_are_added_replaced_and_removed() {
    let book = book("[]");
    assert!(!book.any());
    let rule = |text: &str| serde_json::from_str::<FaultRule>(text).unwrap();
    let added = book.add(vec![rule(r#"{"action":"drop"}"#), rule(r#"{"id":"mine","action":"garbage"}"#)]);
    assert_eq!(added.iter().map(Live::id).collect::<Vec<_>>(), ["rule-1", "mine"]);
    book.add(vec![rule(r#"{"id":"mine","action":"delay"}"#)]);
    assert_eq!(book.list().len(), 2);
    assert!(book.remove("mine"));
    assert!(!book.remove("mine"));
    book.clear();
    assert!(book.list().is_empty() && !book.any());
}
