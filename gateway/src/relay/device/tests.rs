use shared::clock::{Clock, SystemClock};
use shared::metrics::Meters;
use shared::position::Epoch;
use shared::trace::SpanRecorder;

use super::*;
use crate::client::ClientContext;
use crate::clients::Clients;
use crate::metrics::Metrics;
use crate::relay::spans::EventSpans;
use crate::test_setup;

const DEVICE: &str = "OTSM-0114";

fn fan_out() -> FanOutContext {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let config = test_setup::config("127.0.0.1:6379", &[]);
    FanOutContext {
        clients: Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client))),
        broadcast_all: true,
        clock,
        spans: EventSpans::new(SpanRecorder::disabled()),
        metrics: Arc::clone(&metrics.relay),
    }
}

fn now() -> Time {
    Time::from_millis(1_800_000_000_000)
}

/// The stored device after this many events, without an alarm.
fn snapshot(seq: u64) -> Snapshot {
    let epoch = Epoch::from_bits(1);
    let reading = test_setup::reading(DEVICE, 10);
    Snapshot {
        born_after: 0,
        epoch,
        state: Some(test_setup::state(reading, Position { epoch, seq }, now())),
        last_message: Some(now()),
        events: Vec::new(),
        changes: Vec::new(),
    }
}

/// An event that changes an alarm.
fn alarm(seq: u64) -> Arc<PublishedEvent> {
    let epoch = Epoch::from_bits(1);
    let text = format!(r#"{{"epoch":"{epoch}","seq":{seq},"at":1,"data":{{}},"changes":{{}}}}"#);
    Arc::new(PublishedEvent::parse(text.as_bytes()).unwrap())
}

fn new() -> WatchedDevice {
    WatchedDevice::new(DEVICE.parse().unwrap(), Listing::Listed)
}

/// A device that is watched for every client and was loaded after its first event.
fn watched(fan_out: &FanOutContext) -> WatchedDevice {
    let mut device = new();
    device.pin(None);
    device.begin_load(1);
    device.finish_load(1, &snapshot(1), now(), fan_out);
    device
}

#[test]
fn it_is_behind_from_the_loss_of_its_subscription_to_the_repair() {
    let fan_out = fan_out();
    let mut device = watched(&fan_out);
    assert!(!device.is_behind());
    device.lose_subscription();
    assert!(device.is_behind());
    assert_eq!(device.begin_load(2), Some(1));
    device.finish_load(2, &snapshot(2), now(), &fan_out);
    assert!(!device.is_behind());
}

#[test]
fn a_subscription_lost_during_the_repair_leaves_it_behind() {
    let fan_out = fan_out();
    let mut device = watched(&fan_out);
    device.lose_subscription();
    device.begin_load(2);
    device.lose_subscription();
    device.finish_load(2, &snapshot(2), now(), &fan_out);
    assert!(device.is_behind());
    device.begin_load(3);
    device.finish_load(3, &snapshot(2), now(), &fan_out);
    assert!(!device.is_behind());
}

#[test]
fn a_subscription_lost_during_a_load_that_fails_leaves_it_behind() {
    let fan_out = fan_out();
    let mut device = watched(&fan_out);
    device.lose_subscription();
    device.begin_load(2);
    device.lose_subscription();
    device.fail_load(2, true);
    assert!(device.is_behind());
    device.begin_load(3);
    device.fail_load(3, true);
    // It is confirmed, and that it cannot be read is not a fault of the data path.
    assert!(!device.is_behind());
}

#[test]
fn a_subscription_lost_during_the_first_load_leaves_it_behind() {
    let fan_out = fan_out();
    let mut device = new();
    device.pin(None);
    device.begin_load(1);
    device.lose_subscription();
    device.finish_load(1, &snapshot(1), now(), &fan_out);
    assert!(device.is_behind());
}

#[test]
fn a_gap_is_repaired_even_if_no_client_is_served_at_that_time() {
    let fan_out = fan_out();
    let mut device = new();
    device.begin_load(1);
    device.finish_load(1, &snapshot(1), now(), &fan_out);
    device.lose_subscription();
    // Its readings may have to be broadcast.
    assert_eq!(device.begin_load(2), Some(1));
    device.finish_load(2, &snapshot(3), now(), &fan_out);
    device.pin(None);
    assert!(!device.is_behind());
    assert_eq!(device.head, Some(replay::position(&snapshot(3))));
}

#[test]
fn a_device_pinned_during_its_first_load_is_loaded_again_with_its_events() {
    let fan_out = fan_out();
    let mut device = new();
    device.begin_load(1);
    device.pin(Some(now()));
    device.finish_load(1, &snapshot(1), now(), &fan_out);
    assert!(device.needs_load());
    assert_eq!(device.begin_load(2), Some(0));
}

#[test]
fn before_its_first_load_it_may_have_alarms() {
    let mut device = new();
    assert!(device.may_have_alarms());
    device.begin_load(1);
    device.finish_load(1, &snapshot(1), now(), &fan_out());
    assert!(!device.may_have_alarms());
}

#[test]
fn it_may_have_alarms_if_one_changed_while_an_older_state_was_loaded() {
    let fan_out = fan_out();
    let mut device = watched(&fan_out);
    device.begin_load(2);
    device.receive(&alarm(2), &fan_out);
    device.finish_load(2, &snapshot(1), now(), &fan_out);
    assert!(device.may_have_alarms());
}
