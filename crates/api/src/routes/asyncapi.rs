//! `GET /asyncapi.json`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use actix_web::{HttpResponse, get};
use plimsoll_core_domain::stream::EventKind;
use serde_json::{Map, Value, json};

static TEXT: LazyLock<String> = LazyLock::new(crate::asyncapi_document);

/// The contract of the WebSocket.
#[get("/asyncapi.json")]
pub async fn asyncapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(TEXT.as_str())
}

/// The document, with the schemas of the OpenAPI document that events have in common with answers.
pub(crate) fn document(openapi: &Value) -> Value {
    let all = &openapi["components"]["schemas"];
    let mut wanted = BTreeSet::new();
    for kind in EventKind::ALL {
        note(&data(kind), all, &mut wanted);
    }
    let schemas: Map<String, Value> =
        wanted.into_iter().map(|name| (name.clone(), all[&name].clone())).collect();
    plimsoll_realtime::asyncapi(env!("CARGO_PKG_VERSION"), data, schemas)
}

/// The schema of an event's `data`.
fn data(kind: EventKind) -> Value {
    let name = match kind {
        EventKind::OrderCreated
        | EventKind::OrderUpdated
        | EventKind::OrderFilled
        | EventKind::OrderCancelled => "Order",
        EventKind::PositionUpdated => "Position",
        EventKind::PnlUpdated => "Pnl",
        EventKind::TradeExecuted => "Fill",
        EventKind::SystemAlert => "NewAlert",
        EventKind::OptimizationProgress => "OptimizationProgress",
        EventKind::AbTestUpdate => "AbTestUpdate",
        EventKind::AccountUpdated => "Account",
        // The report of a run, without its rows.
        EventKind::ReconciliationFinished => return json!({ "type": "object" }),
    };
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Notes the schemas that a value refers to, and those that they refer to.
fn note(value: &Value, all: &Value, wanted: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                    Some(target) if name == "$ref" => {
                        if wanted.insert(target.to_owned()) {
                            note(&all[target], all, wanted);
                        }
                    }
                    _ => note(value, all, wanted),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| note(item, all, wanted)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_is_referred_to_is_there() {
        let openapi: Value = serde_json::from_str(&crate::openapi_document()).unwrap();
        let document = document(&openapi);
        let mut wanted = BTreeSet::new();
        note(&document, &document["components"]["schemas"], &mut wanted);
        assert!(wanted.len() >= 8, "{wanted:?}");
        for name in wanted {
            assert!(document["components"]["schemas"][&name].is_object(), "{name}");
        }
    }
}
