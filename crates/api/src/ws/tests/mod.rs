//! The sockets over a real connection: a server on a loopback port, a log in memory, made-up tokens, tungstenite as client.

mod access;
mod harness;
mod limits;
mod messages;
