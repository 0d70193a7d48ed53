//! What systemd hears of a server that it started.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::demo::Demo;

/// The states of one datagram.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let read = socket.recv(&mut buffer).expect("a word in time");
    String::from_utf8_lossy(&buffer[..read]).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_unit_is_told_of_the_start_of_life_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut demo =
        Demo::start(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")]).await;
    let first = heard(&socket);
    assert_eq!(first[0], "READY=1");
    assert_eq!(first[1], format!("STATUS=serving at {}", demo.url));
    for _ in 0..3 {
        assert_eq!(heard(&socket), ["WATCHDOG=1"]);
    }
    demo.child.signal(Signal::SIGTERM);
    let last = loop {
        let states = heard(&socket);
        if states != ["WATCHDOG=1"] {
            break states;
        }
    };
    assert_eq!(last, ["STOPPING=1", "EXTEND_TIMEOUT_USEC=25000000"]);
    assert_eq!(demo.child.wait(Duration::from_secs(25)).code(), Some(0));
}
