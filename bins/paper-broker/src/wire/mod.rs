//! Requests and answers between HTTP and the exchange.

mod answer;
mod call;
mod params;

pub(crate) use answer::{Answer, Content};
pub(crate) use call::{Call, Subject};
pub(crate) use params::Params;
