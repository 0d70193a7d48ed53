use plimsoll_crypto::canonical::Encoder;
use plimsoll_crypto::tokens::TokenDigest;
use serde_json::Value;

/// What exactly a code is given for: a digest of an act and its payload. Two payloads that mean the same JSON have one
/// digest, whatever the order of their members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionHash(TokenDigest);

impl ActionHash {
    /// Of the act `name` (such as `account.live`) with `payload`.
    #[must_use]
    pub fn of(name: &str, payload: &Value) -> Self {
        let mut text = String::new();
        write_sorted(payload, &mut text);
        let bytes = Encoder::new("plimsoll confirmed action v1").text(name).text(&text).finish();
        Self(TokenDigest::of(&bytes))
    }

    /// The digest in hexadecimal, for the record.
    #[must_use]
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(self.0.as_bytes())
    }
}

fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_sorted(&members[name], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_members_does_not_matter_and_everything_else_does() {
        let hash =
            ActionHash::of("account.live", &json!({ "enabled": true, "limits": { "a": [1, 2], "b": null } }));
        let same = serde_json::from_str(r#"{"limits":{"b":null,"a":[1,2]},"enabled":true}"#).unwrap();
        assert_eq!(hash, ActionHash::of("account.live", &same));
        for (name, other) in [
            ("account.live", json!({ "enabled": false, "limits": { "a": [1, 2], "b": null } })),
            ("account.live", json!({ "enabled": true, "limits": { "a": [2, 1], "b": null } })),
            ("account.live", json!({ "enabled": true })),
            ("account.life", same.clone()),
        ] {
            assert_ne!(hash, ActionHash::of(name, &other), "{name} {other}");
        }
        assert_eq!(hash.to_hex().len(), 64);
    }
}
