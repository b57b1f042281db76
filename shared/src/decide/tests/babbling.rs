//! A device that sends more than its rate.

use super::*;
use ChangeKind::{Cleared, Raised};
use Condition::{AlarmLevel3, Babbling};

/// Sends so many readings with this value, a millisecond apart. Returns the decisions.
fn flood(device: &mut TestDevice, value: &str, count: usize) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for _ in 0..count {
        device.now = device.now + Duration::from_millis(1);
        device.device_time = device.device_time + Duration::from_millis(1);
        decisions.push(device.send_reading(reading(Some(value))));
    }
    decisions
}

#[test]
fn what_exceeds_the_rate_is_judged_and_not_kept() {
    let mut device = TestDevice::new();
    let decisions = flood(&mut device, "5", 1_000);
    let samples = decisions.iter().filter(|d| d.sample.is_some()).count();
    let events = decisions.iter().filter(|d| d.event.is_some()).count();
    assert!((100..=111).contains(&samples), "{samples}");
    // The alarm itself is told, too.
    assert!((100..=112).contains(&events), "{events}");
    assert_eq!(
        device.state_of(Kind::Babbling),
        Some(AlarmState::Unacknowledged)
    );
    assert_eq!(device.alarm_status(), "NORMAL", "its values are true");
    let raised = flood(&mut device, "1200", 1);
    assert_eq!(changes(&raised[0]), [(Raised, AlarmLevel3)]);
    assert!(raised[0].event.is_some(), "an alarm does not wait");
    let shown = device.stored.state.latest.as_ref().expect("a reading");
    assert_eq!(shown.reading.value, Some(dec("1200")));
}

#[test]
fn the_last_reading_is_announced_once_the_rate_allows_it() {
    let mut device = TestDevice::new();
    let start = device.now;
    flood(&mut device, "5", 150);
    let last = flood(&mut device, "7", 1).pop().expect("one");
    assert!(last.event.is_none() && last.sample.is_none());
    let Deadline::At(due) = last.deadline else {
        panic!("{:?}", last.deadline);
    };
    assert!(due.millis_since(device.now) <= 100);
    device.now = due;
    let told = device.run_timer(start);
    let event = told.event.expect("the last reading is told");
    assert!(event.envelope.contains(r#""sensor_reading":7"#));
    assert!(event.envelope.contains(r#""skipped":"#));
    assert!(told.sample.is_some());
    assert!(!device.stored.state.memory.unsampled);
    assert!(device.run_timer(start).event.is_none(), "once");
}

#[test]
fn it_ends_once_the_device_sends_less() {
    let mut device = TestDevice::new();
    flood(&mut device, "5", 200);
    let mut ended = Vec::new();
    for _ in 0..10 {
        ended.extend(changes(&device.send_after(1, reading(Some("5")))));
    }
    assert_eq!(ended, [(Cleared, Babbling)]);
}

#[test]
fn a_backlog_is_within_its_rate_however_fast_it_arrives() {
    let mut device = TestDevice::new();
    device.send_after(5, reading(Some("5")));
    device.now = device.now + Duration::from_hours(2);
    let mut kept = 0;
    for _ in 0..1_000 {
        device.now = device.now + Duration::from_millis(1);
        device.device_time = device.device_time + Duration::from_secs(5);
        kept += usize::from(device.send_reading(reading(Some("5"))).sample.is_some());
    }
    assert_eq!(kept, 1_000);
    assert_eq!(device.state_of(Kind::Babbling), None);
}
