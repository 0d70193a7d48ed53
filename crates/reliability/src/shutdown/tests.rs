use super::*;

/// 25 s become 500 ms.
fn timings() -> Timings {
    Timings::default().scaled(0.02)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn never(_: i32, _: &[String]) {
    panic!("nobody should end the process here");
}

#[test]
fn phases_come_in_order_and_callbacks_backwards() {
    let (shutdown, log) = (Shutdown::new(&timings(), never), Log::default());
    for name in ["first", "second"] {
        let log = log.clone();
        shutdown.callback(name, move || log.add(name));
    }
    for (phase, name) in [(Phase::Background, "jobs"), (Phase::Drain, "readiness"), (Phase::Requests, "http")]
    {
        let (log, token) = (log.clone(), shutdown.stopping().clone());
        shutdown.step(phase, name, move |time| {
            assert!(time <= Duration::from_millis(200));
            if phase == Phase::Background {
                thread::sleep(Duration::from_millis(20));
            }
            log.add(format!("{name} {}", token.is_cancelled()));
        });
    }
    assert!(!shutdown.draining().is_cancelled());
    assert!(shutdown.signal(143));
    assert!(shutdown.draining().is_cancelled());
    assert!(!shutdown.stopping().is_cancelled());
    let report = shutdown.run();
    assert_eq!(report.cut, Vec::<String>::new());
    assert!(
        report.took >= Duration::from_millis(60),
        "requests are served during the drain: {:?}",
        report.took
    );
    assert_eq!(log.lines(), ["readiness false", "http true", "jobs true", "second", "first"]);
}

#[test]
fn what_panics_or_hangs_is_listed_and_stops_nobody_else() {
    let (shutdown, log) = (Shutdown::new(&timings(), |_, _| ()), Log::default());
    let after = log.clone();
    shutdown.callback("after", move || after.add("after"));
    shutdown.callback("hangs", || thread::sleep(Duration::from_secs(30)));
    shutdown.callback("panics", || panic!("on purpose"));
    shutdown.step(Phase::Requests, "slow client", |_| thread::sleep(Duration::from_secs(30)));
    let report = shutdown.run();
    assert_eq!(report.cut, ["slow client", "panics", "hangs"]);
    assert_eq!(log.lines(), ["after"]);
    assert!(report.took < Duration::from_secs(10), "{:?}", report.took);
}

#[test]
fn the_watchdog_ends_what_hangs_as_a_whole() {
    let ended = Log::default();
    let seen = ended.clone();
    let exit = move |code: i32, cut: &[String]| seen.add(format!("{code}: {}", cut.join(", ")));
    let shutdown =
        Shutdown::new(&Timings { shutdown_callback: Duration::from_millis(400), ..timings() }, exit);
    for name in ["a", "b", "c"] {
        shutdown.callback(name, || thread::sleep(Duration::from_millis(300)));
    }
    let began = Instant::now();
    let runner = shutdown.clone();
    thread::spawn(move || runner.run());
    while ended.lines().is_empty() && began.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() >= Duration::from_millis(495));
    let lines = ended.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("1: ") && lines[0].contains('a'), "{lines:?}");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let ended = Log::default();
    let seen = ended.clone();
    let exit = move |code: i32, cut: &[String]| seen.add(format!("{code}: {}", cut.join(", ")));
    let shutdown = Shutdown::new(&Timings::default(), exit);
    shutdown.callback("flush", || ());
    assert!(shutdown.signal(143));
    assert_eq!(ended.lines(), Vec::<String>::new());
    assert!(!shutdown.signal(130));
    assert_eq!(ended.lines(), ["130: flush"]);
    assert!(!shutdown.begin());
}
