use std::sync::mpsc;

use super::super::settings::PoolKind;
use super::*;

fn lanes(size: u32) -> Lanes {
    let mut settings = DbSettings::new(PoolKind::Http, size);
    settings.wait = Duration::from_millis(200);
    settings.wait_when_full = Duration::from_millis(20);
    Lanes::new(&settings)
}

#[tokio::test]
async fn work_is_done_and_its_turn_is_over_when_the_caller_hears_of_it() {
    let lanes = lanes(1);
    for n in 0..100 {
        assert_eq!(lanes.run(move || n + 1).await, Ok(n + 1));
        assert_eq!((lanes.in_use(), lanes.waiting()), (0, 0));
    }
    assert_eq!(lanes.0.lock().threads, 1, "one thread does it all");
}

#[tokio::test]
async fn a_panic_goes_on_at_the_caller_and_costs_no_thread() {
    let lanes = Arc::new(lanes(1));
    let ours = Arc::clone(&lanes);
    let panicked =
        tokio::spawn(async move { ours.run(|| panic!("on purpose")).await.map(|(): ()| ()) }).await;
    assert_eq!(*panicked.unwrap_err().into_panic().downcast_ref::<&str>().unwrap(), "on purpose");
    assert_eq!(lanes.run(|| 7).await, Ok(7));
    assert_eq!((lanes.in_use(), lanes.0.lock().threads), (0, 1));
}

#[tokio::test]
async fn a_waiter_gives_up_after_the_wait() {
    let lanes = lanes(1);
    let held = lanes.admit_blocking().unwrap();
    let start = Instant::now();
    assert_eq!(lanes.run(|| ()).await, Err(Busy));
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(lanes.waiting(), 0, "its place in the queue is free again");
    drop(held);
    assert_eq!(lanes.run(|| ()).await, Ok(()));
}

#[tokio::test]
async fn beyond_the_queue_the_wait_is_short() {
    let lanes = Arc::new(lanes(1));
    let held = lanes.admit_blocking().unwrap();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let lanes = Arc::clone(&lanes);
            tokio::spawn(async move { lanes.run(|| ()).await })
        })
        .collect();
    while lanes.waiting() < 4 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    assert_eq!(lanes.run(|| ()).await, Err(Busy));
    assert!(start.elapsed() < Duration::from_millis(150));
    assert_eq!(lanes.admit_blocking().err(), Some(Busy));
    drop(held);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Ok(()), "those already waiting are served");
    }
}

#[tokio::test]
async fn turns_are_given_in_the_order_of_asking() {
    let lanes = Arc::new(lanes(1));
    let held = lanes.admit_blocking().unwrap();
    let (done, order) = mpsc::channel();
    let mut waiters = Vec::new();
    for n in 0..4 {
        let (ours, done) = (Arc::clone(&lanes), done.clone());
        waiters.push(tokio::spawn(async move { ours.run(move || done.send(n).unwrap()).await }));
        while lanes.waiting() <= n {
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_queue_and_its_work_is_not_done() {
    let lanes = lanes(1);
    let held = lanes.admit_blocking().unwrap();
    let (done, order) = mpsc::channel();
    let abandoned = tokio::time::timeout(Duration::from_millis(5), lanes.run(move || done.send(()))).await;
    assert!(abandoned.is_err());
    assert_eq!(lanes.waiting(), 0);
    drop(held);
    assert_eq!(lanes.run(|| ()).await, Ok(()));
    assert_eq!(order.try_iter().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_at_once_than_there_are_connections() {
    let lanes = Arc::new(lanes(3));
    let (now, most) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), Arc::new(Mutex::new(0)));
    let work = move || {
        let at_once = now.fetch_add(1, Ordering::AcqRel) + 1;
        {
            let mut most = most.lock().unwrap();
            *most = at_once.max(*most);
            assert!(*most <= 3);
        }
        thread::sleep(Duration::from_micros(200));
        now.fetch_sub(1, Ordering::AcqRel);
    };
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let (lanes, work) = (Arc::clone(&lanes), work.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    lanes.run(work.clone()).await.unwrap();
                }
            })
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let _turn = lanes.admit_blocking().unwrap();
                    work();
                }
            });
        }
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((lanes.in_use(), lanes.waiting()), (0, 0));
    assert!(lanes.0.lock().threads <= 3);
}

#[test]
fn threads_wait_in_the_same_queue() {
    let lanes = Arc::new(lanes(1));
    let held = lanes.admit_blocking().unwrap();
    assert_eq!(lanes.admit_blocking().err(), Some(Busy));
    let other = {
        let lanes = Arc::clone(&lanes);
        thread::spawn(move || lanes.admit_blocking().is_ok())
    };
    while lanes.waiting() == 0 {
        thread::yield_now();
    }
    drop(held);
    assert!(other.join().unwrap());
    assert_eq!((lanes.in_use(), lanes.0.lock().threads), (0, 0), "their work needs no thread of the pool's");
}

#[tokio::test]
async fn the_threads_end_with_the_pool() {
    let lanes = lanes(2);
    lanes.run(|| ()).await.unwrap();
    let shared = Arc::clone(&lanes.0);
    drop(lanes);
    while shared.lock().threads > 0 {
        thread::yield_now();
    }
}
