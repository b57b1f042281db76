use super::*;
use crate::alarm::{Acknowledgement, Condition};
use crate::position::{Epoch, Position};

const NOW: i64 = 1_800_000_000_000;

fn device() -> DeviceId {
    "OTSM-0001".parse().unwrap()
}

/// An open alarm that was raised this many seconds ago.
fn alarm(condition: Condition, age_s: i64, is_acknowledged: bool) -> Alarm {
    let raised_at = Time::from_millis(NOW - age_s * 1_000);
    let epoch: Epoch = "0123456789ab".parse().unwrap();
    let id = format!("{}1", condition.id_prefix());
    Alarm {
        acknowledged: is_acknowledged.then(|| Acknowledgement::new("somebody", raised_at)),
        ..Alarm::new(id, condition, raised_at, Position { epoch, seq: 1 })
    }
}

#[test]
fn a_device_is_counted_once_under_its_worst_state() {
    use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3, DeviceOffline};
    // The silence limit is 180 s.
    let (recent, silent, never) = (Some(1), Some(181), None);
    let level_1 = || alarm(AlarmLevel1, 5, false);
    let offline = || alarm(DeviceOffline, 5, false);
    let acknowledged = |condition| alarm(condition, 5, true);
    let level_2 = || alarm(AlarmLevel2, 5, false);
    for (alarms, silent_s, expected) in [
        (vec![], recent, "normal"),
        (vec![], silent, "offline"),
        (vec![], never, "offline"),
        (vec![level_1()], recent, "warning"),
        (vec![level_1()], silent, "warning"),
        (vec![level_2(), offline()], silent, "high"),
        (vec![offline()], recent, "offline"),
        (vec![acknowledged(AlarmLevel2)], recent, "high"),
        (
            vec![acknowledged(AlarmLevel3), offline()],
            silent,
            "critical",
        ),
    ] {
        let case = format!("{alarms:?}, silent for {silent_s:?} s");
        let mut sample = FleetSample::new(Time::from_millis(NOW));
        let last = silent_s.map(|silent: i64| Time::from_millis(NOW - silent * 1_000));
        sample.add(&device(), Some((alarms, 180_000)), last);
        assert_eq!(sample.devices, count_of_one(expected), "{case}");
    }

    let mut sample = FleetSample::default();
    sample.add(&device(), None, Some(Time::from_millis(NOW)));
    assert_eq!(sample.devices, count_of_one("unknown"));
    assert_eq!(sample.unreadable, [device()]);
}

/// One device, in this state.
fn count_of_one(state: &str) -> DeviceCounts {
    let mut counts = serde_json::to_value(DeviceCounts::default()).unwrap();
    counts[state] = 1.into();
    serde_json::from_value(counts).unwrap()
}

#[test]
fn the_oldest_unacknowledged_critical_alarm_is_found() {
    use Condition::{AlarmLevel2, AlarmLevel3, SensorFault};
    let mut sample = FleetSample::new(Time::from_millis(NOW));
    let mut add = |alarm| {
        let last_message = Some(Time::from_millis(NOW));
        sample.add(&device(), Some((vec![alarm], 1)), last_message);
        sample.unacknowledged_since
    };
    assert_eq!(add(alarm(AlarmLevel2, 900, false)), None);
    assert_eq!(add(alarm(AlarmLevel3, 800, true)), None);
    add(alarm(AlarmLevel3, 10, false));
    add(alarm(SensorFault, 130, false));
    let oldest = add(alarm(AlarmLevel3, 20, false));
    assert_eq!(oldest, Some(Time::from_millis(NOW - 130_000)));
    assert_eq!(sample.alarms.critical, [3, 1]);
    assert_eq!(sample.alarms.high, [1, 0]);
}
