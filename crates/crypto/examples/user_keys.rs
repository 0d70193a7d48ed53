//! A key per user: seals two users' secrets, changes the master key, and forgets one user.
//!
//! `cargo run -p plimsoll-crypto --example user_keys`

use std::error::Error;

use plimsoll_crypto::sealing::sealed_with;
use plimsoll_crypto::{Aad, DataKey, KeyRing, MasterKey, OsRandom, SecretKey, open, seal};
use secrecy::ExposeSecret;

/// What a database would keep of one user.
struct Row {
    user: i64,
    wrapped_key: Vec<u8>,
    api_secret: Vec<u8>,
}

fn place(row: &str, user: i64) -> Aad<'_> {
    Aad { table: "broker_credentials", column: "api_secret", row, owner: Some(user) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = OsRandom;
    let old = MasterKey::from_key(SecretKey::generate(&mut rng))?;
    let before = KeyRing::new(&old);

    let mut rows: Vec<Row> = [41, 42]
        .map(|user| {
            let key = DataKey::generate(&mut rng);
            let secret = format!("the secret of {user}");
            let row = format!("{user}:alpaca");
            let api_secret = seal(&key.ring(&before), &place(&row, user), secret.as_bytes(), &mut rng);
            Row { user, wrapped_key: key.wrap(&before, user, &mut rng), api_secret }
        })
        .into();

    // Rotation re-wraps the users' keys. What those sealed stays as it is.
    let during = KeyRing::new(&MasterKey::from_key(SecretKey::generate(&mut rng))?).with_old(&old)?;
    for row in &mut rows {
        let key = DataKey::unwrap(&during, row.user, &row.wrapped_key)?;
        row.wrapped_key = key.wrap(&during, row.user, &mut rng);
        println!("user {}: key wrapped by {}", row.user, sealed_with(&row.wrapped_key)?);
    }

    for row in &rows {
        let ring = DataKey::unwrap(&during, row.user, &row.wrapped_key)?.ring(&during);
        let id = format!("{}:alpaca", row.user);
        let secret = open(&ring, &place(&id, row.user), &row.api_secret)?;
        println!("user {}: {} bytes open", row.user, secret.expose_secret().len());
    }

    let swapped = DataKey::unwrap(&during, rows[0].user, &rows[1].wrapped_key);
    println!("another user's key: {}", swapped.expect_err("it is bound to its user"));

    // Without its wrapped key a user's secret is gone, in every copy that was ever made of it.
    let forgotten = rows.remove(0);
    let lost = open(&during, &place("41:alpaca", forgotten.user), &forgotten.api_secret);
    println!("a forgotten user: {}", lost.expect_err("no key is left for it"));
    Ok(())
}
