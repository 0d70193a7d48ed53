//! What the documents promise about the repository itself: commands that exist, links that lead somewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository's folder")
}

/// All Markdown files below a folder.
fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The documents whose links this file follows. A crate's README is its documentation: rustdoc follows those links.
fn documents() -> Vec<PathBuf> {
    let root = repository();
    let mut found = vec![root.join("README.md"), root.join("migrations/README.md")];
    markdown(&root.join("docs"), &mut found);
    found
}

/// Lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of `[text](target)` that lie in this repository.
fn relative_links(text: &str) -> Vec<&str> {
    prose(text)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The anchors a Markdown page's headings get: lower case, blanks as hyphens, other signs dropped.
fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn the_readmes_two_commands_exist_and_are_executable() {
    let root = repository();
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let first_screen: Vec<&str> = readme.lines().take(24).collect();
    for command in ["run", "test"] {
        let line = format!("./{command}");
        assert!(
            first_screen.iter().any(|shown| shown.split_whitespace().next() == Some(&line)),
            "{line} is not a line of its own on the README's first screen"
        );
        let meta = fs::metadata(root.join(command)).expect(command);
        assert!(meta.is_file() && meta.permissions().mode() & 0o111 == 0o111, "{line} is not executable");
        let script = fs::read_to_string(root.join(command)).expect(command);
        assert!(script.starts_with("#!/bin/sh\n"), "{line} is not a POSIX shell script");
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut dead = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a readable document");
        for link in relative_links(&text) {
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                _ => document.parent().expect("a document lies in a folder").join(file),
            };
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap_or_default()).iter().any(|a| a == anchor));
            if !there {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(followed > 0, "no link was found");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn links_and_anchors_are_read_as_a_reader_sees_them() {
    let text = "# One: *page*, 2 parts\n[a](x.md) [b](https://example.org/y) [c](#one)\n```text\n[d](z.md)\n# no\n```\n";
    assert_eq!(relative_links(text), ["x.md", "#one"]);
    assert_eq!(anchors(text), ["one-page-2-parts"]);
}
