use secrecy::SecretString;

use super::*;
use crate::Transport;
use crate::sessions::start;
use crate::testing::MemoryStore;
use crate::testing::factors::{BACKUP, Bound, act, bound, ids, right, token_digest};
use crate::testing::fixtures::{PASSWORD, PASSWORDS, at, new_session, secret as text, store};

fn policy() -> AccountPolicy {
    AccountPolicy::default()
}

fn session(store: &mut MemoryStore, user: UserId) -> Session {
    start(store, &policy(), user, Transport::Bearer, &new_session(1), false, &act(0)).unwrap().session
}

fn password(typed: &str) -> Given {
    Given { password: Some(text(typed)), code: None }
}

fn code(typed: &SecretString) -> Given {
    Given { password: None, code: Some(SubmittedCode::parse(typed)) }
}

fn prove(
    store: &mut MemoryStore,
    session: &Session,
    given: Given,
    second: i64,
) -> Result<SteppedUp, Started> {
    match begin(store, &policy(), session.user_id, given, &act(second)).unwrap() {
        Started::Ready(pending) => {
            let proof = pending.verify(&PASSWORDS, &BACKUP);
            Ok(finish(store, &policy(), proof, session, &token_digest(40), &act(second), &mut ids()).unwrap())
        }
        other => Err(other),
    }
}

/// STP-1, SES-2: without a second factor the password opens sensitive acts for five minutes, from this address, under a
/// new token.
#[test]
fn the_password_is_the_factor_of_who_has_no_other() {
    let (mut store, user) = store();
    let session = session(&mut store, user);
    assert!(!session.is_stepped_up(act(0).client.ip(), at(1)), "a login by password alone is no step-up");
    let wrong = prove(&mut store, &session, password("wrong"), 10).unwrap();
    assert!(matches!(wrong, SteppedUp::Refused(CodeRefusal::WrongPassword)), "{wrong:?}");
    let Ok(SteppedUp::Open(open)) = prove(&mut store, &session, password(PASSWORD), 11) else { panic!() };
    assert_eq!((open.id, open.step_up_until), (session.id, Some(at(311))));
    assert!(
        open.is_stepped_up(act(0).client.ip(), at(310)) && !open.is_stepped_up(act(0).client.ip(), at(311))
    );
    assert!(!open.is_stepped_up("192.0.2.8".parse().ok(), at(12)), "another address");
    let found = crate::ports::SessionStore::session_by_digest(&mut store, &token_digest(40)).unwrap();
    assert_eq!(found.unwrap().0.id, session.id);
}

/// STP-1: once the second factor is on, the password opens nothing.
#[test]
fn with_a_second_factor_the_code_is_wanted() {
    let Bound { mut store, user, secret, codes } = bound();
    let session = session(&mut store, user);
    let refused = prove(&mut store, &session, password(PASSWORD), 10).unwrap_err();
    assert!(matches!(refused, Started::Wanted(wanted) if wanted == Method::SECOND), "{refused:?}");
    let both = Given { password: Some(text(PASSWORD)), code: Some(SubmittedCode::parse(&text("000000"))) };
    let wrong = prove(&mut store, &session, both, 10).unwrap();
    assert!(matches!(wrong, SteppedUp::Refused(CodeRefusal::Wrong)), "{wrong:?}");
    let open = prove(&mut store, &session, code(&right(&secret, 60)), 60);
    assert!(matches!(open, Ok(SteppedUp::Open(_))), "{open:?}");
    let open = prove(&mut store, &session, code(&codes[0].expose_text()), 61);
    assert!(matches!(open, Ok(SteppedUp::Open(_))), "{open:?}");
    assert_eq!(methods(&mut store, user).unwrap(), Method::SECOND);
}

#[test]
fn without_one_a_code_is_not_what_is_wanted() {
    let (mut store, user) = store();
    let session = session(&mut store, user);
    let refused = prove(&mut store, &session, code(&text("123456")), 10).unwrap_err();
    assert!(matches!(refused, Started::Wanted(wanted) if wanted == [Method::Password]), "{refused:?}");
}

/// TFA-8: wrong passwords have a budget, which right ones do not use up.
#[test]
fn wrong_passwords_are_throttled_before_they_are_computed() {
    let (mut store, user) = store();
    let session = session(&mut store, user);
    for n in 0..12 {
        assert!(matches!(prove(&mut store, &session, password(PASSWORD), n), Ok(SteppedUp::Open(_))), "{n}");
    }
    for n in 0..10 {
        assert!(
            matches!(prove(&mut store, &session, password("wrong"), 20 + n), Ok(SteppedUp::Refused(_))),
            "{n}"
        );
    }
    let blocked = prove(&mut store, &session, password(PASSWORD), 30).unwrap_err();
    assert!(
        matches!(blocked, Started::Throttled { retry_after } if retry_after.as_secs() == 3590),
        "{blocked:?}"
    );
}

#[test]
fn a_session_that_has_ended_is_not_opened() {
    let (mut store, user) = store();
    let session = session(&mut store, user);
    crate::sessions::logout(&mut store, user, session.id, &Act::without_request(at(5))).unwrap();
    let late = prove(&mut store, &session, password(PASSWORD), 10).unwrap();
    assert!(matches!(late, SteppedUp::SessionOver), "{late:?}");
}

#[test]
fn a_second_factor_that_comes_meanwhile_outdates_the_password() {
    let (mut store, user) = store();
    let session = session(&mut store, user);
    let begun = begin(&mut store, &policy(), user, password(PASSWORD), &act(10)).unwrap();
    let Started::Ready(pending) = begun else { panic!() };
    let proof = pending.verify(&PASSWORDS, &BACKUP);
    let secret = crate::totp::TotpSecret::from_bytes(&[9; 20]).unwrap();
    use crate::ports::TwoFactorStore;
    store.set_pending_factor(user, &secret, at(600), &[], at(10)).unwrap();
    store.activate_pending_factor(user, &secret, 1, at(10)).unwrap();
    let late =
        finish(&mut store, &policy(), proof, &session, &token_digest(40), &act(11), &mut ids()).unwrap();
    assert!(matches!(late, SteppedUp::Refused(CodeRefusal::Stale)), "{late:?}");
}
