//! The table of security requirements: each one has a test that exists, and some that concern the build itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The requirements that are in force, as (prefix, last number); the others of the same list come with their features.
const IN_FORCE: &[(&str, u32)] = &[
    ("REG", 14),
    ("LOG", 14),
    ("SES", 12),
    ("CSR", 5),
    ("HDR", 1),
    ("TFA", 16),
    ("RST", 12),
    ("STP", 3),
    ("ENC", 13),
    ("AUD", 8),
    ("TOK", 5),
    ("ADM", 8),
    ("ERR", 3),
    ("TIM", 1),
    ("WSS", 6),
    ("WHK", 6),
    ("PRX", 1),
    ("FIL", 1),
    ("CLN", 1),
    ("SUP", 1),
    ("CFG", 1),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository's folder")
}

/// Requirement → its tests as (file, function), from the table's rows `| ID | file::function, … | … |`.
fn table() -> BTreeMap<String, Vec<(String, String)>> {
    let text = fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some((id, tests)) = cells.get(1).zip(cells.get(2)) else { continue };
        let is_id = id.split_once('-').is_some_and(|(prefix, number)| {
            prefix.len() == 3
                && prefix.chars().all(|c| c.is_ascii_uppercase())
                && number.parse::<u32>().is_ok()
        });
        if !is_id {
            continue;
        }
        let tests = tests
            .split(", ")
            .map(|test| {
                let test = test.trim_matches('`');
                let (file, function) = test.rsplit_once("::").unwrap_or_else(|| panic!("{id}: {test}"));
                (file.to_owned(), function.to_owned())
            })
            .collect();
        assert!(rows.insert((*id).to_owned(), tests).is_none(), "{id} stands twice in docs/security.md");
    }
    rows
}

/// Whether `text` has a test function of that name that runs.
fn has_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let declares = line.strip_prefix("async ").unwrap_or(line).starts_with(&format!("fn {function}("));
        let attributes =
            || lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let in_macro = || lines[..at].iter().rev().any(|line| line.starts_with("proptest!"));
        let is_test = attributes().any(|line| line.contains("test]") || line.contains("test("));
        declares && (is_test || in_macro()) && !attributes().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn every_requirement_has_a_test_that_exists() {
    let table = table();
    let wanted: BTreeSet<String> = IN_FORCE
        .iter()
        .flat_map(|(prefix, last)| (1..=*last).map(move |number| format!("{prefix}-{number}")))
        .collect();
    let have: BTreeSet<String> = table.keys().cloned().collect();
    assert_eq!(wanted.difference(&have).collect::<Vec<_>>(), Vec::<&String>::new(), "without a row");
    assert_eq!(have.difference(&wanted).collect::<Vec<_>>(), Vec::<&String>::new(), "unknown requirements");
    let mut missing = Vec::new();
    for (id, tests) in &table {
        assert!(!tests.is_empty(), "{id} names no test");
        for (file, function) in tests {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !has_test(&text, function) {
                missing.push(format!("{id}: {file}::{function}"));
            }
        }
    }
    assert!(missing.is_empty(), "tests that are not there:\n{}", missing.join("\n"));
}

#[test]
fn the_table_is_not_fooled() {
    assert!(has_test("#[test]\nfn a() {", "a"));
    assert!(has_test("/// LOG-1: b\n#[tokio::test]\nasync fn b() {", "b"));
    assert!(!has_test("fn a() {", "a"));
    assert!(!has_test("#[test]\n#[ignore]\nfn a() {", "a"));
    assert!(!has_test("#[test]\nfn ab() {", "a"));
}

/// SUP-1: no Diesel with a known injection, advisories are checked by a command of the project, and password hashing is
/// optimised even in tests, or timing tests would measure something else.
#[test]
fn the_build_keeps_to_safe_and_fast_dependencies() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let version_of = |name: &str| -> Vec<u64> {
        let package = format!("name = \"{name}\"\nversion = \"");
        let at = lock.find(&package).unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
        let rest = &lock[at + package.len()..];
        rest.split('"').next().unwrap().split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    assert!(version_of("diesel") >= vec![2, 3, 8]);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let optimised = |package: &str| {
        let line = manifest.lines().find(|line| line.starts_with(&format!("{package} = {{ opt-level = 3")));
        assert!(line.is_some(), "{package} is optimised in the dev profile");
    };
    ["argon2", "blake2", "sha2", "hmac", "pbkdf2"].into_iter().for_each(optimised);
    let just = fs::read_to_string(root().join("justfile")).unwrap();
    assert!(just.contains("advisories"), "a command checks advisories");
    assert!(fs::read_to_string(root().join("deny.toml")).unwrap().contains("[advisories]"));
}
