//! How many password hashes are computed at once.

use plimsoll_crypto::passwords::HashParams;

/// One on each core, while together they take at most a quarter of the memory (in bytes; `None`: not known). Never
/// none.
pub(super) fn at_once(cost: HashParams, cores: usize, memory: Option<u64>) -> usize {
    let each = u64::from(cost.memory_kib.max(1)) * 1_024;
    let fitting = memory.map_or(u64::MAX, |memory| memory / 4 / each);
    cores.min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG-10: neither cores nor memory are given to more hashes than they carry.
    #[test]
    fn hashes_are_bounded_by_cores_and_memory() {
        const GIB: u64 = 1 << 30;
        let cost = HashParams::default();
        assert_eq!(at_once(cost, 2, Some(24 * GIB)), 2);
        assert_eq!(at_once(cost, 64, Some(4 * GIB)), 16);
        assert_eq!(at_once(cost, 8, None), 8);
        assert_eq!(at_once(HashParams { memory_kib: 4_194_304, ..cost }, 8, Some(GIB)), 1);
        assert_eq!(at_once(cost, 0, None), 1);
    }
}
