use bytes::Bytes;
use plimsoll_paper_exchange::Refusal;
use serde::Serialize;

/// What an answer's body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// No body.
    Empty,
    /// JSON text.
    Json(Bytes),
    /// A page, as gateways send it.
    Html(&'static str),
}

/// An answer before it becomes HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content: Content,
}

impl Answer {
    /// 200 with a JSON body.
    pub(crate) fn ok(body: &impl Serialize) -> Self {
        Self::json(200, body)
    }

    /// A JSON body under any status.
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        let text = serde_json::to_vec(body).expect("wire types have text keys and no failing fields");
        Self { status, content: Content::Json(text.into()) }
    }

    /// 204.
    pub(crate) fn empty() -> Self {
        Self { status: 204, content: Content::Empty }
    }

    /// An error body with a code.
    pub(crate) fn error(status: u16, code: u32, message: impl Into<String>) -> Self {
        Refusal::new(status, code, message).into()
    }

    /// What the broker says when it fails: the fate of the request is unknown.
    pub(crate) fn internal_error() -> Self {
        Self::error(500, 50_010_000, "internal server error occurred")
    }

    /// The body a failing gateway sends with a status: HTML for 502 to 504, else JSON.
    pub(crate) fn gateway(status: u16) -> Self {
        match status {
            502..=504 => Self {
                status,
                content: Content::Html("<html><head><title>Gateway error</title></head><body></body></html>"),
            },
            500 => Self::internal_error(),
            401 => Self::error(401, 40_110_000, "request is not authorized"),
            429 => Self::error(429, 42_910_000, "rate limit exceeded"),
            404 => Self::error(404, 40_410_000, "order not found"),
            other => Self::json(other, &serde_json::json!({ "message": "injected fault" })),
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::json(refusal.http_status, &refusal.body())
    }
}

impl<T: Into<Answer>> From<Result<T, Refusal>> for Answer {
    fn from(result: Result<T, Refusal>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(refusal) => refusal.into(),
        }
    }
}
