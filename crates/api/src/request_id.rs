//! The id of a request: ours, or the caller's where it sent a UUID. Every answer and every problem carries it.

use std::cell::Cell;
use std::future::Future;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderName;
use actix_web::web;
use uuid::Uuid;

use crate::state::AppState;

tokio::task_local! {
    static CURRENT: Cell<Uuid>;
}

/// The id of a request, among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub Uuid);

/// The id of the request that this task serves; `None` outside of any.
#[must_use]
pub fn current() -> Option<Uuid> {
    CURRENT.try_with(Cell::get).ok()
}

impl RequestId {
    /// The header of requests and answers.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// The caller's where it sent a UUID, else one of ours.
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        let given = request.headers().get(&Self::HEADER).and_then(|value| value.to_str().ok());
        Self(match (given.and_then(|text| text.parse().ok()), request.app_data::<web::Data<AppState>>()) {
            (Some(id), _) => id,
            (None, Some(state)) => state.ids.request_id(),
            (None, None) => Uuid::nil(),
        })
    }

    /// Runs the service of the request; [`current`] answers its id meanwhile.
    pub(crate) async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(Cell::new(self.0), work).await
    }
}
