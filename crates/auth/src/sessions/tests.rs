use plimsoll_core_domain::StoreErrorKind;
use plimsoll_crypto::tokens::SecretToken;
use proptest::prelude::*;

use super::*;
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, new_session, new_user, store};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// A store with one user who signed in at 0.
fn signed_in() -> (MemoryStore, UserId, TokenDigest) {
    let (mut store, user) = store();
    let token = add_session(&mut store, user, 1, 0);
    (store, user, token)
}

fn add_session(store: &mut MemoryStore, user: UserId, n: u128, seconds: i64) -> TokenDigest {
    let new = new_session(n);
    let session =
        Session::begin(new.id, user, &ClientInfo::default(), &SessionPolicy::default(), at(seconds));
    store.insert_session(&new.token.digest(), &session).unwrap();
    new.token.digest()
}

fn acting(seconds: i64) -> Act {
    Act::without_request(at(seconds))
}

fn act(
    store: &mut MemoryStore,
    token: &TokenDigest,
    activity: Activity,
    seconds: i64,
) -> Option<Authenticated> {
    match authenticate(store, token, &SessionPolicy::default(), activity, at(seconds)) {
        Ok(authenticated) => Some(authenticated),
        Err(AuthenticateError::NotAuthenticated) => None,
        Err(AuthenticateError::Store(error)) => panic!("{error}"),
    }
}

#[test]
fn a_session_idles_out_to_the_second() {
    let (mut store, user, token) = signed_in();
    let found = act(&mut store, &token, Activity::Background, 30 * MINUTE - 1).expect("still live");
    assert_eq!(found.user.id, user);
    assert_eq!(act(&mut store, &token, Activity::User, 30 * MINUTE), None);
}

#[test]
fn acts_of_the_user_keep_it_alive_until_the_absolute_limit() {
    let (mut store, _, token) = signed_in();
    for seconds in (0..12 * HOUR).step_by(20 * 60) {
        assert!(act(&mut store, &token, Activity::User, seconds).is_some(), "{seconds}");
    }
    let last = act(&mut store, &token, Activity::User, 12 * HOUR - 1).expect("still live");
    assert_eq!((last.session.idle_expires_at, last.session.last_seen_at), (at(12 * HOUR), at(12 * HOUR - 1)));
    assert_eq!(act(&mut store, &token, Activity::User, 12 * HOUR), None);
}

#[test]
fn polling_does_not_keep_it_alive() {
    let (mut store, _, token) = signed_in();
    for seconds in (0..30 * MINUTE).step_by(100) {
        assert!(act(&mut store, &token, Activity::Background, seconds).is_some());
    }
    assert_eq!(store.sessions()[0].last_seen_at, at(0));
    assert_eq!(act(&mut store, &token, Activity::Background, 30 * MINUTE), None);
}

#[test]
fn acts_within_a_minute_cost_no_write() {
    let (mut store, _, token) = signed_in();
    act(&mut store, &token, Activity::User, 59);
    assert_eq!(store.sessions()[0].last_seen_at, at(0));
    act(&mut store, &token, Activity::User, 60);
    let session = &store.sessions()[0];
    assert_eq!((session.last_seen_at, session.idle_expires_at), (at(60), at(31 * MINUTE)));
}

#[test]
fn unknown_revoked_and_disabled_are_alike() {
    let (mut store, user, token) = signed_in();
    let stranger = SecretToken::generate(&mut plimsoll_crypto::OsRandom).digest();
    assert_eq!(act(&mut store, &stranger, Activity::User, 1), None);

    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    assert_eq!(act(&mut store, &token, Activity::User, 1), None);
    store.account_mut(user).unwrap().user.state = AccountState::Active;
    assert!(act(&mut store, &token, Activity::User, 1).is_some());

    assert!(logout(&mut store, user, Uuid::from_u128(1), &acting(2)).unwrap());
    assert_eq!(act(&mut store, &token, Activity::User, 2), None);
    assert!(!logout(&mut store, user, Uuid::from_u128(1), &acting(3)).unwrap(), "it had ended before");
    assert_eq!(store.sessions()[0].revoked_at, Some(at(2)), "the first time stays");
}

#[test]
fn a_role_is_as_stored_now() {
    let (mut store, user, token) = signed_in();
    store.account_mut(user).unwrap().user.role = crate::Role::Admin;
    assert_eq!(act(&mut store, &token, Activity::User, 1).unwrap().user.role, crate::Role::Admin);
}

#[test]
fn nobody_ends_a_strangers_session() {
    let (mut store, _, token) = signed_in();
    let other = store.insert_user(&new_user("bob@example.com")).unwrap();
    assert!(!logout(&mut store, other, Uuid::from_u128(1), &acting(1)).unwrap());
    assert_eq!(store.revoke_all_sessions_of(other, None, at(1)).unwrap(), 0);
    assert!(act(&mut store, &token, Activity::User, 1).is_some());
}

#[test]
fn every_session_but_one_ends_at_once() {
    let (mut store, user, first) = signed_in();
    let second = add_session(&mut store, user, 2, 1);
    let third = add_session(&mut store, user, 3, 2);
    assert_eq!(store.revoke_all_sessions_of(user, Some(Uuid::from_u128(2)), at(3)).unwrap(), 2);
    let live = [first, second, third].map(|token| act(&mut store, &token, Activity::User, 4).is_some());
    assert_eq!(live, [false, true, false]);
    assert_eq!(store.revoke_all_sessions_of(user, None, at(5)).unwrap(), 1);
}

#[test]
fn a_failing_store_is_not_taken_for_a_missing_session() {
    let (mut store, user, token) = signed_in();
    for calls in 0..2 {
        store.fail_after(calls, StoreErrorKind::Unavailable);
        let failed = authenticate(&mut store, &token, &SessionPolicy::default(), Activity::User, at(100));
        let Err(AuthenticateError::Store(error)) = failed else { panic!("{failed:?}") };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        store.fail_after(calls, StoreErrorKind::Contention);
        assert!(revoke_others(&mut store, user, Uuid::from_u128(1), &acting(100)).is_err());
    }
}

#[test]
fn a_step_up_lasts_until_its_end_and_no_longer_than_the_session() {
    let (store, _, _) = signed_in();
    let mut session = store.sessions()[0].clone();
    assert!(!session.is_stepped_up(None, at(0)));
    session.step_up_until = Some(at(300));
    assert!(session.is_stepped_up(None, at(299)) && !session.is_stepped_up(None, at(300)));
    session.revoked_at = Some(at(10));
    assert!(!session.is_stepped_up(None, at(20)));
}

#[test]
fn absurd_policies_are_refused() {
    let (zero, day) = (TimeDelta::zero(), TimeDelta::days(1));
    assert!(SessionPolicy::new(TimeDelta::seconds(1), TimeDelta::seconds(2), 1).is_ok());
    for (idle, absolute, max) in
        [(zero, day, 1), (day, zero, 1), (-day, day, 1), (day, TimeDelta::days(367), 1), (day, day, 0)]
    {
        assert_eq!(SessionPolicy::new(idle, absolute, max), Err(SessionPolicyError));
    }
    let default = SessionPolicy::default();
    let limits = (default.idle(), default.absolute(), default.max_per_user());
    assert_eq!(limits, (TimeDelta::minutes(30), TimeDelta::hours(12), 10));
}

proptest! {
    /// Whatever the acts: nobody is signed in after 30 idle minutes or 12 hours, and a user who acts at least every 29
    /// minutes is until then.
    #[test]
    fn limits_hold_for_any_sequence_of_acts(gaps in proptest::collection::vec((1..40 * MINUTE, any::<bool>()), 1..60)) {
        let (mut store, _, token) = signed_in();
        let (mut now, mut last_act, mut ended) = (0, 0, false);
        for (gap, user) in gaps {
            now += gap;
            let activity = if user { Activity::User } else { Activity::Background };
            let live = act(&mut store, &token, activity, now).is_some();
            let idle = now - last_act;
            if ended || idle >= 30 * MINUTE || now >= 12 * HOUR {
                prop_assert!(!live);
            } else if idle < 29 * MINUTE {
                prop_assert!(live);
            }
            ended |= !live;
            if live && user {
                last_act = now;
            }
        }
    }
}

/// SES-7: the user ends one session or all others; each is on record, and nobody ends a stranger's.
#[test]
fn sessions_are_ended_one_by_one_or_all_but_this() {
    let (mut store, user, first) = signed_in();
    let second = add_session(&mut store, user, 2, 1);
    let third = add_session(&mut store, user, 3, 2);
    let other = store.insert_user(&new_user("bob@example.com")).unwrap();
    assert!(!revoke(&mut store, other, Uuid::from_u128(2), &acting(3)).unwrap());
    assert!(revoke(&mut store, user, Uuid::from_u128(2), &acting(3)).unwrap());
    assert!(!revoke(&mut store, user, Uuid::from_u128(2), &acting(4)).unwrap(), "it had ended");
    assert_eq!(
        revoke_others(&mut store, user, Uuid::from_u128(3), &acting(5)).unwrap(),
        [Uuid::from_u128(1)]
    );
    let live = [first, second, third].map(|token| act(&mut store, &token, Activity::User, 6).is_some());
    assert_eq!(live, [false, false, true]);
    let actions: Vec<&str> = store.audit().iter().map(|(_, entry)| entry.action.as_str()).collect();
    assert_eq!(actions, ["session.end", "session.end_others"]);
}
