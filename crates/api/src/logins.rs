//! What follows when logins change: a logout, a new password, another role, a disabled user, and a changed hook, which is a
//! way in as well. Every instance hears of it after the commit, forgets what it remembered of the user, and lets the user's
//! sockets look whether they still may.

use std::sync::OnceLock;

use actix_web::web;
use plimsoll_storage::platform::sessions::user_of_logins_topic;

use crate::state::AppState;
use crate::ws::WebSockets;

/// Takes word of changed logins. It is made before what it serves, and deaf until then.
#[derive(Default)]
pub struct Logins(OnceLock<(web::Data<AppState>, web::Data<WebSockets>)>);

impl Logins {
    /// From now on these are told.
    pub fn serve(&self, state: web::Data<AppState>, sockets: web::Data<WebSockets>) {
        // a second call would be another server in this process, which has a value of its own
        let _ = self.0.set((state, sockets));
    }

    /// Takes a topic; `false` when it is about something else.
    pub fn heard(&self, topic: &str) -> bool {
        let Some(user) = user_of_logins_topic(topic) else { return false };
        if let Some((state, sockets)) = self.0.get() {
            state.session_cache.forget_user(user);
            state.signals.doors.forget_user(user);
            sockets.look_again(user);
        }
        true
    }

    /// Word may have been missed: everything is looked at again.
    pub fn missed(&self) {
        if let Some((state, sockets)) = self.0.get() {
            state.session_cache.forget_all();
            state.signals.doors.forget_all();
            sockets.look_again_at_all();
        }
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("serves", &self.0.get().is_some()).finish()
    }
}
