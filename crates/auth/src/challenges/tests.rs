use plimsoll_crypto::OsRandom;
use secrecy::SecretString;

use super::*;
use crate::login::NewLogin;
use crate::ports::TwoFactorStore;
use crate::testing::MemoryStore;
use crate::testing::factors::{BACKUP, Bound, act, bound, ids, right};
use crate::testing::fixtures::{at, keys, new_login, secret as text};

fn policy() -> AccountPolicy {
    AccountPolicy::default()
}

fn challenge(store: &mut MemoryStore, user: UserId, n: u128, second: i64) -> SecretToken {
    let token = SecretToken::generate(&mut OsRandom);
    let new = NewChallenge {
        id: Uuid::from_u128(n),
        token: &token,
        transport: Transport::Cookie,
        after_failures: false,
    };
    let until = begin(store, &policy(), user, new, &act(second)).unwrap();
    assert_eq!(until, at(second + 300));
    token
}

fn sign_in(n: u128) -> NewSignIn {
    let NewLogin { new, arrival, .. } = new_login(n);
    NewSignIn { new, arrival, device: None }
}

/// All three steps; `None` when the first says that the challenge is dead.
fn answer(store: &mut MemoryStore, token: &SecretToken, code: SecretString, second: i64) -> Option<Answered> {
    let code = SubmittedCode::parse(&code);
    match open(store, &policy(), keys(), &token.digest(), code, &act(second)).unwrap() {
        Opened::Ready(answer) => {
            let verified = answer.verify(&BACKUP);
            Some(finish(store, &policy(), keys(), verified, &sign_in(90), &act(second), &mut ids()).unwrap())
        }
        Opened::Dead => None,
        other => panic!("{other:?}"),
    }
}

/// LOG-11: a right code leads to the session, once; the session is stepped up and travels as the login asked.
#[test]
fn a_right_code_signs_in_once() {
    let Bound { mut store, user, secret, .. } = bound();
    let token = challenge(&mut store, user, 1, 60);
    let Some(Answered::SignedIn(done)) = answer(&mut store, &token, right(&secret, 70), 70) else { panic!() };
    assert_eq!((done.user.id, done.method, done.session.transport), (user, Method::Totp, Transport::Cookie));
    assert!(done.session.is_stepped_up(act(0).client.ip(), at(71)));
    assert!(!done.session.is_stepped_up(None, at(71)), "from this address only");
    let (_, entry) = store.audit().last().unwrap();
    assert_eq!((entry.action.as_str(), entry.detail["method"].as_str()), ("login", Some("totp")));
    assert!(answer(&mut store, &token, right(&secret, 100), 100).is_none(), "it is used up");
    assert_eq!(store.sessions().len(), 1);
}

/// LOG-11: five minutes, to the second.
#[test]
fn a_challenge_ends() {
    let Bound { mut store, user, secret, .. } = bound();
    let token = challenge(&mut store, user, 1, 60);
    assert!(answer(&mut store, &token, right(&secret, 360), 360).is_none());
    let unknown = SecretToken::generate(&mut OsRandom);
    assert!(answer(&mut store, &unknown, right(&secret, 300), 300).is_none());
    let in_time = answer(&mut store, &token, right(&secret, 359), 359);
    assert!(matches!(in_time, Some(Answered::SignedIn(_))), "{in_time:?}");
}

/// TFA-8, LOG-11: five wrong codes end a challenge; a new one does not give the account new tries.
#[test]
fn five_wrong_codes_end_it_and_a_new_one_resets_nothing() {
    let Bound { mut store, user, secret, .. } = bound();
    for round in 0..2 {
        let token = challenge(&mut store, user, 1 + round, 60);
        for n in 0..5 {
            let wrong = if n == 3 { "no code" } else { "000000" };
            let refused = answer(&mut store, &token, text(wrong), 61);
            assert!(matches!(refused, Some(Answered::Refused(_))), "{refused:?}");
        }
        assert!(answer(&mut store, &token, right(&secret, 90), 90).is_none(), "dead after five");
    }
    let token = challenge(&mut store, user, 9, 91);
    let code = SubmittedCode::parse(&right(&secret, 91));
    let blocked = open(&mut store, &policy(), keys(), &token.digest(), code, &act(91)).unwrap();
    assert!(matches!(blocked, Opened::Throttled { .. }), "{blocked:?}");
    assert_eq!(store.challenges().last().unwrap().tries, 0, "a throttled try is none of the challenge's");
    assert!(store.sessions().is_empty());
}

#[test]
fn a_disabled_or_unverified_user_gets_no_further() {
    let Bound { mut store, user, secret, .. } = bound();
    let token = challenge(&mut store, user, 1, 60);
    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    assert!(answer(&mut store, &token, right(&secret, 70), 70).is_none());
    store.account_mut(user).unwrap().user.state = AccountState::Active;

    let code = SubmittedCode::parse(&right(&secret, 70));
    let Opened::Ready(open) = open(&mut store, &policy(), keys(), &token.digest(), code, &act(70)).unwrap()
    else {
        panic!()
    };
    let verified = open.verify(&BACKUP);
    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    let late = finish(&mut store, &policy(), keys(), verified, &sign_in(1), &act(71), &mut ids()).unwrap();
    assert!(matches!(late, Answered::Dead), "{late:?}");
    assert!(store.sessions().is_empty());
}

/// SES-6: what closes all doors closes this one.
#[test]
fn closing_all_doors_ends_it() {
    let Bound { mut store, user, secret, .. } = bound();
    let token = challenge(&mut store, user, 1, 60);
    sessions::close_all_doors(&mut store, user, None, false, &act(61)).unwrap();
    assert!(answer(&mut store, &token, right(&secret, 70), 70).is_none());
}

/// TFA-5: of two that verified the same code one gets in.
#[test]
fn one_code_opens_one_of_two_challenges() {
    let Bound { mut store, user, secret, .. } = bound();
    let tokens = [challenge(&mut store, user, 1, 60), challenge(&mut store, user, 2, 60)];
    let mut verified = Vec::new();
    for token in &tokens {
        let code = SubmittedCode::parse(&right(&secret, 70));
        let Opened::Ready(open) =
            open(&mut store, &policy(), keys(), &token.digest(), code, &act(70)).unwrap()
        else {
            panic!()
        };
        verified.push(open.verify(&BACKUP));
    }
    let mut done = Vec::new();
    for (n, verified) in verified.into_iter().enumerate() {
        let new = sign_in(1 + n as u128);
        done.push(finish(&mut store, &policy(), keys(), verified, &new, &act(71), &mut ids()).unwrap());
    }
    assert!(matches!(done[0], Answered::SignedIn(_)), "{done:?}");
    assert!(matches!(done[1], Answered::Refused(CodeRefusal::Replayed)), "{done:?}");
    assert!(
        store.challenges()[1].ended_at.is_none(),
        "the second challenge may be answered with the next code"
    );
    assert_eq!(store.two_factor_status(user).unwrap().last_used_at, Some(at(71)));
}
