//! What a password looks like: tails, repetitions, sequences, walks over the keyboard. All texts are folded.

/// Lines that fingers follow, in both directions.
const LINES: &[&str] = &[
    "01234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1qaz",
    "2wsx",
    "3edc",
    "4rfv",
    "5tgb",
    "6yhn",
    "7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "a1s2d3f4g5h6j7k8l9",
    "!@#$%^&*()",
];
/// Shorter runs are chance.
const LEAST_RUN: usize = 3;

/// The text up to its last letter, and the digits and signs after it.
pub(super) fn split_tail(text: &str) -> (&str, &str) {
    let end =
        text.char_indices().rev().find(|(_, c)| c.is_alphabetic()).map_or(0, |(at, c)| at + c.len_utf8());
    text.split_at(end)
}

/// Whether a tail adds little: no longer than its stem, one character repeated, a run, or a common text itself.
pub(super) fn is_cheap(stem: &str, tail: &str, is_listed: impl Fn(&str) -> bool) -> bool {
    tail.chars().count() <= stem.chars().count() || is_pattern(tail) || is_listed(tail)
}

/// Letters for the digits and signs that stand in for them.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '@' | '4' => 'a',
            '3' => 'e',
            '1' | '!' => 'i',
            '0' => 'o',
            '$' | '5' => 's',
            '7' => 't',
            other => other,
        })
        .collect()
}

/// The shortest text of which this one is two or more repetitions.
pub(super) fn repeated_unit(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    (1..=bytes.len() / 2)
        .filter(|&len| bytes.len().is_multiple_of(len) && text.is_char_boundary(len))
        .find(|&len| bytes.chunks(len).all(|chunk| *chunk == bytes[..len]))
        .map(|len| &text[..len])
}

/// At most three different characters, a short text repeated, or runs along the lines only.
pub(super) fn is_pattern(text: &str) -> bool {
    let mut kinds: Vec<char> = text.chars().collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.len() <= 3
        || repeated_unit(text).is_some_and(|unit| unit.chars().count() <= 4)
        || is_runs(&text.chars().collect::<Vec<_>>())
}

/// Whether the text is made of runs of at least three characters, each along one line or of one character.
fn is_runs(text: &[char]) -> bool {
    let mut at = 0;
    while at < text.len() {
        let longest = longest_run(&text[at..]);
        if longest < LEAST_RUN {
            return false;
        }
        at += longest;
    }
    true
}

fn longest_run(text: &[char]) -> usize {
    let same = text.iter().take_while(|c| **c == text[0]).count();
    let along = |line: &[char]| {
        let starts = line.iter().enumerate().filter(|(_, c)| **c == text[0]);
        starts
            .map(|(at, _)| line[at..].iter().zip(text).take_while(|(one, other)| one == other).count())
            .max()
    };
    let lines =
        LINES.iter().flat_map(|line| [line.chars().collect(), line.chars().rev().collect::<Vec<_>>()]);
    lines.filter_map(|line| along(&line)).max().unwrap_or(0).max(same)
}
