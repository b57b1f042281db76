//! A release with earlier rules shares the contents of Redis: it must be able to read what this one writes, and leaves alone
//! what it does not know.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::alarm::{Alarm, AlarmState, Kind};
use crate::decide::decide;
use crate::reading::{PayloadFacts, Side};
use crate::settings::AlarmSettings;
use crate::state::DeviceState;
use crate::store::codec::changed_fields;

// What the release before 0.2 requires of each field. It reads more, but has defaults for that. The names of the fields are all
// that matters.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierAlarm {
    id: String,
    condition: String,
    message: String,
    threshold: Option<f64>,
    value: Option<f64>,
    unit: String,
    gas_type: String,
    device_name: String,
    raised_at: i64,
    changed_at: i64,
    reading_timestamp: Option<String>,
    reached: EarlierPosition,
    acknowledged: Option<EarlierAcknowledgement>,
    seen_before: Option<u64>,
    latched: bool,
    cleared_at: Option<i64>,
    #[serde(default)]
    holds: Vec<Option<EarlierLevel>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierPosition {
    epoch: String,
    seq: u64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierAcknowledgement {
    by: String,
    at: i64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierLevel {
    #[serde(default)]
    latching: bool,
    due: Option<i64>,
    #[serde(default)]
    returned: bool,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierLatest {
    reading: EarlierReading,
    levels: [f64; 3],
    sides: [EarlierSide; 3],
    taken_at: i64,
    published_at: i64,
    age_ms: Option<i64>,
    doubtful: bool,
    clock_suspect: bool,
    in_order: bool,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierReading {
    device: String,
    device_name: String,
    gas_type: String,
    timestamp: Option<String>,
    device_time: Option<i64>,
    unit: String,
    message_type: String,
    sender: String,
    value: Option<f64>,
    span_high: Option<f64>,
    span_low: Option<f64>,
    levels: [EarlierSetting; 3],
    decimal_point: f64,
    a1_type: String,
    a1_siren: f64,
    a1_buzzer: f64,
    leds: [f64; 3],
    sensor_fault: f64,
    latitude: Value,
    longitude: Value,
    doubtful: bool,
    #[serde(default)]
    unclear: bool,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierSetting {
    level: Option<f64>,
    side: Option<EarlierSide>,
    hysteresis: f64,
    latching: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EarlierSide {
    High,
    Low,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EarlierOrder {
    latest_print: Option<u64>,
    latest_time: Option<i64>,
    latest_usable: bool,
    latest_arrival: i64,
    standing: Option<EarlierRepeated>,
    late: Option<EarlierLate>,
    offsets_ms: Vec<i64>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierRepeated {
    time: i64,
    since: i64,
    count: u32,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the test")]
struct EarlierLate {
    first_time: i64,
    first_arrival: i64,
    last_time: i64,
    count: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EarlierMemory {
    levels: [Option<f64>; 3],
    sides: [Option<EarlierSide>; 3],
    latching: [Option<f64>; 3],
    silence_limit_ms: i64,
    decided_at: i64,
    born_after: u64,
    line: Vec<EarlierPosition>,
}

const EARLIER_CONDITIONS: [&str; 7] = [
    "sensor_fault",
    "reading_invalid",
    "alarm_level_1",
    "alarm_level_2",
    "alarm_level_3",
    "over_range",
    "device_offline",
];

fn parse<T: serde::de::DeserializeOwned>(fields: &HashMap<&str, Vec<u8>>, name: &str) -> T {
    let text = String::from_utf8_lossy(&fields[name]);
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{name}: {err}: {text}"))
}

/// Reads the fields as the release before 0.2 does. Returns the alarms that it finds.
fn read_as_earlier_release(state: &DeviceState) -> Vec<EarlierAlarm> {
    let fields: HashMap<_, _> = changed_fields(&DeviceState::default(), state)
        .into_iter()
        .map(|field| (field.name(), field.value(state)))
        .collect();
    parse::<EarlierLatest>(&fields, "latest");
    parse::<EarlierOrder>(&fields, "order");
    parse::<EarlierMemory>(&fields, "memory");
    let alarms: Vec<EarlierAlarm> = parse(&fields, "alarms");
    let is_known = |alarm: &EarlierAlarm| EARLIER_CONDITIONS.contains(&alarm.condition.as_str());
    assert!(
        alarms.iter().all(is_known),
        "{}",
        parse::<Value>(&fields, "alarms")
    );
    let is_gas = |alarm: &&EarlierAlarm| alarm.condition.starts_with("alarm_level");
    assert!(alarms.iter().filter(is_gas).count() <= 1);
    for alarm in &alarms {
        // It ends at once what has no level left.
        let stays = |level: &EarlierLevel| !level.returned || level.latching;
        let is_kept = alarm.holds.is_empty() || alarm.holds.iter().flatten().any(stays);
        assert!(is_kept, "{}", parse::<Value>(&fields, "alarms"));
    }
    alarms
}

/// Decides about readings of a detector one after another, 5 s apart, and looks at each state as an earlier release does.
struct Device {
    stored: StoredDevice,
    settings: AlarmSettings,
    second: i64,
}

impl Device {
    fn new() -> Self {
        Self {
            stored: StoredDevice::unknown(device(), Epoch::from_bits(0xabc)),
            settings: AlarmSettings::default(),
            second: 0,
        }
    }

    /// Returns how many alarms an earlier release finds, and how many this one does.
    fn send(&mut self, value: &str, edit: impl FnOnce(&mut Reading)) -> (usize, usize) {
        self.second += 5;
        let mut reading = reading_of(DEVICE, value, self.second);
        edit(&mut reading);
        let message = crate::decide::Message {
            fingerprint: self.second.unsigned_abs(),
            reading: reading.into(),
            dup: false,
            retain: false,
            live_raw_message: None,
            facts: PayloadFacts {
                unit_sent: true,
                ..PayloadFacts::default()
            },
        };
        let settings = &self.settings;
        let input = crate::decide::Input::Message {
            message: &message,
            settings,
        };
        let now = Time::from_millis(1_800_000_000_000 + self.second * 1_000);
        self.stored.state = decide(&self.stored, input, now, None).state;
        self.stored.last_message = Some(now);
        self.stored.state = Arc::new(crate::store::round_trip(&self.stored.state));
        let state = &self.stored.state;
        (read_as_earlier_release(state).len(), state.alarms.len())
    }
}

fn oxygen(reading: &mut Reading) {
    for (index, (level, side)) in [("19.5", Side::Low), ("23.5", Side::High)]
        .into_iter()
        .enumerate()
    {
        reading.levels[index].level = Some(dec(level));
        reading.levels[index].side = Some(side);
        reading.levels[index].latching = Some(dec("1"));
    }
    reading.levels[2].level = None;
    reading.levels[2].hysteresis = None;
    reading.span_high = Some(dec("25"));
}

#[test]
fn an_earlier_release_reads_every_state_and_finds_only_what_it_handles() {
    let mut device = Device::new();
    assert_eq!(device.send("1200", |_| ()), (1, 1), "alarm_level_3");
    assert_eq!(device.send("10", |_| ()), (0, 1), "returned");
    assert_eq!(device.send("-9999", |_| ()), (0, 2), "under_range");
    assert_eq!(device.send("1200", |_| ()), (1, 1), "reached again");
    let fault = |reading: &mut Reading| reading.sensor_fault = dec("1");
    assert_eq!(device.send("1200", fault), (2, 2), "sensor_fault");
    let invalid = |reading: &mut Reading| reading.value = None;
    device.send("10", invalid);
    let lit = |reading: &mut Reading| reading.leds[2] = dec("1");
    for _ in 0..4 {
        device.send("10", lit);
    }
    assert!(device.stored.state.alarm(Kind::LedMismatch).is_some());
    let other_unit = |reading: &mut Reading| reading.unit = "%LEL".to_owned();
    device.send("10", other_unit);
    assert!(device.stored.state.alarm(Kind::SettingChanged).is_some());

    let mut device = Device::new();
    let spanned = |reading: &mut Reading| reading.span_high = Some(dec("2000"));
    assert_eq!(
        device.send("2500", spanned),
        (2, 2),
        "over_range beside gas"
    );
    assert_eq!(device.send("300", spanned), (1, 2), "over_range is latched");

    let mut device = Device::new();
    assert_eq!(device.send("24", oxygen), (1, 1));
    assert_eq!(device.send("20.9", oxygen), (1, 1), "latched");
    assert_eq!(device.send("10", oxygen), (1, 2), "the second side");
    let state = |kind| device.stored.state.alarm(kind).map(Alarm::state);
    assert_eq!(state(Kind::GasHigh), Some(AlarmState::Latched));

    let mut device = Device::new();
    for _ in 0..4 {
        device.send("10", fault);
        device.send("10", |_| ());
    }
    assert_eq!(device.send("10", |_| ()), (0, 1), "chattering");
    assert_eq!(device.send("10", fault), (1, 1), "chattering, and active");
}

#[tokio::test]
async fn alarms_that_earlier_releases_do_not_know_survive_a_lost_state() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let device = device();
    commit_reading(&store, DEVICE, "1200", 0).await;
    let before = commit_reading(&store, DEVICE, "10", 5).await.decision.state;
    assert_eq!(before.alarms[0].state(), AlarmState::Returned);
    let key = store.keys(&device).device(&device);
    let _: () = redis.hset(&key, "order", "{").await.expect("set");
    let after = commit_reading(&store, DEVICE, "10", 10)
        .await
        .decision
        .state;
    assert_eq!(after.alarms[0].id, before.alarms[0].id);
    let stored = store.snapshot(&device, None).await.expect("an answer");
    let stored = stored.state.expect("a state");
    assert_eq!(stored.alarms, after.alarms);
}
