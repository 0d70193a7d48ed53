//! Backup and restore, the database's side: one moment of it as rows in binary COPY form, and those rows into a copy of
//! their own that takes the database's place when it is sound.
//!
//! A [`Snapshot`] reads. [`Scratch`] is the copy: made, loaded, [checked](check), [put to rest](put_to_rest) and
//! [swapped in](swap()). Everything runs over connections of its own, as the database's owner; no pool is used.

mod catalogue;
mod checks;
mod copy;
mod load;
mod names;
mod rest;
mod rights;
mod scratch;
mod snapshot;
mod sql;
mod swap;

pub use checks::check;
pub use names::{UNDO_DAYS, can_undo, pre_name, pre_taken_at, scratch_name};
pub use rest::{HeldJobs, Released, put_to_rest};
pub use scratch::{OtherDatabase, Scratch, database_bytes, drop_database, may_restore, other_databases};
pub use snapshot::Snapshot;
pub use swap::{Repaired, open_database, repair, swap};
