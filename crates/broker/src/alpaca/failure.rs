//! What an answer means for the caller (Alpaca's contract section 4).

use std::error::Error;

use plimsoll_core_domain::broker::BrokerError;
use reqwest::StatusCode;

use super::wire::ErrorBody;

/// What a call does at the broker: decides what a missing answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: without an answer it is as if it had not been tried.
    Read,
    /// Something: without an answer it may have been done.
    Write,
    /// A cancel, which may use the reserved part of the rate limit.
    Cancel,
}

impl Effect {
    /// No answer that can be used.
    pub(super) fn no_answer(self, why: String) -> BrokerError {
        match self {
            Self::Read => BrokerError::Unreachable(why),
            Self::Write | Self::Cancel => BrokerError::Ambiguous(why),
        }
    }

    /// An answer that is there and does not read.
    pub(super) fn unreadable(self, why: String) -> BrokerError {
        match self {
            Self::Read => BrokerError::Unreadable(why),
            Self::Write | Self::Cancel => BrokerError::Ambiguous(format!("unreadable answer: {why}")),
        }
    }

    /// The call failed before a whole answer was there.
    pub(super) fn failed(self, error: reqwest::Error) -> BrokerError {
        // Without a connection nothing has left; neither has a request that could not be built.
        let unsent = error.is_connect() || error.is_builder();
        let why = chain(&error.without_url());
        if unsent { BrokerError::Unreachable(why) } else { self.no_answer(why) }
    }

    /// The broker answered with something other than success or a refusal for the rate.
    pub(super) fn refused(self, status: StatusCode, body: &[u8], request_id: Option<&str>) -> BrokerError {
        let ErrorBody { code, message } = ErrorBody::read(body);
        let words = || message.clone().unwrap_or_else(|| format!("HTTP {status}"));
        match status {
            StatusCode::UNAUTHORIZED => BrokerError::Unauthorized(words()),
            // Not the broker's word: something in between keeps requests out.
            StatusCode::FORBIDDEN if code.is_none() && message.is_none() => {
                self.no_answer(format!("HTTP {status}"))
            }
            StatusCode::FORBIDDEN if !code.is_some_and(|code| (40_300_000..40_400_000).contains(&code)) => {
                BrokerError::Unauthorized(words())
            }
            // An error page of something in between says nothing about orders.
            StatusCode::NOT_FOUND if code.is_none() => self.no_answer(format!("HTTP {status}")),
            StatusCode::NOT_FOUND => BrokerError::NotFound,
            StatusCode::UNPROCESSABLE_ENTITY if is_duplicate(message.as_deref()) => {
                BrokerError::DuplicateClientOrderId
            }
            // A gateway that gave up waiting says nothing about the request's fate.
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                BrokerError::Refused { status: status.as_u16(), code, message: words() }
            }
            status => {
                let id = request_id.map(|id| format!(" (request {id})")).unwrap_or_default();
                let said = message.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
                self.no_answer(format!("HTTP {status}{id}{said}"))
            }
        }
    }
}

/// Code 40010001 stands for several refusals: the words decide.
fn is_duplicate(message: Option<&str>) -> bool {
    message.is_some_and(|text| text.to_ascii_lowercase().contains("client_order_id must be unique"))
}

/// An error with its causes, each once, at most 300 characters.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(effect: Effect, status: u16, body: &str) -> BrokerError {
        effect.refused(StatusCode::from_u16(status).unwrap(), body.as_bytes(), Some("r-1"))
    }

    #[test]
    fn a_missing_answer_to_a_read_did_nothing() {
        for status in [500, 502, 503, 504, 408, 302] {
            assert!(matches!(refused(Effect::Read, status, ""), BrokerError::Unreachable(_)), "{status}");
            for effect in [Effect::Write, Effect::Cancel] {
                let error = refused(effect, status, "<html>");
                assert!(
                    matches!(&error, BrokerError::Ambiguous(why) if why.contains("r-1")),
                    "{status}: {error}"
                );
            }
        }
    }

    #[test]
    fn codes_and_words_decide_between_refusals() {
        assert_eq!(
            refused(Effect::Write, 422, r#"{"message": "client_order_id must be unique"}"#),
            BrokerError::DuplicateClientOrderId
        );
        assert_eq!(
            refused(Effect::Write, 403, r#"{"code": 40310100, "message": "no"}"#),
            BrokerError::Refused { status: 403, code: Some(40_310_100), message: "no".to_owned() }
        );
        assert_eq!(
            refused(Effect::Write, 403, r#"{"message": "forbidden."}"#),
            BrokerError::Unauthorized("forbidden.".to_owned())
        );
        assert_eq!(
            refused(Effect::Write, 403, "<html>"),
            BrokerError::Ambiguous("HTTP 403 Forbidden".to_owned()),
            "a proxy's"
        );
        assert_eq!(
            refused(Effect::Read, 403, "<html>"),
            BrokerError::Unreachable("HTTP 403 Forbidden".to_owned())
        );
        let absent = r#"{"code": 40410000, "message": "order not found"}"#;
        assert_eq!(refused(Effect::Read, 404, absent), BrokerError::NotFound);
        for page in
            ["", "<html>404 page not found</html>", r#"{"message": "no Route matched with those values"}"#]
        {
            assert!(
                matches!(refused(Effect::Read, 404, page), BrokerError::Unreachable(_)),
                "a proxy's: {page}"
            );
            for effect in [Effect::Write, Effect::Cancel] {
                assert!(matches!(refused(effect, 404, page), BrokerError::Ambiguous(_)), "a proxy's: {page}");
            }
        }
        assert_eq!(
            refused(Effect::Write, 413, "too big"),
            BrokerError::Refused {
                status: 413,
                code: None,
                message: "HTTP 413 Payload Too Large".to_owned()
            }
        );
    }
}
