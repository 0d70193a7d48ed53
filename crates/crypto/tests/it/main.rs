//! Tests through the public interface.

mod fuzz_corpus;
mod redaction;
