//! Runs the entry points of `fuzz/` over their corpus and many variants of it.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use entry_points::{ENTRY_POINTS, EntryPoint};

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library of its own for the fuzzer")]
mod entry_points;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz_folder().join("corpus").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no corpus for {name}");
    seeds
}

/// Names the input before the panic goes on, so that a failure can be repeated.
fn run(name: &str, entry: EntryPoint, seed: &str, bytes: &[u8]) -> bool {
    std::panic::catch_unwind(|| entry(bytes)).unwrap_or_else(|panic| {
        eprintln!("{name} fails on a variant of {seed}: {}", HEXLOWER.encode(bytes));
        std::panic::resume_unwind(panic)
    })
}

/// Or the checks behind the refusals would never run.
#[test]
fn every_corpus_has_what_is_taken_and_what_is_refused() {
    for (name, entry) in ENTRY_POINTS {
        let taken = corpus(name).iter().filter(|(seed, bytes)| run(name, entry, seed, bytes)).count();
        assert!(taken > 0, "{name}: nothing is taken");
        assert!(!run(name, entry, "nothing", b"\x02\xff") || name == "sealed_stream", "{name}");
    }
}

#[test]
fn no_entry_point_fails_on_the_corpus_of_any() {
    for (name, entry) in ENTRY_POINTS {
        for (of, _) in ENTRY_POINTS {
            for (seed, bytes) in corpus(of) {
                run(name, entry, &seed, &bytes);
            }
        }
    }
}

/// Every cut at either end, every bit flipped, bytes put in and left out, and pairs of seeds joined.
#[test]
fn no_entry_point_fails_on_variants_of_its_corpus() {
    for (name, entry) in ENTRY_POINTS {
        let seeds = corpus(name);
        for (seed, bytes) in &seeds {
            for at in 0..bytes.len() {
                run(name, entry, seed, &bytes[..at]);
                run(name, entry, seed, &bytes[at..]);
                run(name, entry, seed, &[&bytes[..at], &bytes[at + 1..]].concat());
                for other in [0, b'=', 0x80, 0xff, bytes[at]] {
                    run(name, entry, seed, &[&bytes[..at], &[other], &bytes[at..]].concat());
                }
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    run(name, entry, seed, &changed);
                }
            }
            for (_, other) in &seeds {
                let (head, tail) = (bytes.len() / 2, other.len() / 2);
                run(name, entry, seed, &[&bytes[..], other].concat());
                run(name, entry, seed, &[&bytes[..head], &other[tail..]].concat());
            }
        }
    }
}

#[test]
fn every_entry_point_is_a_target() {
    let manifest = std::fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for (name, _) in ENTRY_POINTS {
        let target = std::fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("plimsoll_crypto_fuzz::{name}(bytes)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), ENTRY_POINTS.len());
}
