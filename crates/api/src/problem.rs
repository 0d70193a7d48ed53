//! Every error that leaves the service: RFC 9457 problem details, and the one place where statuses are decided.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use plimsoll_auth::api_tokens::CreateRefusal;
use plimsoll_auth::sessions::AuthenticateError;
use plimsoll_core_domain::error::BusinessError;
use plimsoll_core_domain::order::FieldError;
use plimsoll_core_domain::risk::RiskRefusal;
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_reliability::backup::BackupError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::refusals::RefusedWith;
use crate::request_id;

/// One field of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// Stable.
    pub code: String,
    /// For the caller.
    pub detail: String,
}

/// A problem: what the client is told, and apart from it what the log is told.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldProblem>,
    extra: Map<String, Value>,
    retry_after_s: Option<u64>,
    log: Option<String>,
}

/// A problem's code with its documentation, answered at `/problems/{code}`.
pub struct ProblemKind {
    /// Stable.
    pub code: &'static str,
    /// The usual status.
    pub status: u16,
    /// Short and constant.
    pub title: &'static str,
    /// What it means and what a caller can do.
    pub text: &'static str,
}

/// Every problem that this service answers with.
pub const PROBLEMS: &[ProblemKind] = &[
    kind(
        "malformed",
        400,
        "Malformed request",
        "The request is no valid HTTP or JSON of the documented form.",
    ),
    kind(
        "idempotency_key_missing",
        400,
        "Idempotency key missing",
        "This route needs an Idempotency-Key header of 1 to 255 visible ASCII characters. Make one per intended effect and send it again on every retry.",
    ),
    kind(
        "invalid_cursor",
        400,
        "Invalid cursor",
        "The cursor was not made by this server for this list. Start again without one.",
    ),
    kind(
        "authentication_failed",
        401,
        "Authentication failed",
        "No valid credentials came with the request, or the ones given are wrong.",
    ),
    kind(
        "invalid_token",
        400,
        "Invalid token",
        "The link has expired, was used, was replaced by a newer one, or never existed.",
    ),
    kind(
        "challenge_expired",
        401,
        "Sign-in expired",
        "The second step came too late, too often, or twice. Sign in again.",
    ),
    kind(
        "step_up_required",
        403,
        "Proof of identity required",
        "This needs a factor that was proven within the last minutes from the same address: POST /auth/step-up, with one of `methods`.",
    ),
    kind(
        "csrf_failed",
        403,
        "Cross-site request refused",
        "A request with the session cookie that changes state needs the header X-Plimsoll-CSRF: 1 and must come from the service's own origin.",
    ),
    kind(
        "two_factor_enrolment_required",
        403,
        "Second factor required",
        "This needs a second factor, which is not enabled: POST /auth/2fa/setup begins one. To administrators without one only the account's own routes answer.",
    ),
    kind(
        "live_trading_disabled",
        403,
        "Live trading disabled",
        "The account's owner has not allowed orders with real money. PUT /account/live allows them; it needs a second factor.",
    ),
    kind(
        "orders_open",
        409,
        "Orders are open",
        "An order of the present environment is not final. Wait for it or cancel it, then save the credential for the other environment.",
    ),
    kind(
        "too_many_api_tokens",
        409,
        "Too many API tokens",
        "The account has as many API tokens as it may have. Revoke one first.",
    ),
    kind(
        "too_many_webhooks",
        409,
        "Too many webhooks",
        "The account has as many webhooks as it may have. Delete one first.",
    ),
    kind(
        "backup_busy",
        409,
        "Another backup or restore is running",
        "One at a time: ask again when it has ended.",
    ),
    kind(
        "backup_not_found",
        404,
        "No such backup",
        "There is no backup of that name, or none from that time or before.",
    ),
    kind(
        "backup_wrong_key",
        422,
        "Another key sealed the backup",
        "The backup was sealed with a master key that the server does not have. It may be whole: name its key in ENCRYPTION_KEYS_OLD.",
    ),
    kind(
        "backup_tampered_header",
        422,
        "Backup header changed",
        "The backup's header is not the one that was written. Use another copy of the file.",
    ),
    kind(
        "backup_corrupt",
        422,
        "Backup damaged",
        "The backup's content is not what was written. Use another copy of the file.",
    ),
    kind(
        "backup_truncated",
        422,
        "Backup cut off",
        "The end of the backup is missing. Use another copy of the file.",
    ),
    kind(
        "backup_trailing_data",
        422,
        "Backup with something added",
        "Something follows the backup's end. Use another copy of the file.",
    ),
    kind(
        "backup_unsupported_version",
        422,
        "Backup of a later form",
        "A later release made the backup. Use that release.",
    ),
    kind(
        "backup_newer_schema",
        422,
        "Backup of a later schema",
        "The backup has migrations that this release does not know. Use a later one.",
    ),
    kind("last_admin", 409, "Last administrator", "The last active administrator stays one."),
    kind(
        "invalid_code",
        422,
        "Invalid code",
        "The code is wrong, was used before, or is not of this moment.",
    ),
    kind(
        "two_factor_not_enabled",
        409,
        "Second factor not enabled",
        "The caller has no second factor: POST /auth/2fa/setup begins one.",
    ),
    kind(
        "two_factor_not_set_up",
        409,
        "Nothing to confirm",
        "No secret waits to be confirmed, or it has waited too long: POST /auth/2fa/setup makes a new one.",
    ),
    kind(
        "credential_unavailable",
        503,
        "Stored secret not readable",
        "A secret that the request needs is stored and does not open. Its owner can replace it; an operator finds the reason in the log.",
    ),
    kind("access_denied", 403, "Access denied", "The caller is known and may not do this."),
    kind(
        "email_unverified",
        403,
        "E-mail address not verified",
        "The password is right; confirm the e-mail address first.",
    ),
    kind("not_found", 404, "Not found", "There is no such thing, or it is not visible to the caller."),
    kind("method_not_allowed", 405, "Method not allowed", "The resource has no such method."),
    kind("duplicate", 409, "Duplicate", "The same thing is there already."),
    kind(
        "idempotency_in_flight",
        409,
        "Request still running",
        "A request with this idempotency key still runs. Ask again after the time in Retry-After.",
    ),
    kind(
        "discrepancy_changed",
        409,
        "Difference has changed",
        "The record is not what it was when the difference was noted, so nothing was decided. Run a comparison first: POST /reconciliation/run.",
    ),
    kind("order_not_open", 409, "Order not open", "The order is final and cannot be changed any more."),
    kind(
        "not_replaceable",
        422,
        "Order cannot be replaced now",
        "The order is open and takes no replacement at this moment: it is not working at the broker yet, or another change of it is under way. Nothing was changed.",
    ),
    kind("payload_too_large", 413, "Payload too large", "A body may have 64 KiB."),
    kind("uri_too_long", 414, "Address too long", "Path and query may have 8 KiB."),
    kind("headers_too_large", 431, "Headers too large", "All headers together may have 16 KiB."),
    kind(
        "request_timeout",
        408,
        "Request timed out",
        "The body did not arrive in time. Nothing was changed.",
    ),
    kind("unsupported_media_type", 415, "Unsupported media type", "Send application/json."),
    kind(
        "validation_failed",
        422,
        "Validation failed",
        "Fields of the request break the rules listed in `errors`. Nothing was changed.",
    ),
    kind(
        "idempotency_key_reused",
        422,
        "Idempotency key reused",
        "The key belongs to another request. Use a new key for a new effect.",
    ),
    kind(
        "business_rule",
        422,
        "Refused by a rule",
        "The request is well-formed and a rule of the business refuses it.",
    ),
    kind(
        "risk_limit",
        422,
        "Risk limit",
        "One of the account's risk limits is in the way: `rule` names it, `limit` is its value, `actual` what the request would make of it. GET /risk/limits has them all.",
    ),
    kind(
        "trading_halted",
        422,
        "Trading halted",
        "Trading is halted: `rule` says for whom, `limit` at which level, `actual` what the request would do. GET /risk/halt tells since when and why; POST /risk/resume ends it.",
    ),
    kind(
        "symbol_blocked",
        422,
        "Symbol blocked",
        "A comparison with the broker found a difference of this symbol that nobody has decided about: what is held is not clear, so only what makes the position smaller is taken. GET /reconciliation/status has the difference; POST /reconciliation/discrepancies/{id}/resolve decides about it.",
    ),
    kind(
        "signal_refused",
        422,
        "Signal refused",
        "The signal is on record and is not followed; `reason` is a stable code that the documentation of signals explains.",
    ),
    kind(
        "insufficient_funds",
        422,
        "Insufficient funds",
        "The account's buying power does not cover the order.",
    ),
    kind(
        "order_rejected",
        422,
        "Order rejected by the broker",
        "The broker refused the order; `broker_code` and `broker_message` are its words. The order stays on record as rejected.",
    ),
    kind(
        "credential_refused",
        422,
        "Broker refuses the key",
        "The broker does not take the saved key any more, or it is for another account: nothing is traded with it. Save a new one: PUT /broker/credentials/{broker}.",
    ),
    kind(
        "environment_not_offered",
        422,
        "No broker for the environment",
        "The saved key is for an environment that this server has no broker for.",
    ),
    kind("rate_limited", 429, "Rate limit exceeded", "Too many requests. Wait for the time in Retry-After."),
    kind(
        "internal",
        500,
        "Internal error",
        "A fault of the server. The request id names it in the server's log.",
    ),
    kind(
        "unavailable",
        503,
        "Temporarily unavailable",
        "Something that the request needs is busy or away. Try again after the time in Retry-After, with the same idempotency key.",
    ),
    kind(
        "reconciling",
        503,
        "Reconciling",
        "The account is being compared with the broker and takes no orders until that is done. Nothing was stored.",
    ),
];

const fn kind(code: &'static str, status: u16, title: &'static str, text: &'static str) -> ProblemKind {
    ProblemKind { code, status, title, text }
}

/// The documentation of a code.
#[must_use]
pub fn problem_kind(code: &str) -> Option<&'static ProblemKind> {
    PROBLEMS.iter().find(|kind| kind.code == code)
}

impl Problem {
    /// A problem with the usual status of its code.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let status = problem_kind(code)
            .and_then(|kind| StatusCode::from_u16(kind.status).ok())
            .unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        Self(Box::new(Parts {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            extra: Map::new(),
            retry_after_s: None,
            log: None,
        }))
    }

    /// 429: too many attempts, the next one after `wait`.
    #[must_use]
    pub fn throttled(detail: &str, wait: std::time::Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX);
        Self::new("rate_limited", detail).retry_after(seconds)
    }

    /// Adds what only the log is told.
    fn logged(mut self, log: impl Into<String>) -> Self {
        self.0.log = Some(log.into());
        self
    }

    /// The request's fields that were refused.
    #[must_use]
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{} {}", one.pointer, one.detail),
            many => format!("{} fields are invalid", many.len()),
        };
        let mut problem = Self::new("validation_failed", detail);
        problem.0.errors = errors;
        problem
    }

    /// One field that was refused.
    pub fn field(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldProblem {
            pointer: pointer.into(),
            code: code.into(),
            detail: detail.into(),
        }])
    }

    /// A fault of ours: the client learns nothing but the request id.
    pub fn internal(log: impl Into<String>) -> Self {
        Self::new("internal", "the server failed; its log has the request id").logged(log)
    }

    /// Adds a member of the problem's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    /// When to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds.max(1));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The body's JSON text.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = Map::new();
        body.insert("type".into(), format!("/problems/{}", self.0.code).into());
        let title = problem_kind(self.0.code).map_or("Refused by a rule", |kind| kind.title);
        body.insert("title".into(), title.into());
        body.insert("status".into(), self.0.status.as_u16().into());
        body.insert("detail".into(), self.0.detail.clone().into());
        body.insert("code".into(), self.0.code.into());
        body.insert(
            "request_id".into(),
            request_id::current().map_or(Value::Null, |id| id.to_string().into()),
        );
        if !self.0.errors.is_empty() {
            let errors = serde_json::to_value(&self.0.errors).unwrap_or_default();
            body.insert("errors".into(), errors);
        }
        body.extend(self.0.extra.clone());
        Value::Object(body).to_string()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.log.as_deref().unwrap_or(&self.0.detail))
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        if self.0.status.is_server_error() && self.0.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(code = self.0.code, error = %self, "a request failed");
        } else if self.0.status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(code = self.0.code, error = %self, "a request was turned away");
        }
        let mut response = HttpResponse::build(self.0.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if self.0.status == StatusCode::REQUEST_TIMEOUT {
            // what is left of the body would be read as the next request
            response.force_close();
        }
        response.extensions_mut().insert(RefusedWith(self.0.code));
        if let Some(seconds) = self.0.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        response.body(self.body())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let wait = error.retry_after().map_or(1, |wait| wait.as_secs().max(1));
        let away =
            |detail: &str| Self::new("unavailable", detail).retry_after(wait).logged(error.to_string());
        match error.kind() {
            StoreErrorKind::Unavailable => away("the server is busy or its database is away"),
            StoreErrorKind::Contention => away("another request was in the way"),
            StoreErrorKind::CommitUnknown => {
                away("it is not known whether the request was stored; ask again with the same key")
            }
            StoreErrorKind::Duplicate => {
                Self::new("duplicate", "the same thing is there already").logged(error.to_string())
            }
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        if let Some(code) = error.code() {
            return Self::new(code, error.to_string());
        }
        match error {
            BackupError::Busy => Self::new("backup_busy", error.to_string()).retry_after(5),
            BackupError::Store(error) => error.into(),
            BackupError::Refused(why) => Self::new("business_rule", why),
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<Vec<FieldError>> for Problem {
    fn from(errors: Vec<FieldError>) -> Self {
        let field = |error: FieldError| FieldProblem {
            pointer: error.pointer.to_owned(),
            code: error.code.to_owned(),
            detail: error.detail,
        };
        Self::invalid(errors.into_iter().map(field).collect())
    }
}

impl From<BusinessError> for Problem {
    fn from(error: BusinessError) -> Self {
        let detail = error.to_string();
        match error {
            BusinessError::Rule { code, .. } => Self::new(code, detail),
            BusinessError::InsufficientFunds { .. } => Self::new("insufficient_funds", detail),
            BusinessError::OrderRejected { broker_code, broker_message } => {
                Self::new("order_rejected", detail)
                    .with("broker_code", broker_code)
                    .with("broker_message", broker_message)
            }
            BusinessError::AuthenticationFailed => Self::new("authentication_failed", detail),
            BusinessError::AccessDenied => Self::new("access_denied", detail),
            BusinessError::RateLimited { retry_after_s } => {
                Self::new("rate_limited", detail).retry_after(retry_after_s)
            }
            BusinessError::NotFound(_) => Self::new("not_found", detail),
            BusinessError::Duplicate(_) => Self::new("duplicate", detail),
        }
    }
}

impl From<RiskRefusal> for Problem {
    fn from(refusal: RiskRefusal) -> Self {
        let problem = Self::new(refusal.code(), refusal.to_string());
        let problem = if refusal.is_momentary() { problem.retry_after(1) } else { problem };
        problem
            .with("rule", refusal.rule.as_str())
            .with("limit", refusal.limit)
            .with("actual", refusal.actual)
    }
}

impl From<AuthenticateError> for Problem {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::NotAuthenticated => BusinessError::AuthenticationFailed.into(),
            AuthenticateError::Store(error) => error.into(),
        }
    }
}

impl From<CreateRefusal> for Problem {
    fn from(refusal: CreateRefusal) -> Self {
        let field = |pointer: &str| Self::field(pointer, refusal.code(), refusal.to_string());
        match refusal {
            CreateRefusal::Name => field("/name"),
            CreateRefusal::NoScope => field("/scopes"),
            CreateRefusal::ExpiryPast | CreateRefusal::ExpiryTooFar => field("/expires_at"),
            CreateRefusal::AllowedIps => field("/allowed_ips"),
            CreateRefusal::AdminScope | CreateRefusal::LiveScope => {
                Self::new("access_denied", refusal.to_string())
            }
            CreateRefusal::TooMany => Self::new("too_many_api_tokens", refusal.to_string()),
            CreateRefusal::NoUser => BusinessError::AuthenticationFailed.into(),
        }
    }
}
