use super::*;
use crate::alarm::{Acknowledgement, Condition};
use crate::forward::UnknownFields;
use crate::position::{Epoch, Position};

const NOW: i64 = 1_800_000_000_000;

fn device() -> DeviceId {
    "OTSM-0001".parse().unwrap()
}

fn alarm(condition: Condition, age_s: i64, is_acknowledged: bool) -> Alarm {
    let raised_at = Time::from_millis(NOW - age_s * 1_000);
    let epoch: Epoch = "0123456789ab".parse().unwrap();
    Alarm {
        id: format!("{}1", condition.id_prefix()),
        condition,
        message: String::new(),
        threshold: None,
        value: None,
        unit: String::new(),
        gas_type: String::new(),
        device_name: String::new(),
        raised_at,
        changed_at: raised_at,
        reading_timestamp: None,
        reached: Position { epoch, seq: 1 },
        acknowledged: is_acknowledged.then(|| Acknowledgement::new("somebody", raised_at)),
        seen_before: None,
        latched: false,
        cleared_at: None,
        active_levels: Vec::new(),
        unknown: UnknownFields::default(),
    }
}

#[track_caller]
fn check(alarms: Vec<Alarm>, silent_s: Option<i64>, expected: &DeviceCounts) -> FleetSample {
    let mut sample = FleetSample::new(Time::from_millis(NOW));
    let last = silent_s.map(|silent| Time::from_millis(NOW - silent * 1_000));
    sample.add(&device(), Some((alarms, 180_000)), last);
    assert_eq!(&sample.devices, expected);
    sample
}

#[test]
fn a_device_counts_once_and_silence_is_never_normal() {
    use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3, DeviceOffline};
    let none = DeviceCounts::default;
    check(
        vec![],
        Some(1),
        &DeviceCounts {
            normal: 1,
            ..none()
        },
    );
    check(
        vec![],
        Some(181),
        &DeviceCounts {
            offline: 1,
            ..none()
        },
    );
    check(
        vec![],
        None,
        &DeviceCounts {
            offline: 1,
            ..none()
        },
    );
    let a1 = || alarm(AlarmLevel1, 5, false);
    check(
        vec![a1()],
        Some(1),
        &DeviceCounts {
            warning: 1,
            ..none()
        },
    );
    check(
        vec![a1()],
        Some(181),
        &DeviceCounts {
            warning: 1,
            ..none()
        },
    );
    let silent = || alarm(DeviceOffline, 5, false);
    check(
        vec![alarm(AlarmLevel2, 5, false), silent()],
        Some(181),
        &DeviceCounts { high: 1, ..none() },
    );
    check(
        vec![silent()],
        Some(1),
        &DeviceCounts {
            offline: 1,
            ..none()
        },
    );
    let a2 = alarm(AlarmLevel2, 5, true);
    check(vec![a2], Some(1), &DeviceCounts { high: 1, ..none() });
    let a3 = alarm(AlarmLevel3, 5, true);
    check(
        vec![a3, silent()],
        Some(181),
        &DeviceCounts {
            critical: 1,
            ..none()
        },
    );

    let mut sample = FleetSample::default();
    sample.add(&device(), None, Some(Time::from_millis(NOW)));
    assert_eq!(
        sample.devices,
        DeviceCounts {
            unknown: 1,
            ..none()
        }
    );
    assert_eq!(sample.unreadable, [device()]);
}

#[test]
fn the_oldest_unacknowledged_critical_alarm_is_found() {
    use Condition::{AlarmLevel2, AlarmLevel3, SensorFault};
    let mut sample = FleetSample::new(Time::from_millis(NOW));
    let alive = Some(Time::from_millis(NOW));
    sample.add(
        &device(),
        Some((vec![alarm(AlarmLevel2, 900, false)], 1)),
        alive,
    );
    sample.add(
        &device(),
        Some((vec![alarm(AlarmLevel3, 800, true)], 1)),
        alive,
    );
    assert_eq!(sample.unacknowledged_since, None);
    sample.add(
        &device(),
        Some((vec![alarm(AlarmLevel3, 10, false)], 1)),
        alive,
    );
    sample.add(
        &device(),
        Some((vec![alarm(SensorFault, 130, false)], 1)),
        alive,
    );
    sample.add(
        &device(),
        Some((vec![alarm(AlarmLevel3, 20, false)], 1)),
        alive,
    );
    let since = Time::from_millis(NOW - 130_000);
    assert_eq!(sample.unacknowledged_since, Some(since));
    assert_eq!(sample.alarms.critical, [3, 1]);
    assert_eq!(sample.alarms.high, [1, 0]);
}
