//! Signs a user in, uses the session, signs out again; then shows what a wrong password gives.
//!
//! `cargo run -p plimsoll-auth --features testing --example login`

use std::error::Error;

use chrono::{DateTime, TimeDelta};
use plimsoll_auth::login::{Begun, LoginKeys, NewArrival, NewLogin, NewSession, Outcome, begin, finish};
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::sessions::{Activity, authenticate, logout};
use plimsoll_auth::testing::MemoryStore;
use plimsoll_auth::{AccountPolicy, Act, ClientInfo, NewUser, Role, Transport};
use plimsoll_crypto::passwords::{HashParams, Passwords};
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{DeviceCookies, DeviceId, InstallationKey, KeyPurpose, OsRandom, Pepper};
use secrecy::SecretString;
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut store, mut rng, policy) = (MemoryStore::new(), OsRandom, AccountPolicy::default());
    let passwords = Passwords::new(HashParams::default(), &mut rng)?;
    let pepper = Pepper::new(&InstallationKey::generate(KeyPurpose::Pepper, &mut rng))?;
    let devices = DeviceCookies::new(&InstallationKey::generate(KeyPurpose::DeviceCookie, &mut rng))?;
    let keys = LoginKeys { pepper: &pepper, devices: &devices };
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

    let client = ClientInfo::new(Some([127, 0, 0, 1].into()), Some("example"));
    let act = Act { client, request_id: None, session: None, at: now };
    let wrong = SecretString::from("a wrong password");
    let mut token = None;
    for (email, password) in
        [("Ann@Example.com", &password), ("ann@example.com", &wrong), ("nobody@example.com", &wrong)]
    {
        let new = NewSession { id: Uuid::from_u128(1), token: SecretToken::generate(&mut rng) };
        let arrival = NewArrival {
            device: DeviceId::generate(&mut rng),
            logout_everywhere: SecretToken::generate(&mut rng),
            link: Uuid::from_u128(2),
            mail: Uuid::from_u128(3),
        };
        let login = NewLogin { new, transport: Transport::Bearer, arrival };
        let Begun::Ready(prepared) = begin(&mut store, &policy, keys, email, None, &act)? else {
            println!("{email}: too many attempts");
            continue;
        };
        let verified = prepared.verify(&passwords, keys, password, &mut rng);
        match finish(&mut store, &policy, keys, verified, &login, &act)? {
            Outcome::SignedIn(signed_in) => {
                println!("{} is signed in until {}", signed_in.user.email, signed_in.session.expires_at);
                token = Some(login.new.token);
            }
            Outcome::Refused(refused) => {
                println!("{email}: {refused} (for the record: {})", refused.reason.code());
            }
            other => println!("{email}: {other:?}"),
        }
    }

    let digest = token.ok_or("somebody signed in")?.digest();
    let later = now + TimeDelta::minutes(20);
    let found = authenticate(&mut store, &digest, &policy.sessions, Activity::User, later)?;
    println!("20 minutes later it is {}, idle until {}", found.user.email, found.session.idle_expires_at);

    logout(&mut store, found.user.id, found.session.id, &Act { at: later, ..act })?;
    let after = authenticate(&mut store, &digest, &policy.sessions, Activity::User, later);
    println!("after the logout: {}", after.expect_err("the session ended"));
    Ok(())
}
