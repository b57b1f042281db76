use super::*;

const AFTER: Duration = Duration::from_mins(10);

fn observed(quiet_minutes: u64, devices: u64) -> Observation {
    Observation {
        quiet_for: Some(Duration::from_mins(quiet_minutes)),
        unacknowledged: 0,
        received: 0,
        devices,
    }
}

#[test]
fn a_quiet_subscription_is_reported_once_and_so_is_its_end() {
    let mut watch = QuietWatch::new(AFTER);
    assert_eq!(watch.observe(observed(9, 3)), None);
    assert_eq!(watch.observe(observed(10, 3)), Some(Notice::Quiet));
    assert!(watch.is_quiet());
    assert_eq!(watch.observe(observed(11, 3)), None);
    assert!(watch.is_quiet());
    assert_eq!(watch.observe(observed(0, 3)), Some(Notice::Ended));
    assert!(!watch.is_quiet());
}

#[test]
fn a_new_installation_without_any_message_is_reported_once_and_is_not_degraded() {
    let mut watch = QuietWatch::new(AFTER);
    assert_eq!(watch.observe(observed(9, 0)), None);
    assert_eq!(watch.observe(observed(10, 0)), Some(Notice::NothingEver));
    assert_eq!(watch.observe(observed(20, 0)), None);
    assert!(!watch.is_quiet());
}

#[test]
fn without_a_subscription_or_while_messages_wait_nothing_is_quiet() {
    let mut watch = QuietWatch::new(AFTER);
    let lost = Observation {
        quiet_for: None,
        ..observed(0, 3)
    };
    assert_eq!(watch.observe(lost), None);
    let waiting = Observation {
        unacknowledged: 1,
        ..observed(20, 3)
    };
    assert_eq!(watch.observe(waiting), None);
    assert!(!watch.is_quiet());
    // After messages that named no device, something is published.
    let received = Observation {
        received: 1,
        ..observed(20, 0)
    };
    assert_eq!(watch.observe(received), None);
}

#[test]
fn zero_turns_the_watch_off() {
    let mut watch = QuietWatch::new(Duration::ZERO);
    assert_eq!(watch.observe(observed(1000, 3)), None);
    assert_eq!(watch.observe(observed(1000, 0)), None);
}
