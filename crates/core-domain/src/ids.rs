//! Identifiers. Each is a type of its own, so that a user's id can never stand where an account's belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

integer_id!(
    /// A user of the platform.
    UserId
);
integer_id!(
    /// A user's account at a broker: what orders, fills and positions belong to.
    AccountId
);
uuid_id!(
    /// An order of ours: a UUIDv7, so that newer orders sort after older ones.
    OrderId
);
uuid_id!(
    /// A fill of ours.
    FillId
);

/// Why a text is not an identifier of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a symbol: wrong length or characters.
    #[error(
        "not a symbol: 1 to 20 characters of A-Z, 0-9, dot, slash and hyphen, beginning with a letter or digit"
    )]
    Symbol,
    /// Not a client order id.
    #[error("not a client order id: 1 to 128 visible ASCII characters")]
    ClientOrderId,
    /// Not a broker's id.
    #[error("not a broker order id: 1 to 64 visible ASCII characters")]
    BrokerOrderId,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $error:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);
        impl $name {
            /// Takes the text as it is.
            ///
            /// # Errors
            /// The text has not the form that the type's documentation states.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text.into_boxed_str())) } else { Err($error) }
            }
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn visible_ascii(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

text_id!(
    /// An instrument's symbol, case-sensitive as at the broker: `AAPL`, `BRK.B`, `BTC/USD`.
    /// 1 to 20 characters of A-Z, 0-9, dot, slash and hyphen, beginning with a letter or digit.
    Symbol,
    IdError::Symbol,
    |text| {
        let bytes = text.as_bytes();
        (1..=20).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'.' | b'/' | b'-'))
    }
);
text_id!(
    /// The id under which the broker knows an order from us before it has one of its own: at most 128 visible
    /// ASCII characters (Alpaca's contract), unique per account for ever.
    ClientOrderId,
    IdError::ClientOrderId,
    |text| visible_ascii(text, 128)
);
text_id!(
    /// The broker's own id of an order.
    BrokerOrderId,
    IdError::BrokerOrderId,
    |text| visible_ascii(text, 64)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_upper_case_and_short() {
        for good in ["A", "AAPL", "BRK.B", "BTC/USD", "BF-B", "0700"] {
            assert_eq!(Symbol::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "aapl", ".A", "A B", "AAPL\n", "ABCDEFGHIJKLMNOPQRSTU", "É", "A'--"] {
            assert_eq!(Symbol::new(bad), Err(IdError::Symbol), "{bad:?}");
        }
    }

    #[test]
    fn client_order_ids_are_visible_ascii() {
        assert!(ClientOrderId::new("plm-abc").is_ok());
        assert!(ClientOrderId::new("x".repeat(128)).is_ok());
        for bad in ["", "with space", "\u{7f}", &"x".repeat(129)] {
            assert_eq!(ClientOrderId::new(bad), Err(IdError::ClientOrderId), "{bad:?}");
        }
    }

    #[test]
    fn json_refuses_what_the_constructor_refuses() {
        assert!(serde_json::from_str::<Symbol>("\"aapl\"").is_err());
        assert_eq!(serde_json::from_str::<Symbol>("\"AAPL\"").unwrap().as_str(), "AAPL");
    }
}
