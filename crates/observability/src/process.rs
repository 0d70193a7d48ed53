//! Figures of this process and its machine.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// One sample. Bytes throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Resident memory of this process; 0 where the system does not tell.
    pub resident_bytes: u64,
    /// Memory that may be used in all: the machine's or, where smaller, the control group's limit.
    pub memory_total_bytes: u64,
    /// What of it is still available.
    pub memory_available_bytes: u64,
    /// Processor time of this process since its start, in milliseconds.
    pub cpu_ms: u64,
    /// When this process started, in seconds since 1970.
    pub started_at: u64,
    /// Its open file descriptors, where the system tells.
    pub open_files: Option<u32>,
    /// How many it may have, where the system tells.
    pub open_files_limit: Option<u32>,
}

impl ProcessFigures {
    /// Share of the memory in use by everybody, 0 to 100, to one digit after the point.
    #[must_use]
    pub fn percent_used(&self) -> f64 {
        tenths_of_percent(
            self.memory_total_bytes.saturating_sub(self.memory_available_bytes),
            self.memory_total_bytes,
        )
    }
}

/// Reads the figures now. It reads a few files under `/proc` and may take some milliseconds. `None` where
/// the system has no such figures.
#[must_use]
pub fn sample() -> Option<ProcessFigures> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let this = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[this]),
        false,
        ProcessRefreshKind::nothing().with_memory().with_cpu(),
    );
    let machine = (system.total_memory(), system.available_memory());
    let (total, available) = match system.cgroup_limits() {
        Some(group) if group.total_memory < machine.0 => (group.total_memory, group.free_memory),
        _ => machine,
    };
    let process = system.process(this);
    let count = |files: usize| u32::try_from(files).ok();
    Some(ProcessFigures {
        resident_bytes: process.map_or(0, sysinfo::Process::memory),
        cpu_ms: process.map_or(0, sysinfo::Process::accumulated_cpu_time),
        started_at: process.map_or(0, sysinfo::Process::start_time),
        open_files: process.and_then(sysinfo::Process::open_files).and_then(count),
        open_files_limit: process.and_then(sysinfo::Process::open_files_limit).and_then(count),
        memory_total_bytes: total,
        memory_available_bytes: available.min(total),
    })
}

/// `part` of `whole` in percent, to one digit after the point; 0 of nothing.
pub(crate) fn tenths_of_percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (u128::from(part) * 1000 / u128::from(whole)) as f64 / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_plausible_size() {
        let held = vec![1u8; 16 << 20];
        let figures = sample().unwrap();
        assert!(figures.resident_bytes > held.len() as u64, "{figures:?}");
        assert!(figures.memory_total_bytes > figures.resident_bytes);
        assert!(figures.memory_available_bytes <= figures.memory_total_bytes);
    }

    #[test]
    fn percentages_have_one_digit() {
        assert_eq!(tenths_of_percent(1, 3), 33.3);
        assert_eq!(tenths_of_percent(u64::MAX, u64::MAX), 100.0);
        assert_eq!(tenths_of_percent(5, 0), 0.0);
    }
}
