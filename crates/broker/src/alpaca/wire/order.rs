//! The Order object (Alpaca's contract section 3).

use chrono::{DateTime, Utc};
use plimsoll_core_domain::BrokerOrderId;
use plimsoll_core_domain::broker::{BrokerOrder, BrokerStatus};
use plimsoll_core_domain::order::{OrderClass, OrderStatus, Side};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::{Unreadable, decimal, time};

/// An order as Alpaca writes it; only what the port needs.
#[derive(Debug, Deserialize)]
pub(crate) struct OrderBody {
    id: String,
    #[serde(default)]
    client_order_id: Option<String>,
    #[serde(default, deserialize_with = "time::optional")]
    created_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "time::optional")]
    updated_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "time::optional")]
    submitted_at: Option<DateTime<Utc>>,
    #[serde(default)]
    replaced_by: Option<String>,
    #[serde(default)]
    replaces: Option<String>,
    #[serde(default)]
    symbol: Option<String>,
    #[serde(default, deserialize_with = "decimal::optional")]
    notional: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    qty: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    filled_qty: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    filled_avg_price: Option<Decimal>,
    #[serde(default)]
    order_class: Option<String>,
    #[serde(default)]
    order_type: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    side: Option<String>,
    #[serde(default)]
    time_in_force: Option<String>,
    #[serde(default, deserialize_with = "decimal::optional")]
    limit_price: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    stop_price: Option<Decimal>,
    status: String,
    #[serde(default)]
    extended_hours: Option<bool>,
    #[serde(default)]
    legs: Option<Vec<OrderBody>>,
    #[serde(default, deserialize_with = "decimal::optional")]
    trail_percent: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    trail_price: Option<Decimal>,
    #[serde(default)]
    group_role: Option<String>,
}

impl TryFrom<OrderBody> for BrokerOrder {
    type Error = Unreadable;

    fn try_from(body: OrderBody) -> Result<Self, Unreadable> {
        Ok(Self {
            id: BrokerOrderId::new(body.id).map_err(|_| Unreadable::field("id"))?,
            client_order_id: body.client_order_id.unwrap_or_default(),
            symbol: body.symbol.unwrap_or_default(),
            side: side(body.side.as_deref()),
            order_type: word(body.kind.or(body.order_type).as_deref()),
            time_in_force: word(body.time_in_force.as_deref()),
            class: class(body.order_class.as_deref()),
            role: word(body.group_role.as_deref()),
            qty: body.qty,
            notional: body.notional,
            limit_price: body.limit_price,
            stop_price: body.stop_price,
            trail_price: body.trail_price,
            trail_percent: body.trail_percent,
            extended_hours: body.extended_hours.unwrap_or(false),
            status: status(&body.status),
            filled_qty: body.filled_qty.unwrap_or_default(),
            filled_avg_price: body.filled_avg_price,
            submitted_at: body.submitted_at,
            updated_at: body
                .updated_at
                .or(body.submitted_at)
                .or(body.created_at)
                .ok_or(Unreadable::field("updated_at"))?,
            replaces: link(body.replaces, "replaces")?,
            replaced_by: link(body.replaced_by, "replaced_by")?,
            legs: body.legs.unwrap_or_default().into_iter().map(Self::try_from).collect::<Result<_, _>>()?,
        })
    }
}

/// A known word, or `None`: new words come without notice.
fn word<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

/// `sell_short` has been seen in activities.
pub(super) fn side(text: Option<&str>) -> Option<Side> {
    match text? {
        "sell_short" => Some(Side::Sell),
        text => text.parse().ok(),
    }
}

fn class(text: Option<&str>) -> Option<OrderClass> {
    match text {
        None | Some("") => Some(OrderClass::Simple),
        Some(text) => text.parse().ok(),
    }
}

fn link(text: Option<String>, field: &'static str) -> Result<Option<BrokerOrderId>, Unreadable> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => BrokerOrderId::new(text).map(Some).map_err(|_| Unreadable::field(field)),
    }
}

fn status(text: &str) -> BrokerStatus {
    BrokerStatus::Known(match text {
        "pending_new" | "accepted" | "accepted_for_bidding" | "pending_review" => OrderStatus::Accepted,
        // `stopped`: a trade is guaranteed, and still to come.
        "new" | "stopped" => OrderStatus::New,
        // `calculated`: done for the day, the settlement is being worked out.
        "done_for_day" | "calculated" => OrderStatus::DoneForDay,
        "partially_filled" => OrderStatus::PartiallyFilled,
        "filled" => OrderStatus::Filled,
        "canceled" => OrderStatus::Canceled,
        "expired" => OrderStatus::Expired,
        "rejected" => OrderStatus::Rejected,
        "replaced" => OrderStatus::Replaced,
        "pending_cancel" => OrderStatus::PendingCancel,
        "pending_replace" => OrderStatus::PendingReplace,
        "held" => OrderStatus::Held,
        "suspended" => OrderStatus::Suspended,
        other => return BrokerStatus::Other(other.chars().take(64).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(json: &str) -> Result<BrokerOrder, String> {
        let body: OrderBody = serde_json::from_str(json).map_err(|error| error.to_string())?;
        BrokerOrder::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn every_status_of_the_contract_has_its_place() {
        use OrderStatus::*;
        for (text, wanted) in [
            ("accepted", Accepted),
            ("pending_new", Accepted),
            ("accepted_for_bidding", Accepted),
            ("pending_review", Accepted),
            ("new", New),
            ("stopped", New),
            ("calculated", DoneForDay),
            ("done_for_day", DoneForDay),
            ("partially_filled", PartiallyFilled),
            ("filled", Filled),
            ("canceled", Canceled),
            ("expired", Expired),
            ("rejected", Rejected),
            ("replaced", Replaced),
            ("pending_cancel", PendingCancel),
            ("pending_replace", PendingReplace),
            ("held", Held),
            ("suspended", Suspended),
        ] {
            assert_eq!(status(text), BrokerStatus::Known(wanted), "{text}");
        }
        // States that only exist here are not taken from a broker.
        for other in ["not_sent", "unknown", "pending_submit", "submitting", "conflict", "FILLED", ""] {
            assert_eq!(status(other), BrokerStatus::Other(other.to_owned()), "{other}");
        }
    }

    #[test]
    fn unknown_words_and_fields_are_carried_over() {
        let order = order(
            r#"{"id": "x-1", "status": "on_the_moon", "type": "iceberg", "side": "", "time_in_force": "gtd",
                "order_class": "mleg", "symbol": null, "qty": 1.50, "created_at": "2026-11-03T15:31:24Z",
                "group_role": "hedge", "advanced_instructions": {"a": [1, {"b": null}]}}"#,
        )
        .unwrap();
        assert_eq!(order.status, BrokerStatus::Other("on_the_moon".to_owned()));
        assert_eq!((order.order_type, order.side, order.time_in_force), (None, None, None));
        assert_eq!((order.class, order.role), (None, None));
        assert_eq!((order.symbol.as_str(), order.client_order_id.as_str()), ("", ""));
        assert_eq!(order.qty.unwrap().to_string(), "1.50");
        assert_eq!(order.filled_qty, Decimal::ZERO);
    }

    #[test]
    fn what_is_needed_and_missing_is_told() {
        for (json, part) in [
            (r#"{"status": "new", "updated_at": "2026-11-03T15:31:24Z"}"#, "id"),
            (r#"{"id": "x", "updated_at": "2026-11-03T15:31:24Z"}"#, "status"),
            (r#"{"id": "x", "status": "new"}"#, "updated_at"),
            (r#"{"id": "", "status": "new", "updated_at": "2026-11-03T15:31:24Z"}"#, "id"),
            (r#"{"id": "x", "status": "new", "updated_at": "soon"}"#, "RFC 3339"),
            (
                r#"{"id": "x", "status": "new", "updated_at": "2026-11-03T15:31:24Z", "qty": "many"}"#,
                "decimal",
            ),
        ] {
            let error = order(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
