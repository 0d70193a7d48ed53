//! What operators look at: figures for Prometheus and the state of every part, on a listener that is not the public one.

mod checks;
mod collect;
mod listener;

pub(crate) use self::checks::{OwnParts, with_own_parts};
pub(crate) use self::collect::{Collector, Watched};
pub(crate) use self::listener::{Private, serve};
