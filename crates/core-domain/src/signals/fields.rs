//! A signal's body: one JSON object, read by its bytes and never by a header.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::reason::{Reason, Refusal};

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 16;

/// The shortest text that is looked for in other values, in bytes: `"token": "BTC"` must not hide the ticker.
const SHORTEST_SECRET: usize = 12;

/// Fields whose values prove who sent the signal: kept nowhere.
const SECRETS: &[&str] = &["secret", "apikey", "passphrase", "password", "token"];

/// One value as it stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A text.
    Text(String),
    /// A number, by its digits; or `true`, `false`.
    Plain(String),
    /// `null`, or the text of it that charts write for a missing plot.
    Nothing,
    /// An object.
    Object(BTreeMap<String, Value>),
    /// A list, of which nothing is read.
    List,
}

/// The fields of a body, by their names without case, `_`, `-` and `.`: `signalPrice` and `signal_price` are one.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields {
    values: BTreeMap<String, Value>,
    /// The names as they were written, with their values as JSON texts.
    written: Vec<(String, String)>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.written.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Fields").field("names", &names).finish_non_exhaustive()
    }
}

fn plain_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).flat_map(char::to_lowercase).collect()
}

struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn malformed(detail: &str) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, Refusal> {
    if depth > MAX_DEPTH {
        return Err(malformed("the body is nested too deep"));
    }
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'"') => {
            let text: String =
                serde_json::from_str(text).map_err(|_| malformed("a text is not valid JSON"))?;
            if text.contains('\0') {
                return Err(malformed("the body holds NUL"));
            }
            Value::Text(text)
        }
        Some(b'{') => Value::Object(object(text, depth + 1)?.0),
        Some(b'[') => {
            let items: Vec<Box<RawValue>> =
                serde_json::from_str(text).map_err(|_| malformed("a list is not valid JSON"))?;
            for item in &items {
                value(item, depth + 1)?;
            }
            Value::List
        }
        Some(b'n') => Value::Nothing,
        _ => Value::Plain(text.to_owned()),
    })
}

type Object = (BTreeMap<String, Value>, Vec<(String, String)>);

fn object(text: &str, depth: usize) -> Result<Object, Refusal> {
    let Pairs(pairs) = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => malformed("the body is no JSON object"),
        _ => malformed("the body is not valid JSON"),
    })?;
    let (mut values, mut written) = (BTreeMap::new(), Vec::with_capacity(pairs.len()));
    for (name, raw) in pairs {
        if name.contains('\0') {
            return Err(malformed("the body holds NUL"));
        }
        if values.insert(plain_name(&name), value(&raw, depth)?).is_some() {
            return Err(malformed("a name stands twice in the body"));
        }
        written.push((name, raw.get().to_owned()));
    }
    Ok((values, written))
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Reason::Empty`] or [`Reason::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
        if text.is_empty() {
            return Err(Refusal::new(Reason::Empty, "the body is empty"));
        }
        let (values, written) = object(text, 0)?;
        Ok(Self { values, written })
    }

    /// The secret that the body shows: `secret`, or what other services call it (`apikey`, `passphrase`, `password`,
    /// `token`).
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        SECRETS.iter().find_map(|name| match self.values.get(*name) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The body as it may be kept: without its secrets, also where a secret's text stands within another value. A text that
    /// is too short to be a secret hides nothing: a signal reads the same afterwards. Never longer than it came.
    #[must_use]
    pub fn without_secrets(&self) -> String {
        let secrets: Vec<&str> = SECRETS
            .iter()
            .filter_map(|name| match self.values.get(*name) {
                Some(Value::Text(text)) if text.len() >= SHORTEST_SECRET => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let mut out = String::from("{");
        for (name, raw) in &self.written {
            if SECRETS.contains(&plain_name(name).as_str()) {
                continue;
            }
            let shows = |text: &str| secrets.iter().any(|secret| text.contains(secret));
            // also where an escape hides it
            let unescaped: String = serde_json::from_str(raw).unwrap_or_default();
            if shows(name) {
                continue;
            }
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(name.as_str()).to_string());
            out.push(':');
            out.push_str(if shows(raw) || shows(&unescaped) { "\"[redacted]\"" } else { raw });
        }
        out.push('}');
        out
    }

    /// The value under one of several names for the same thing; `None` when it is missing or nothing.
    pub(super) fn one_of(&self, names: &[&str]) -> Result<Option<&Value>, Refusal> {
        let mut found: Option<(&str, &Value)> = None;
        for name in names {
            match (self.values.get(*name), found) {
                (None | Some(Value::Nothing), _) => {}
                (Some(value), None) => found = Some((name, value)),
                (Some(value), Some((_, other))) if same(value, other) => {}
                (Some(_), Some((other, _))) => {
                    let detail = format!("{name} and {other} say different things");
                    return Err(Refusal::new(Reason::Contradiction, detail));
                }
            }
        }
        Ok(found.map(|(_, value)| value))
    }

    /// Whether some text still holds a placeholder.
    pub(super) fn has_placeholder(&self) -> bool {
        fn in_value(value: &Value) -> bool {
            match value {
                Value::Text(text) => text.find("{{").is_some_and(|at| text[at..].contains("}}")),
                Value::Object(fields) => fields.values().any(in_value),
                Value::Plain(_) | Value::Nothing | Value::List => false,
            }
        }
        self.values.values().any(in_value)
    }
}

/// Whether two values are one, however they are written: `"10"` and `10`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a) | Value::Plain(a), Value::Text(b) | Value::Plain(b)) => {
            a.trim().eq_ignore_ascii_case(b.trim())
                || matches!((super::parse_number(a), super::parse_number(b)), (Ok(a), Ok(b)) if a == b)
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &[u8]) -> Reason {
        Fields::parse(body).unwrap_err().reason
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for empty in [&b""[..], b"   \n", b"\xef\xbb\xbf"] {
            assert_eq!(refused(empty), Reason::Empty);
        }
        for bad in [
            &b"AAPL crossing up 150.25"[..],
            b"\xff\xfe\x00",
            b"[]",
            b"\"text\"",
            b"1",
            b"null",
            b"{\"a\":NaN}",
            b"{\"a\":\"x \"R1\" y\"}",
            b"{\"a\":1,\"a\":2}",
            b"{\"order_type\":1,\"orderType\":2}",
            b"{\"a\":{\"b\":1,\"B\":1}}",
            b"{\"a\":\"\\u0000\"}",
            b"{\"a\":1} {\"b\":2}",
            b"{",
        ] {
            assert_eq!(refused(bad), Reason::Malformed, "{:?}", String::from_utf8_lossy(bad));
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        assert_eq!(refused(deep.as_bytes()), Reason::Malformed);
    }

    #[test]
    fn what_is_kept_has_no_secret() {
        let body = br#"{"secret":"top-1-and-more","apikey":"k-2","ticker":"A","comment":"my top-1-and-more",
            "x":"to\u0070-1-and-more","n":1.50}"#;
        let fields = Fields::parse(body).unwrap();
        assert_eq!(fields.secret(), Some("top-1-and-more"));
        let kept = fields.without_secrets();
        assert_eq!(kept, r#"{"ticker":"A","comment":"[redacted]","x":"[redacted]","n":1.50}"#);
        assert!(!format!("{fields:?}").contains("top-1"));
        assert!(Fields::parse(kept.as_bytes()).is_ok());
    }

    #[test]
    fn a_text_too_short_to_be_a_secret_hides_nothing() {
        let body = br#"{"token":"BTC","password":"position","ticker":"BTC/USD","position":"long","qty":"1","passphrase":"1"}"#;
        let kept = Fields::parse(body).unwrap().without_secrets();
        assert_eq!(kept, r#"{"ticker":"BTC/USD","position":"long","qty":"1"}"#);
    }

    proptest! {
        /// What is kept reads as the same signal, and fits where the body fitted.
        #[test]
        fn what_is_kept_says_the_same(secret in "[a-z0-9_]{1,40}", ticker in "[A-Z]{1,5}", qty in 1..1000u32) {
            let body = format!(r#"{{"secret":"{secret}","ticker":"{ticker}","action":"buy","qty":{qty}}}"#);
            let fields = Fields::parse(body.as_bytes()).unwrap();
            let kept = fields.without_secrets();
            prop_assert!(kept.len() <= body.len());
            let again = Fields::parse(kept.as_bytes()).unwrap();
            prop_assert_eq!(super::super::Message::read(&again), super::super::Message::read(&fields));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields::parse(&bytes);
        }
    }
}
