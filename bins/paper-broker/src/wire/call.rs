use bytes::Bytes;
use plimsoll_paper_exchange::{AccountId, Refusal};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Params;
use crate::faults::Hidden;

/// An authenticated request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) account: AccountId,
    pub(crate) params: Params,
    pub(crate) body: Bytes,
    /// Orders that a fault rule hides from lists.
    pub(crate) hidden: Hidden,
}

impl Call {
    /// Reads the body. Decimals are read from their literal text.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let malformed = || Refusal::new(400, 40_010_000, "request body format is invalid");
        // serde would read an array as an object's members in their order
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            if error.is_data() {
                Refusal::new(422, 40_010_001, plain(&error.to_string()))
            } else {
                malformed()
            }
        })
    }
}

/// Without the position, which says nothing to a client.
fn plain(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// What a request is about, as far as its text says: for the request log and for fault rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) symbol: Option<String>,
    pub(crate) client_order_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Peek {
    #[serde(default)]
    symbol: Option<String>,
    #[serde(default)]
    client_order_id: Option<String>,
}

impl Subject {
    /// Reads the body of a POST or PATCH, else the query.
    pub(crate) fn of(params: &Params, body: &[u8]) -> Self {
        let peek: Peek = serde_json::from_slice(body).unwrap_or_default();
        let from_query = params.text("client_order_id").map(str::to_owned);
        Self {
            symbol: peek.symbol,
            client_order_ids: peek.client_order_id.into_iter().chain(from_query).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_paper_exchange::NewOrder;
    use rust_decimal::Decimal;

    use super::*;

    fn call(body: &str) -> Call {
        Call {
            account: AccountId::nil(),
            params: Params::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            hidden: Hidden::default(),
        }
    }

    #[test]
    fn numbers_are_read_by_their_text() {
        let body = r#"{"symbol":"X","qty":0.1000000000000000055511151231,"side":"buy","type":"market","time_in_force":"day"}"#;
        let order: NewOrder = call(body).json().unwrap();
        assert_eq!(order.qty, Some(Decimal::from_str_exact("0.1000000000000000055511151231").unwrap()));
    }

    #[test]
    fn broken_bodies_and_wrong_types_differ() {
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("[]", 400),
            (r#"{"symbol":"X"}"#, 422),
            (r#"{"symbol":"X","qty":"ten","side":"buy","type":"market","time_in_force":"day"}"#, 422),
            (r#"{"symbol":"X","qty":"1","side":"up","type":"market","time_in_force":"day"}"#, 422),
        ] {
            let refusal = call(body).json::<NewOrder>().unwrap_err();
            assert_eq!(refusal.http_status, status, "{body}");
            assert!(!refusal.message.contains("line"), "{}", refusal.message);
        }
    }

    #[test]
    fn the_subject_is_found_in_body_and_query() {
        let params = Params::parse("client_order_id=q").unwrap();
        let subject = Subject::of(&params, br#"{"symbol":"SPY","client_order_id":"b","qty":1}"#);
        assert_eq!(
            subject,
            Subject { symbol: Some("SPY".into()), client_order_ids: vec!["b".into(), "q".into()] }
        );
    }
}
