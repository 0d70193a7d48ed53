//! The hub from outside: order, resume, limits, and any interleaving of them.

mod delivery;
mod exactly_once;
mod harness;
mod limits;
mod resume;
mod threads;
