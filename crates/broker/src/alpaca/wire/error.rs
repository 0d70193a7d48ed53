//! The body of an error: `{"code": …, "message": …}`, with either left out at times, or no JSON at all.

use serde::Deserialize;
use serde_json::value::RawValue;

const LONGEST_MESSAGE: usize = 500;

/// What an error's body tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) code: Option<i64>,
    pub(crate) message: Option<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(default)]
    message: Option<String>,
}

impl ErrorBody {
    /// Never fails: a body that says nothing is empty. The message is cut to 500 characters, control characters
    /// become spaces.
    pub(crate) fn read(body: &[u8]) -> Self {
        let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else { return Self::default() };
        let code = wire.code.and_then(|raw| raw.get().trim_matches('"').parse().ok());
        let message = wire.message.filter(|text| !text.trim().is_empty()).map(|text| {
            text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
        });
        Self { code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_body_is_read() {
        let body = |code, message: Option<&str>| ErrorBody { code, message: message.map(str::to_owned) };
        for (given, wanted) in [
            (r#"{"code": 40310000, "message": "no"}"#, body(Some(40_310_000), Some("no"))),
            (r#"{"code": "40310000", "message": "no", "x": [1]}"#, body(Some(40_310_000), Some("no"))),
            (r#"{"message": "forbidden."}"#, body(None, Some("forbidden."))),
            (r#"{"code": 1.5, "message": ""}"#, body(None, None)),
            (r#"{"code": null, "message": null}"#, body(None, None)),
            (r#"{"message": "a\nb"}"#, body(None, Some("a b"))),
            (r#"{"message": {"a": 1}}"#, body(None, None)),
            ("<html>", body(None, None)),
            ("", body(None, None)),
            ("[]", body(None, None)),
        ] {
            assert_eq!(ErrorBody::read(given.as_bytes()), wanted, "{given}");
        }
        let long = format!("{{\"message\": \"{}\"}}", "é".repeat(600));
        assert_eq!(ErrorBody::read(long.as_bytes()).message.unwrap().chars().count(), 500);
    }
}
