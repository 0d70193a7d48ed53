use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreErrorKind, UserId};
use plimsoll_crypto::sealing::sealed_with;
use plimsoll_crypto::{
    DataKey, InstallationKey, KeyPurpose, KeyRing, MasterKey, OsRandom, Pepper, SecretKey,
};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::*;
use crate::mail::Mail;
use crate::ports::{AccountStore, TwoFactorStore, UserAdminStore};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, new_user, secret, store};
use crate::totp::TotpSecret;
use crate::{AccountState, Act};

const ALPACA: BrokerName = BrokerName::Alpaca;
const MAIL: Uuid = Uuid::from_u128(77);

fn ring(seed: u8) -> KeyRing {
    let bytes = std::array::from_fn(|i| seed.wrapping_add(i as u8 + 1));
    KeyRing::new(&MasterKey::from_key(SecretKey::from_bytes(bytes)).unwrap())
}

struct Installation {
    ring: KeyRing,
    pepper: Pepper,
}

impl Installation {
    fn new() -> Self {
        let pepper = InstallationKey::generate(KeyPurpose::Pepper, &mut OsRandom);
        Self { ring: ring(1), pepper: Pepper::new(&pepper).unwrap() }
    }

    fn save(
        &self,
        store: &mut MemoryStore,
        user: UserId,
        environment: Environment,
        keys: &BrokerKeys,
    ) -> Saved {
        let own = VaultKeys { ring: &self.ring, pepper: &self.pepper };
        save(store, own, Some(user), user, ALPACA, environment, keys, &act(0), &mut OsRandom).unwrap()
    }

    fn saved(&self, store: &mut MemoryStore, user: UserId, key: &str) -> CredentialView {
        match self.save(store, user, Environment::Paper, &keys(key)) {
            Saved::Done(view) => view,
            other => panic!("{other:?}"),
        }
    }

    fn open(&self, store: &mut MemoryStore, user: UserId, second: i64) -> Opened {
        open(store, &self.ring, user, ALPACA, &act(second)).unwrap()
    }
}

fn act(second: i64) -> Act {
    Act::without_request(at(second))
}

fn keys(key: &str) -> BrokerKeys {
    BrokerKeys::parse(secret(key), secret("a secret of the broker's".replace(' ', "-").as_str())).unwrap()
}

fn actions(store: &MemoryStore) -> Vec<(&str, AuditOutcome)> {
    store.audit().iter().map(|(_, entry)| (entry.action.as_str(), entry.outcome)).collect()
}

fn second_user(store: &mut MemoryStore) -> UserId {
    store.insert_user(&new_user("bob@example.com")).unwrap()
}

#[test]
fn what_was_saved_is_opened_and_only_its_ends_are_shown() {
    let (mut store, user) = store();
    let own = Installation::new();
    assert!(matches!(own.open(&mut store, user, 0), Opened::Nothing));
    let view = own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    assert_eq!((view.key_last4.as_str(), view.state), ("WXYZ", CredentialState::Unverified));
    assert_eq!(view.environment, Environment::Paper);
    assert_eq!(list(&mut store, user).unwrap(), std::slice::from_ref(&view));
    match own.open(&mut store, user, 0) {
        Opened::Keys { keys, version, environment } => {
            assert_eq!(keys.api_key.expose_secret(), "PKTESTKEY1234567WXYZ");
            assert_eq!(keys.api_secret.expose_secret(), "a-secret-of-the-broker's");
            assert_eq!((version, environment), (view.version, Environment::Paper));
        }
        other => panic!("{other:?}"),
    }
    let entry = &store.audit()[0].1;
    assert_eq!((entry.action.as_str(), entry.actor_id), ("credential.save", Some(user)));
    let everything = format!("{entry:?} {view:?} {:?}", keys("PKTESTKEY1234567WXYZ"));
    assert!(!everything.contains("TESTKEY") && !everything.contains("of-the-broker"), "{everything}");
}

#[test]
fn the_fingerprint_is_that_of_the_keys_and_needs_the_pepper() {
    let (mut store, ann) = store();
    let bob = second_user(&mut store);
    let own = Installation::new();
    let first = own.saved(&mut store, ann, "PKTESTKEY1234567WXYZ");
    let same = own.saved(&mut store, bob, "PKTESTKEY1234567WXYZ");
    let other = own.saved(&mut store, ann, "PKTESTKEY1234567WXYA");
    assert_eq!(first.fingerprint, same.fingerprint);
    assert_ne!(first.fingerprint, other.fingerprint);
    assert_eq!(first.fingerprint.len(), 16);
    assert!(first.version < same.version && same.version < other.version);
    let elsewhere = keys("PKTESTKEY1234567WXYZ").fingerprint(ALPACA, &Installation::new().pepper);
    assert_ne!(first.fingerprint, elsewhere);
    // Where one text ends and the other begins counts.
    let moved = |key: &str, secret_text: &str| {
        BrokerKeys::parse(secret(key), secret(secret_text)).unwrap().fingerprint(ALPACA, &own.pepper)
    };
    assert_ne!(moved("PKTESTKEY1", "2secretsecret"), moved("PKTESTKEY12", "secretsecret"));
}

#[test]
fn only_what_a_broker_could_have_given_out_is_a_credential() {
    let parse = |key: &str, secret_text: &str| {
        BrokerKeys::parse(secret(key), secret(secret_text)).map(|_| ()).map_err(|why| (why.part(), why))
    };
    let (good_key, good_secret) = ("PKTESTKEY", "secret-of-it");
    assert!(parse(good_key, good_secret).is_ok());
    assert!(parse(&"K".repeat(128), &"s".repeat(256)).is_ok());
    for bad in ["", "PKSHORT", &"K".repeat(129)] {
        assert_eq!(parse(bad, good_secret).unwrap_err().0, KeyPart::ApiKey, "{bad}");
    }
    for bad in ["PKTEST KEY", "PKTESTKEY\n", "PKTÉSTKEY", "PKTESTKEY\u{0}"] {
        let expected = BrokerKeysError::Characters(KeyPart::ApiKey);
        assert_eq!(parse(bad, good_secret).unwrap_err().1, expected, "{bad:?}");
    }
    for bad in ["", "7letter", &"s".repeat(257), "secret of it", "secret-of-it\r"] {
        assert_eq!(parse(good_key, bad).unwrap_err().0, KeyPart::ApiSecret, "{bad:?}");
    }
    let short = BrokerKeys { api_key: secret("abc"), api_secret: secret("s") };
    assert_eq!(short.last4(), "");
    assert_eq!(BrokerKeys { api_key: secret("äöüßäöüß"), ..short }.last4(), "äöüß");
}

#[test]
fn the_other_environment_waits_for_orders_to_end() {
    let (mut store, user) = store();
    let own = Installation::new();
    let paper = own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    store.set_orders_open(true);
    let same = own.saved(&mut store, user, "PKANOTHERKEY1234ABCD");
    assert!(same.version > paper.version, "keys of the same environment may change at any time");
    let live = keys("AKTESTKEY1234567LIVE");
    assert_eq!(own.save(&mut store, user, Environment::Live, &live), Saved::OrdersOpen);
    assert_eq!(list(&mut store, user).unwrap(), [same]);
    assert_eq!(store.trades_in(user, ALPACA), Some(Environment::Paper));
    assert_eq!(actions(&store).last(), Some(&("credential.save", AuditOutcome::Denied)));
    store.set_orders_open(false);
    assert!(matches!(own.save(&mut store, user, Environment::Live, &live), Saved::Done(_)));
    assert_eq!(store.trades_in(user, ALPACA), Some(Environment::Live));
    assert!(matches!(own.open(&mut store, user, 0), Opened::Keys { environment: Environment::Live, .. }));
}

#[test]
fn nobody_and_disabled_users_save_nothing() {
    let (mut store, user) = store();
    let own = Installation::new();
    let good = keys("PKTESTKEY1234567WXYZ");
    assert_eq!(own.save(&mut store, UserId(999), Environment::Paper, &good), Saved::NotActive);
    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    assert_eq!(own.save(&mut store, user, Environment::Paper, &good), Saved::NotActive);
    assert!(store.audit().is_empty() && store.wrapped_key_mut(user).is_none());
}

#[test]
fn deleting_is_on_record_and_nothing_is_left_to_delete() {
    let (mut store, user) = store();
    let own = Installation::new();
    let first = own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    assert!(remove(&mut store, Some(user), user, ALPACA, &act(1)).unwrap());
    assert!(!remove(&mut store, Some(user), user, ALPACA, &act(2)).unwrap());
    assert!(matches!(own.open(&mut store, user, 3), Opened::Nothing));
    let kept = [("credential.save", AuditOutcome::Success), ("credential.delete", AuditOutcome::Success)];
    assert_eq!(actions(&store), kept);
    assert!(own.saved(&mut store, user, "PKTESTKEY1234567WXYZ").version > first.version);
}

#[test]
fn what_was_moved_or_changed_never_opens() {
    let (mut store, ann) = store();
    let bob = second_user(&mut store);
    let own = Installation::new();
    own.saved(&mut store, ann, "PKTESTKEY1234567WXYZ");
    own.saved(&mut store, bob, "PKANOTHERKEY1234ABCD");
    let good = store.sealed_credential_mut(ann, ALPACA).unwrap().clone();
    let of_bob = store.sealed_credential_mut(bob, ALPACA).unwrap().clone();
    type Harm<'a> = dyn Fn(&mut SealedCredential) + 'a;
    let changes: [(&str, &Harm<'_>); 6] = [
        ("another user's", &|c| c.api_key.clone_from(&of_bob.api_key)),
        ("another user's secret", &|c| c.api_secret.clone_from(&of_bob.api_secret)),
        ("the other column", &|c| c.api_key.clone_from(&good.api_secret)),
        ("a flipped bit", &|c| *c.api_secret.last_mut().unwrap() ^= 1),
        ("truncated", &|c| c.api_secret.truncate(20)),
        ("empty", &|c| c.api_key.clear()),
    ];
    for (n, (what, change)) in changes.into_iter().enumerate() {
        let stored = store.sealed_credential_mut(ann, ALPACA).unwrap();
        change(stored);
        let opened = own.open(&mut store, ann, 100 * (n as i64 + 1));
        assert!(matches!(opened, Opened::Undecryptable), "{what}: {opened:?}");
        let (owner, entry) = store.audit().last().unwrap();
        assert_eq!((*owner, entry.action.as_str()), (Some(ann), "credential.undecryptable"), "{what}");
        assert_eq!(entry.outcome, AuditOutcome::Failure);
        store.restore_credential(ann, good.clone());
    }
    assert_eq!(store.alerts().len(), 6);
    assert!(store.alerts().iter().all(|(to, _)| *to == Audience::Administrators));
    assert!(matches!(own.open(&mut store, ann, 1000), Opened::Keys { .. }));
}

#[test]
fn a_failure_that_repeats_is_recorded_once_a_minute() {
    let (mut store, user) = store();
    let own = Installation::new();
    own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    store.sealed_credential_mut(user, ALPACA).unwrap().api_key[40] ^= 1;
    for second in 0..=61 {
        assert!(matches!(own.open(&mut store, user, second), Opened::Undecryptable));
    }
    assert_eq!(store.alerts().len(), 2);
    assert_eq!(list(&mut store, user).unwrap().len(), 1, "nothing is deleted");
}

#[test]
fn another_master_key_opens_nothing_and_seals_nothing_over_it() {
    let (mut store, user) = store();
    let own = Installation::new();
    own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    let wrapped = store.wrapped_key_mut(user).unwrap().clone();
    let stranger = Installation { ring: ring(50), pepper: own.pepper.clone() };
    assert!(matches!(stranger.open(&mut store, user, 0), Opened::Undecryptable));
    let saved = stranger.save(&mut store, user, Environment::Live, &keys("PKANOTHERKEY1234ABCD"));
    assert_eq!(saved, Saved::Undecryptable);
    assert_eq!(*store.wrapped_key_mut(user).unwrap(), wrapped);
    assert_eq!(store.trades_in(user, ALPACA), Some(Environment::Paper));
    assert_eq!(store.audit().last().unwrap().1.detail["reason"], "unknown_key");
    // Rotation wraps the same key again: all of the user's opens under the new ring, and no longer needs the old one.
    let key = DataKey::unwrap(&own.ring, user.0, &wrapped).unwrap();
    *store.wrapped_key_mut(user).unwrap() = key.wrap(&stranger.ring, user.0, &mut OsRandom);
    assert!(matches!(stranger.open(&mut store, user, 0), Opened::Keys { .. }));
}

#[test]
fn a_deleted_users_secrets_open_nowhere() {
    let (mut store, user) = store();
    let own = Installation::new();
    own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    let copy = store.sealed_credential_mut(user, ALPACA).unwrap().clone();
    let unusable = store.account_mut(user).unwrap().password_hash.clone();
    store.erase_user(user, &unusable, at(1)).unwrap();
    assert!(store.wrapped_key_mut(user).is_none() && list(&mut store, user).unwrap().is_empty());
    store.restore_credential(user, copy);
    assert!(matches!(own.open(&mut store, user, 2), Opened::Undecryptable));
    assert_eq!(store.audit().last().unwrap().1.detail["reason"], "no_data_key");
    // Not under a new key either.
    user_ring(&mut store, &own.ring, user, at(3), &mut OsRandom).unwrap().unwrap();
    assert!(matches!(own.open(&mut store, user, 200), Opened::Undecryptable));
    assert_eq!(store.audit().last().unwrap().1.detail["reason"], "another_data_key");
}

#[test]
fn only_the_users_own_key_seals_credentials() {
    let (mut store, user) = store();
    let own = Installation::new();
    own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    // Whoever could seal with the installation's key itself still has not sealed a credential.
    let row = row(user, ALPACA);
    let forged =
        plimsoll_crypto::seal(&own.ring, &place(API_KEY, &row, user), b"PKSOMEBODYELSES", &mut OsRandom);
    let stored = store.sealed_credential_mut(user, ALPACA).unwrap();
    assert_ne!(sealed_with(&stored.api_key).unwrap(), own.ring.active());
    stored.api_key = forged;
    assert!(matches!(own.open(&mut store, user, 0), Opened::Undecryptable));
}

#[test]
fn a_data_key_is_made_once() {
    let (mut store, user) = store();
    let own = Installation::new();
    let first = user_ring(&mut store, &own.ring, user, at(0), &mut OsRandom).unwrap().unwrap();
    let again = user_ring(&mut store, &own.ring, user, at(1), &mut OsRandom).unwrap().unwrap();
    assert_eq!(first.active(), again.active());
    // Who comes second keeps what the first one kept.
    let late = DataKey::generate(&mut OsRandom).wrap(&own.ring, user.0, &mut OsRandom);
    let kept = store.keep_key(user, &late, at(2)).unwrap();
    assert_eq!(DataKey::unwrap(&own.ring, user.0, &kept).unwrap().id(), first.active());
    let known = existing_ring(&mut store, &own.ring, user).unwrap().unwrap().unwrap();
    assert_eq!(known.active(), first.active());
    assert!(existing_ring(&mut store, &own.ring, UserId(999)).unwrap().is_none());
}

#[test]
fn the_brokers_word_is_noted_for_the_version_that_was_tried() {
    let (mut store, user) = store();
    let own = Installation::new();
    let old = own.saved(&mut store, user, "PKTESTKEY1234567WXYZ");
    let new = own.saved(&mut store, user, "PKANOTHERKEY1234ABCD");
    let mut say = |version, state, second| {
        let judgement = Judgement { version, state, reason: Some("HTTP 401\n") };
        judge(&mut store, user, ALPACA, &judgement, MAIL, &act(second)).unwrap()
    };
    assert!(!say(old.version, CredentialState::Invalid, 1), "of keys that were replaced meanwhile");
    assert!(say(new.version, CredentialState::Valid, 2));
    assert!(say(new.version, CredentialState::Valid, 3));
    assert!(say(new.version, CredentialState::Invalid, 4));
    assert!(say(new.version, CredentialState::Invalid, 5));
    assert_eq!(list(&mut store, user).unwrap()[0].state, CredentialState::Invalid);
    assert_eq!(
        actions(&store)[2..],
        [("credential.judge", AuditOutcome::Success), ("credential.judge", AuditOutcome::Failure),]
    );
    let entry = &store.audit().last().unwrap().1;
    assert_eq!((&entry.detail["from"], &entry.detail["to"]), (&"valid".into(), &"invalid".into()));
    assert_eq!(entry.detail["reason"], "HTTP 401 ");
    let [mail] = store.mails() else { panic!("{:?}", store.mails()) };
    assert!(matches!(&mail.mail, Mail::BrokerKeysRefused { key_last4, .. } if key_last4 == "ABCD"));
    assert_eq!((mail.id, mail.user), (MAIL, Some(user)));
    let [(to, alert)] = store.alerts() else { panic!("{:?}", store.alerts()) };
    assert_eq!((*to, alert.severity), (Audience::User(user), "critical"));
    assert!(alert.message.contains("ABCD"));
}

#[test]
fn real_money_needs_a_second_factor_to_be_allowed_and_none_to_be_forbidden() {
    let (mut store, user) = store();
    let set = |store: &mut MemoryStore, enabled| set_live(store, user, ALPACA, enabled, &act(0)).unwrap();
    assert_eq!(set(&mut store, true), LiveChange::NeedsSecondFactor);
    assert!(!store.live_enabled(user, ALPACA));
    let factor = TotpSecret::from_bytes(&[9; 20]).unwrap();
    store.set_pending_factor(user, &factor, at(600), &[], at(-30)).unwrap();
    assert!(store.activate_pending_factor(user, &factor, 1, at(0)).unwrap());
    assert_eq!(set(&mut store, true), LiveChange::Done);
    assert!(store.live_enabled(user, ALPACA));
    assert_eq!(set(&mut store, false), LiveChange::Done);
    assert!(!store.live_enabled(user, ALPACA));
    let of_live: Vec<_> =
        actions(&store).into_iter().filter(|(action, _)| *action == "account.live").collect();
    assert_eq!(
        of_live.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(),
        [AuditOutcome::Denied, AuditOutcome::Success, AuditOutcome::Success,]
    );
}

#[test]
fn without_the_audit_entry_there_is_no_success() {
    let own = Installation::new();
    for calls in 0..7 {
        let (mut store, user) = store();
        store.fail_after(calls, StoreErrorKind::Unavailable);
        let result = save(
            &mut store,
            VaultKeys { ring: &own.ring, pepper: &own.pepper },
            Some(user),
            user,
            ALPACA,
            Environment::Paper,
            &keys("PKTESTKEY1234567WXYZ"),
            &act(0),
            &mut OsRandom,
        );
        assert_eq!(result.is_err(), calls < 6, "{calls}: {result:?}");
    }
}

#[test]
fn names_read_back() {
    for broker in BrokerName::ALL {
        assert_eq!(broker.to_string().parse(), Ok(broker));
    }
    assert!("Alpaca".parse::<BrokerName>().is_err());
    for state in [CredentialState::Unverified, CredentialState::Valid, CredentialState::Invalid] {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert!("ok".parse::<CredentialState>().is_err());
}
