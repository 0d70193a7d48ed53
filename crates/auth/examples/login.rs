//! Signs a user in, uses the session, signs out again; then shows what a wrong password gives.
//!
//! `cargo run -p plimsoll-auth --features testing --example login`

use std::error::Error;

use chrono::{DateTime, TimeDelta};
use plimsoll_auth::login::{NewSession, finish, prepare};
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::sessions::{Activity, authenticate, logout};
use plimsoll_auth::testing::MemoryStore;
use plimsoll_auth::{ClientInfo, NewUser, Role, SessionPolicy};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::{HashParams, Passwords};
use plimsoll_crypto::tokens::SecretToken;
use secrecy::SecretString;
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut store, mut rng, policy) = (MemoryStore::new(), OsRandom, SessionPolicy::default());
    let passwords = Passwords::new(HashParams::default(), &mut rng)?;
    let password = SecretString::from("a rather long password");
    let now = DateTime::from_timestamp(1_800_000_000, 0).ok_or("a time in range")?;
    store.insert_user(&NewUser {
        email: "ann@example.com".parse()?,
        display_name: Some("Ann".to_owned()),
        role: Role::User,
        password_hash: passwords.hash(&password, &mut rng)?,
        email_verified_at: Some(now),
        created_at: now,
    })?;

    let prepared = prepare(&mut store, "Ann@Example.com")?;
    let verified = prepared.verify(&passwords, &password, &mut rng)?;
    let new = NewSession { id: Uuid::from_u128(1), token: SecretToken::generate(&mut rng) };
    let client = ClientInfo::new(Some([127, 0, 0, 1].into()), Some("example"));
    let signed_in = finish(&mut store, &policy, verified, &client, new, now)?;
    println!("{} is signed in until {}", signed_in.user.email, signed_in.session.expires_at);

    let digest = signed_in.token.digest();
    let later = now + TimeDelta::minutes(20);
    let found = authenticate(&mut store, &digest, &policy, Activity::User, later)?;
    println!("20 minutes later it is {}, idle until {}", found.user.email, found.session.idle_expires_at);

    logout(&mut store, found.user.id, found.session.id, later)?;
    let after = authenticate(&mut store, &digest, &policy, Activity::User, later);
    println!("after the logout: {}", after.expect_err("the session ended"));

    let wrong = SecretString::from("a wrong password");
    for email in ["ann@example.com", "nobody@example.com"] {
        let refused =
            prepare(&mut store, email)?.verify(&passwords, &wrong, &mut rng).expect_err("a wrong password");
        println!("{email}: {refused} (for the record: {})", refused.reason.code());
    }
    Ok(())
}
