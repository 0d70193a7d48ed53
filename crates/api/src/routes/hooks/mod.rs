//! Where signals are posted to.

pub mod hook;
pub mod webhook;

use plimsoll_core_domain::OrderId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The answer to a signal.
#[derive(Serialize, ToSchema)]
pub struct SignalAnswer {
    /// Of a duplicate, the first one's.
    #[schema(value_type = String)]
    pub(crate) signal_id: Uuid,
    /// `accepted` or `duplicate`; a refusal is a problem with the same members.
    pub(crate) verdict: &'static str,
    /// `nothing_to_do` of one that is accepted and needs no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub(crate) reason: Option<&'static str>,
    /// The order, where it is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(crate) order_id: Option<OrderId>,
}
