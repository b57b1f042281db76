use super::SubscriptionChange::{Subscribe, Unsubscribe};
use super::*;

fn channels(names: &[&str]) -> Vec<Channel> {
    names.iter().map(|name| Channel::from(*name)).collect()
}

fn answer(change: SubscriptionChange, confirmed: &[&str], failed: &[&str]) -> ChangeAnswer {
    ChangeAnswer {
        change,
        confirmed: channels(confirmed),
        failed: channels(failed),
        error: None,
    }
}

#[test]
fn a_chunk_is_done_when_its_last_channel_is_answered() {
    let mut awaited = AwaitedAnswers::default();
    let now = Instant::now();
    awaited.begin_change(Subscribe, channels(&["a", "b", "c"]), now);
    awaited.begin_ping();
    awaited.begin_change(Unsubscribe, channels(&["d"]), now);
    assert_eq!(awaited.confirm(Subscribe, b"a"), Ok(None));
    assert_eq!(awaited.refuse(b"NOPERM no right"), Ok(None));
    let refused = ChangeError::Refused("NOPERM no right".to_owned());
    let expected = ChangeAnswer {
        error: Some(refused),
        ..answer(Subscribe, &["a", "c"], &["b"])
    };
    assert_eq!(awaited.confirm(Subscribe, b"c"), Ok(Some(expected)));
    assert_eq!(awaited.answer(), Ok(()));
    let expected = answer(Unsubscribe, &["d"], &[]);
    assert_eq!(awaited.confirm(Unsubscribe, b"d"), Ok(Some(expected)));
}

#[test]
fn an_answer_to_nothing_or_to_another_request_is_unexpected() {
    let now = Instant::now();
    for (change, channel) in [(Subscribe, &b"b"[..]), (Unsubscribe, b"a")] {
        let mut awaited = AwaitedAnswers::default();
        awaited.begin_change(Subscribe, channels(&["a"]), now);
        assert_eq!(awaited.confirm(change, channel), Err(Unexpected));
    }
    let mut awaited = AwaitedAnswers::default();
    awaited.begin_change(Subscribe, channels(&["a"]), now);
    assert_eq!(awaited.answer(), Err(Unexpected));
    // Redis ended a subscription by itself, or answers what was not asked.
    assert_eq!(awaited.confirm(Unsubscribe, b"a"), Err(Unexpected));
    assert_eq!(awaited.answer(), Err(Unexpected));
    assert_eq!(awaited.refuse(b"ERR"), Err(Unexpected));
    awaited.begin_ping();
    assert_eq!(awaited.confirm(Subscribe, b"a"), Err(Unexpected));
}

#[test]
fn a_late_chunk_keeps_what_is_confirmed_and_its_later_answers_change_nothing() {
    let mut awaited = AwaitedAnswers::default();
    let start = Instant::now();
    awaited.begin_change(Subscribe, channels(&["a", "b", "c"]), start);
    assert_eq!(awaited.confirm(Subscribe, b"a"), Ok(None));
    assert_eq!(awaited.take_late(start + CHUNK_TIMEOUT / 2), None);
    let late = awaited.take_late(start + CHUNK_TIMEOUT);
    let expected = ChangeAnswer {
        error: Some(ChangeError::Late),
        ..answer(Subscribe, &["a"], &["b", "c"])
    };
    assert_eq!(late, Some(expected));
    assert_eq!(awaited.take_late(start + 2 * CHUNK_TIMEOUT), None);
    // Requested again before the first request is answered.
    awaited.begin_change(Subscribe, channels(&["b", "c"]), start + CHUNK_TIMEOUT);
    for channel in [b"b", b"c", b"b"] {
        assert_eq!(awaited.confirm(Subscribe, channel), Ok(None));
    }
    let expected = answer(Subscribe, &["b", "c"], &[]);
    assert_eq!(awaited.confirm(Subscribe, b"c"), Ok(Some(expected)));
}

#[test]
fn requests_that_are_never_answered_are_noticed() {
    let mut awaited = AwaitedAnswers::default();
    for _ in 0..MAX_REQUESTS {
        awaited.begin_ping();
    }
    assert!(!awaited.are_too_many());
    awaited.begin_ping();
    assert!(awaited.are_too_many());
}

#[test]
fn only_some_refusals_mean_that_another_server_has_the_channels() {
    let refused = |text: &str| ChangeError::Refused(text.to_owned());
    for text in [
        "MOVED 42 127.0.0.1:7001",
        "CLUSTERDOWN Hash slot not served",
    ] {
        assert!(refused(text).is_elsewhere());
    }
    assert!(!refused("NOPERM no right for MOVED").is_elsewhere());
    assert!(!ChangeError::Late.is_elsewhere());
}
