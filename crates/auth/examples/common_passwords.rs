//! Makes `data/common-passwords.bin` from lists of common passwords, one on a line, on standard input.
//!
//! `cat LISTS | cargo run -p plimsoll-auth --example common_passwords > crates/auth/data/common-passwords.bin`

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};

use plimsoll_auth::password_rules::fingerprint;
use unicode_normalization::UnicodeNormalization;

/// Shorter texts are no stems of passwords.
const LEAST: usize = 4;

fn main() -> io::Result<()> {
    let mut prints = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let folded: String = line?.to_lowercase().nfc().collect();
        if folded.chars().count() >= LEAST {
            prints.insert(fingerprint(&folded));
        }
    }
    let mut out = io::stdout().lock();
    for print in prints {
        out.write_all(&print)?;
    }
    out.flush()
}
