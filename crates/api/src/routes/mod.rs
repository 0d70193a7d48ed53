//! The routes: one endpoint, one file.
#![expect(unreachable_pub, reason = "actix's route macro repeats the handler's visibility inside a function")]

pub mod account;
pub mod admin;
pub mod asyncapi;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod broker;
pub mod dev;
pub mod events;
pub mod fills;
pub mod health;
pub mod hooks;
pub mod inbound;
pub mod openapi;
pub mod orders;
pub mod outbound;
pub mod pages;
pub mod pnl;
pub mod portfolio_history;
pub mod positions;
pub mod problems;
pub mod reconciliation;
pub mod risk;
pub mod ws_ticket;
