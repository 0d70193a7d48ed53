//! Figures for Prometheus: one recorder for the process, written to through the `metrics` macros from anywhere.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::process::{self, ProcessFigures};

pub mod names;

use self::names::{Form, NAMES};

/// The content type of [`Metrics::text`] (Prometheus text format 0.0.4).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of durations, in seconds: those that OpenTelemetry's conventions give for HTTP.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The recorder of this process. Clones share it.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// There is another recorder in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process records its metrics elsewhere")]
pub struct RecordedElsewhere;

impl Metrics {
    /// The recorder, installed at the first call. What was counted before that call is lost.
    ///
    /// # Errors
    /// An embedding service has installed a recorder of its own: the figures go there.
    pub fn of_process() -> Result<Self, RecordedElsewhere> {
        static RECORDER: OnceLock<Option<Metrics>> = OnceLock::new();
        RECORDER.get_or_init(Self::install).clone().ok_or(RecordedElsewhere)
    }

    fn install() -> Option<Self> {
        let mut builder = PrometheusBuilder::new();
        for name in NAMES.iter().filter(|name| name.form == Form::Seconds) {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.name.to_owned()), &SECONDS).ok()?;
        }
        let handle = builder.install_recorder().ok()?;
        for name in NAMES {
            match name.form {
                Form::Count => describe_counter!(name.name, name.help),
                Form::Level => describe_gauge!(name.name, name.help),
                Form::Seconds => describe_histogram!(name.name, name.help),
            }
        }
        Some(Self(handle))
    }

    /// All figures, in Prometheus' text format, with those of the process as they are now. Reads a few files under `/proc`.
    #[must_use]
    pub fn text(&self) -> String {
        if let Some(figures) = process::sample() {
            record_process(&figures);
        }
        self.0.render()
    }

    /// Folds what was recorded since the last call into the histograms; call it every few seconds, or memory grows between
    /// two scrapes.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

fn record_process(figures: &ProcessFigures) {
    gauge!(names::PROCESS_RESIDENT).set(figures.resident_bytes as f64);
    gauge!(names::PROCESS_CPU).set(figures.cpu_ms as f64 / 1000.0);
    gauge!(names::PROCESS_START).set(figures.started_at as f64);
    if let Some(open) = figures.open_files {
        gauge!(names::PROCESS_OPEN_FILES).set(f64::from(open));
    }
    if let Some(most) = figures.open_files_limit {
        gauge!(names::PROCESS_MAX_FILES).set(f64::from(most));
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, histogram};

    use super::*;

    #[test]
    fn what_is_recorded_stands_in_the_text_with_its_help() {
        let metrics = Metrics::of_process().unwrap();
        counter!(names::PROBLEMS, "code" => "malformed").increment(2);
        histogram!(names::HTTP_DURATION, "http_request_method" => "GET").record(0.004);
        histogram!(names::HTTP_DURATION, "http_request_method" => "GET").record(0.3);
        Metrics::of_process().unwrap().tidy();
        let text = metrics.text();
        for line in [
            "# TYPE plimsoll_problems_total counter",
            "plimsoll_problems_total{code=\"malformed\"} 2",
            "http_server_request_duration_seconds_bucket{http_request_method=\"GET\",le=\"0.005\"} 1",
            "http_server_request_duration_seconds_bucket{http_request_method=\"GET\",le=\"0.5\"} 2",
            "http_server_request_duration_seconds_count{http_request_method=\"GET\"} 2",
            "# TYPE process_resident_memory_bytes gauge",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(text.contains("# HELP plimsoll_problems_total "), "{text}");
        let resident = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
            .and_then(|value| value.parse::<f64>().ok());
        assert!(resident.is_some_and(|bytes| bytes > 1_000_000.0), "{text}");
    }
}
