use serde_json::Value;

use crate::schema;

fn document() -> Value {
    serde_json::from_str(&crate::openapi_document()).unwrap()
}

#[test]
fn the_document_is_openapi_3_1_and_lists_the_routes() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["title"], "Plimsoll");
    for (path, methods) in [
        ("/orders", vec!["get", "post", "delete"]),
        ("/orders/{id}", vec!["get", "patch", "delete"]),
        ("/positions/{symbol}", vec!["get", "delete"]),
        ("/fills", vec!["get"]),
        ("/pnl", vec!["get"]),
        ("/account", vec!["get"]),
        ("/portfolio/history", vec!["get"]),
        ("/auth/login", vec!["post"]),
        ("/health/ready", vec!["get"]),
        ("/ws", vec!["get"]),
    ] {
        for method in methods {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
    }
}

#[test]
fn every_code_of_a_problem_is_documented_once() {
    let mut codes: Vec<_> = crate::problem::PROBLEMS.iter().map(|kind| kind.code).collect();
    codes.sort_unstable();
    let all = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), all);
}

#[test]
fn the_schemas_have_the_fields_of_the_views() {
    use plimsoll_core_domain::position::Position;
    use plimsoll_core_domain::views::{Dec, Holding, PnlView, PositionView};
    let holding = Holding {
        account_id: plimsoll_core_domain::AccountId(1),
        symbol: "SPY".parse().unwrap(),
        position: Position::default(),
        last_price: None,
        updated_at: chrono::DateTime::UNIX_EPOCH,
    };
    let same = |fields: &[&str], view: Value| {
        let mut documented: Vec<&str> = fields.iter().map(|field| field.trim_start_matches("r#")).collect();
        let mut written: Vec<&str> = view.as_object().unwrap().keys().map(String::as_str).collect();
        documented.sort_unstable();
        written.sort_unstable();
        assert_eq!(documented, written);
    };
    same(schema::Position::FIELDS, serde_json::to_value(PositionView::from(&holding)).unwrap());
    let pnl = PnlView::new(&[holding], &[], chrono::DateTime::UNIX_EPOCH);
    assert_eq!(pnl.realized_total, Dec(0.into()));
    same(schema::SymbolPnl::FIELDS, serde_json::to_value(&pnl.by_symbol[0]).unwrap());
    same(schema::Pnl::FIELDS, serde_json::to_value(&pnl).unwrap());
}
