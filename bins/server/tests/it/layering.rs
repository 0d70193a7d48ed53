//! The crate graph: who may name whom. The tables here are its documentation; a new crate starts by adding a line.

use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate of the workspace may name, other than in its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("plimsoll-core-domain", &[]),
    ("plimsoll-crypto", &[]),
    ("plimsoll-observability", &[]),
    ("plimsoll-auth", &["plimsoll-core-domain", "plimsoll-crypto"]),
    ("plimsoll-reliability", &["plimsoll-core-domain", "plimsoll-crypto"]),
    ("plimsoll-realtime", &["plimsoll-core-domain"]),
    ("plimsoll-paper-exchange", &["plimsoll-core-domain"]),
    ("plimsoll-broker", &["plimsoll-core-domain", "plimsoll-crypto"]),
    (
        "plimsoll-storage",
        &[
            "plimsoll-core-domain",
            "plimsoll-crypto",
            "plimsoll-auth",
            "plimsoll-reliability",
            "plimsoll-realtime",
            "plimsoll-paper-exchange",
        ],
    ),
    (
        "plimsoll-api",
        &[
            "plimsoll-core-domain",
            "plimsoll-crypto",
            "plimsoll-auth",
            "plimsoll-reliability",
            "plimsoll-realtime",
            "plimsoll-observability",
            "plimsoll-storage",
        ],
    ),
    (
        "plimsoll-testkit",
        &[
            "plimsoll-core-domain",
            "plimsoll-crypto",
            "plimsoll-auth",
            "plimsoll-reliability",
            "plimsoll-realtime",
            "plimsoll-storage",
        ],
    ),
    (
        "plimsoll-paper-broker",
        &["plimsoll-core-domain", "plimsoll-paper-exchange", "plimsoll-storage", "plimsoll-observability"],
    ),
    (
        "plimsoll-server",
        &[
            "plimsoll-core-domain",
            "plimsoll-crypto",
            "plimsoll-observability",
            "plimsoll-auth",
            "plimsoll-reliability",
            "plimsoll-realtime",
            "plimsoll-broker",
            "plimsoll-paper-exchange",
            "plimsoll-storage",
            "plimsoll-api",
            "plimsoll-paper-broker",
        ],
    ),
];

/// Packages from outside that only some of our crates may name.
const OWNED: &[(&str, &[&str])] = &[
    ("diesel", &["plimsoll-storage"]),
    ("diesel_migrations", &["plimsoll-storage"]),
    ("r2d2", &["plimsoll-storage"]),
    ("actix-web", SERVICES),
    ("actix-ws", SERVICES),
    ("actix-http", SERVICES),
    ("actix-cors", SERVICES),
    ("backoff", &["plimsoll-reliability"]),
    ("zstd", &["plimsoll-reliability"]),
    ("chacha20poly1305", &["plimsoll-crypto"]),
    ("pbkdf2", &["plimsoll-crypto"]),
    ("totp-lite", &["plimsoll-auth"]),
    ("qrcode", &["plimsoll-auth"]),
    ("lettre", &["plimsoll-server"]),
    ("tracing-subscriber", &["plimsoll-observability"]),
    ("sysinfo", &["plimsoll-observability"]),
];

/// The crates that speak HTTP.
const SERVICES: &[&str] = &["plimsoll-api", "plimsoll-server", "plimsoll-paper-broker"];

/// One line of some crate's `[dependencies]` or `[build-dependencies]`.
struct Edge {
    from: String,
    to: String,
    /// Whether `to` is a crate of this workspace.
    ours: bool,
}

/// The workspace's crates, and every edge that is not for tests only.
fn graph() -> (Vec<String>, Vec<Edge>) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let meta = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata of the workspace");
    let crates = meta.packages.iter().map(|package| package.name.to_string()).collect();
    let edges = meta
        .packages
        .iter()
        .flat_map(|package| {
            package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development).map(|dep| {
                Edge { from: package.name.to_string(), to: dep.name.clone(), ours: dep.path.is_some() }
            })
        })
        .collect();
    (crates, edges)
}

/// One line for every edge that the tables forbid.
fn wrong(edges: &[Edge]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Edge { from, to, ours } in edges {
        let may = ALLOWED.iter().find(|(krate, _)| krate == from).map_or(&[][..], |(_, may)| may);
        if *ours && !may.contains(&to.as_str()) {
            wrong.push(format!("{from} -> {to}: upward or sideways"));
        }
        if OWNED.iter().any(|(package, owners)| package == to && !owners.contains(&from.as_str())) {
            wrong.push(format!("{from} -> {to}: owned by another crate"));
        }
    }
    wrong
}

#[test]
fn crates_depend_only_downwards() {
    let (_, edges) = graph();
    assert!(edges.iter().any(|edge| edge.ours), "no edge between our crates was read");
    let wrong = wrong(&edges);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_has_its_line() {
    let (mut crates, _) = graph();
    let mut listed: Vec<String> = ALLOWED.iter().map(|(krate, _)| (*krate).to_owned()).collect();
    crates.sort();
    listed.sort();
    assert_eq!(crates, listed);
}

#[test]
fn the_table_has_no_way_round() {
    // Taking away crates that name nothing left standing must reach the end, or two crates lean on each other.
    let mut left: Vec<_> = ALLOWED.to_vec();
    while !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|(krate, _)| *krate).collect();
        let before = left.len();
        left.retain(|(_, may)| may.iter().any(|krate| names.contains(krate)));
        assert!(left.len() < before, "each of these leans on another of them: {names:?}");
    }
}

#[test]
fn forbidden_edges_are_seen() {
    let edge = |from: &str, to: &str, ours| Edge { from: from.to_owned(), to: to.to_owned(), ours };
    let edges = [
        edge("plimsoll-core-domain", "plimsoll-storage", true),
        edge("plimsoll-auth", "plimsoll-reliability", true),
        edge("plimsoll-server", "plimsoll-testkit", true),
        edge("plimsoll-unheard-of", "plimsoll-core-domain", true),
        edge("plimsoll-api", "diesel", false),
        edge("plimsoll-broker", "backoff", false),
        edge("plimsoll-realtime", "actix-ws", false),
        // These three are right.
        edge("plimsoll-storage", "plimsoll-auth", true),
        edge("plimsoll-reliability", "backoff", false),
        edge("plimsoll-auth", "thiserror", false),
    ];
    assert_eq!(
        wrong(&edges),
        [
            "plimsoll-core-domain -> plimsoll-storage: upward or sideways",
            "plimsoll-auth -> plimsoll-reliability: upward or sideways",
            "plimsoll-server -> plimsoll-testkit: upward or sideways",
            "plimsoll-unheard-of -> plimsoll-core-domain: upward or sideways",
            "plimsoll-api -> diesel: owned by another crate",
            "plimsoll-broker -> backoff: owned by another crate",
            "plimsoll-realtime -> actix-ws: owned by another crate",
        ]
    );
}
