//! Integration tests of the server package, and of what the repository promises as a whole.

mod docs;
mod layering;
mod scripts;
