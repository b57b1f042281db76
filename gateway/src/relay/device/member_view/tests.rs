use shared::position::{Epoch, Position};

use super::*;
use crate::test_setup::{self, SILENCE_LIMIT_MS};

const START: Time = Time::from_millis(1_800_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn limit() -> Duration {
    Duration::from_millis(SILENCE_LIMIT_MS.unsigned_abs())
}

/// Builds a device that sent a reading at [`START`].
fn stored() -> Snapshot {
    let position = Position {
        epoch: Epoch::from_bits(1),
        seq: 1,
    };
    let reading = test_setup::reading("OTSM-0114", 10);
    Snapshot {
        born_after: 0,
        epoch: position.epoch,
        state: Some(test_setup::state(reading, position, START)),
        last_message: Some(START),
        events: Vec::new(),
        changes: Vec::new(),
    }
}

/// Builds the same with the reading sent once more at this time.
fn stored_again(at: Time) -> Snapshot {
    let mut snapshot = stored();
    let state = snapshot.state.as_mut().expect("a known device");
    state.latest.as_mut().expect("a reading").taken_at = at;
    Snapshot {
        last_message: Some(at),
        ..snapshot
    }
}

/// Builds the same with a further message at this time that has no new reading.
fn without_new_reading(at: Time) -> Snapshot {
    Snapshot {
        last_message: Some(at),
        ..stored()
    }
}

/// Builds the view after it was compared with [`stored`] while that was fresh.
fn fresh() -> MemberView {
    let mut view = MemberView::default();
    let correction = view.compare(&stored(), START, true);
    assert!(matches!(correction, Correction::None), "{correction:?}");
    view
}

fn event(alive: bool, at: Time) -> PublishedEvent {
    let at = at.as_millis();
    let data = r#"{"data":{"alarm_status":"NORMAL","data_quality":"good"},"seq":2}"#;
    let text =
        format!(r#"{{"epoch":"000000000001","seq":2,"at":{at},"alive":{alive},"data":{data}}}"#);
    PublishedEvent::parse(text.as_bytes()).unwrap()
}

#[track_caller]
fn check_sent(correction: Correction, mark: &str) {
    match correction {
        Correction::Send(data) => assert!(data.get().ends_with(mark), "{}", data.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reading_is_overdue_after_the_silence_limit() {
    let view = fresh();
    assert!(!view.is_overdue(START + limit()));
    assert!(view.is_overdue(START + limit() + SECOND));
}

#[test]
fn a_device_that_went_stale_is_sent_once() {
    let mut view = fresh();
    let later = START + limit() + SECOND;
    check_sent(view.compare(&stored(), later, true), r#""stale":true}"#);
    assert!(!view.is_overdue(later));
    let again = view.compare(&stored(), later, true);
    assert!(matches!(again, Correction::None), "{again:?}");
}

#[test]
fn a_device_that_sends_messages_without_a_new_reading_goes_stale() {
    let mut view = fresh();
    let later = START + limit() + SECOND;
    check_sent(
        view.compare(&without_new_reading(later), later, true),
        r#""stale":true}"#,
    );
}

#[test]
fn a_reading_that_is_too_old_when_it_is_published_is_not_repeated_as_stale() {
    let mut view = fresh();
    let later = START + SECOND;
    let measured_at = later - limit() - SECOND;
    let mut old = event(true, later);
    old.measured_at = measured_at;
    assert!(!view.record_event(&old));
    assert!(!view.is_overdue(later), "members were sent it as `offline`");
    let mut view = fresh();
    let mut recent = event(true, later);
    recent.measured_at = later - limit() + SECOND;
    assert!(!view.record_event(&recent));
    assert!(!view.is_overdue(later + SECOND));
    assert!(view.is_overdue(later + SECOND + SECOND));
}

#[test]
fn a_stale_state_that_members_do_not_have_yet_is_compared_again() {
    let mut view = fresh();
    let later = START + limit() + SECOND;
    let correction = view.compare(&stored(), later, false);
    assert!(
        matches!(correction, Correction::CompareAgain),
        "{correction:?}"
    );
    assert!(view.is_overdue(later));
}

#[test]
fn a_reading_that_members_do_not_have_yet_is_never_repeated_as_stale() {
    let mut view = fresh();
    let mut newer = stored();
    let state = newer.state.as_mut().expect("a known device");
    state.position.seq = 2;
    let correction = view.compare(&newer, START, false);
    assert!(matches!(correction, Correction::None), "{correction:?}");
    let later = START + limit() + SECOND;
    let data = view.go_stale_by_clock(later).expect("it is overdue");
    assert!(data.get().contains(r#""seq":1,"#), "{}", data.get());
}

#[test]
fn the_clock_alone_marks_a_reading_as_stale_once() {
    let mut view = fresh();
    assert!(view.go_stale_by_clock(START + limit()).is_none());
    let later = START + limit() + SECOND;
    let data = view.go_stale_by_clock(later).expect("it is overdue");
    assert!(data.get().contains(r#""data_quality":"offline""#));
    assert!(view.go_stale_by_clock(later).is_none());
    // The stored state says the same, so members are sent nothing more.
    let correction = view.compare(&stored(), later, true);
    assert!(matches!(correction, Correction::None), "{correction:?}");
}

#[test]
fn a_wrong_assumption_of_the_clock_is_corrected_by_a_snapshot() {
    let mut view = fresh();
    let later = START + limit() + SECOND;
    view.go_stale_by_clock(later).expect("it is overdue");
    let correction = view.compare(&stored_again(later), later, true);
    check_sent(correction, r#""snapshot":true}"#);
    let again = view.compare(&stored_again(later), later, true);
    assert!(matches!(again, Correction::None), "{again:?}");
}

#[test]
fn only_a_message_of_the_device_makes_it_current_again() {
    let mut view = fresh();
    let later = START + limit() + SECOND;
    view.compare(&stored(), later, true);
    assert!(!view.record_event(&event(false, later)));
    assert!(view.record_removal().is_none(), "it was shown as stale");

    let mut view = fresh();
    view.compare(&stored(), later, true);
    assert!(!view.record_event(&event(true, later)));
    assert!(!view.is_overdue(later + limit()));
    assert!(view.is_overdue(later + limit() + SECOND));
}

#[test]
fn a_message_of_a_device_with_an_unknown_limit_needs_a_load() {
    let mut view = MemberView::default();
    assert!(view.record_event(&event(true, START)));
    assert!(!view.record_event(&event(false, START)));
}

#[test]
fn a_removed_device_is_shown_as_stale_and_forgotten() {
    let mut view = fresh();
    let data = view.record_removal().expect("it was shown as current");
    assert!(data.get().ends_with(r#""stale":true}"#), "{}", data.get());
    assert!(!view.has_data());
    assert!(view.record_removal().is_none());
}
