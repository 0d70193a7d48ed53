//! The migrations up, down and up again, and who may migrate what.

use std::collections::BTreeMap;

use plimsoll_core_domain::StoreErrorKind;
use plimsoll_storage::migrate::{
    MigrateError, MigrationSet, grant_application_role, migrate, plan, revert_all,
};
use plimsoll_storage::testing::RawConnection;
use plimsoll_testkit::TestDb;
use serde_json::Value;

const SETS: [MigrationSet; 2] = [MigrationSet::Platform, MigrationSet::Paper];

/// Everything that the migrations can make, by name.
fn catalogue(database: &TestDb) -> BTreeMap<&'static str, Vec<Value>> {
    const PARTS: &[(&str, &str)] = &[
        (
            "relations",
            "SELECT c.relname, c.relkind, c.reloptions, c.relpersistence FROM pg_class c \
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 'i' ORDER BY 1",
        ),
        (
            "columns",
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull, a.attidentity, \
             a.attgenerated, a.attnum, pg_get_expr(d.adbin, d.adrelid) AS default FROM pg_attribute a \
             JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
             WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND c.relkind IN ('r', 'v', 'm', 'p') \
             ORDER BY 1, a.attnum",
        ),
        ("indexes", "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"),
        (
            "constraints",
            "SELECT conrelid::regclass::text AS relation, conname, pg_get_constraintdef(oid) AS definition, \
             convalidated FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
        ),
        (
            "triggers",
            "SELECT t.tgname, pg_get_triggerdef(t.oid) AS definition, t.tgenabled FROM pg_trigger t \
             JOIN pg_class c ON c.oid = t.tgrelid \
             WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal ORDER BY 1, 2",
        ),
        (
            "functions",
            "SELECT proname, pg_get_functiondef(oid) AS definition FROM pg_proc \
             WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2",
        ),
        ("views", "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"),
        (
            "types",
            "SELECT typname, typtype FROM pg_type t WHERE typnamespace = 'public'::regnamespace \
             AND typtype IN ('e', 'd', 'r') ORDER BY 1",
        ),
        (
            "sequences",
            "SELECT sequencename, data_type::text, start_value, increment_by, cycle FROM pg_sequences \
             WHERE schemaname = 'public' ORDER BY 1",
        ),
        ("extensions", "SELECT extname FROM pg_extension ORDER BY 1"),
        ("schemas", "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1"),
    ];
    PARTS.iter().map(|(part, query)| (*part, database.rows(query))).collect()
}

#[test]
fn up_down_up_comes_to_the_same_schema_and_down_leaves_nothing() {
    for set in SETS {
        let database = TestDb::empty();
        // the bookkeeping table is Diesel's own and stays
        assert_eq!(plan(database.url(), set).unwrap(), plan(database.url(), set).unwrap());
        let empty = catalogue(&database);

        let first = migrate(database.url(), set).unwrap();
        assert!(!first.applied.is_empty(), "{set:?} has migrations");
        let up = catalogue(&database);
        assert!(up["relations"].len() > empty["relations"].len());

        let mut reverted = revert_all(database.url(), set).unwrap();
        reverted.applied.reverse();
        assert_eq!(reverted, first);
        assert_eq!(catalogue(&database), empty, "{set:?}: down leaves something");

        assert_eq!(migrate(database.url(), set).unwrap(), first);
        assert_eq!(catalogue(&database), up, "{set:?}: the second up differs");
    }
}

#[test]
fn a_migrated_database_has_nothing_left_to_do() {
    for set in SETS {
        let database = TestDb::empty();
        migrate(database.url(), set).unwrap();
        let up = catalogue(&database);
        assert_eq!(migrate(database.url(), set).unwrap().applied, Vec::<String>::new());
        assert_eq!(catalogue(&database), up);
    }
}

#[test]
fn a_plan_changes_nothing_and_names_what_would_run() {
    let database = TestDb::empty();
    let planned = plan(database.url(), MigrationSet::Platform).unwrap();
    assert!(
        database
            .rows("SELECT 1 AS x FROM pg_tables WHERE schemaname = 'public' AND tablename = 'orders'")
            .is_empty()
    );
    assert_eq!(migrate(database.url(), MigrationSet::Platform).unwrap(), planned);
    assert!(plan(database.url(), MigrationSet::Platform).unwrap().applied.is_empty());
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let database = TestDb::platform();
    database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231235959')");
    let before = catalogue(&database);
    for outcome in [
        migrate(database.url(), MigrationSet::Platform),
        plan(database.url(), MigrationSet::Platform),
        revert_all(database.url(), MigrationSet::Platform),
    ] {
        match outcome.unwrap_err() {
            MigrateError::SchemaNewer { unknown } => assert_eq!(unknown, ["29991231235959"]),
            other => panic!("{other}"),
        }
    }
    assert_eq!(catalogue(&database), before);
}

#[test]
fn the_other_databases_migrations_do_not_fit() {
    let database = TestDb::paper();
    assert!(matches!(migrate(database.url(), MigrationSet::Platform), Err(MigrateError::SchemaNewer { .. })));
}

#[test]
fn two_instances_migrate_once() {
    let database = TestDb::empty();
    let reports: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| migrate(database.url(), MigrationSet::Platform).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let done = reports.iter().filter(|report| !report.applied.is_empty()).count();
    assert_eq!(done, 1, "{reports:?}");
}

#[test]
fn a_server_that_is_away_is_a_store_error() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgresql:///x?host={}", folder.path().display());
    match migrate(&url, MigrationSet::Platform).unwrap_err() {
        MigrateError::Store(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
        other => panic!("{other}"),
    }
}

#[test]
fn the_application_role_may_append_to_the_audit_log_and_no_more() {
    let database = TestDb::platform();
    let role = format!("app_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN"));
    grant_application_role(database.url(), MigrationSet::Platform, &role).unwrap();
    grant_application_role(database.url(), MigrationSet::Platform, &role).unwrap();
    let may = |what: &str, table: &str| {
        database.rows(&format!("SELECT has_table_privilege('{role}', '{table}', '{what}') AS may"))[0]["may"]
            == Value::Bool(true)
    };
    assert!(
        may("SELECT", "orders")
            && may("INSERT", "orders")
            && may("UPDATE", "orders")
            && may("DELETE", "orders")
    );
    assert!(may("SELECT", "audit_log") && may("INSERT", "audit_log"));
    assert!(!may("UPDATE", "audit_log") && !may("DELETE", "audit_log") && !may("TRUNCATE", "audit_log"));
    assert!(!may("INSERT", "__diesel_schema_migrations"));
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_audit_log_refuses_changes_even_from_its_owner() {
    let database = TestDb::platform();
    let mut conn: RawConnection = database.raw();
    conn.execute(
        "INSERT INTO audit_log (chain, seq, at, action, outcome, detail, mac) \
         VALUES (-1, 1, now(), 'test', 'success', '{}', decode(repeat('00', 32), 'hex'))",
    )
    .unwrap();
    for change in ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let error = conn.execute(change).unwrap_err();
        assert!(error.to_string().contains("append-only"), "{change}: {error}");
    }
}
