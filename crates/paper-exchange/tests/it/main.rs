//! The exchange through its public interface.

mod account;
mod amend;
mod groups;
mod lifecycle;
mod market;
mod properties;
mod refusals;
mod restart;
mod support;
mod wire;
