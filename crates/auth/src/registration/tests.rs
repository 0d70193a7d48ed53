use std::sync::LazyLock;

use chrono::TimeDelta;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use plimsoll_crypto::{InstallationKey, KeyPurpose, OsRandom};

use super::*;
use crate::ClientInfo;
use crate::login::{Begun, Outcome, begin, finish};
use crate::ports::AccountStore;
use crate::testing::MemoryStore;
use crate::testing::fixtures::{PASSWORD, PASSWORDS, at, keys, new_login, new_user, secret, store};

static PEPPER: LazyLock<Pepper> =
    LazyLock::new(|| Pepper::new(&InstallationKey::generate(KeyPurpose::Pepper, &mut OsRandom)).unwrap());

fn act(ip: &str, second: i64) -> Act {
    let client = ClientInfo::new(Some(ip.parse().unwrap()), Some("test"));
    Act { client, request_id: None, session: None, at: at(second) }
}

fn link(n: u128) -> NewLink {
    NewLink {
        id: Uuid::from_u128(n),
        mail: Uuid::from_u128(n + 1_000),
        token: SecretToken::generate(&mut OsRandom),
    }
}

fn new(email: &str, n: u128) -> Register {
    Register {
        id: Uuid::from_u128(n),
        email: email.parse().unwrap(),
        display_name: Some("Bob".into()),
        password_hash: new_user(email).password_hash,
        link: link(n),
    }
}

fn registered(store: &mut MemoryStore, email: &str, n: u128, second: i64) -> TokenDigest {
    let new = new(email, n);
    let digest = new.link.token.digest();
    register(store, &AccountPolicy::default(), &PEPPER, new, &act("192.0.2.1", second)).unwrap();
    digest
}

fn again(store: &mut MemoryStore, email: &str, n: u128, second: i64) -> (Verdict, TokenDigest) {
    let link = link(n);
    let (digest, email) = (link.token.digest(), email.parse().unwrap());
    let act = act("192.0.2.1", second);
    (resend(store, &AccountPolicy::default(), &PEPPER, &email, &link, &act).unwrap(), digest)
}

fn verify(store: &mut MemoryStore, digest: &TokenDigest, second: i64) -> VerifyOutcome {
    verify_email(store, digest, Uuid::from_u128(9_000), &act("192.0.2.9", second)).unwrap()
}

fn kinds(store: &MemoryStore) -> Vec<(String, String)> {
    let kind = |mail: &Mail| serde_json::to_value(mail).unwrap()["kind"].as_str().unwrap().to_owned();
    store.mails().iter().map(|posted| (posted.to.to_string(), kind(&posted.mail))).collect()
}

fn to(email: &str, kind: &str) -> (String, String) {
    (email.to_owned(), kind.to_owned())
}

/// REG-1: a known address makes no account, changes nothing of its account, and its owner is told at most once an hour.
#[test]
fn a_known_address_changes_nothing_and_its_owner_is_told_once_an_hour() {
    let (mut store, ann) = store();
    let before = store.lock_account_of(ann).unwrap();
    for (n, second) in [(1, 0), (2, 10), (3, 3_599)] {
        registered(&mut store, "ANN@example.com", n, second);
    }
    assert_eq!(kinds(&store), [to("ann@example.com", "already_registered")]);
    registered(&mut store, "ann@example.com", 4, 3_600);
    assert_eq!(kinds(&store).len(), 2);
    assert_eq!(store.lock_account_of(ann).unwrap(), before);
    assert_eq!(store.user_by_id(UserId(ann.0 + 1)).unwrap(), None);
    let audit: Vec<_> = store.audit().iter().map(|(owner, entry)| (*owner, entry.outcome)).collect();
    assert_eq!(audit, [(Some(ann), AuditOutcome::Denied); 4]);
    // what its client may ask says nothing either
    let status = status(&mut store, Uuid::from_u128(1)).unwrap().unwrap();
    assert_eq!((status.verified, status.expires_at), (false, at(48 * 3_600)));
}

/// REG-3: only the digest of a link's token is kept, and neither entries nor debug prints have the token.
#[test]
fn a_new_address_gets_a_link_and_the_store_only_its_digest() {
    let mut store = MemoryStore::new();
    let digest = registered(&mut store, "bob@example.com", 1, 0);
    let posted = &store.mails()[0];
    let Mail::VerifyEmail { token, expires_at, .. } = &posted.mail else { panic!("{posted:?}") };
    assert_eq!(SecretToken::parse(token.expose()).unwrap().digest(), digest);
    assert_eq!(*expires_at, at(48 * 3_600));
    let printed = format!("{:?} {:?}", store.audit(), store);
    assert!(!printed.contains(token.expose()));
    let user = store.account_by_email(&"bob@example.com".parse().unwrap()).unwrap().unwrap().user;
    assert_eq!((user.role, user.email_verified_at), (Role::User, None));
    assert_eq!(user.display_name.as_deref(), Some("Bob"));
    assert_eq!(store.audit()[0].1.action, "register");
}

/// REG-4, REG-5: a link works once, and until its very second.
#[test]
fn a_link_works_once_and_until_its_second() {
    let life = 48 * 3_600;
    let mut store = MemoryStore::new();
    let digest = registered(&mut store, "bob@example.com", 1, 0);
    let late = registered(&mut store, "eve@example.com", 2, 0);
    assert_eq!(verify(&mut store, &late, life), VerifyOutcome::Invalid, "at the very second");
    let VerifyOutcome::Verified(bob) = verify(&mut store, &digest, life - 1) else { panic!("not verified") };
    assert_eq!(verify(&mut store, &digest, life - 1), VerifyOutcome::Invalid, "used");
    let unknown = SecretToken::generate(&mut OsRandom).digest();
    assert_eq!(verify(&mut store, &unknown, 1), VerifyOutcome::Invalid);
    let account = store.lock_account_of(bob).unwrap().unwrap();
    assert_eq!(account.user.email_verified_at, Some(at(life - 1)));
    assert!(status(&mut store, Uuid::from_u128(1)).unwrap().unwrap().verified);
    assert!(!status(&mut store, Uuid::from_u128(2)).unwrap().unwrap().verified);
    assert_eq!(status(&mut store, Uuid::from_u128(3)).unwrap(), None);
    let welcome = kinds(&store).pop().unwrap();
    assert_eq!(welcome, to("bob@example.com", "welcome"));
}

/// A registration with a password of its own.
fn claimed(store: &mut MemoryStore, email: &str, password: &str, n: u128, second: i64) -> TokenDigest {
    let password_hash = PASSWORDS.hash(&secret(password), &mut OsRandom).unwrap();
    let new = Register { password_hash, display_name: Some(format!("No {n}")), ..new(email, n) };
    let digest = new.link.token.digest();
    let act = act(&format!("192.0.2.{n}"), second);
    register(store, &AccountPolicy::default(), &PEPPER, new, &act).unwrap();
    digest
}

fn login(store: &mut MemoryStore, email: &str, password: &str, second: i64) -> Outcome {
    let (policy, act) = (AccountPolicy::default(), Act::without_request(at(second)));
    let Begun::Ready(prepared) = begin(store, &policy, keys(), email, None, &act).unwrap() else {
        panic!("throttled")
    };
    let verified = prepared.verify(&PASSWORDS, keys(), &secret(password), &mut OsRandom);
    finish(store, &policy, keys(), verified, &new_login(1), &act).unwrap()
}

fn is_verified(store: &mut MemoryStore, registration: u128) -> bool {
    status(store, Uuid::from_u128(registration)).unwrap().unwrap().verified
}

const EVES: &str = "what eve thought of";
const ANNS: &str = "what ann thought of";

/// REG-1, REG-8: whoever registers a foreign address first neither chooses its password nor learns that it was confirmed.
#[test]
fn the_link_that_is_used_decides_whose_password_holds() {
    let mut store = MemoryStore::new();
    let eve = claimed(&mut store, "ann@example.com", EVES, 1, 0);
    let account = |store: &mut MemoryStore| {
        store.account_by_email(&"ann@example.com".parse().unwrap()).unwrap().unwrap()
    };
    let before = account(&mut store);
    let ann = claimed(&mut store, "ANN@example.com", ANNS, 2, 100);
    assert_eq!(account(&mut store), before, "registering again changes nothing of the account");
    assert_eq!(kinds(&store), [to("ann@example.com", "verify_email"), to("ann@example.com", "verify_email")]);
    let shown = |posted: &crate::testing::PostedMail| match &posted.mail {
        Mail::VerifyEmail { circumstances: Some(circumstances), .. } => circumstances.ip.clone(),
        other => panic!("{other:?}"),
    };
    let shown: Vec<_> = store.mails().iter().filter_map(shown).collect();
    assert_eq!(shown, ["192.0.2.1", "192.0.2.2"], "each mail says who registered");

    assert!(matches!(verify(&mut store, &ann, 200), VerifyOutcome::Verified(user) if user == before.user.id));
    assert_eq!((is_verified(&mut store, 1), is_verified(&mut store, 2)), (false, true));
    assert_eq!(verify(&mut store, &eve, 201), VerifyOutcome::Invalid, "every other link is void");
    assert_eq!(account(&mut store).user.display_name.as_deref(), Some("No 2"));
    assert!(matches!(login(&mut store, "ann@example.com", EVES, 210), Outcome::Refused(_)));
    assert!(matches!(login(&mut store, "ann@example.com", ANNS, 211), Outcome::SignedIn(_)));
    let verified = &store.audit().iter().find(|(_, entry)| entry.action == "email.verify").unwrap().1;
    assert_eq!(verified.detail, json!({ "password_replaced": true }));
    // from now on it is somebody's address
    claimed(&mut store, "ann@example.com", EVES, 3, 300);
    assert_eq!(kinds(&store).last(), Some(&to("ann@example.com", "already_registered")));
    assert!(!is_verified(&mut store, 3));
}

/// REG-6: a link that is asked for carries what was last registered, and leaves the links of other registrations alone.
#[test]
fn a_resent_link_belongs_to_the_last_registration() {
    let mut store = MemoryStore::new();
    let eve = claimed(&mut store, "ann@example.com", EVES, 1, 0);
    let ann = claimed(&mut store, "ann@example.com", ANNS, 2, 100);
    let (_, resent) = again(&mut store, "ann@example.com", 3, 200);
    let Mail::VerifyEmail { circumstances: Some(told), .. } = &store.mails().last().unwrap().mail else {
        panic!("no link")
    };
    assert_eq!((told.ip.as_deref(), told.at), (Some("192.0.2.2"), at(100)), "of the registration");
    assert_eq!(
        verify(&mut store, &ann, 210),
        VerifyOutcome::Invalid,
        "the older one of the same registration"
    );
    let mut other = store.clone();
    assert!(matches!(verify(&mut other, &eve, 211), VerifyOutcome::Verified(_)));
    assert!(matches!(login(&mut other, "ann@example.com", EVES, 212), Outcome::SignedIn(_)));
    assert!(matches!(verify(&mut store, &resent, 211), VerifyOutcome::Verified(_)));
    assert_eq!((is_verified(&mut store, 1), is_verified(&mut store, 2)), (false, true));
    assert!(matches!(login(&mut store, "ann@example.com", ANNS, 212), Outcome::SignedIn(_)));
}

/// REG-6: strangers who register an address neither flood its owner nor use up the right to ask for a link; what was
/// registered last is kept although it was not mailed.
#[test]
fn registering_an_address_again_uses_up_nobody_s_link() {
    let mut store = MemoryStore::new();
    claimed(&mut store, "ann@example.com", EVES, 1, 0);
    for n in 2..=9 {
        claimed(&mut store, "ann@example.com", EVES, n, 60 * i64::try_from(n).unwrap());
    }
    assert_eq!(store.mails().len(), 1 + 5, "the first one's, and five a day");
    claimed(&mut store, "ann@example.com", ANNS, 10, 600);
    assert_eq!(store.mails().len(), 6);
    let (_, resent) = again(&mut store, "ann@example.com", 11, 4_200);
    assert_eq!(store.mails().len(), 7, "an hour later");
    assert!(matches!(verify(&mut store, &resent, 4_300), VerifyOutcome::Verified(_)));
    assert!(matches!(login(&mut store, "ann@example.com", ANNS, 4_301), Outcome::SignedIn(_)));
}

/// REG-8: with the confirmation ends whatever could have been opened or bound before it.
#[test]
fn a_confirmation_leaves_no_door_open() {
    let crate::testing::factors::Bound { mut store, user, .. } = crate::testing::factors::bound();
    let started = crate::sessions::start(
        &mut store,
        &AccountPolicy::default(),
        user,
        crate::Transport::Bearer,
        &crate::testing::fixtures::new_session(1),
        false,
        &act("192.0.2.1", 0),
    );
    started.unwrap();
    crate::ports::LoginStore::disable_password(&mut store, user, at(1)).unwrap();
    store.account_mut(user).unwrap().user.email_verified_at = None;
    let ann = claimed(&mut store, "ann@example.com", ANNS, 2, 100);
    assert!(matches!(verify(&mut store, &ann, 200), VerifyOutcome::Verified(_)));
    assert!(store.sessions().iter().all(|session| session.revoked_at.is_some()));
    assert!(!crate::two_factor::is_enabled(&mut store, user).unwrap());
    assert!(matches!(login(&mut store, "ann@example.com", ANNS, 201), Outcome::SignedIn(_)));
}

/// REG-1: only an account that waits and is nobody's yet can be registered again.
#[test]
fn disabled_accounts_and_administrators_are_not_registered_again() {
    for (role, state) in [(Role::Admin, AccountState::Active), (Role::User, AccountState::Disabled)] {
        let (mut store, ann) = store();
        let user = &mut store.account_mut(ann).unwrap().user;
        (user.email_verified_at, user.role, user.state) = (None, role, state);
        let link = claimed(&mut store, "ann@example.com", EVES, 1, 0);
        assert_eq!(kinds(&store), [to("ann@example.com", "already_registered")]);
        assert_eq!(verify(&mut store, &link, 1), VerifyOutcome::Invalid);
    }
}

/// REG-8: verification sets `verified` and nothing else where nobody else registered; before it a right password opens nothing.
#[test]
fn an_unverified_account_gets_no_session_and_verification_makes_none() {
    let mut store = MemoryStore::new();
    let digest = registered(&mut store, "bob@example.com", 1, 0);
    let login = |store: &mut MemoryStore, password: &str| login(store, "bob@example.com", password, 10);
    assert!(matches!(login(&mut store, PASSWORD), Outcome::EmailUnverified { .. }));
    assert!(matches!(login(&mut store, "not this password"), Outcome::Refused(_)));
    assert_eq!(store.sessions(), []);
    let before = store.account_by_email(&"bob@example.com".parse().unwrap()).unwrap().unwrap();
    assert!(matches!(verify(&mut store, &digest, 20), VerifyOutcome::Verified(_)));
    assert_eq!(store.sessions(), [], "a link signs nobody in");
    let after = store.account_by_email(&"bob@example.com".parse().unwrap()).unwrap().unwrap();
    let only = User { email_verified_at: Some(at(20)), ..before.user };
    assert_eq!((after.user, after.password_hash), (only, before.password_hash));
    assert!(matches!(login(&mut store, PASSWORD), Outcome::SignedIn(_)));
}

/// REG-6: a new link voids the older ones; within the cool-down and over the cap of the address nothing is sent.
#[test]
fn resending_replaces_the_link_within_its_limits() {
    let mut store = MemoryStore::new();
    let first = registered(&mut store, "bob@example.com", 1, 0);
    let (verdict, _) = again(&mut store, "bob@example.com", 2, 59);
    assert_eq!((verdict, store.mails().len()), (Verdict::Allowed, 1), "within the cool-down");
    let (_, second) = again(&mut store, "Bob@Example.com", 3, 60);
    assert_eq!(store.mails().len(), 2);
    let mut last = second;
    for n in 4..9 {
        let (verdict, digest) = again(&mut store, "bob@example.com", n, 60 * i64::try_from(n).unwrap());
        assert_eq!(verdict, Verdict::Allowed, "the caller cannot tell");
        if n < 7 {
            last = digest;
        }
    }
    assert_eq!(store.mails().len(), 5, "five a day, the first one among them");
    for dead in [first, second] {
        assert_eq!(verify(&mut store, &dead, 600), VerifyOutcome::Invalid);
    }
    assert!(matches!(verify(&mut store, &last, 600), VerifyOutcome::Verified(_)));
}

/// REG-6: unknown, verified and disabled addresses are answered alike and get nothing; a network has its own limit.
#[test]
fn resending_tells_nothing_of_other_addresses_and_is_limited_for_a_network() {
    let (mut store, ann) = store();
    for n in 1..=10 {
        let email = if n % 2 == 0 { "ann@example.com".to_owned() } else { format!("nobody{n}@example.com") };
        assert_eq!(again(&mut store, &email, n, 0).0, Verdict::Allowed);
    }
    let (verdict, _) = again(&mut store, "ann@example.com", 11, 0);
    assert!(
        matches!(verdict, Verdict::Blocked { retry_after } if retry_after.as_secs() == 360),
        "{verdict:?}"
    );
    assert_eq!(store.mails().len(), 0);
    assert!(store.audit().is_empty(), "the routes record it, a few times a minute");

    store.account_mut(ann).unwrap().user.email_verified_at = None;
    store.account_mut(ann).unwrap().user.state = AccountState::Disabled;
    assert_eq!(again(&mut store, "ann@example.com", 12, 4_000).0, Verdict::Allowed);
    assert_eq!(store.mails().len(), 0, "of a disabled account");
}

/// REG-14: registration can be closed, and a network registers five times an hour.
#[test]
fn registration_is_counted_for_a_network_and_can_be_closed() {
    let mut store = MemoryStore::new();
    let mut policy = AccountPolicy::default();
    let mut admitted = |policy: &AccountPolicy, ip: &str, second| {
        admit(&mut store, policy, &PEPPER, &act(ip, second)).unwrap()
    };
    for n in 0..5 {
        assert_eq!(admitted(&policy, &format!("2001:db8::{n}"), 0), Admission::Open);
    }
    let refused = admitted(&policy, "2001:db8::ffff:1", 0);
    assert!(
        matches!(refused, Admission::Throttled { retry_after } if retry_after.as_secs() == 720),
        "{refused:?}"
    );
    assert_eq!(admitted(&policy, "2001:db8:0:1::1", 0), Admission::Open, "another network");
    assert_eq!(admitted(&policy, "192.0.2.1", 0), Admission::Open);
    assert_eq!(admitted(&policy, "2001:db8::1", 720), Admission::Open);
    policy.registration.open = false;
    assert_eq!(admitted(&policy, "192.0.2.2", 0), Admission::Closed);
    policy.registration.open = true;
    policy.registration.per_ip = Limit::new(1, TimeDelta::hours(1), 1);
    assert_eq!(admitted(&policy, "192.0.2.3", 0), Admission::Open);
}

#[test]
fn a_failing_store_is_an_error() {
    for calls in 0..7 {
        let mut store = MemoryStore::new();
        store.fail_after(calls, crate::StoreErrorKind::Unavailable);
        let asked = new("bob@example.com", 1);
        let result = register(&mut store, &AccountPolicy::default(), &PEPPER, asked, &act("192.0.2.1", 0));
        assert_eq!(result.unwrap_err().kind(), crate::StoreErrorKind::Unavailable, "{calls}");
    }
}

#[test]
fn display_names_are_short_and_on_one_line() {
    assert_eq!(display_name("  Ann L. "), Ok("Ann L.".to_owned()));
    assert_eq!(display_name("u\u{308}"), Ok("\u{fc}".to_owned()));
    assert_eq!(display_name(" \t"), Err(DisplayNameError::Empty));
    assert_eq!(display_name("Ann\r\nBcc: x"), Err(DisplayNameError::Control));
    assert_eq!(display_name(&"x".repeat(101)), Err(DisplayNameError::TooLong));
    assert!(display_name(&"x".repeat(100)).is_ok());
}
