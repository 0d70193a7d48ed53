//! Second factors beside programs that other people wrote.

mod outside;
mod pyotp;
mod qr_code;
