//! The places that a connection takes, held as long as the connection has anything to send.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use super::limits::Slot;

/// One connection's places: its own, and its user's once that is known.
pub(super) struct Places {
    _connection: Slot,
    user: RefCell<Option<Slot>>,
}

impl Places {
    pub(super) fn new(connection: Slot) -> Rc<Self> {
        Rc::new(Self { _connection: connection, user: RefCell::new(None) })
    }

    pub(super) fn take_user(&self, user: Slot) {
        *self.user.borrow_mut() = Some(user);
    }
}

/// Lets the response hold the places too: a client that does not read keeps its connection, and what is buffered for
/// it, long after its session has ended. Without this such clients would not be counted.
pub(super) fn hold(places: Rc<Places>, response: HttpResponse) -> HttpResponse {
    response.map_body(|_, body| BoxBody::new(Holding { body, _places: places }))
}

struct Holding {
    body: BoxBody,
    _places: Rc<Places>,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
