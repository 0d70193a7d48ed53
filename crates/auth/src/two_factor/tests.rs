use plimsoll_core_domain::StoreErrorKind;
use plimsoll_core_domain::audit::AuditOutcome;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::*;
use crate::backup_codes::BackupCode;
use crate::mail::Mail;
use crate::ports::SessionStore;
use crate::sessions::start;
use crate::testing::MemoryStore;
use crate::testing::factors::{BACKUP, Bound, act, bound, ids, right, token_digest, try_code, try_under};
use crate::testing::fixtures::{PASSWORD, PASSWORDS, at, new_session, secret, store};
use crate::totp::{TotpSecret, step_at};
use crate::{AccountPolicy, Session, Transport};

fn policy() -> AccountPolicy {
    AccountPolicy::default()
}

fn session(store: &mut MemoryStore, user: UserId, n: u128, second: i64) -> Session {
    start(store, &policy(), user, Transport::Bearer, &new_session(n), false, &act(second)).unwrap().session
}

fn refusal(settled: Settled) -> CodeRefusal {
    match settled {
        Settled::Refused(reason) => reason,
        Settled::Proven(proof) => panic!("{proof:?}"),
    }
}

fn proof(settled: Settled) -> Proof {
    match settled {
        Settled::Proven(proof) => proof,
        Settled::Refused(reason) => panic!("{reason:?}"),
    }
}

/// TFA-4: a secret is pending until a right code confirms it, and no longer than its time.
#[test]
fn enrolment_has_two_phases() {
    let (mut store, user) = store();
    let mine = session(&mut store, user, 1, 0);
    let other = session(&mut store, user, 2, 0);
    let secret = TotpSecret::from_bytes(&[9; 20]).unwrap();
    let new = BACKUP.generate(user, &mut plimsoll_crypto::OsRandom);
    let until = setup(&mut store, &policy(), user, &secret, &new.hashes, &act(0)).unwrap();
    assert_eq!(until, at(600));
    assert!(!is_enabled(&mut store, user).unwrap(), "a pending secret is no second factor");
    assert_eq!(status(&mut store, user).unwrap(), Status::default());

    let confirm = |store: &mut MemoryStore, text: SecretString, second| {
        let begun = begin(store, &policy(), user, Purpose::Enable, SubmittedCode::parse(&text), &act(second));
        let Begun::Ready(attempt) = begun.unwrap() else { return None };
        let verified = attempt.verify(&BACKUP);
        Some(enable(store, &policy(), verified, &mine, &token_digest(50), &act(second), &mut ids()).unwrap())
    };
    let wrong = confirm(&mut store, secret_text("000000"), 10);
    assert!(matches!(wrong, Some(Enabled::Refused(CodeRefusal::Wrong))), "{wrong:?}");
    let backup = confirm(&mut store, new.codes[0].expose_text(), 10);
    assert!(matches!(backup, Some(Enabled::Refused(_))), "a pending backup code confirms nothing");
    assert!(confirm(&mut store, right(&secret, 600), 600).is_none(), "at the very end it is forgotten");
    assert!(!is_enabled(&mut store, user).unwrap());

    let done = confirm(&mut store, right(&secret, 599), 599);
    let Some(Enabled::Enabled(rotated)) = done else { panic!("{done:?}") };
    assert_eq!((rotated.id, rotated.step_up_until), (mine.id, Some(at(599 + 300))));
    let status = status(&mut store, user).unwrap();
    assert_eq!((status.enabled_at, status.backup_codes_remaining), (Some(at(599)), 10));
    assert_eq!(status.last_used_at, Some(at(599)), "the enrolment code counts as used");
    let live: Vec<_> = store.live_sessions_of(user, at(600)).unwrap().iter().map(|s| s.id).collect();
    assert_eq!(live, [mine.id], "{} ended", other.id);
    assert!(store.session_by_digest(&token_digest(50)).unwrap().is_some(), "the session has its new token");
    assert!(matches!(store.mails().last().unwrap().mail, Mail::TwoFactorEnabled { .. }));

    // the very code that confirmed does nothing else
    let again = try_code(&mut store, user, Purpose::Login, right(&secret, 599), 599);
    assert_eq!(refusal(again), CodeRefusal::Replayed);
}

fn secret_text(text: &str) -> SecretString {
    secret(text)
}

/// TFA-4: re-enrolment leaves the active secret in force until the new one is confirmed.
#[test]
fn the_old_secret_holds_until_the_new_one_is_confirmed() {
    let Bound { mut store, user, secret, codes } = bound();
    let mine = session(&mut store, user, 1, 100);
    let next = TotpSecret::from_bytes(&[77; 20]).unwrap();
    let new = BACKUP.generate(user, &mut plimsoll_crypto::OsRandom);
    setup(&mut store, &policy(), user, &next, &new.hashes, &act(100)).unwrap();
    proof(try_code(&mut store, user, Purpose::StepUp, right(&secret, 120), 120));
    proof(try_code(&mut store, user, Purpose::StepUp, codes[0].expose_text(), 121));
    assert_eq!(
        refusal(try_code(&mut store, user, Purpose::StepUp, right(&next, 150), 150)),
        CodeRefusal::Wrong
    );

    let begun = begin(
        &mut store,
        &policy(),
        user,
        Purpose::Enable,
        SubmittedCode::parse(&right(&next, 150)),
        &act(150),
    );
    let Begun::Ready(attempt) = begun.unwrap() else { panic!() };
    let verified = attempt.verify(&BACKUP);
    let done =
        enable(&mut store, &policy(), verified, &mine, &token_digest(51), &act(150), &mut ids()).unwrap();
    assert!(matches!(done, Enabled::Enabled(_)), "{done:?}");
    assert_eq!(
        refusal(try_code(&mut store, user, Purpose::StepUp, right(&secret, 180), 180)),
        CodeRefusal::Wrong
    );
    assert_eq!(
        refusal(try_code(&mut store, user, Purpose::StepUp, codes[1].expose_text(), 180)),
        CodeRefusal::Wrong,
        "the old backup codes are gone"
    );
    proof(try_code(&mut store, user, Purpose::StepUp, right(&next, 180), 180));
    proof(try_code(&mut store, user, Purpose::StepUp, new.codes[1].expose_text(), 181));
}

/// TFA-5, TFA-6: steps only go up, through one register, whatever the codes are for.
#[test]
fn a_step_is_used_once_and_only_upwards() {
    let Bound { mut store, user, secret, .. } = bound();
    let ahead = right(&secret, 330); // the step after the one of 300
    proof(try_code(&mut store, user, Purpose::Login, ahead.clone(), 300));
    for purpose in [Purpose::Login, Purpose::StepUp, Purpose::Disable, Purpose::Regenerate] {
        assert_eq!(refusal(try_code(&mut store, user, purpose, ahead.clone(), 300)), CodeRefusal::Replayed);
        let current = right(&secret, 300);
        assert_eq!(
            refusal(try_code(&mut store, user, purpose, current, 300)),
            CodeRefusal::Replayed,
            "an older step"
        );
    }
    proof(try_code(&mut store, user, Purpose::StepUp, right(&secret, 360), 360));
}

/// TFA-8: ten wrong codes an hour and thirty a day for the account, over both methods together.
#[test]
fn wrong_codes_use_up_the_accounts_budgets() {
    let Bound { mut store, user, secret, codes } = bound();
    for n in 0..10 {
        let wrong = if n % 2 == 0 { secret_text("000000") } else { secret_text("AAAA-AAAA") };
        assert_eq!(refusal(try_code(&mut store, user, Purpose::Login, wrong, 1000 + n)), CodeRefusal::Wrong);
    }
    let blocked = |store: &mut MemoryStore, code: SecretString, second| {
        let begun = begin(store, &policy(), user, Purpose::StepUp, SubmittedCode::parse(&code), &act(second));
        match begun.unwrap() {
            Begun::Throttled { retry_after } => Some(retry_after.as_secs()),
            Begun::Ready(_) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        blocked(&mut store, right(&secret, 1010), 1010),
        Some(3590),
        "a right code is not looked at either"
    );
    assert_eq!(blocked(&mut store, codes[0].expose_text(), 1010), Some(3590));
    let traces = |store: &MemoryStore| {
        store.audit().iter().filter(|(_, entry)| entry.detail["reason"] == "throttled").count()
    };
    let before = traces(&store);
    for _ in 0..200 {
        blocked(&mut store, codes[0].expose_text(), 1011);
    }
    assert!(traces(&store) <= before + 10, "no flood of entries: AUD-4");
    assert_eq!(status(&mut store, user).unwrap().backup_codes_remaining, 10);
    let last = store.audit().last().unwrap();
    assert_eq!((last.1.outcome, &last.1.detail["reason"]), (AuditOutcome::Denied, &json!("throttled")));

    // an hour after the first failure there is room for one more, and then for ten every hour until the day's are used
    proof(try_code(&mut store, user, Purpose::StepUp, right(&secret, 4620), 4620));
    for hour in 1..3 {
        for n in 0..10 {
            let second = 1000 + hour * 3700 + n;
            refusal(try_code(&mut store, user, Purpose::StepUp, secret_text("000000"), second));
        }
    }
    let second = 1000 + 3 * 3700;
    assert_eq!(blocked(&mut store, right(&secret, second), second), Some(86_400 + 1000 - second as u64));
    proof(try_code(&mut store, user, Purpose::StepUp, right(&secret, 86_430 + 1000), 86_430 + 1000));
}

/// TFA-8: codes that were accepted do not use the budget up.
#[test]
fn right_codes_cost_nothing() {
    let Bound { mut store, user, secret, .. } = bound();
    for n in 1..=40 {
        proof(try_code(&mut store, user, Purpose::StepUp, right(&secret, n * 30), n * 30));
    }
}

/// TFA-8, LOG-5: a hundred wrong codes in a row disable that method, until it is bound anew; the other one stays.
#[test]
fn a_hundred_in_a_row_disable_the_method() {
    let mut loose = policy();
    loose.two_factor.per_hour.count = 1000;
    loose.two_factor.per_day.count = 1000;
    let Bound { mut store, user, secret, codes } = bound();
    let wrong = |store: &mut MemoryStore, text: SecretString, second: i64| {
        try_under(&loose, store, user, Purpose::Login, text, second)
    };
    for n in 0..99 {
        assert_eq!(refusal(wrong(&mut store, secret_text("000000"), 1000 + n)), CodeRefusal::Wrong);
    }
    proof(wrong(&mut store, codes[0].expose_text(), 1100));
    let mails = store.mails().len();
    assert_eq!(refusal(wrong(&mut store, secret_text("000000"), 1101)), CodeRefusal::Wrong, "the hundredth");
    assert!(matches!(&store.mails()[mails].mail, Mail::FactorDisabled { factor, .. } if factor == "totp"));
    assert_eq!(store.audit().last().unwrap().1.detail["factor_disabled"], true);
    assert_eq!(refusal(wrong(&mut store, right(&secret, 1200), 1200)), CodeRefusal::Disabled);
    assert!(is_enabled(&mut store, user).unwrap(), "the sign-in still needs a second factor");
    proof(wrong(&mut store, codes[1].expose_text(), 1201));

    let mine = session(&mut store, user, 1, 1201);
    let next = TotpSecret::from_bytes(&[77; 20]).unwrap();
    let new = BACKUP.generate(user, &mut plimsoll_crypto::OsRandom);
    setup(&mut store, &loose, user, &next, &new.hashes, &act(1202)).unwrap();
    let code = SubmittedCode::parse(&right(&next, 1230));
    let Begun::Ready(attempt) = begin(&mut store, &loose, user, Purpose::Enable, code, &act(1230)).unwrap()
    else {
        panic!()
    };
    let verified = attempt.verify(&BACKUP);
    enable(&mut store, &loose, verified, &mine, &token_digest(52), &act(1230), &mut ids()).unwrap();
    proof(wrong(&mut store, right(&next, 1260), 1260));
}

/// LOG-5: success clears only the counter of the factor used.
#[test]
fn a_right_code_begins_the_row_anew() {
    let mut loose = policy();
    loose.two_factor.per_hour.count = 1000;
    loose.two_factor.per_day.count = 1000;
    loose.login.disable_after = 5;
    let Bound { mut store, user, secret, .. } = bound();
    for round in 1..4 {
        for n in 0..4 {
            let second = round * 60 + n;
            let wrong = try_under(&loose, &mut store, user, Purpose::Login, secret_text("000000"), second);
            assert_eq!(refusal(wrong), CodeRefusal::Wrong);
        }
        let second = round * 60 + 30;
        proof(try_under(&loose, &mut store, user, Purpose::Login, right(&secret, second), second));
    }
}

/// TFA-9: a clock that is off by more than a step is told to the audit log.
#[test]
fn drift_is_recorded() {
    let Bound { mut store, user, secret, .. } = bound();
    let refused = try_code(&mut store, user, Purpose::Login, right(&secret, 300), 360);
    assert_eq!(refusal(refused), CodeRefusal::Drifted(-2));
    let (_, entry) = store.audit().last().unwrap();
    assert_eq!((entry.action.as_str(), entry.outcome), ("2fa.verify", AuditOutcome::Denied));
    assert_eq!(entry.detail["step_offset"], -2);
    let (_, outcome, offset) = store.factor_attempts().pop().unwrap();
    assert_eq!((outcome.as_str(), offset), ("drifted", Some(-2)));
}

/// TFA-12: a backup code is good once; each use is told to its owner with what is left.
#[test]
fn a_backup_code_is_good_once() {
    let Bound { mut store, user, codes, .. } = bound();
    for (n, code) in codes.iter().enumerate() {
        let used = proof(try_code(&mut store, user, Purpose::Login, code.expose_text(), 1000 + n as i64));
        let left = 9 - n;
        assert_eq!((used.method, used.backup_codes_left), (Method::BackupCode, Some(left)));
        let mail = &store.mails().last().unwrap().mail;
        assert!(matches!(mail, Mail::BackupCodeUsed { left: told, .. } if *told == left), "{mail:?}");
        assert_eq!(status(&mut store, user).unwrap().backup_codes_remaining, left);
        let again = try_code(&mut store, user, Purpose::Login, code.expose_text(), 1000 + n as i64);
        assert_eq!(refusal(again), CodeRefusal::Used);
        if n == 8 {
            break; // nine replays are in the budget, a tenth is not
        }
    }
}

#[test]
fn two_that_verified_the_same_backup_code_do_not_both_get_in() {
    let Bound { mut store, user, codes, .. } = bound();
    let code = || SubmittedCode::parse(&codes[0].expose_text());
    let mut verified = Vec::new();
    for _ in 0..2 {
        let Begun::Ready(attempt) =
            begin(&mut store, &policy(), user, Purpose::Login, code(), &act(5)).unwrap()
        else {
            panic!()
        };
        verified.push(attempt.verify(&BACKUP));
    }
    let mut settled =
        verified.into_iter().map(|v| settle(&mut store, &policy(), v, &act(6), &mut ids()).unwrap());
    proof(settled.next().unwrap());
    assert_eq!(refusal(settled.next().unwrap()), CodeRefusal::Used);
}

/// TFA-12: regeneration voids all old codes and tells the owner.
#[test]
fn regeneration_voids_every_old_code() {
    let Bound { mut store, user, secret, codes } = bound();
    let renew = |store: &mut MemoryStore, code: SecretString, second| {
        let begun =
            begin_regenerate(store, &policy(), user, SubmittedCode::parse(&code), &act(second)).unwrap();
        let new = begun.unwrap().verify(&BACKUP, &mut plimsoll_crypto::OsRandom);
        regenerate(store, &policy(), new, &act(second), &mut ids()).unwrap()
    };
    let refused = renew(&mut store, secret_text("000000"), 100);
    assert!(matches!(refused, Regenerated::Refused(CodeRefusal::Wrong)), "{refused:?}");
    proof(try_code(&mut store, user, Purpose::Login, codes[0].expose_text(), 100));
    let Regenerated::Done(new) = renew(&mut store, right(&secret, 120), 120) else { panic!() };
    assert_eq!(new.len(), 10);
    assert!(matches!(store.mails().last().unwrap().mail, Mail::NewBackupCodes { .. }));
    assert_eq!(status(&mut store, user).unwrap().backup_codes_remaining, 10);
    assert_eq!(
        refusal(try_code(&mut store, user, Purpose::Login, codes[1].expose_text(), 130)),
        CodeRefusal::Wrong
    );
    proof(try_code(&mut store, user, Purpose::Login, new[1].expose_text(), 131));
}

/// LOG-5: a disabled password turns nothing off, whether it is right or wrong, and no code is used up.
#[test]
fn a_disabled_password_turns_nothing_off() {
    let Bound { mut store, user, secret, .. } = bound();
    let mine = session(&mut store, user, 1, 0);
    crate::ports::LoginStore::disable_password(&mut store, user, at(1)).unwrap();
    for password in [PASSWORD, "wrong"] {
        let code = SubmittedCode::parse(&right(&secret, 60));
        let disabling = begin_disable(&mut store, &policy(), user, code, &act(60)).unwrap();
        let verified = disabling.verify(&PASSWORDS, &secret_text(password), &BACKUP).unwrap();
        let refused =
            disable(&mut store, &policy(), verified, &mine, &token_digest(60), &act(60), &mut ids()).unwrap();
        assert!(matches!(refused, Changed::Refused(CodeRefusal::Disabled)), "{refused:?}");
    }
    assert!(is_enabled(&mut store, user).unwrap());
    assert_eq!(crate::ports::LoginStore::password_state(&mut store, user).unwrap().failures, 0);
    let settled = try_code(&mut store, user, Purpose::Login, right(&secret, 60), 61);
    assert!(matches!(settled, Settled::Proven(_)), "{settled:?}");
}

/// TFA-14: turning off needs password and code; other sessions and challenges end, the owner is told.
#[test]
fn turning_off_needs_password_and_code() {
    let Bound { mut store, user, secret, codes } = bound();
    let mine = session(&mut store, user, 1, 0);
    session(&mut store, user, 2, 0);
    let alpaca = crate::vault::BrokerName::Alpaca;
    crate::ports::VaultStore::set_live_enabled(&mut store, user, alpaca, true, at(0)).unwrap();
    let token = plimsoll_crypto::tokens::SecretToken::generate(&mut plimsoll_crypto::OsRandom);
    let new = crate::challenges::NewChallenge {
        id: Uuid::from_u128(8),
        token: &token,
        transport: Transport::Bearer,
        after_failures: false,
    };
    crate::challenges::begin(&mut store, &policy(), user, new, &act(0)).unwrap();
    let off = |store: &mut MemoryStore, password: &str, code: SecretString, second| {
        let code = SubmittedCode::parse(&code);
        let disabling = begin_disable(store, &policy(), user, code, &act(second)).unwrap();
        let verified = disabling.verify(&PASSWORDS, &secret_text(password), &BACKUP).unwrap();
        disable(store, &policy(), verified, &mine, &token_digest(60), &act(second), &mut ids()).unwrap()
    };
    for (password, code, reason) in [
        ("wrong", right(&secret, 60), CodeRefusal::WrongPassword),
        (PASSWORD, secret_text("000000"), CodeRefusal::Wrong),
        ("wrong", secret_text("000000"), CodeRefusal::WrongPassword),
    ] {
        let refused = off(&mut store, password, code, 60);
        assert!(matches!(refused, Changed::Refused(why) if why == reason), "{refused:?}");
        assert!(is_enabled(&mut store, user).unwrap());
        assert_eq!(
            store.live_sessions_of(user, at(60)).unwrap().len(),
            2,
            "a refused request changes nothing"
        );
    }
    assert!(store.live_enabled(user, alpaca));
    // the right code of the first try was not used up by it
    let done = off(&mut store, PASSWORD, right(&secret, 60), 61);
    let Changed::Done(rotated) = done else { panic!("{done:?}") };
    assert_eq!(rotated.id, mine.id);
    assert!(!is_enabled(&mut store, user).unwrap());
    assert_eq!(status(&mut store, user).unwrap(), Status::default());
    assert!(!store.live_enabled(user, alpaca), "real money needs a second factor");
    assert_eq!(store.live_sessions_of(user, at(62)).unwrap().len(), 1);
    assert!(store.challenges()[0].ended_at.is_some());
    assert!(matches!(store.mails().last().unwrap().mail, Mail::TwoFactorDisabled { .. }));
    let begun = begin(
        &mut store,
        &policy(),
        user,
        Purpose::Login,
        SubmittedCode::parse(&codes[0].expose_text()),
        &act(63),
    );
    assert!(matches!(begun.unwrap(), Begun::NoFactor));
}

#[test]
fn a_password_that_changes_meanwhile_turns_nothing_off() {
    let Bound { mut store, user, secret, .. } = bound();
    let mine = session(&mut store, user, 1, 0);
    let code = SubmittedCode::parse(&right(&secret, 60));
    let disabling = begin_disable(&mut store, &policy(), user, code, &act(60)).unwrap();
    let verified = disabling.verify(&PASSWORDS, &secret_text(PASSWORD), &BACKUP).unwrap();
    store.account_mut(user).unwrap().password_hash =
        PASSWORDS.hash(&secret_text("another"), &mut plimsoll_crypto::OsRandom).unwrap();
    let late =
        disable(&mut store, &policy(), verified, &mine, &token_digest(60), &act(61), &mut ids()).unwrap();
    assert!(matches!(late, Changed::Refused(CodeRefusal::Stale)), "{late:?}");
    assert!(is_enabled(&mut store, user).unwrap());
}

/// STP-3: a code that was given for one act and payload authorises nothing else, and nothing twice.
#[test]
fn a_code_is_bound_to_the_payload_of_its_act() {
    let Bound { mut store, user, secret, .. } = bound();
    let live = ActionHash::of("account.live", &json!({ "enabled": true }));
    let give = |store: &mut MemoryStore, action: ActionHash, second: i64| {
        let code = SubmittedCode::parse(&right(&secret, second));
        let Begun::Ready(attempt) = begin_for(store, &policy(), user, action, code, &act(second)).unwrap()
        else {
            panic!()
        };
        settle(store, &policy(), attempt.verify(&BACKUP), &act(second), &mut ids()).unwrap()
    };
    assert!(proof(give(&mut store, live, 300)).authorises(&live));
    assert_eq!(refusal(give(&mut store, live, 300)), CodeRefusal::Replayed, "one code, one act");
    let other = ActionHash::of("account.live", &json!({ "enabled": false }));
    assert!(!proof(give(&mut store, live, 330)).authorises(&other), "another payload");
    let step_up = proof(try_code(&mut store, user, Purpose::StepUp, right(&secret, 360), 360));
    assert!(!step_up.authorises(&live), "a code for something else");
}

/// ENC-13: a secret that does not open is recorded and refuses; there is no way round it.
#[test]
fn a_secret_that_does_not_open_refuses() {
    let Bound { mut store, user, secret, codes } = bound();
    store.lose_secrets();
    for code in [right(&secret, 60), codes[0].expose_text()] {
        let begun = begin(&mut store, &policy(), user, Purpose::Login, SubmittedCode::parse(&code), &act(60))
            .unwrap();
        assert!(matches!(begun, Begun::Unreadable), "{begun:?}");
        let (_, entry) = store.audit().last().unwrap();
        assert_eq!((entry.action.as_str(), entry.outcome), ("secret.unreadable", AuditOutcome::Failure));
        assert_eq!(store.alerts().len(), 1, "administrators are told");
    }
    assert!(is_enabled(&mut store, user).unwrap());
}

/// TFA-13: attempts say who, with what, for what and how it ended, and never the code or the secret.
#[test]
fn attempts_and_entries_hold_no_code() {
    let Bound { mut store, user, secret, codes } = bound();
    let code = right(&secret, 60);
    proof(try_code(&mut store, user, Purpose::Login, code.clone(), 60));
    proof(try_code(&mut store, user, Purpose::StepUp, codes[4].expose_text(), 61));
    refusal(try_code(&mut store, user, Purpose::StepUp, secret_text("12345"), 62));
    let attempts = store.factor_attempts();
    let seen: Vec<_> = attempts
        .iter()
        .map(|(record, outcome, offset)| (record.method, record.purpose.as_str(), outcome.as_str(), *offset))
        .collect();
    assert_eq!(
        seen,
        [
            (Method::Totp, "login", "accepted", Some(0)),
            (Method::BackupCode, "step_up", "accepted", None),
            (Method::Totp, "step_up", "malformed", None)
        ]
    );
    let printed = format!("{:?} {:?} {:?}", attempts, store.audit(), store.mails());
    for hidden in [code, codes[4].expose_text(), secret.expose_text(), secret_text("12345")] {
        assert!(!printed.contains(hidden.expose_secret()));
    }
}

#[test]
fn a_failing_store_fails_the_act_at_every_step() {
    for calls in 0..12 {
        let Bound { mut store, user, secret, .. } = bound();
        let code = SubmittedCode::parse(&right(&secret, 60));
        store.fail_after(calls, StoreErrorKind::Contention);
        let done = begin(&mut store, &policy(), user, Purpose::Login, code, &act(60)).and_then(|begun| {
            let Begun::Ready(attempt) = begun else { panic!() };
            settle(&mut store, &policy(), attempt.verify(&BACKUP), &act(60), &mut ids())
        });
        match done {
            Ok(Settled::Proven(_)) => assert!(calls >= 8, "{calls}"),
            Ok(Settled::Refused(reason)) => panic!("{calls}: {reason:?}"),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Contention),
        }
    }
}

#[test]
fn what_a_text_is_meant_to_be_is_told_by_its_form() {
    let kind = |text: &str| match SubmittedCode::parse(&secret_text(text)) {
        SubmittedCode::Totp(_) => "totp",
        SubmittedCode::Backup(_) => "backup",
        SubmittedCode::Malformed => "malformed",
    };
    for (text, expected) in [
        ("123456", "totp"),
        ("123 456", "totp"),
        ("23456789", "backup"),
        ("abcd-efgh", "backup"),
        ("1234567", "malformed"),
        ("12345678", "malformed"),
        ("", "malformed"),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
    assert!(BackupCode::parse("23456789").is_some() && step_at(at(0)) > 0);
}
