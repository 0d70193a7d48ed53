//! Faults of the server, PostgreSQL, the broker and jobs, done to real processes; after each of them the [`oracle`]
//! decides. `docs/faults.md` has the table of faults and their tests.
//!
//! Durations are a tenth of the real ones; with `FAULTS_REAL_TIME=1` they are not scaled. No test measures one: what must
//! come quickly has to come before the test lets go on what it holds.

mod broker;
mod broker_answers;
mod broker_limits;
mod broker_lists;
mod broker_stream;
mod comparing;
mod crash_points;
mod database;
mod desk;
mod frozen;
mod halts;
mod hours;
mod instance;
mod jobs;
mod keys;
mod kills;
mod known_fills;
mod known_orders;
mod known_positions;
mod late;
mod oracle;
mod outage;
mod panics;
mod postgres;
mod proxy;
mod realtime;
mod server;
mod signals;
mod starts;
mod sweep;
mod trap;
mod watcher;
mod world;

/// Each test of a row stands in the document, and the document names no other.
#[test]
fn the_document_names_every_test_of_a_row() {
    use std::collections::BTreeSet;
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults");
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("row_") && word.len() > 8).map(str::to_owned).collect()
    };
    let mut tests = BTreeSet::new();
    for file in std::fs::read_dir(&here).unwrap() {
        tests.extend(names(&std::fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    let document = std::fs::read_to_string(here.join("../../../../../docs/faults.md")).unwrap();
    assert_eq!(names(&document), tests);
}
