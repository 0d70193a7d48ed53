//! Tests through the public interface.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fuzz_corpus;
mod redaction;
