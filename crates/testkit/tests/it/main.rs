//! What a test may rely on: a database of its own, made anew, gone afterwards.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use plimsoll_storage::testing::RawConnection;
use plimsoll_testkit::{TestDb, server_url};

fn databases_named(name: &str) -> usize {
    let query = format!("SELECT datname FROM pg_database WHERE datname = '{name}'");
    RawConnection::open(server_url()).unwrap().rows(&query).unwrap().len()
}

#[test]
fn each_test_has_its_own_database_with_the_schema_it_asked_for() {
    let (one, two, paper, empty) = (TestDb::platform(), TestDb::platform(), TestDb::paper(), TestDb::empty());
    one.execute("CREATE TABLE mine (x int)");
    let tables = |database: &TestDb, name: &str| {
        database.rows(&format!("SELECT 1 AS one FROM pg_tables WHERE tablename = '{name}'")).len()
    };
    assert_eq!((tables(&one, "mine"), tables(&two, "mine")), (1, 0));
    assert_eq!((tables(&one, "orders"), tables(&one, "users")), (1, 1));
    assert_eq!((tables(&paper, "api_keys"), tables(&paper, "users")), (1, 0));
    assert_eq!(tables(&empty, "users"), 0);
}

#[test]
fn a_database_goes_with_its_guard_even_while_someone_is_connected() {
    let database = TestDb::empty();
    let name = database.name().to_owned();
    let (db, mut raw) = (database.db(), database.raw());
    assert_eq!(databases_named(&name), 1);
    drop(database);
    assert_eq!(databases_named(&name), 0);
    raw.execute("SELECT 1").unwrap_err();
    drop(db);
}
