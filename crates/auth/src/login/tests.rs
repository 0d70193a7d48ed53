use plimsoll_core_domain::StoreErrorKind;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::HashParams;

use super::*;
use crate::ClientInfo;
use crate::mail::{Mail, SignInReason};
use crate::ports::{AccountStore, SessionStore, TwoFactorStore};
use crate::sessions::{Activity, authenticate};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{PASSWORD, PASSWORDS, at, keys, new_login, new_user, secret, store};

/// So many attempts of one network that only the other limits matter.
fn policy() -> AccountPolicy {
    let mut policy = AccountPolicy::default();
    (policy.login.per_ip.count, policy.login.per_ip.burst) = (100_000, 100_000);
    policy
}

fn act(seconds: i64) -> Act {
    let client = ClientInfo::new(Some([192, 0, 2, 7].into()), Some("a browser"));
    Act { client, request_id: Some(Uuid::from_u128(77)), session: None, at: at(seconds) }
}

fn from(ip: [u8; 4], seconds: i64) -> Act {
    Act { client: ClientInfo::new(Some(ip.into()), Some("a script")), ..act(seconds) }
}

fn ready(store: &mut MemoryStore, email: &str, device: Option<&str>, act: &Act) -> Option<Prepared> {
    match begin(store, &policy(), keys(), email, device, act).unwrap() {
        Begun::Ready(prepared) => Some(prepared),
        Begun::Throttled { retry_after } => {
            assert!(!retry_after.is_zero());
            None
        }
    }
}

/// All three steps; `None` when throttled.
fn attempt(
    store: &mut MemoryStore,
    (email, password): (&str, &str),
    n: u128,
    device: Option<&str>,
    act: &Act,
) -> Option<Outcome> {
    let prepared = ready(store, email, device, act)?;
    let verified = prepared.verify(&PASSWORDS, keys(), &secret(password), &mut OsRandom);
    Some(finish(store, &policy(), keys(), verified, &new_login(n), act).unwrap())
}

fn login(store: &mut MemoryStore, email: &str, password: &str) -> Outcome {
    attempt(store, (email, password), 1, None, &act(0)).expect("not throttled")
}

fn signed_in(outcome: Option<Outcome>) -> SignedIn {
    match outcome {
        Some(Outcome::SignedIn(signed_in)) => *signed_in,
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn session_count(store: &MemoryStore) -> usize {
    store.sessions().len()
}

#[test]
fn the_right_password_makes_a_session_that_authenticates() {
    let (mut store, user) = store();
    let login = new_login(1);
    let prepared = ready(&mut store, "ANN@example.com", None, &act(0)).unwrap();
    let verified = prepared.verify(&PASSWORDS, keys(), &secret(PASSWORD), &mut OsRandom);
    let outcome = finish(&mut store, &policy(), keys(), verified, &login, &act(0)).unwrap();
    let signed_in = signed_in(Some(outcome));
    assert_eq!((signed_in.user.id, signed_in.evicted, signed_in.password_upgraded), (user, vec![], false));
    let session = &signed_in.session;
    assert_eq!((session.idle_expires_at, session.expires_at), (at(1800), at(43_200)));
    assert_eq!((session.ip, session.user_agent.as_deref()), (act(0).client.ip(), Some("a browser")));
    assert!(!session.is_stepped_up(act(0).client.ip(), at(0)), "a login with a password alone is no step-up");

    let digest = login.new.token.digest();
    let found = authenticate(&mut store, &digest, &policy().sessions, Activity::Background, at(1)).unwrap();
    assert_eq!((&found.session, found.user), (session, signed_in.user));
}

/// LOG-1, LOG-12: every refusal looks alike and leaves its attempt and audit entry.
#[test]
fn refusals_differ_for_the_record_only() {
    let (mut store, user) = store();
    let disabled = store.insert_user(&new_user("dora@example.com")).unwrap();
    store.account_mut(disabled).unwrap().user.state = AccountState::Disabled;
    let unverified = store.insert_user(&new_user("una@example.com")).unwrap();
    store.account_mut(unverified).unwrap().user.email_verified_at = None;
    let cases = [
        ("nobody@example.com", PASSWORD, None, RefusalReason::UnknownUser),
        ("no address", PASSWORD, None, RefusalReason::UnknownUser),
        ("ann@example.com ", PASSWORD, None, RefusalReason::UnknownUser),
        ("ann@example.com", "wrong", Some(user), RefusalReason::WrongPassword),
        ("ann@example.com", "", Some(user), RefusalReason::WrongPassword),
        ("dora@example.com", "wrong", Some(disabled), RefusalReason::WrongPassword),
        ("dora@example.com", PASSWORD, Some(disabled), RefusalReason::Disabled),
        ("una@example.com", "wrong", Some(unverified), RefusalReason::WrongPassword),
    ];
    for (n, (email, password, user, reason)) in cases.into_iter().enumerate() {
        let refusal = refusal(login(&mut store, email, password));
        assert_eq!(refusal, Refusal { user, reason }, "{email} {password}");
        assert_eq!(refusal.to_string(), "wrong e-mail address or password");
        let recorded = &store.login_attempts()[n];
        assert_eq!((recorded.user, recorded.outcome), (user, reason.code()));
        assert_eq!(recorded.request_id, Some(Uuid::from_u128(77)));
        let (chain, entry) = &store.audit()[n];
        assert_eq!((*chain, entry.action.as_str(), entry.outcome), (user, "login", AuditOutcome::Denied));
    }
    assert_eq!(session_count(&store), 0);
}

/// REG-8: an unverified account gets no session.
#[test]
fn only_who_knows_the_password_learns_that_the_address_is_unverified() {
    let (mut store, user) = store();
    store.account_mut(user).unwrap().user.email_verified_at = None;
    let outcome = login(&mut store, "ann@example.com", PASSWORD);
    assert!(matches!(outcome, Outcome::EmailUnverified { user: of } if of == user), "{outcome:?}");

    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    let both = refusal(login(&mut store, "ann@example.com", PASSWORD));
    assert_eq!(both.reason, RefusalReason::Disabled, "disabled comes first");
    assert_eq!(session_count(&store), 0);
}

#[test]
fn what_changes_while_the_password_is_verified_counts() {
    type Change = fn(&mut Account);
    let changes: [(Change, RefusalReason); 2] = [
        (|account| account.user.state = AccountState::Disabled, RefusalReason::Disabled),
        (
            |account| account.password_hash = PASSWORDS.hash(&secret("another"), &mut OsRandom).unwrap(),
            RefusalReason::PasswordChanged,
        ),
    ];
    for (change, reason) in changes {
        let (mut store, user) = store();
        let prepared = ready(&mut store, "ann@example.com", None, &act(0)).unwrap();
        let verified = prepared.verify(&PASSWORDS, keys(), &secret(PASSWORD), &mut OsRandom);
        change(store.account_mut(user).unwrap());
        let late = finish(&mut store, &policy(), keys(), verified, &new_login(1), &act(0)).unwrap();
        assert_eq!(refusal(late), Refusal { user: Some(user), reason });
        assert_eq!(session_count(&store), 0);
    }
}

#[test]
fn an_account_deleted_meanwhile_is_refused() {
    let (mut store, _) = store();
    let prepared = ready(&mut store, "ann@example.com", None, &act(0)).unwrap();
    let verified = prepared.verify(&PASSWORDS, keys(), &secret(PASSWORD), &mut OsRandom);
    let mut empty = MemoryStore::new();
    let late = finish(&mut empty, &policy(), keys(), verified, &new_login(1), &act(0)).unwrap();
    assert_eq!(refusal(late), Refusal { user: None, reason: RefusalReason::UnknownUser });
}

/// LOG-14: a login that works renews a hash of weaker parameters; one that fails does not.
#[test]
fn a_weak_hash_is_upgraded_by_the_next_login() {
    let dearer = HashParams { memory_kib: 19_456, ..HashParams::MINIMUM };
    let dearer = Passwords::new(dearer, &mut OsRandom).unwrap();
    let (mut store, user) = store();
    let old = store.account_mut(user).unwrap().password_hash.clone();
    let verify = |store: &mut MemoryStore, password| {
        let prepared = ready(store, "ann@example.com", None, &act(0)).unwrap();
        prepared.verify(&dearer, keys(), &secret(password), &mut OsRandom)
    };
    let end = |store: &mut MemoryStore, verified, n| {
        finish(store, &policy(), keys(), verified, &new_login(n), &act(0)).unwrap()
    };
    let wrong = verify(&mut store, "wrong");
    refusal(end(&mut store, wrong, 9));
    assert_eq!(store.account_mut(user).unwrap().password_hash, old);
    let verified = verify(&mut store, PASSWORD);
    let twin = verify(&mut store, PASSWORD);
    assert!(signed_in(Some(end(&mut store, verified, 1))).password_upgraded);
    let new = store.account_mut(user).unwrap().password_hash.clone();
    assert!(new != old && !dearer.needs_upgrade(&new));

    assert_eq!(refusal(end(&mut store, twin, 2)).reason, RefusalReason::PasswordChanged);
    let again = verify(&mut store, PASSWORD);
    let again = signed_in(Some(end(&mut store, again, 2)));
    assert!(!again.password_upgraded, "the second try of the beaten twin succeeds");
}

/// SES-10: the cap holds, and the eviction is on record.
#[test]
fn the_oldest_live_session_makes_room() {
    let (mut store, user) = store();
    let mut login = |n: u128, seconds| {
        signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), n, None, &act(seconds))).evicted
    };
    for n in 1..=10 {
        assert!(login(n, n as i64).is_empty());
    }
    store.revoke_session(user, Uuid::from_u128(5), at(11)).unwrap();
    let mut login = |n: u128, seconds| {
        signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), n, None, &act(seconds))).evicted
    };
    assert!(login(11, 20).is_empty(), "an ended session takes no room");
    assert_eq!(login(12, 21), [Uuid::from_u128(1)]);
    assert_eq!(login(13, 22), [Uuid::from_u128(2)]);
    assert_eq!(store.live_sessions_of(user, at(22)).unwrap().len(), 10);
    let evictions = store.audit().iter().filter(|(_, entry)| entry.action == "session.end");
    assert_eq!(evictions.count(), 2);
}

/// LOG-3, LOG-7: five failures block an account, longer each time, whether or not there is such an account.
#[test]
fn failures_block_known_and_unknown_accounts_alike() {
    for email in ["ann@example.com", "nobody@example.com"] {
        let (mut store, _) = store();
        let mut tries =
            |seconds, password| attempt(&mut store, (email, password), 1, None, &act(seconds)).is_some();
        assert!((0..5).all(|second| tries(second, "wrong")), "five are free");
        assert!(!tries(5, "wrong") && !tries(33, PASSWORD), "blocked for 30 s, whatever the password");
        assert!(tries(34, "wrong"), "the sixth");
        assert!(!tries(93, "wrong"), "blocked for 60 s");
        assert!(tries(94, "wrong"));
        let attempts: Vec<_> = store.login_attempts().iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(attempts.iter().filter(|outcome| **outcome == "throttled").count(), 3);
    }
}

/// LOG-5: a success clears the counters of the password.
#[test]
fn a_success_clears_what_was_counted() {
    let (mut store, _) = store();
    for round in 0..5 {
        for _ in 0..4 {
            refusal(login(&mut store, "ann@example.com", "wrong"));
        }
        signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), round + 1, None, &act(0)));
    }
}

/// LOG-6: guesses from elsewhere do not lock out the device that the owner has signed in from.
#[test]
fn an_attacker_cannot_lock_the_owner_out() {
    let (mut store, _) = store();
    let first = signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), 1, None, &act(0)));
    let cookie = first.arrival.device_cookie;
    let attacker = |seconds| from([198, 51, 100, 9], seconds);
    for second in 1..=5 {
        attempt(&mut store, ("ann@example.com", "guess"), 1, None, &attacker(second)).unwrap();
    }
    assert!(attempt(&mut store, ("ann@example.com", "guess"), 1, None, &attacker(6)).is_none());
    assert!(
        attempt(&mut store, ("ann@example.com", PASSWORD), 2, None, &act(7)).is_none(),
        "without the cookie"
    );
    let forged = cookie.replace(&cookie[..4], "AAAA");
    assert!(attempt(&mut store, ("ann@example.com", PASSWORD), 2, Some(&forged), &act(7)).is_none());
    signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), 2, Some(&cookie), &act(8)));
    // The device's own counter has its own limit.
    for second in 9..14 {
        attempt(&mut store, ("ann@example.com", "typo"), 3, Some(&cookie), &act(second)).unwrap();
    }
    assert!(attempt(&mut store, ("ann@example.com", PASSWORD), 3, Some(&cookie), &act(14)).is_none());
    assert!(attempt(&mut store, ("bob@example.com", PASSWORD), 3, Some(&cookie), &act(14)).is_some());
}

/// LOG-6: nor does what others do from the owner's own network, such as a proxy's that everybody comes through.
#[test]
fn an_attacker_beside_the_owner_cannot_lock_the_owner_out() {
    let (mut store, _) = store();
    let shared = |seconds| from([198, 51, 100, 9], seconds);
    let first = signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), 1, None, &shared(0)));
    let cookie = first.arrival.device_cookie;
    for n in 0..15 {
        let email = format!("user{n}@example.com");
        attempt(&mut store, (&email, "Spring2026!"), 1, None, &shared(10 * n + 10)).unwrap();
    }
    assert!(attempt(&mut store, ("ann@example.com", PASSWORD), 2, None, &shared(200)).is_none(), "spraying");
    signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), 2, Some(&cookie), &shared(201)));
    assert!(
        attempt(&mut store, ("bob@example.com", PASSWORD), 3, Some(&cookie), &shared(202)).is_none(),
        "hers"
    );
}

/// LOG-12: whoever goes on over the limit leaves a few rows a minute behind, and the times of the rest cost nothing.
#[test]
fn attempts_over_the_limit_do_not_fill_the_tables() {
    let (mut store, _) = store();
    let flood = from([198, 51, 100, 9], 1);
    for _ in 0..200 {
        attempt(&mut store, ("nobody@example.com", "guess"), 1, None, &flood);
    }
    let throttled = store.login_attempts().iter().filter(|attempt| attempt.outcome == "throttled").count();
    assert_eq!(throttled, 10);
}

/// LOG-3: the longest block is as long each time while failures go on; it is forgotten a window after its end.
#[test]
fn the_longest_block_stays_the_longest() {
    let (mut store, _) = store();
    let mut second = 0;
    let mut wrong = |store: &mut MemoryStore, after: i64| {
        second += after;
        attempt(store, ("ann@example.com", "wrong"), 1, None, &act(second)).is_some()
    };
    for after in [1, 1, 1, 1, 1].into_iter().chain([901; 8]) {
        assert!(wrong(&mut store, after));
    }
    assert!(wrong(&mut store, 901) && !wrong(&mut store, 890), "blocked for 15 minutes again");
    assert!(wrong(&mut store, 11 + 900), "its end, and a window");
    assert!(wrong(&mut store, 900 + 901) && wrong(&mut store, 1), "then the five free ones");
}

/// LOG-4: a network has its own bucket; IPv6 counts by /64.
#[test]
fn a_network_has_a_bucket_of_its_own() {
    let (mut store, _) = store();
    let policy = AccountPolicy::default();
    let mut tries = |ip: &str, n: usize| {
        let act = Act { client: ClientInfo::new(Some(ip.parse().unwrap()), None), ..act(0) };
        let email = format!("user{n}@example.com");
        matches!(begin(&mut store, &policy, keys(), &email, None, &act).unwrap(), Begun::Ready(_))
    };
    assert_eq!((0..20).filter(|n| tries("203.0.113.5", *n)).count(), 10);
    assert!(tries("203.0.113.6", 20));
    assert_eq!((0..20).filter(|n| tries(&format!("2001:db8:0:1::{n:x}"), 30 + *n)).count(), 10);
    assert!(tries("2001:db8:0:2::1", 60));
    assert!(!tries("::ffff:203.0.113.5", 61), "the same address in another form");
}

/// LOG-8: a network that fails with fifteen different pairs is blocked for a day; repeats of one pair do not count.
#[test]
fn spraying_blocks_the_network() {
    let (mut store, _) = store();
    let sprayer = |seconds| from([198, 51, 100, 9], seconds);
    for second in 0..4 {
        attempt(&mut store, ("ann@example.com", "same"), 1, None, &sprayer(second)).unwrap();
    }
    for n in 0..14 {
        let email = format!("user{n}@example.com");
        assert!(attempt(&mut store, (&email, "Spring2026!"), 1, None, &sprayer(10 + n)).is_some(), "{n}");
    }
    assert!(attempt(&mut store, ("zoe@example.com", "x"), 1, None, &sprayer(60)).is_none());
    assert!(attempt(&mut store, ("zoe@example.com", "x"), 1, None, &from([198, 51, 100, 10], 60)).is_some());
    assert!(attempt(&mut store, ("zoe@example.com", "x"), 1, None, &sprayer(86_300)).is_none());
    assert!(attempt(&mut store, ("zoe@example.com", "x"), 1, None, &sprayer(86_500)).is_some());
    assert!(store.audit().iter().any(|(_, entry)| entry.action == "login.spraying"));
}

/// LOG-5: the hundredth wrong password in a row disables it, and the right one looks wrong from then on.
#[test]
fn a_hundred_failures_disable_the_password() {
    let (mut store, user) = store();
    let mut second = 0;
    for n in 0..100 {
        second += 1_000;
        let outcome = attempt(&mut store, ("ann@example.com", "wrong"), 1, None, &act(second));
        assert!(outcome.is_some(), "{n}");
    }
    second += 1_000;
    let outcome = attempt(&mut store, ("ann@example.com", PASSWORD), 1, None, &act(second)).unwrap();
    assert_eq!(refusal(outcome), Refusal { user: Some(user), reason: RefusalReason::PasswordDisabled });
    let told = store.mails().iter().filter(|posted| matches!(posted.mail, Mail::FactorDisabled { .. }));
    assert_eq!(told.count(), 1);
    let user = store.user_by_id(user).unwrap().unwrap();
    forget_failures(&mut store, keys(), &user).unwrap();
    second += 1;
    signed_in(attempt(&mut store, ("ann@example.com", PASSWORD), 1, None, &act(second)));
}

/// LOG-11: with a second factor, a right password gives a challenge and no session.
#[test]
fn a_second_factor_is_asked_for() {
    let (mut store, user) = store();
    let secret_of_factor = crate::totp::TotpSecret::generate(&mut OsRandom);
    store.set_pending_factor(user, &secret_of_factor, at(100), &[], at(-10)).unwrap();
    store.activate_pending_factor(user, &secret_of_factor, 1, at(-5)).unwrap();
    let login = new_login(1);
    let prepared = ready(&mut store, "ann@example.com", None, &act(0)).unwrap();
    let verified = prepared.verify(&PASSWORDS, keys(), &secret(PASSWORD), &mut OsRandom);
    let outcome = finish(&mut store, &policy(), keys(), verified, &login, &act(0)).unwrap();
    assert!(
        matches!(outcome, Outcome::SecondFactor { user: of, expires_at } if of == user && expires_at == at(300))
    );
    assert_eq!(session_count(&store), 0);
    let digest = login.new.token.digest();
    assert!(authenticate(&mut store, &digest, &policy().sessions, Activity::User, at(1)).is_err());
}

/// LOG-13: a new network or client, or a success after failures, is told by mail with a link that signs out everywhere.
#[test]
fn the_owner_is_told_of_unusual_sign_ins() {
    let (mut store, _) = store();
    let credentials = ("ann@example.com", PASSWORD);
    let told = |store: &mut MemoryStore, n, device: Option<&str>, act: &Act| {
        let arrival = signed_in(attempt(store, credentials, n, device, act)).arrival;
        (arrival.told, arrival.device_cookie)
    };
    let (first, cookie) = told(&mut store, 1, None, &act(0));
    assert_eq!(first, None, "the first sign-in is no news");
    assert_eq!(told(&mut store, 2, Some(&cookie), &act(1)).0, None);
    assert_eq!(told(&mut store, 3, None, &act(2)).0, None, "the same client without its cookie");
    let elsewhere = from([203, 0, 113, 1], 3);
    assert_eq!(told(&mut store, 4, Some(&cookie), &elsewhere).0, Some(SignInReason::NewPlace));
    assert_eq!(told(&mut store, 5, Some(&cookie), &elsewhere).0, None, "known by now");
    refusal(attempt(&mut store, ("ann@example.com", "typo"), 6, None, &act(4)).unwrap());
    assert_eq!(told(&mut store, 6, None, &act(5)).0, Some(SignInReason::AfterFailures));
    let mails: Vec<_> = store
        .mails()
        .iter()
        .filter_map(|posted| match &posted.mail {
            Mail::NewSignIn { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(mails, [SignInReason::NewPlace, SignInReason::AfterFailures]);
}

#[test]
fn a_failing_store_fails_the_login_at_every_step() {
    let mut failed = 0;
    for calls in 0..40 {
        let (mut store, _) = store();
        store.fail_after(calls, StoreErrorKind::Contention);
        let act = act(0);
        let result = begin(&mut store, &policy(), keys(), "ann@example.com", None, &act).and_then(|begun| {
            let Begun::Ready(prepared) = begun else { panic!("throttled") };
            let verified = prepared.verify(&PASSWORDS, keys(), &secret(PASSWORD), &mut OsRandom);
            finish(&mut store, &policy(), keys(), verified, &new_login(1), &act)
        });
        if let Err(error) = result {
            assert_eq!(error.kind(), StoreErrorKind::Contention);
            failed += 1;
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_taken_address_is_a_duplicate_in_any_spelling() {
    let (mut store, user) = store();
    let error = store.insert_user(&new_user("Ann@EXAMPLE.com")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Duplicate);
    assert_eq!(store.user_by_id(user).unwrap().unwrap().email.as_str(), "ann@example.com");
}

#[test]
fn nothing_printed_holds_a_hash_or_token() {
    let (mut store, _) = store();
    let login = new_login(1);
    let prepared = ready(&mut store, "ann@example.com", None, &act(0)).unwrap();
    let mut printed = format!("{prepared:?}");
    let verified = prepared.verify(&PASSWORDS, keys(), &secret(PASSWORD), &mut OsRandom);
    printed += &format!("{verified:?} {login:?}");
    let outcome = finish(&mut store, &policy(), keys(), verified, &login, &act(0)).unwrap();
    printed += &format!("{outcome:?} {store:?}");
    assert!(!printed.contains("argon2") && !printed.contains(PASSWORD), "{printed}");
    let text = login.new.token.expose_text();
    assert!(!printed.contains(text.expose_secret()));
}

#[test]
fn reasons_have_distinct_codes() {
    use RefusalReason::{Disabled, PasswordChanged, PasswordDisabled, UnknownUser, WrongPassword};
    let mut codes = [UnknownUser, WrongPassword, Disabled, PasswordDisabled, PasswordChanged]
        .map(RefusalReason::code)
        .to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 5);
}
