use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn always(outcome: CheckOutcome) -> impl HealthCheck {
    move || -> CheckFuture {
        let outcome = outcome.clone();
        Box::pin(async { outcome })
    }
}

#[tokio::test]
async fn the_answer_has_its_documented_form() {
    let registry = HealthRegistry::new(at(-90))
        .with(
            "database",
            Importance::Critical,
            SECOND,
            always(CheckOutcome::healthy().with("users_count", 2)),
        )
        .with(
            "smtp",
            Importance::Supporting,
            SECOND,
            always(CheckOutcome::degraded("mail goes to the outbox")),
        );
    let mut report = (*registry.report(at(0)).await).clone();
    for check in report.checks.values_mut() {
        check.response_time_ms = 3;
    }
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        json!({
            "status": "degraded", "timestamp": "2027-01-15T08:00:00Z", "uptime_seconds": 90,
            "total_checks": 2, "healthy_checks": 1,
            "checks": {
                "database": {"status": "healthy", "response_time_ms": 3, "users_count": 2},
                "smtp": {"status": "degraded", "response_time_ms": 3, "message": "mail goes to the outbox"},
            },
        })
    );
    let public = report.public();
    assert!(public.checks.is_empty() && public.total_checks == 2 && public.status == HealthStatus::Degraded);
}

#[tokio::test]
async fn the_whole_follows_from_status_and_importance() {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    use Importance::{Critical, Supporting};
    let cases = [
        (Critical, CheckOutcome::healthy(), Healthy),
        (Critical, CheckOutcome::degraded("m"), Degraded),
        (Critical, CheckOutcome::unhealthy("m"), Unhealthy),
        (Supporting, CheckOutcome::healthy(), Healthy),
        (Supporting, CheckOutcome::degraded("m"), Degraded),
        (Supporting, CheckOutcome::unhealthy("m"), Degraded),
    ];
    for (importance, outcome, whole) in cases {
        let registry = HealthRegistry::new(at(0))
            .with("fine", Critical, SECOND, always(CheckOutcome::healthy()))
            .with("other", importance, SECOND, always(outcome.clone()));
        let report = registry.report(at(0)).await;
        assert_eq!(report.status, whole, "{importance:?} {outcome:?}");
        assert_eq!(report.is_serving(), whole != Unhealthy);
    }
    assert_eq!(HealthRegistry::new(at(0)).report(at(0)).await.status, Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_is_unhealthy_and_holds_nobody_up() {
    let registry = HealthRegistry::new(at(0))
        .with("hangs", Importance::Critical, SECOND, || -> CheckFuture { Box::pin(std::future::pending()) })
        .with("panics", Importance::Critical, SECOND, || -> CheckFuture {
            Box::pin(async { panic!("boom") })
        })
        .with("panics_at_once", Importance::Critical, SECOND, || -> CheckFuture { panic!("boom") })
        .with("fine", Importance::Critical, SECOND, always(CheckOutcome::healthy()));
    let start = tokio::time::Instant::now();
    let report = registry.report(at(0)).await;
    assert_eq!(start.elapsed(), SECOND);
    let message = |name: &str| report.checks[name].message.clone().unwrap_or_default();
    assert_eq!(message("hangs"), "no answer within 1000 ms");
    assert_eq!(message("panics"), "the check itself failed");
    assert_eq!(message("panics_at_once"), "the check itself failed");
    assert_eq!((report.status, report.healthy_checks), (HealthStatus::Unhealthy, 1));
}

#[tokio::test(start_paused = true)]
async fn results_are_kept_for_five_seconds_and_shared_by_a_crowd() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let registry =
        HealthRegistry::new(at(0)).with("slow", Importance::Critical, SECOND, move || -> CheckFuture {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                CheckOutcome::healthy()
            })
        });
    join_all((0..20).map(|_| registry.report(at(0)))).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let kept = registry.report(at(4)).await;
    assert_eq!((kept.timestamp, runs.load(Ordering::SeqCst)), (at(0), 1));
    registry.report(at(5)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    registry.report(at(1)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 3, "a clock that was set back does not keep a result for ever");
}

#[tokio::test]
async fn a_name_stands_once() {
    let registry = HealthRegistry::new(at(0))
        .with("x", Importance::Critical, SECOND, always(CheckOutcome::unhealthy("old")))
        .with("x", Importance::Critical, SECOND, always(CheckOutcome::healthy()));
    let report = registry.report(at(0)).await;
    assert_eq!((report.total_checks, report.status), (1, HealthStatus::Healthy));
}

#[tokio::test]
async fn memory_and_disk_report_their_figures() {
    let folder = tempfile::tempdir().unwrap();
    let registry = HealthRegistry::new(at(0))
        .with("memory", Importance::Supporting, 5 * SECOND, MemoryCheck)
        .with("disk", Importance::Supporting, 5 * SECOND, DiskCheck::new(folder.path()))
        .with("gone", Importance::Supporting, 5 * SECOND, DiskCheck::new(folder.path().join("missing")));
    let report = registry.report(at(0)).await;
    let memory = &report.checks["memory"].details;
    assert!(memory["process_mb"].as_u64().unwrap() > 0);
    let percent = memory["percent_used"].as_f64().unwrap();
    assert!(percent > 0.0 && percent <= 100.0, "{percent}");
    let disk = &report.checks["disk"].details;
    assert!(disk["free_gb"].as_f64().unwrap() >= 0.0);
    assert!((0.0..=100.0).contains(&disk["percent_used"].as_f64().unwrap()));
    assert_eq!(report.checks["gone"].status, HealthStatus::Unhealthy);
    assert!(!report.checks["gone"].message.as_ref().unwrap().contains("missing"), "paths stay inside");
}
