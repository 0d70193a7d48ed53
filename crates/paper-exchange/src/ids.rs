//! Ids and random choices as pure functions of a seed and a counter.
//!
//! Nothing here is secret: ids must only be unique within an exchange, and the same run must give the same ids.
//! A counter instead of a generator's state means that the highest counter on disk is all a restart needs.

use rust_decimal::Decimal;
use uuid::{Builder, Uuid};

/// What a random value is for; keeps the values of one counter apart.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Order = 1,
    ClientOrder = 2,
    Execution = 3,
    Account = 4,
    AccountNumber = 5,
    Group = 6,
    PartialChance = 7,
    PartialSize = 8,
    RejectChance = 9,
    Deposit = 10,
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64 bits for a seed, purpose and counter.
pub(crate) fn word(seed: u64, purpose: Purpose, counter: u64, lane: u64) -> u64 {
    let mut state = mix(seed.wrapping_add(GOLDEN));
    for part in [purpose as u64, counter, lane] {
        state = mix(state ^ part.wrapping_mul(GOLDEN).wrapping_add(GOLDEN));
    }
    state
}

/// A UUID (version 4 in form) for a seed, purpose and counter.
pub(crate) fn uuid(seed: u64, purpose: Purpose, counter: u64) -> Uuid {
    from_words(word(seed, purpose, counter, 0), word(seed, purpose, counter, 1))
}

/// A value of at least 0 and below 1, in steps of 1e-9.
pub(crate) fn fraction(seed: u64, purpose: Purpose, counter: u64, lane: u64) -> Decimal {
    Decimal::new((word(seed, purpose, counter, lane) % 1_000_000_000) as i64, 9)
}

/// The account number shown to people.
pub(crate) fn account_number(seed: u64, counter: u64) -> String {
    const LETTERS: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut value = word(seed, Purpose::AccountNumber, counter, 0);
    let mut text = String::from("PA3");
    for _ in 0..9 {
        text.push(char::from(LETTERS[(value % 36) as usize]));
        value /= 36;
    }
    text
}

/// The id of a symbol's asset: no seed, so that every exchange agrees.
pub(crate) fn asset_id(symbol: &str) -> Uuid {
    let hash = |start: u64| {
        symbol.bytes().fold(mix(start), |state, byte| mix(state ^ u64::from(byte)).wrapping_add(GOLDEN))
    };
    from_words(hash(0x0061_7373_6574_0001), hash(0x0061_7373_6574_0002))
}

fn from_words(high: u64, low: u64) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    Builder::from_random_bytes(bytes).into_uuid()
}
