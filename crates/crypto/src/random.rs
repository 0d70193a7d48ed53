//! The one adapter to the operating system's random number generator.

use std::convert::Infallible;

use rand::rngs::SysRng;
use rand::{TryCryptoRng, TryRng};

/// The operating system's random number generator (`getrandom(2)` on Linux).
///
/// It holds no state, so a copy is as good as the original and nothing can be forked or replayed.
///
/// # Panics
///
/// Every method panics when the system cannot give random bytes: there is no safe way to go on without them.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl TryRng for OsRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(SysRng.try_next_u32().expect("the operating system has random bytes"))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(SysRng.try_next_u64().expect("the operating system has random bytes"))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        SysRng.try_fill_bytes(bytes).expect("the operating system has random bytes");
        Ok(())
    }
}

impl TryCryptoRng for OsRandom {}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        OsRandom.fill_bytes(&mut a);
        OsRandom.fill_bytes(&mut b);
        assert_ne!(a, b);
    }
}
