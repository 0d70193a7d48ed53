use chrono::TimeDelta;
use plimsoll_crypto::tokens::{ApiToken, SecretToken};
use plimsoll_crypto::{OsRandom, passwords::PasswordHash};

use super::*;
use crate::ClientInfo;
use crate::api_tokens::{self, NewToken, Scope, Wanted};
use crate::login::NewSession;
use crate::ports::{CancelPurpose, CancelStore, TwoFactorStore};
use crate::sessions::{self, Transport};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, new_session, new_user, store};
use crate::throttle::Limit;
use crate::totp::TotpSecret;

fn act() -> Act {
    Act { client: ClientInfo::default(), request_id: None, session: None, at: at(10) }
}

/// A store with an administrator, and a user who has a session and an API token.
fn world() -> (MemoryStore, UserId, UserId) {
    let (mut store, admin) = store();
    store.account_mut(admin).unwrap().user.role = Role::Admin;
    let user = store.insert_user(&new_user("bob@example.com")).unwrap();
    open_doors(&mut store, user);
    (store, admin, user)
}

fn open_doors(store: &mut MemoryStore, user: UserId) {
    let policy = AccountPolicy::default();
    let new: NewSession = new_session(user.0 as u128);
    sessions::start(store, &policy, user, Transport::Bearer, &new, false, &act()).unwrap();
    let token = NewToken {
        id: Uuid::from_u128(100 + user.0 as u128),
        token: ApiToken::generate(&mut OsRandom),
        mail_id: Uuid::from_u128(200 + user.0 as u128),
    };
    let wanted = Wanted {
        name: "robot".into(),
        scopes: [Scope::Read].into_iter().collect(),
        expires_at: at(1_000_000),
        allowed_ips: Vec::new(),
    };
    api_tokens::create(store, &policy, &act(), user, &token, wanted).unwrap().unwrap();
}

/// How many sessions and API tokens of the user are live.
fn doors(store: &MemoryStore, user: UserId) -> (usize, usize) {
    let sessions = store.sessions().iter().filter(|it| it.user_id == user && it.is_live(at(11))).count();
    let tokens = store.api_tokens().iter().filter(|it| it.user_id == user && it.is_live(at(11))).count();
    (sessions, tokens)
}

fn last_entry(store: &MemoryStore) -> (Option<UserId>, plimsoll_core_domain::audit::AuditEntry) {
    store.audit().last().cloned().unwrap()
}

/// ADM-6: a disabled user has no session and no API token left, and can be let in again.
#[test]
fn disabling_ends_everything_and_can_be_taken_back() {
    let (mut store, admin, user) = world();
    assert_eq!(doors(&store, user), (1, 1));
    let done = set_state(&mut store, &act(), Some(admin), user, AccountState::Disabled).unwrap();
    let Changed::Done(listed) = done else { panic!("{done:?}") };
    assert_eq!(listed.user.state, AccountState::Disabled);
    assert_eq!(doors(&store, user), (0, 0));
    let (owner, entry) = last_entry(&store);
    assert_eq!((owner, entry.action.as_str()), (Some(user), "user.disable"));
    assert_eq!((entry.actor_id, entry.subject_id), (Some(admin), Some(user)));
    assert_eq!(entry.detail["sessions_ended"], 1);

    set_state(&mut store, &act(), Some(admin), user, AccountState::Active).unwrap();
    assert_eq!(store.account_mut(user).unwrap().user.state, AccountState::Active);
    assert_eq!(doors(&store, user), (0, 0), "what was ended stays so");
}

/// ADM-3, SES-2: another role ends what was opened with the old one.
#[test]
fn another_role_ends_everything() {
    let (mut store, admin, user) = world();
    set_role(&mut store, &act(), Some(admin), user, Role::Admin).unwrap();
    assert_eq!(doors(&store, user), (0, 0));
    let (_, entry) = last_entry(&store);
    assert_eq!(entry.action, "user.role_change");
    assert_eq!((&entry.detail["from"], &entry.detail["to"]), (&json!("user"), &json!("admin")));
}

/// ADM-4: the last active administrator is neither demoted nor disabled; trying is recorded and changes nothing.
#[test]
fn the_last_active_administrator_stays() {
    let (mut store, admin, user) = world();
    open_doors(&mut store, admin);
    let idle = store.insert_user(&new_user("carol@example.com")).unwrap();
    store.account_mut(idle).unwrap().user.role = Role::Admin;
    store.account_mut(idle).unwrap().user.state = AccountState::Disabled;
    let demote = Change { role: Some(Role::User), state: None };
    let disable = Change { role: None, state: Some(AccountState::Disabled) };
    for wish in [demote, disable] {
        assert_eq!(change(&mut store, &act(), Some(admin), admin, wish).unwrap(), Changed::LastAdmin);
        let (owner, entry) = last_entry(&store);
        assert_eq!((owner, entry.outcome), (Some(admin), AuditOutcome::Denied));
        assert_eq!(entry.detail["reason"], "last_admin");
        assert_eq!(doors(&store, admin), (1, 1));
    }
    let stored = store.account_mut(admin).unwrap().user.clone();
    assert_eq!((stored.role, stored.state), (Role::Admin, AccountState::Active));

    // a disabled administrator is none: demoting one needs no other
    assert!(matches!(change(&mut store, &act(), Some(admin), idle, demote).unwrap(), Changed::Done(_)));
    set_role(&mut store, &act(), Some(admin), user, Role::Admin).unwrap();
    assert!(matches!(change(&mut store, &act(), Some(user), admin, demote).unwrap(), Changed::Done(_)));
}

#[test]
fn what_is_so_already_changes_nothing() {
    let (mut store, admin, user) = world();
    let entries = store.audit().len();
    let same = Change { role: Some(Role::User), state: Some(AccountState::Active) };
    for wish in [same, Change::default()] {
        assert!(matches!(change(&mut store, &act(), Some(admin), user, wish).unwrap(), Changed::Done(_)));
    }
    assert_eq!((doors(&store, user), store.audit().len()), ((1, 1), entries));
}

/// AUD-7: each look of an administrator at users is recorded, without the text that was searched for.
#[test]
fn reading_is_recorded() {
    let (mut store, admin, user) = world();
    let filter = Filter { text: Some("BOB@".into()), ..Filter::default() };
    let listed = list(&mut store, &act(), Some(admin), &filter, None, 10).unwrap();
    assert_eq!(listed.iter().map(|it| it.user.id).collect::<Vec<_>>(), [user]);
    let (owner, entry) = last_entry(&store);
    assert_eq!((owner, entry.action.as_str()), (Some(admin), "admin.users_list"));
    assert_eq!(entry.detail, json!({ "users": [user], "searched": true }));

    assert!(get(&mut store, &act(), Some(admin), user).unwrap().is_some());
    let (owner, entry) = last_entry(&store);
    assert_eq!((owner, entry.action.as_str(), entry.actor_id), (Some(user), "admin.user_read", Some(admin)));
}

#[test]
fn lists_filter_and_go_on_where_they_stopped() {
    let (mut store, admin, user) = world();
    let ids = |store: &mut MemoryStore, filter: Filter, before, limit| {
        let listed = list(store, &act(), Some(admin), &filter, before, limit).unwrap();
        listed.iter().map(|it| it.user.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&mut store, Filter::default(), None, 10), [user, admin]);
    assert_eq!(ids(&mut store, Filter::default(), None, 1), [user]);
    assert_eq!(ids(&mut store, Filter::default(), Some(user), 10), [admin]);
    let admins = Filter { role: Some(Role::Admin), ..Filter::default() };
    assert_eq!(ids(&mut store, admins, None, 10), [admin]);
    let disabled = Filter { state: Some(AccountState::Disabled), ..Filter::default() };
    assert!(ids(&mut store, disabled, None, 10).is_empty());
}

/// SES-8: an administrator ends a user's sessions; API tokens stay.
#[test]
fn an_administrator_signs_a_user_out() {
    let (mut store, admin, user) = world();
    assert_eq!(logout(&mut store, &act(), Some(admin), user).unwrap(), Some(1));
    assert_eq!(doors(&store, user), (0, 1));
    assert_eq!(last_entry(&store).1.action, "user.logout");
}

/// SES-8: everybody is signed out, page after page, but for the session that asks.
#[test]
fn everybody_is_signed_out() {
    let (mut store, admin, user) = world();
    let own = store.sessions().into_iter().find(|session| session.user_id == admin).map(|session| session.id);
    let entries = store.audit().len();
    let (mut after, mut pages, mut sessions) = (None, 0, 0);
    loop {
        let done = logout_everybody(&mut store, &act(), Some(admin), own, after, 1).unwrap();
        (after, pages, sessions) = (done.next, pages + 1, sessions + done.sessions);
        if after.is_none() {
            break;
        }
    }
    let open: Vec<_> = store.sessions().into_iter().filter(|session| session.revoked_at.is_none()).collect();
    assert_eq!(
        open.iter().map(|session| Some(session.id)).collect::<Vec<_>>(),
        own.map(Some).into_iter().collect::<Vec<_>>()
    );
    assert!(pages >= 2 && sessions >= 1, "{pages} {sessions}");
    assert_eq!(doors(&store, user), (0, 1));
    let entries = &store.audit()[entries..];
    assert!(entries.iter().all(|(_, entry)| entry.action == "user.logout" && entry.actor_id == Some(admin)));
    assert_eq!(entries.len(), 1);
}

/// ADM-6: deleting takes two steps; afterwards nothing names the person, and the audit entries are still there.
#[test]
fn a_user_is_deleted_in_two_steps() {
    let (mut store, _, user) = world();
    let unusable = store.account_mut(user).unwrap().password_hash.clone();
    assert_eq!(erase(&mut store, &act(), None, user, &unusable).unwrap(), Erased::NotDisabled);
    assert_eq!(doors(&store, user), (1, 1));

    set_state(&mut store, &act(), None, user, AccountState::Disabled).unwrap();
    let entries = store.audit().len();
    assert_eq!(erase(&mut store, &act(), None, user, &unusable).unwrap(), Erased::Done);
    let left = store.account_mut(user).unwrap().user.clone();
    assert!(!left.email.as_str().contains("bob") && left.display_name.is_none());
    assert!(store.sessions().iter().all(|session| session.user_id != user));
    assert!(store.api_tokens().iter().all(|token| token.user_id != user));
    let (owner, entry) = last_entry(&store);
    assert_eq!((owner, entry.action.as_str(), entry.actor_id), (Some(user), "user.delete", None));
    assert_eq!(entry.detail, json!({ "via": "cli" }), "neither address nor name");
    assert_eq!(store.audit().len(), entries + 1);
    assert_eq!(erase(&mut store, &act(), None, user, &unusable).unwrap(), Erased::NotFound);
}

/// TFA-15: the reset waits, its owner is told, and the mail's link stops exactly this reset.
#[test]
fn a_lost_factor_is_reset_with_a_link_that_stops_it() {
    let (mut store, admin, user) = world();
    let policy = AccountPolicy::default();
    let new = NewReset { id: Uuid::from_u128(5), cancel: SecretToken::generate(&mut OsRandom) };
    let mut next = 300;
    let mut ids = || {
        next += 1;
        Uuid::from_u128(next)
    };
    let mut request = |store: &mut MemoryStore, user| {
        request_two_factor_reset(store, &policy, &act(), Some(admin), user, &new, &mut ids).unwrap()
    };
    assert_eq!(request(&mut store, UserId(99)), Requested::NoSuchUser);
    assert_eq!(request(&mut store, user), Requested::NotEnabled);
    let secret = TotpSecret::generate(&mut OsRandom);
    store.set_pending_factor(user, &secret, at(60), &[], at(0)).unwrap();
    assert!(store.activate_pending_factor(user, &secret, 1, at(0)).unwrap());

    let due_at = at(10) + policy.two_factor.reset_delay;
    assert_eq!(request(&mut store, user), Requested::Begun { due_at });
    assert_eq!(request(&mut store, user), Requested::AlreadyBegun { due_at });
    let link = store.take_cancel_token(&new.cancel.digest(), at(20)).unwrap().unwrap();
    assert_eq!((link.user, link.purpose, link.target), (user, CancelPurpose::TwoFactorReset, Some(new.id)));
    assert_eq!(link.expires_at, due_at);
}

/// ADM-7: the area of administrators has networks and a limit of its own.
#[test]
fn the_area_of_administrators_has_a_door_of_its_own() {
    let (mut store, admin, _) = world();
    let mut policy = AccountPolicy::default();
    policy.admin.per_user = Limit::new(2, TimeDelta::seconds(20), 2);
    policy.admin.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
    let from = |ip: &str| Act { client: ClientInfo::new(ip.parse().ok(), None), ..act() };
    let entries = store.audit().len();
    assert_eq!(enter(&mut store, &policy, &from("192.0.2.9"), admin).unwrap(), Entrance::Open);
    assert_eq!(store.audit().len(), entries);
    assert_eq!(enter(&mut store, &policy, &from("192.0.3.9"), admin).unwrap(), Entrance::WrongNetwork);
    let (owner, entry) = last_entry(&store);
    assert_eq!(
        (owner, entry.action.as_str(), entry.outcome),
        (Some(admin), "admin.enter", AuditOutcome::Denied)
    );
    let third = enter(&mut store, &policy, &from("192.0.2.9"), admin).unwrap();
    assert!(matches!(third, Entrance::TooOften { .. }), "{third:?}");
    let other = enter(&mut store, &policy, &from("192.0.2.9"), UserId(77)).unwrap();
    assert_eq!(other, Entrance::Open, "each has a limit of their own");
    assert_eq!(store.audit().len(), entries + 1);
}

/// ADM-2: what is not there is not found, in every act, and leaves no trace.
#[test]
fn unknown_users_are_not_found() {
    let (mut store, admin, _) = world();
    let (nobody, entries) = (UserId(99), store.audit().len());
    let unusable: PasswordHash = store.account_mut(admin).unwrap().password_hash.clone();
    assert_eq!(get(&mut store, &act(), Some(admin), nobody).unwrap(), None);
    assert_eq!(logout(&mut store, &act(), Some(admin), nobody).unwrap(), None);
    let gone = set_role(&mut store, &act(), Some(admin), nobody, Role::Admin).unwrap();
    assert_eq!(gone, Changed::NotFound);
    assert_eq!(erase(&mut store, &act(), None, nobody, &unusable).unwrap(), Erased::NotFound);
    assert_eq!(store.audit().len(), entries);
}
