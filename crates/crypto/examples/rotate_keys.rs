//! Seals a secret, changes the master key, seals again under the new one and drops the old key.
//!
//! `cargo run -p plimsoll-crypto --example rotate_keys`

use std::error::Error;

use plimsoll_crypto::sealing::{reseal, sealed_with};
use plimsoll_crypto::{
    Aad, DEFAULT_STRETCHING_ITERATIONS, InstallationKey, KeyPurpose, KeyRing, MasterKey, OsRandom, SecretKey,
    Stretching, open, seal,
};
use secrecy::ExposeSecret;

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = OsRandom;
    let stretching =
        Stretching::new(SecretKey::generate(&mut rng).expose().to_vec(), DEFAULT_STRETCHING_ITERATIONS)?;
    let old = MasterKey::parse("a pass phrase of some length", &stretching)?;
    let new = MasterKey::from_key(SecretKey::generate(&mut rng))?;
    println!("the old key is {}", old.form());

    let place = Aad { table: "broker_credentials", column: "api_secret", row: "17", owner: Some(42) };
    let before = KeyRing::new(&old);
    let sealed = seal(&before, &place, b"the secret", &mut rng);
    let audit_key = InstallationKey::generate(KeyPurpose::AuditMac, &mut rng);
    let wrapped = audit_key.wrap(&before, &mut rng);
    println!("{} bytes sealed with key {}", sealed.len(), sealed_with(&sealed)?);

    let during = KeyRing::new(&new).with_old(&old)?;
    let resealed = reseal(&during, &place, &sealed, &mut rng)?.ok_or("sealed with the new key already")?;
    let rewrapped = InstallationKey::unwrap(&during, KeyPurpose::AuditMac, &wrapped)?.wrap(&during, &mut rng);
    println!("now sealed with key {}", sealed_with(&resealed)?);

    let after = KeyRing::new(&new);
    let same = InstallationKey::unwrap(&after, KeyPurpose::AuditMac, &rewrapped)? == audit_key;
    println!(
        "opens without the old key: {}",
        open(&after, &place, &resealed)?.expose_secret() == b"the secret"
    );
    println!("the audit key is still the same: {same}");
    println!("the old value: {}", open(&after, &place, &sealed).expect_err("its key is gone"));
    Ok(())
}
