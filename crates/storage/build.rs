//! Makes the crate notice new migrations (the embedding macro alone does not) and lists their texts for
//! `MigrationSet::fingerprint`.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for set in ["platform", "paper"] {
        let folder = root.join("../../migrations").join(set);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut list = String::from("&[\n");
        for migration in children(&folder).into_iter().filter(|path| path.join("up.sql").is_file()) {
            println!("cargo::rerun-if-changed={}", migration.display());
            for file in children(&migration) {
                println!("cargo::rerun-if-changed={}", file.display());
            }
            let name = migration.file_name().expect("a child has a name").to_string_lossy().into_owned();
            let up = migration.join("up.sql");
            list.push_str(&format!("    {name:?}, include_str!({:?}),\n", up.display().to_string()));
        }
        list.push(']');
        fs::write(out.join(format!("{set}.in")), list).expect("writing to OUT_DIR");
    }
}

/// What lies in a folder, in order of name; nothing where the folder is missing.
fn children(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}
