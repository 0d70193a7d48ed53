use plimsoll_core_domain::StoreErrorKind;
use plimsoll_crypto::OsRandom;

use super::*;
use crate::ClientInfo;
use crate::ports::TwoFactorStore;
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, new_user, store};
use crate::totp::TotpSecret;

const DAY: i64 = 86_400;

fn act(seconds: i64) -> Act {
    let client = ClientInfo::new(Some("192.0.2.7".parse().unwrap()), Some("test"));
    Act { client, request_id: None, session: Some(Uuid::from_u128(77)), at: at(seconds) }
}

fn new_token(n: u128) -> NewToken {
    NewToken {
        id: Uuid::from_u128(n),
        token: ApiToken::generate(&mut OsRandom),
        mail_id: Uuid::from_u128(n << 64),
    }
}

fn wanted(scopes: &[Scope], days: i64) -> Wanted {
    Wanted {
        name: "robot".to_owned(),
        scopes: scopes.iter().copied().collect(),
        expires_at: at(days * DAY),
        allowed_ips: Vec::new(),
    }
}

fn try_create(
    store: &mut MemoryStore,
    user: UserId,
    n: u128,
    wanted: Wanted,
) -> Result<(TokenRecord, TokenDigest), CreateRefusal> {
    let new = new_token(n);
    let made = create(store, &AccountPolicy::default(), &act(0), user, &new, wanted).unwrap();
    made.map(|record| (record, new.token.digest()))
}

fn enable_factor(store: &mut MemoryStore, user: UserId) {
    let secret = TotpSecret::generate(&mut OsRandom);
    store.set_pending_factor(user, &secret, at(60), &[], at(0)).unwrap();
    assert!(store.activate_pending_factor(user, &secret, 1, at(0)).unwrap());
}

fn made(days: i64) -> (MemoryStore, UserId, TokenDigest) {
    let (mut store, user) = store();
    let (_, digest) = try_create(&mut store, user, 1, wanted(&[Scope::Read], days)).unwrap();
    (store, user, digest)
}

fn call(store: &mut MemoryStore, digest: &TokenDigest, ip: &str, seconds: i64) -> Option<ApiCaller> {
    match authenticate(store, digest, ip.parse().ok(), at(seconds)) {
        Ok(caller) => Some(caller),
        Err(AuthenticateError::NotAuthenticated) => None,
        Err(AuthenticateError::Store(error)) => panic!("{error}"),
    }
}

/// TOK-2, TOK-5: a token has its scopes and end, its making is audited and mailed, and neither shows the token.
#[test]
fn a_token_is_made_recorded_and_told_of() {
    let (mut store, user) = store();
    let mut wish = wanted(&[Scope::TradePaper, Scope::Read], 30);
    wish.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
    let (record, digest) = try_create(&mut store, user, 1, wish).unwrap();
    assert_eq!(record.scopes.names(), ["read", "trade_paper"]);
    let caller = call(&mut store, &digest, "192.0.2.9", 1).unwrap();
    assert_eq!((caller.user.id, caller.token_id, caller.expires_at), (user, record.id, at(30 * DAY)));
    assert_eq!(caller.scopes, record.scopes);

    let (owner, entry) = &store.audit()[0];
    assert_eq!(
        (*owner, entry.action.as_str(), entry.outcome),
        (Some(user), "api_token.create", AuditOutcome::Success)
    );
    assert_eq!(entry.detail["scopes"], json!(["read", "trade_paper"]));
    assert_eq!(entry.detail["session_id"], json!(Uuid::from_u128(77)));
    let mail = &store.mails()[0];
    assert_eq!(mail.to.as_str(), "ann@example.com");
    let Mail::NewApiToken { name, scopes, expires_at, circumstances } = &mail.mail else {
        panic!("{:?}", mail.mail)
    };
    assert_eq!((name.as_str(), *expires_at), ("robot", at(30 * DAY)));
    assert_eq!(scopes, &["read", "trade_paper"]);
    assert_eq!(circumstances.ip.as_deref(), Some("192.0.2.7"));
}

/// TOK-2: no token without an end, over a year, without scope or without a name; nothing is kept of a refusal.
#[test]
fn wishes_out_of_bounds_are_refused() {
    let (mut store, user) = store();
    let good = || wanted(&[Scope::Read], 30);
    let network: IpNetwork = "192.0.2.1".parse().unwrap();
    for (wish, refusal) in [
        (Wanted { name: " ".into(), ..good() }, CreateRefusal::Name),
        (Wanted { name: "a\nb".into(), ..good() }, CreateRefusal::Name),
        (Wanted { name: "é".repeat(101), ..good() }, CreateRefusal::Name),
        (wanted(&[], 30), CreateRefusal::NoScope),
        (wanted(&[Scope::Read], 0), CreateRefusal::ExpiryPast),
        (wanted(&[Scope::Read], 367), CreateRefusal::ExpiryTooFar),
        (Wanted { allowed_ips: vec![network; 33], ..good() }, CreateRefusal::AllowedIps),
    ] {
        assert_eq!(try_create(&mut store, user, 1, wish).unwrap_err(), refusal);
    }
    assert_eq!(try_create(&mut store, UserId(99), 1, good()).unwrap_err(), CreateRefusal::NoUser);
    assert!(store.api_tokens().is_empty() && store.audit().is_empty() && store.mails().is_empty());
    assert!(
        try_create(&mut store, user, 1, Wanted { name: "é".repeat(100), ..wanted(&[Scope::Read], 365) })
            .is_ok()
    );
}

/// TOK-2, TFA-16: a token trades with real money only as long as its owner has a second factor.
#[test]
fn trade_live_ends_with_the_second_factor() {
    let (mut store, user) = store();
    enable_factor(&mut store, user);
    let wish = wanted(&[Scope::Read, Scope::TradePaper, Scope::TradeLive], 30);
    let (record, digest) = try_create(&mut store, user, 1, wish).unwrap();
    assert_eq!(call(&mut store, &digest, "192.0.2.9", 1).unwrap().scopes, record.scopes);
    store.remove_factor(user).unwrap();
    assert_eq!(call(&mut store, &digest, "192.0.2.9", 2).unwrap().scopes.names(), ["read", "trade_paper"]);
    // one that is only pending is none
    store.set_pending_factor(user, &TotpSecret::generate(&mut OsRandom), at(600), &[], at(3)).unwrap();
    assert!(!call(&mut store, &digest, "192.0.2.9", 3).unwrap().scopes.has(Scope::TradeLive));
    enable_factor(&mut store, user);
    assert_eq!(call(&mut store, &digest, "192.0.2.9", 4).unwrap().scopes, record.scopes);
}

/// TOK-2: the scopes admin and trade_live need the authority for them; a refusal of authority is recorded.
#[test]
fn nobody_grants_what_they_do_not_have() {
    let (mut store, user) = store();
    let refused = try_create(&mut store, user, 1, wanted(&[Scope::Read, Scope::Admin], 1)).unwrap_err();
    assert_eq!(refused, CreateRefusal::AdminScope);
    let refused = try_create(&mut store, user, 1, wanted(&[Scope::TradeLive], 1)).unwrap_err();
    assert_eq!(refused, CreateRefusal::LiveScope);
    let outcomes: Vec<_> = store.audit().iter().map(|(_, entry)| entry.outcome).collect();
    assert_eq!(outcomes, [AuditOutcome::Denied, AuditOutcome::Denied]);
    assert!(store.api_tokens().is_empty() && store.mails().is_empty());

    enable_factor(&mut store, user);
    store.account_mut(user).unwrap().user.role = Role::Admin;
    assert!(try_create(&mut store, user, 1, wanted(&[Scope::TradeLive, Scope::Admin], 1)).is_ok());
}

#[test]
fn a_user_has_so_many_live_tokens_and_no_more() {
    let (mut store, user) = store();
    let mut policy = AccountPolicy::default();
    policy.api_tokens.max_per_user = 2;
    let make = |store: &mut MemoryStore, n| {
        create(store, &policy, &act(0), user, &new_token(n), wanted(&[Scope::Read], 1)).unwrap()
    };
    assert!(make(&mut store, 1).is_ok() && make(&mut store, 2).is_ok());
    assert_eq!(make(&mut store, 3), Err(CreateRefusal::TooMany));
    assert!(revoke(&mut store, &act(1), user, Uuid::from_u128(1)).unwrap());
    assert!(make(&mut store, 3).is_ok());
}

/// TOK-2: unknown, revoked and expired tokens, a foreign address and a disabled owner are refused alike.
#[test]
fn tokens_that_may_not_be_used_are_alike() {
    let (mut store, user) = store();
    let mut wish = wanted(&[Scope::Read], 1);
    wish.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
    let (record, digest) = try_create(&mut store, user, 1, wish).unwrap();
    let stranger = ApiToken::generate(&mut OsRandom).digest();
    assert_eq!(call(&mut store, &stranger, "192.0.2.1", 1), None);
    assert_eq!(call(&mut store, &digest, "192.0.3.1", 1), None);
    assert_eq!(call(&mut store, &digest, "unknown", 1), None);
    assert!(call(&mut store, &digest, "192.0.2.1", DAY - 1).is_some());
    assert_eq!(call(&mut store, &digest, "192.0.2.1", DAY), None);

    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    assert_eq!(call(&mut store, &digest, "192.0.2.1", 1), None);
    store.account_mut(user).unwrap().user.state = AccountState::Active;
    assert!(call(&mut store, &digest, "192.0.2.1", 1).is_some());

    assert!(revoke(&mut store, &act(2), user, record.id).unwrap());
    assert_eq!(call(&mut store, &digest, "192.0.2.1", 3), None);
}

/// TOK-2: the last use is kept with its address, written at most once a minute.
#[test]
fn uses_within_a_minute_cost_no_write() {
    let (mut store, _, digest) = made(1);
    let seen = |store: &MemoryStore| (store.api_tokens()[0].last_used_at, store.api_tokens()[0].last_used_ip);
    assert_eq!(seen(&store), (None, None));
    for (second, ip, kept) in [(5, "192.0.2.1", 5), (64, "192.0.2.2", 5), (65, "192.0.2.3", 65)] {
        call(&mut store, &digest, ip, second).unwrap();
        assert_eq!(seen(&store).0, Some(at(kept)));
    }
    assert_eq!(seen(&store).1, "192.0.2.3".parse().ok());
}

/// ADM-3: the scope admin goes with the role, at once.
#[test]
fn a_former_administrators_token_administrates_nothing() {
    let (mut store, user) = store();
    store.account_mut(user).unwrap().user.role = Role::Admin;
    let (_, digest) = try_create(&mut store, user, 1, wanted(&[Scope::Read, Scope::Admin], 1)).unwrap();
    assert!(call(&mut store, &digest, "::1", 1).unwrap().scopes.has(Scope::Admin));
    store.account_mut(user).unwrap().user.role = Role::User;
    assert_eq!(call(&mut store, &digest, "::1", 1).unwrap().scopes.names(), ["read"]);
}

/// ADM-2, TOK-2: a token of another user cannot be ended, and is not told from one that never was.
#[test]
fn nobody_ends_a_strangers_token() {
    let (mut store, user, digest) = made(1);
    let other = store.insert_user(&new_user("bob@example.com")).unwrap();
    let entries = store.audit().len();
    assert!(!revoke(&mut store, &act(1), other, Uuid::from_u128(1)).unwrap());
    assert!(!revoke(&mut store, &act(1), other, Uuid::from_u128(404)).unwrap());
    assert_eq!(store.audit().len(), entries);
    assert!(list(&mut store, other, None, 10, at(1)).unwrap().is_empty());
    assert!(call(&mut store, &digest, "::1", 1).is_some());
    assert!(revoke(&mut store, &act(1), user, Uuid::from_u128(1)).unwrap());
    assert!(!revoke(&mut store, &act(2), user, Uuid::from_u128(1)).unwrap());
    assert_eq!(store.api_tokens()[0].revoked_at, Some(at(1)), "the first time stays");
}

#[test]
fn lists_are_newest_first_and_go_on_where_they_stopped() {
    let (mut store, user) = store();
    for n in 1..=5 {
        try_create(&mut store, user, n, wanted(&[Scope::Read], 1)).unwrap();
    }
    let ids = |page: &[TokenRecord]| page.iter().map(|token| token.id.as_u128()).collect::<Vec<_>>();
    let first = list(&mut store, user, None, 2, at(1)).unwrap();
    assert_eq!(ids(&first), [5, 4]);
    let after = (first[1].created_at, first[1].id);
    assert_eq!(ids(&list(&mut store, user, Some(after), 9, at(1)).unwrap()), [3, 2, 1]);
    assert!(list(&mut store, user, None, 9, at(DAY)).unwrap().is_empty(), "ended ones are not listed");
}

/// TOK-5: the owner is told once, seven days before the end; not of a token that was made for less, nor of a dead one.
#[test]
fn an_end_is_told_of_once_and_in_time() {
    let (mut store, user, _) = made(30);
    let policy = AccountPolicy::default();
    try_create(&mut store, user, 2, wanted(&[Scope::Read], 7)).unwrap();
    try_create(&mut store, user, 3, wanted(&[Scope::Read], 20)).unwrap();
    revoke(&mut store, &act(1), user, Uuid::from_u128(3)).unwrap();
    let mails = store.mails().len();
    let due = |store: &mut MemoryStore, seconds| due_notices(store, &policy, 10, at(seconds)).unwrap();
    assert!(due(&mut store, 23 * DAY - 1).is_empty());
    let notices = due(&mut store, 23 * DAY);
    assert_eq!(notices.iter().map(|notice| notice.token.id.as_u128()).collect::<Vec<_>>(), [1]);
    assert!(give_notice(&mut store, &notices[0], Uuid::from_u128(9), at(23 * DAY)).unwrap());
    assert!(!give_notice(&mut store, &notices[0], Uuid::from_u128(10), at(23 * DAY)).unwrap());
    assert!(due(&mut store, 24 * DAY).is_empty());
    assert_eq!(store.mails().len(), mails + 1);
    let mail = &store.mails()[mails].mail;
    assert_eq!(*mail, Mail::ApiTokenExpires { name: "robot".into(), expires_at: at(30 * DAY) });
}

/// TOK-4: whatever closes all doors can end the tokens too.
#[test]
fn tokens_end_with_all_doors_when_asked() {
    let (mut store, user, digest) = made(1);
    crate::sessions::close_all_doors(&mut store, user, None, false, &act(1)).unwrap();
    assert!(call(&mut store, &digest, "::1", 1).is_some());
    crate::sessions::close_all_doors(&mut store, user, None, true, &act(1)).unwrap();
    assert_eq!(call(&mut store, &digest, "::1", 1), None);
}

#[test]
fn a_failing_store_is_not_taken_for_a_missing_token() {
    let (mut store, user, digest) = made(1);
    for calls in 0..2 {
        store.fail_after(calls, StoreErrorKind::Unavailable);
        let failed = authenticate(&mut store, &digest, None, at(1));
        assert!(matches!(failed, Err(AuthenticateError::Store(_))), "{failed:?}");
        store.fail_after(calls, StoreErrorKind::Contention);
        assert!(revoke(&mut store, &act(1), user, Uuid::from_u128(1)).is_err());
    }
}
