//! One byte form for equal JSON texts: no white space, object keys sorted, strings escaped one way.
//!
//! Numbers keep the digits they were written with: they never pass through a float, so two amounts that differ in the
//! twentieth digit stay different.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Deeper texts are refused instead of exhausting the stack.
const DEEPEST: usize = 64;

/// Why a text has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalJsonError {
    /// It is no JSON.
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// Arrays and objects are nested too deep.
    #[error("nested deeper than 64 levels")]
    TooDeep,
}

/// The canonical form of a JSON text. Of two equal keys in one object the last counts, as in every parser here.
///
/// # Errors
/// The text is no JSON or nested deeper than 64 levels.
pub fn canonical_json(text: &[u8]) -> Result<Vec<u8>, CanonicalJsonError> {
    let mut out = Vec::with_capacity(text.len());
    write(serde_json::from_slice(text)?, 0, &mut out)?;
    Ok(out)
}

fn write(value: &RawValue, depth: usize, out: &mut Vec<u8>) -> Result<(), CanonicalJsonError> {
    if depth >= DEEPEST {
        return Err(CanonicalJsonError::TooDeep);
    }
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            separated(b'{', b'}', out, fields, |(key, value), out| {
                serde_json::to_writer(&mut *out, &key)?;
                out.push(b':');
                write(value, depth + 1, out)
            })
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            separated(b'[', b']', out, items, |item, out| write(item, depth + 1, out))
        }
        Some(b'"') => {
            let string: String = serde_json::from_str(text)?;
            Ok(serde_json::to_writer(out, &string)?)
        }
        _ => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
}

fn separated<T>(
    open: u8,
    close: u8,
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(T, &mut Vec<u8>) -> Result<(), CanonicalJsonError>,
) -> Result<(), CanonicalJsonError> {
    out.push(open);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(item, out)?;
    }
    out.push(close);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonical_json(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn order_space_and_escapes_do_not_matter() {
        let expected = r#"{"a":[1.10,null,true],"b":{"x":"é/","y":-2e3}}"#;
        assert_eq!(
            canonical(r#" { "b" : {"y":-2e3, "x":"\u00e9\/"} , "a":[ 1.10 ,null, true ] } "#),
            expected
        );
        assert_eq!(canonical(expected), expected);
        assert_eq!(canonical(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_ne!(canonical("0.1"), canonical("0.10000000000000000001"));
        assert_ne!(canonical("1"), canonical("1.0"));
        assert_eq!(canonical("12345678901234567890123.456789"), "12345678901234567890123.456789");
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_refused() {
        for bad in ["", "{", "{\"a\":}", "nul", "[1,]", "1 2", "\"\u{1}\""] {
            assert!(matches!(canonical_json(bad.as_bytes()), Err(CanonicalJsonError::NotJson(_))), "{bad}");
        }
        assert!(canonical_json(b"\xff").is_err());
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(canonical_json(nested(64).as_bytes()).is_ok());
        assert!(matches!(canonical_json(nested(65).as_bytes()), Err(CanonicalJsonError::TooDeep)));
        assert!(canonical_json(nested(30_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn it_is_stable_and_keeps_the_value(keys in proptest::collection::vec("[a-c]{1,2}", 0..6), n: i64) {
            let text = keys.iter().enumerate().map(|(i, k)| format!("\"{k}\":[{n},\"{i}\"]")).collect::<Vec<_>>();
            let text = format!("{{ {} }}", text.join(" , "));
            let once = canonical(&text);
            prop_assert_eq!(canonical(&once), once.clone());
            let (a, b): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&text).unwrap(), serde_json::from_str(&once).unwrap());
            prop_assert_eq!(a, b);
        }
    }
}
