//! `health`: a probe for containers, without a client library.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Asks the server that listens at `bind`, prints the answer's body and gives the exit code: 0 for 200, else 1.
pub(super) fn probe(bind: SocketAddr, path: &str) -> u8 {
    let address = SocketAddr::new(reachable(bind.ip()), bind.port());
    match ask(address, path) {
        Ok((200, body)) => {
            println!("{body}");
            0
        }
        Ok((status, body)) => {
            eprintln!("plimsoll: {path} answers {status}: {body}");
            1
        }
        Err(error) => {
            eprintln!("plimsoll: no answer from http://{address}{path}: {error}");
            1
        }
    }
}

/// A server that listens everywhere is asked on loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // in one write: a peer that reads once sees all of it
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let wrong = || std::io::Error::other("the answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    Ok((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /health/ready HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_200_is_well() {
        assert_eq!(probe(answering("HTTP/1.1 200 OK\r\n\r\n{}"), "/health/ready"), 0);
        assert_eq!(probe(answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{}"), "/health/ready"), 1);
        assert_eq!(probe(answering("SSH-2.0-x\r\n"), "/health/ready"), 1);
        assert_eq!(probe(([127, 0, 0, 1], 1).into(), "/health/ready"), 1);
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        assert_eq!(reachable(Ipv4Addr::UNSPECIFIED.into()), Ipv4Addr::LOCALHOST);
        assert_eq!(reachable(Ipv6Addr::UNSPECIFIED.into()), Ipv6Addr::LOCALHOST);
        assert_eq!(reachable([10, 0, 0, 1].into()), IpAddr::from([10, 0, 0, 1]));
    }
}
