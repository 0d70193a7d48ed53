//! What is counted of every request but probes.

use std::time::Instant;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use metrics::{Gauge, counter, gauge, histogram};
use plimsoll_observability::metrics::names;

use crate::refusals::RefusedWith;

/// A request under way. One that is dropped before its answer counts as ended all the same.
pub(crate) struct Measured {
    began: Instant,
    method: &'static str,
    active: Gauge,
}

impl Measured {
    /// `None` for probes, which come often and say nothing.
    pub(crate) fn begin(request: &ServiceRequest) -> Option<Self> {
        if request.path().starts_with("/health/") {
            return None;
        }
        let active = gauge!(names::HTTP_ACTIVE);
        active.increment(1.0);
        Some(Self { began: Instant::now(), method: method(request.method()), active })
    }

    /// Records the answer.
    pub(crate) fn answered<B>(self, response: &ServiceResponse<B>) {
        if let Some(RefusedWith(code)) = response.response().extensions().get() {
            counter!(names::PROBLEMS, "code" => *code).increment(1);
        }
        self.record(response.request().match_pattern(), response.status().as_u16());
    }

    /// Records an answer that no route gave.
    pub(crate) fn failed(self, status: u16) {
        self.record(None, status);
    }

    fn record(self, route: Option<String>, status: u16) {
        let seconds = self.began.elapsed().as_secs_f64();
        histogram!(
            names::HTTP_DURATION,
            "http_request_method" => self.method,
            // a path that is no route could be anything
            "http_route" => route.unwrap_or_default(),
            "http_response_status_code" => status.to_string(),
        )
        .record(seconds);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.active.decrement(1.0);
    }
}

/// As OpenTelemetry's conventions name it: clients cannot make labels of their own.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
