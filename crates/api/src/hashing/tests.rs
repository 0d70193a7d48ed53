use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use futures_util::future::join_all;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::HashParams;

use super::*;

fn hashing(parallel: usize) -> Hashing {
    Hashing::new(&Passwords::new(HashParams::MINIMUM, &mut OsRandom).unwrap(), parallel)
}

/// Work that holds its thread until it is told to go on.
fn held() -> (mpsc::Sender<()>, impl FnOnce(&Passwords) + Send + 'static) {
    let (go_on, held) = mpsc::channel();
    (go_on, move |_: &Passwords| held.recv().unwrap_or_default())
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn waiting(hashing: &Hashing) -> usize {
    hashing.shared.queue().waiting.len()
}

/// LOG-10: as many at once as there are threads, and none of them on a thread of the runtime.
#[tokio::test]
async fn hashes_run_at_once_as_often_as_allowed_and_on_their_own_threads() {
    let hashing = hashing(2);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let all = (0..20).map(|_| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        hashing.run(move |passwords| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let right = passwords.verify(&"a password".to_owned().into(), None);
            running.fetch_sub(1, Ordering::SeqCst);
            (right, std::thread::current().name().unwrap_or_default().to_owned())
        })
    });
    for done in join_all(all).await {
        let (right, thread) = done.unwrap();
        assert!(!right && ["hash-1", "hash-2"].contains(&thread.as_str()), "{thread}");
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
}

/// LOG-10: a full queue refuses at once, while nothing moves, and says when to come again; what waits is done later.
#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let hashing = Arc::new(hashing(1));
    let (go_on, work) = held();
    let mut first = std::pin::pin!(hashing.run(work));
    assert!(futures_util::poll!(&mut first).is_pending());
    until(|| waiting(&hashing) == 0).await;
    let others: Vec<_> = (0..WAITING_PER_THREAD)
        .map(|_| {
            let hashing = Arc::clone(&hashing);
            tokio::spawn(async move { hashing.run(|_| ()).await })
        })
        .collect();
    until(|| waiting(&hashing) == WAITING_PER_THREAD).await;

    hashing.check_room().unwrap_err();
    let refused = hashing.run(|_| panic!("it has no room")).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));

    go_on.send(()).unwrap();
    first.await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    hashing.check_room().unwrap();
}

/// LOG-10: a request that has gone costs no hash, and its place is free for another.
#[tokio::test]
async fn who_has_gone_is_passed_over() {
    let hashing = hashing(1);
    let (go_on, work) = held();
    let mut holding = std::pin::pin!(hashing.run(work));
    assert!(futures_util::poll!(&mut holding).is_pending());
    until(|| waiting(&hashing) == 0).await;
    let gone: Vec<_> = (0..WAITING_PER_THREAD)
        .map(|_| {
            let mut asked = Box::pin(hashing.run(|_| panic!("nobody waits for it")));
            assert!(futures_util::FutureExt::now_or_never(&mut asked).is_none());
            asked
        })
        .collect();
    drop(gone);
    let mut asked = std::pin::pin!(hashing.run(|_| 7));
    assert!(futures_util::poll!(&mut asked).is_pending());
    assert_eq!(waiting(&hashing), 1);
    go_on.send(()).unwrap();
    holding.await.unwrap();
    assert_eq!(asked.await.unwrap(), 7);
}

#[tokio::test]
async fn a_panic_ends_one_request_and_no_thread() {
    let hashing = hashing(1);
    let failed = hashing.run(|_| panic!("a fault")).await.unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::Other);
    assert_eq!(hashing.run(|_| 7).await.unwrap(), 7);
}

#[tokio::test]
async fn dropped_it_ends_its_threads() {
    let hashing = hashing(2);
    let shared = Arc::downgrade(&hashing.shared);
    assert_eq!(hashing.run(|_| 7).await.unwrap(), 7);
    drop(hashing);
    until(|| shared.strong_count() == 0).await;
}
