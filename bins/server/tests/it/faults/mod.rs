//! Faults of the server, PostgreSQL, the broker and jobs, done to real processes; after each of them the [`oracle`]
//! decides. `docs/faults.md` has the table of faults and their tests.
//!
//! Durations are a tenth of the real ones; with `FAULTS_REAL_TIME=1` they are not scaled. No test measures one: what must
//! come quickly has to come before the test lets go on what it holds.

mod broker;
mod database;
mod desk;
mod frozen;
mod instance;
mod keys;
mod kills;
mod oracle;
mod outage;
mod postgres;
mod proxy;
mod server;
mod starts;
mod sweep;
mod trap;
mod watcher;
mod world;
