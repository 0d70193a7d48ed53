//! Whether two kinds of requests take the same time.

use std::time::{Duration, Instant};

use plimsoll_crypto::passwords::HashParams;

use crate::world::Reply;

/// Pairs of one measure.
pub(crate) const PAIRS: usize = 100;
/// A password hash that outweighs what else a request takes in a test, as one of a real server does.
pub(crate) const COST: HashParams = HashParams { memory_kib: 19_456, iterations: 4, parallelism: 1 };

/// The ratio of the median times of the requests for known and for unknown names, run in turns.
pub(crate) async fn ratio<F>(request: impl Fn(usize, bool) -> F) -> f64
where
    F: Future<Output = Reply>,
{
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // who comes first changes, so that neither profits from its turn
        for is_known in [pair % 2 == 0, pair % 2 != 0] {
            let began = Instant::now();
            drop(request(pair, is_known).await);
            if is_known { known.push(began.elapsed()) } else { unknown.push(began.elapsed()) }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    median(&mut known) / median(&mut unknown)
}

/// The first of three measures that lies between 0.9 and 1.1: a busy machine may disturb one.
pub(crate) async fn within<F>(measure: impl Fn(usize) -> F)
where
    F: Future<Output = f64>,
{
    let mut ratios = Vec::new();
    for round in 0..3 {
        let ratio = measure(round).await;
        if (0.9..=1.1).contains(&ratio) {
            return;
        }
        ratios.push(ratio);
    }
    panic!("known to unknown: {ratios:?}");
}
