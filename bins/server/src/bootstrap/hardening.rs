//! What keeps this process's memory, and the keys in it, from others.

use nix::sys::resource::{Resource, setrlimit};

use crate::config::Profile;

/// Outside development: no core dump of this process or its children, and no other process of the same account attaches
/// to it or reads its memory. Best before a key is read. What the system refuses is a line on standard error.
pub fn harden(profile: Profile) {
    if profile == Profile::Development {
        return;
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        eprintln!("plimsoll: core dumps stay on: {error}");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        eprintln!("plimsoll: other processes of this account can read this one's memory: {error}");
    }
}
