use proptest::prelude::*;

use super::*;

const ANN: &[&str] = &["ann.lovelace@trading.example.com", "Ann Lovelace"];

fn check(least: usize, password: &str) -> Result<(), WeakPassword> {
    PasswordRules::new(least).check(&password.to_owned().into(), ANN)
}

/// REG-11: a minimum of code points that no setting brings below 8, at most 1024 bytes, no rule about classes.
#[test]
fn length_is_counted_in_characters_as_they_are_hashed() {
    let short = |least| Err(WeakPassword::TooShort { least });
    assert_eq!(check(12, "gleibstrunz"), short(12));
    assert_eq!(check(12, "gleibstrunzv"), Ok(()));
    assert_eq!(check(1, "gleibst"), short(8), "the floor");
    assert_eq!(check(8, "gleibstr"), Ok(()));
    // seven characters once composed, though thirteen code points as typed
    assert_eq!(check(8, "u\u{308}o\u{308}a\u{308}e\u{308}i\u{308}y\u{308}x"), short(8));
    assert_eq!(check(8, "\u{1f9c2}\u{1f40c}\u{2693}\u{1f9ed}\u{1f422}\u{1f41a}\u{1f9a2}\u{1f3d4}"), Ok(()));
    let long = "gleib struntz woverd lempar ".repeat(40);
    assert_eq!(check(12, &long[..1024]), Ok(()), "1024 bytes, spaces too");
    assert_eq!(check(12, &long[..1025]), Err(WeakPassword::TooLong));
    assert_eq!(check(12, &"x".repeat(10_000_000)), Err(WeakPassword::TooLong));
    assert_eq!(PasswordRules::new(3).least(), PasswordRules::FLOOR);
}

/// REG-14: what somebody says of themselves costs no more than its beginning.
#[test]
fn the_words_of_the_context_are_bounded() {
    let name = "word5 ".repeat(12_000);
    assert!(words(&[&name, &name]).len() < 500);
    let distinct: String = (0..12_000).map(|n| format!("w{n:05} ")).collect();
    assert!(words(&[&distinct]).len() < 500);
    let rules = PasswordRules::new(12);
    assert!(rules.check(&"w00001 w00002 w00003".to_owned().into(), &[&distinct]).is_err());
}

/// REG-11, REG-12: the commonest passwords are refused without any network, in any case and with the usual tails.
#[test]
fn common_passwords_are_refused_without_a_network() {
    for password in [
        "password",
        "PassWord",
        "password1",
        "iloveyou",
        "trustno1",
        "sunshine",
        "baseball",
        "starwars",
        "1qaz2wsx",
        "password123",
        "Password2024!",
        "iloveyou1234",
        "P@ssw0rd2025",
        "p@$$w0rd",
        "letmein!!!!",
        "superman123456",
        "dragon123456",
        "passwordpassword",
        "monkeymonkey",
    ] {
        assert_eq!(check(8, password), Err(WeakPassword::Common), "{password}");
    }
}

/// REG-11: repetitions, sequences and walks over a keyboard.
#[test]
fn patterns_are_refused() {
    for password in [
        "zzzzzzzzzzzz",
        "xyxyxyxyxyxy",
        "jkjkjkjkjkjkj",
        "4711471147114711",
        "abcdefghijklm",
        "zyxwvutsrqponml",
        "qwertzuiop123",
        "asdfghjkl98765",
        "1qaz2wsx3edc4rfv",
        "qwertyasdfgh",
        "uiopjklm9876",
    ] {
        let refused = check(8, password);
        assert!(
            matches!(refused, Err(WeakPassword::Pattern | WeakPassword::Common)),
            "{password} {refused:?}"
        );
    }
}

/// REG-11: product name, local part, domain and user name, and what is little more than these.
#[test]
fn what_others_know_of_the_user_is_refused() {
    for password in [
        "plimsoll",
        "Plimsoll2026",
        "PLIMSOLL!!plimsoll",
        "ann.lovelace",
        "AnnLovelace",
        "lovelace1815",
        "L0velace1815",
        "Ann Lovelace 99",
        "trading.example",
        "ann.lovelace@trading.example.com",
        "lovelaceplimsoll",
        "lovelacelovelace",
    ] {
        let refused = check(8, password);
        assert!(
            matches!(refused, Err(WeakPassword::Context | WeakPassword::Common)),
            "{password} {refused:?}"
        );
    }
    assert_eq!(check(8, "plimsoll grew quietly taller"), Ok(()), "a word among others");
    let nobody = PasswordRules::new(8).check(&"ann.lovelace.1815".to_owned().into(), &[]);
    assert_eq!(nobody, Ok(()), "of somebody else");
}

#[test]
fn ordinary_pass_phrases_and_random_passwords_are_taken() {
    for password in [
        "a rather long password",
        "correct horse battery staple",
        "tide-lantern-umber-41",
        "kX9#vLq2Tz!m",
        "vmrqpwzkdhtb",
        "8f2c61b07d9e",
        "Ünterweg im Läufer 3",
        "пароль длинный и свой",
    ] {
        assert_eq!(check(8, password), Ok(()), "{password}");
    }
}

/// REG-12: a look-up over the network is an addition, and its failure keeps nobody out.
#[test]
fn the_breach_check_fails_open_with_a_warning() {
    #[derive(Debug)]
    struct Fixed(Result<bool, BreachCheckError>);
    impl BreachCheck for Fixed {
        fn is_breached(&self, _: &SecretString) -> Result<bool, BreachCheckError> {
            self.0.clone()
        }
    }
    let ask = |answer| {
        let mut warnings = Vec::new();
        let password = "tide-lantern-umber-41".to_owned().into();
        let verdict = PasswordRules::new(12)
            .check_breaches(&password, &Fixed(answer), |error| warnings.push(error.to_string()));
        (verdict, warnings)
    };
    assert_eq!(ask(Ok(false)), (Ok(()), Vec::new()));
    assert_eq!(ask(Ok(true)), (Err(WeakPassword::Breached), Vec::new()));
    let (verdict, warnings) = ask(Err(BreachCheckError("no route".into())));
    assert_eq!(verdict, Ok(()));
    assert_eq!(warnings, ["breached passwords cannot be looked up: no route"]);
}

#[test]
fn reasons_have_names_and_sentences() {
    use WeakPassword::{Breached, Common, Context, Pattern, TooLong, TooShort};
    let all = [TooShort { least: 12 }, TooLong, Common, Pattern, Context, Breached];
    let mut codes: Vec<_> = all.iter().map(|reason| reason.code()).collect();
    codes.dedup();
    assert_eq!(codes.len(), 6);
    assert_eq!(all[0].to_string(), "needs at least 12 characters");
}

proptest! {
    #[test]
    fn no_password_panics(password in "\\PC{0,80}", name in "\\PC{0,20}") {
        let _ = PasswordRules::new(8).check(&password.into(), &[&name]);
    }

    #[test]
    fn case_never_saves_a_password(password in "[a-z]{8,10}[0-9]{0,3}") {
        let refused = |text: String| PasswordRules::new(8).check(&text.into(), ANN).err();
        prop_assert_eq!(refused(password.to_uppercase()), refused(password));
    }
}
