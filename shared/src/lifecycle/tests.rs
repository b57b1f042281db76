use super::*;

const LONG: Duration = Duration::from_mins(1);

/// Waits for the end and returns the error's text, empty without an error.
async fn ending(lifecycle: Lifecycle, drain: Duration) -> String {
    match lifecycle.wait(drain).await {
        Ok(()) => String::new(),
        Err(err) => format!("{err:#}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_clean_if_all_tasks_end_after_the_soft_token() {
    let lifecycle = Lifecycle::new();
    let soft = lifecycle.soft().clone();
    lifecycle.spawn("worker", async move {
        soft.cancelled().await;
        Ok(())
    });
    lifecycle.request_stop();
    assert_eq!(ending(lifecycle, LONG).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_returns_before_the_stop_ends_the_process_with_an_error() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn("worker", async { Ok(()) });
    let text = ending(lifecycle, LONG).await;
    assert_eq!(text, "task `worker` ended without being asked to");
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_process_and_keeps_its_cause() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn("worker", async { Err(anyhow!("no more")) });
    assert_eq!(
        ending(lifecycle, LONG).await,
        "task `worker` failed: no more"
    );
}

/// The end of one task can end another one first: the reader of a queue ends when the writer drops it, a moment before the writer
/// reports its error.
#[tokio::test(start_paused = true)]
async fn an_error_counts_more_than_the_end_of_a_task_that_it_caused() {
    for is_first in [true, false] {
        let lifecycle = Lifecycle::new();
        let hard = lifecycle.hard().clone();
        lifecycle.spawn("writer", async move {
            if !is_first {
                hard.cancelled().await;
            }
            Err(anyhow!("refused"))
        });
        let hard = lifecycle.hard().clone();
        lifecycle.spawn("reader", async move {
            if is_first {
                hard.cancelled().await;
            }
            Ok(())
        });
        let text = ending(lifecycle, LONG).await;
        assert_eq!(text, "task `writer` failed: refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_process_with_its_message() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn("worker", async { panic!("index {}", 7) });
    assert_eq!(
        ending(lifecycle, LONG).await,
        "task `worker` panicked: index 7"
    );
    let lifecycle = Lifecycle::new();
    lifecycle.spawn_short("connection", async { panic!("plain") });
    assert_eq!(
        ending(lifecycle, LONG).await,
        "task `connection` panicked: plain"
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_task_may_end_at_any_time() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn_short("connection", async {});
    tokio::task::yield_now().await;
    assert!(!lifecycle.soft().is_cancelled());
    lifecycle.request_stop();
    assert_eq!(ending(lifecycle, LONG).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_failure_during_the_drain_is_still_returned() {
    let lifecycle = Lifecycle::new();
    let soft = lifecycle.soft().clone();
    lifecycle.spawn("worker", async move {
        soft.cancelled().await;
        Err(anyhow!("could not finish"))
    });
    lifecycle.request_stop();
    assert_eq!(
        ending(lifecycle, LONG).await,
        "task `worker` failed: could not finish"
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_drain_period_cancels_the_hard_token() {
    let lifecycle = Lifecycle::new();
    let hard = lifecycle.hard().clone();
    lifecycle.spawn("worker", async move {
        hard.cancelled().await;
        Ok(())
    });
    lifecycle.request_stop();
    assert_eq!(ending(lifecycle, LONG).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_ends_is_abandoned_and_reported_as_an_error() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn("worker", std::future::pending());
    lifecycle.request_stop();
    let text = ending(lifecycle, Duration::from_secs(1)).await;
    assert_eq!(text, "1 tasks did not end and were abandoned");
}

#[tokio::test(start_paused = true)]
async fn the_hard_token_ends_the_drain_early() {
    let lifecycle = Lifecycle::new();
    let hard = lifecycle.hard().clone();
    lifecycle.spawn("worker", async move {
        hard.cancelled().await;
        Ok(())
    });
    let start = tokio::time::Instant::now();
    lifecycle.hard().cancel();
    assert_eq!(ending(lifecycle, LONG).await, "");
    assert!(start.elapsed() < LONG);
}

#[tokio::test(start_paused = true)]
async fn the_same_signal_within_a_second_counts_once() {
    for (second, after, stops) in [
        ("SIGTERM", Duration::ZERO, false),
        ("SIGTERM", Duration::from_millis(999), false),
        ("SIGTERM", Duration::from_secs(1), true),
        ("SIGTERM", Duration::from_secs(9), true),
        // Somebody is impatient.
        ("SIGINT", Duration::ZERO, true),
    ] {
        let lifecycle = Lifecycle::new();
        let mut first = None;
        lifecycle.receive_signal("SIGTERM", &mut first);
        assert!(lifecycle.soft().is_cancelled());
        tokio::time::advance(after).await;
        lifecycle.receive_signal(second, &mut first);
        let stopped = lifecycle.hard().is_cancelled();
        assert_eq!(stopped, stops, "{second} after {after:?}");
        // The time counts from the first one: a flood of signals stops at once, too.
        tokio::time::advance(SAME_SIGNAL).await;
        lifecycle.receive_signal("SIGTERM", &mut first);
        assert!(lifecycle.hard().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_during_a_stop_for_another_reason_stops_at_once() {
    let lifecycle = Lifecycle::new();
    lifecycle.request_stop();
    lifecycle.receive_signal("SIGTERM", &mut None);
    assert!(lifecycle.hard().is_cancelled());
}
