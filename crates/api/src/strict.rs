//! What JSON allows and no request may hold: a name twice in one object, NUL characters, values nested without end.

use std::collections::HashSet;

use crate::problem::Problem;

/// The deepest nesting of objects and lists.
const MAX_DEPTH: usize = 32;

/// An object or a list that is open where the look has come to.
enum Open {
    Object { names: HashSet<String>, name: String, name_next: bool },
    List { index: usize },
}

/// Looks through a text that is valid JSON, at every level.
///
/// # Errors
/// 400 for nesting too deep, 422 for a name that stands twice and for NUL.
pub(crate) fn check(text: &str) -> Result<(), Problem> {
    let bytes = text.as_bytes();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' => open.push(Open::Object { names: HashSet::new(), name: String::new(), name_next: true }),
            b'[' => open.push(Open::List { index: 0 }),
            b'}' | b']' => drop(open.pop()),
            b',' => match open.last_mut() {
                Some(Open::Object { name_next, .. }) => *name_next = true,
                Some(Open::List { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let end = end_of_text(bytes, at);
                let quoted = text.get(at - 1..end).unwrap_or_default();
                at = end;
                look_at(quoted, &mut open)?;
            }
            _ => {}
        }
        if open.len() > MAX_DEPTH {
            let detail = format!("the body is nested deeper than {MAX_DEPTH} levels");
            return Err(Problem::new("malformed", detail));
        }
    }
    Ok(())
}

/// Behind the quote that ends the text which begins at `at`.
fn end_of_text(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// A text, which is a name or a value. Names are compared as they read, not as they are escaped.
fn look_at(quoted: &str, open: &mut [Open]) -> Result<(), Problem> {
    let is_name = matches!(open.last(), Some(Open::Object { name_next: true, .. }));
    if !is_name && !quoted.contains('\\') {
        return Ok(());
    }
    let text: String =
        serde_json::from_str(quoted).map_err(|_| Problem::new("malformed", "the body is not valid JSON"))?;
    let has_nul = text.contains('\0');
    if let (true, Some(Open::Object { names, name, name_next })) = (is_name, open.last_mut()) {
        *name_next = false;
        name.clone_from(&text);
        if !names.insert(text) {
            return Err(Problem::field(pointer(open), "duplicate_field", "stands twice"));
        }
    }
    if has_nul { Err(Problem::field(pointer(open), "nul_character", "must not hold NUL")) } else { Ok(()) }
}

/// The JSON pointer (RFC 6901) to where the look has come.
fn pointer(open: &[Open]) -> String {
    let mut pointer = String::new();
    for level in open {
        match level {
            Open::Object { name, .. } => {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1").replace('\0', "\u{fffd}"));
            }
            Open::List { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
        }
    }
    pointer.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap();
        check(text).unwrap_err().body()
    }

    /// ERR-3: no name stands twice in one object, at whatever level and however it is escaped.
    #[test]
    fn a_name_stands_once() {
        for (text, pointer) in [
            (r#"{"a":1,"a":2}"#, "\"/a\""),
            (r#"{"a":1,"\u0061":2}"#, "\"/a\""),
            (r#"{"x":[0,{"y":{"b":1,"c":"}{\"","b":1}}]}"#, "\"/x/1/y/b\""),
        ] {
            let body = refused(text);
            assert!(body.contains("duplicate_field") && body.contains(pointer), "{body}");
        }
        for good in [
            r#"{"a":{"a":1},"b":[{"a":1},{"a":1}],"c":"a","d":"a"}"#,
            r#"["a","a",{"A":1,"a":2},"\"a\":\"a\""]"#,
            "1",
            r#""text""#,
            "{}",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    /// ERR-3: NUL stands in no name and no value.
    #[test]
    fn nul_is_refused() {
        assert!(refused(r#"{"a":"x\u0000"}"#).contains("nul_character"));
        assert!(refused(r#"{"a\u0000":1}"#).contains("nul_character"));
        assert!(check(r#"{"a":"\\u0000"}"#).is_ok(), "a backslash and a word");
    }

    /// ERR-3: nesting ends somewhere.
    #[test]
    fn nesting_ends_somewhere() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert!(refused(&nested(MAX_DEPTH + 1)).contains("deeper"));
    }
}
