//! Reads Fernet tokens, one a line, and reports what each holds without showing it.
//!
//! `cargo run -p plimsoll-crypto --example fernet_import -- KEY < tokens.txt`; without a key it reads a token of its own.

use std::error::Error;
use std::io::stdin;

use plimsoll_crypto::FernetKey;
use secrecy::ExposeSecret;

/// The example of the Fernet specification.
const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
const TOKEN: &str =
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().nth(1);
    let key = FernetKey::parse(given.as_deref().unwrap_or(KEY))?;
    let lines: Vec<String> = match given {
        Some(_) => stdin().lines().collect::<Result<_, _>>()?,
        None => {
            vec![TOKEN.to_owned(), TOKEN[..60].to_owned(), TOKEN.replace('y', "z"), "no token".to_owned()]
        }
    };
    for (number, line) in lines.iter().enumerate() {
        match key.open(line) {
            Ok(message) => println!(
                "line {}: {} bytes, made {} s after 1970 began",
                number + 1,
                message.plaintext.expose_secret().len(),
                message.created_at_s
            ),
            Err(error) => println!("line {}: {error}", number + 1),
        }
    }
    Ok(())
}
