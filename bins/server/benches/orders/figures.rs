//! Medians, and what is printed.

/// The median; of an even number, the upper one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The machine's load over one, five and fifteen minutes.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A line of the table: rate, p50 and p99 of each side.
pub(crate) fn row(
    id: &str,
    workload: &str,
    ours: (f64, f64, f64),
    peer: (f64, f64, f64),
    ratio: f64,
) -> String {
    let side = |(rate, p50, p99): (f64, f64, f64)| format!("{rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms");
    format!("| {id} | {workload} | {} | {} | {ratio:.2} |", side(ours), side(peer))
}
