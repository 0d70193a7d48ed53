//! The memory that a hash fills.

use argon2::{Argon2, Block};
use zeroize::Zeroize;

/// Memory for one hash at a time. It grows to what the dearest hash needed, and is wiped when it is dropped; between two
/// hashes the last one's traces stay in it.
#[derive(Default)]
pub(super) struct HashMemory(Vec<Block>);

impl HashMemory {
    /// One hash, with the parameters of `argon2`.
    pub(super) fn compute(
        &mut self,
        argon2: &Argon2<'_>,
        password: &[u8],
        salt: &[u8],
        output: &mut [u8],
    ) -> argon2::Result<()> {
        let blocks = argon2.params().block_count();
        if self.0.len() < blocks {
            *self = Self::default(); // so that a larger one is not a copy of the smaller
            self.0.resize(blocks, Block::new());
        }
        argon2.hash_password_into_with_memory(password, salt, output, &mut self.0)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * Block::SIZE
    }
}

impl Drop for HashMemory {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
