use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const PACE: AnswerPace = AnswerPace {
    time: Duration::from_mins(1),
    rate: 100,
};

/// Counts how often it was freed, and how often because the peer was too slow.
#[derive(Clone, Debug, Default)]
struct Freed {
    all: Arc<AtomicU32>,
    slow: Arc<AtomicU32>,
}

impl HeldAnswer for Freed {
    fn end(self: Box<Self>, was_too_slow: bool) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.slow
            .fetch_add(u32::from(was_too_slow), Ordering::Relaxed);
    }
}

impl Freed {
    fn counts(&self) -> (u32, u32) {
        let read = |count: &AtomicU32| count.load(Ordering::Relaxed);
        (read(&self.all), read(&self.slow))
    }
}

/// Lets a peer take so many bytes every second, until it is too slow. Returns after how many seconds, at most 200.
async fn seconds_until_too_slow(answer: &PresentAnswer, pacer: &mut Pacer, bytes: usize) -> u64 {
    let start = Instant::now();
    let mut ask = async |taken: Poll<usize>| {
        poll_fn(|cx| Poll::Ready(pacer.is_too_slow(cx, answer, taken))).await
    };
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if ask(Poll::Pending).await {
            break;
        }
        assert!(!ask(Poll::Ready(bytes)).await);
    }
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_peer_must_take_enough_in_every_window_and_everything_in_time() {
    for (bytes, expected) in [(0, 10), (1, 10), (98, 10), (112, 60), (100_000, 60)] {
        let (answer, mut pacer) = (PresentAnswer::default(), Pacer::default());
        answer.begin(PACE);
        // The first write begins the first window.
        let waits = poll_fn(|cx| Poll::Ready(pacer.is_too_slow(cx, &answer, Poll::Pending)));
        assert!(!waits.await);
        let after = seconds_until_too_slow(&answer, &mut pacer, bytes).await;
        assert_eq!(after, expected, "{bytes} bytes per second");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_answer_begins_a_window_of_its_own() {
    let (answer, mut pacer) = (PresentAnswer::default(), Pacer::default());
    let mut waits = async |answer: &PresentAnswer| {
        poll_fn(|cx| Poll::Ready(pacer.is_too_slow(cx, answer, Poll::Pending))).await
    };
    answer.begin(PACE);
    assert!(!waits(&answer).await);
    answer.finish(Box::new(Freed::default()));
    answer.sent();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(!waits(&answer).await, "there is no answer");
    answer.begin(PACE);
    assert!(!waits(&answer).await);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(waits(&answer).await);
}

#[tokio::test]
async fn what_an_answer_holds_is_freed_when_it_is_sent_or_the_connection_ends() {
    let answer = PresentAnswer::default();
    let freed = Freed::default();
    answer.begin(PACE);
    // A flush while the body is not complete.
    answer.sent();
    assert!(answer.limits().is_some());
    answer.finish(Box::new(freed.clone()));
    assert_eq!(freed.counts(), (0, 0));
    answer.sent();
    assert_eq!(freed.counts(), (1, 0));
    assert!(answer.limits().is_none());

    answer.begin(PACE);
    answer.finish(Box::new(freed.clone()));
    answer.slot().was_too_slow = true;
    answer.close();
    assert_eq!(freed.counts(), (2, 1));
    answer.finish(Box::new(freed.clone()));
    assert_eq!(freed.counts(), (3, 2));
}
