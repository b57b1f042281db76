//! What a line of a replay file expects, and how it differs from what is. Pure.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use shared::alarm::Alarm;
use shared::device::DeviceId;
use shared::event;

use super::simulation::{CommittedChange, Simulation};

/// What a line expects. Every field is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The device; needed where the file has several.
    device: Option<String>,
    /// All changes since they were compared last, as `<change> <type>`, in order.
    changes: Option<Vec<String>>,
    /// Some of these changes, in this order.
    changes_include: Option<Vec<String>>,
    /// None of these changes.
    changes_exclude: Option<Vec<String>>,
    /// All open alarms as `<type>/<state>`, in any order.
    open: Option<Vec<String>>,
    /// Some of the open alarms.
    open_include: Option<Vec<String>>,
    /// Alarms that are not open; here the state may be left out.
    open_exclude: Option<Vec<String>>,
    /// Fields of the normalised reading as it is shown now.
    #[serde(default, deserialize_with = "data_fields")]
    data: Option<Map<String, Value>>,
    /// Fields of one alert: of the one with this `number`, else of any open one.
    #[serde(default, deserialize_with = "alarm_fields")]
    alarm: Option<Map<String, Value>>,
    /// The status in lists of devices.
    status: Option<Value>,
    /// The number of different alarms that were raised so far.
    alarms: Option<Count>,
    /// The number of rows of the alarm log.
    log_rows: Option<Count>,
    /// The number of dead letters so far, of all devices.
    dead_letters: Option<Count>,
    /// The serials of all known devices.
    devices: Option<Vec<String>>,
}

/// The fields of `data`: those of the normalised reading.
const DATA_FIELDS: [&str; 33] = [
    "device_name",
    "serial_number",
    "gas_type",
    "timestamp",
    "unit",
    "message_type",
    "sender",
    "sensor_reading",
    "offset",
    "alarm_status",
    "span_high",
    "span_low",
    "a1_level",
    "a2_level",
    "a3_level",
    "decimal_point",
    "a1_type",
    "a1_hysteresis",
    "a1_latching",
    "a1_siren",
    "a1_buzzer",
    "alarm1_led",
    "alarm2_led",
    "alarm3_led",
    "sensor_fault",
    "latitude",
    "longitude",
    "processed_at",
    "data_quality",
    "clock_suspect",
    "level_sides",
    "span_unknown",
    "silence_limit_ms",
];

/// The fields of `alarm`: the number of the alarm, and those of an alert.
const ALARM_FIELDS: [&str; 22] = [
    "number",
    "id",
    "type",
    "severity",
    "message",
    "timestamp",
    "device_name",
    "serial_number",
    "threshold",
    "current_value",
    "unit",
    "gas_type",
    "acknowledged_at",
    "acknowledged_by",
    "state",
    "peak_value",
    "peak_type",
    "count",
    "raised_at",
    "cleared_at",
    "reading_timestamp",
    "acknowledged_note",
];

type Fields = Option<Map<String, Value>>;

fn data_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
    known_fields(deserializer, "data", &DATA_FIELDS)
}

fn alarm_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
    known_fields(deserializer, "alarm", &ALARM_FIELDS)
}

/// Refuses an unknown field: it would be compared with nothing.
fn known_fields<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &str,
    known: &[&str],
) -> Result<Fields, D::Error> {
    let fields: Fields = Deserialize::deserialize(deserializer)?;
    let mut names = fields.iter().flat_map(Map::keys);
    match names.find(|name| !known.contains(&name.as_str())) {
        None => Ok(fields),
        Some(name) => Err(D::Error::custom(format!(
            "unknown field `{name}` in `{what}`, expected one of `{}`",
            known.join("`, `")
        ))),
    }
}

/// An exact number, or bounds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Count {
    Exactly(usize),
    Between {
        #[serde(default)]
        at_least: usize,
        at_most: Option<usize>,
    },
}

impl Expectation {
    /// Whether it compares changes, so that the next one begins behind them.
    #[must_use]
    pub fn consumes_changes(&self) -> bool {
        let lists = [&self.changes, &self.changes_include, &self.changes_exclude];
        lists.iter().any(|list| list.is_some())
    }

    /// Returns every difference between what is expected and what is, one sentence each. `changes` are those since the last
    /// comparison.
    #[must_use]
    pub fn differences(&self, simulation: &Simulation, changes: &[CommittedChange]) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(expected) = &self.devices {
            let known: Vec<String> = simulation.devices().map(ToString::to_string).collect();
            differ("devices", expected, &known, &mut found);
        }
        if let Some(expected) = self.dead_letters {
            expected.compare("dead letters", simulation.dead_letters().len(), &mut found);
        }
        if !self.needs_device() {
            return found;
        }
        match self.device(simulation) {
            Ok(device) => self.compare_device(simulation, &device, changes, &mut found),
            Err(reason) => found.push(reason),
        }
        found
    }

    fn needs_device(&self) -> bool {
        self.consumes_changes()
            || self.open.is_some()
            || self.open_include.is_some()
            || self.open_exclude.is_some()
            || self.data.is_some()
            || self.alarm.is_some()
            || self.status.is_some()
            || self.alarms.is_some()
            || self.log_rows.is_some()
    }

    fn device(&self, simulation: &Simulation) -> Result<DeviceId, String> {
        if let Some(serial) = &self.device {
            return serial
                .parse()
                .map_err(|_| format!("`{serial}` is not a serial"));
        }
        let mut known = simulation.devices();
        match (known.next(), known.next()) {
            (Some(device), None) => Ok(device.clone()),
            (None, _) => Err("no device is known".to_owned()),
            (Some(_), Some(_)) => Err("several devices are known: name the `device`".to_owned()),
        }
    }

    fn compare_device(
        &self,
        simulation: &Simulation,
        device: &DeviceId,
        changes: &[CommittedChange],
        found: &mut Vec<String>,
    ) {
        let changes: Vec<String> = changes
            .iter()
            .filter(|change| change.device == *device)
            .map(|change| describe_change(change.change.kind.code(), &change.change.alarm))
            .collect();
        if let Some(expected) = &self.changes {
            differ("changes", expected, &changes, found);
        }
        if let Some(expected) = &self.changes_include {
            let mut left = changes.iter();
            let is_missing = expected
                .iter()
                .any(|wanted| !left.any(|change| change == wanted));
            if is_missing {
                found.push(format!(
                    "changes include {}, but are {}",
                    list(expected),
                    list(&changes)
                ));
            }
        }
        for unwanted in self.changes_exclude.iter().flatten() {
            if changes.contains(unwanted) {
                found.push(format!(
                    "changes do not include [{unwanted}], but are {}",
                    list(&changes)
                ));
            }
        }
        self.compare_open(simulation.open_alarms(device), found);
        self.compare_shown(simulation, device, found);
    }

    fn compare_open(&self, alarms: &[Alarm], found: &mut Vec<String>) {
        let mut open: Vec<String> = alarms.iter().map(describe_open).collect();
        open.sort();
        if let Some(expected) = &self.open {
            let mut expected = expected.clone();
            expected.sort();
            differ("open alarms", &expected, &open, found);
        }
        for wanted in self.open_include.iter().flatten() {
            if !open.contains(wanted) {
                found.push(format!(
                    "open alarms include [{wanted}], but are {}",
                    list(&open)
                ));
            }
        }
        for unwanted in self.open_exclude.iter().flatten() {
            let kind = |open: &String| open.split('/').next() == Some(unwanted);
            if open.iter().any(|open| open == unwanted || kind(open)) {
                found.push(format!(
                    "open alarms do not include [{unwanted}], but are {}",
                    list(&open)
                ));
            }
        }
    }

    fn compare_shown(&self, simulation: &Simulation, device: &DeviceId, found: &mut Vec<String>) {
        if let Some(expected) = &self.data {
            match simulation.data(device) {
                Some(data) => compare_fields("data", expected, &parse(data.get()), found),
                None => found.push("data: the device is not known".to_owned()),
            }
        }
        if let Some(expected) = &self.alarm {
            compare_alarm(expected, simulation, device, found);
        }
        if let Some(expected) = &self.status {
            let status = serde_json::to_value(simulation.status(device)).unwrap_or_default();
            if !matches_value(expected, &status) {
                found.push(format!("status: expected {expected}, is {status}"));
            }
        }
        if let Some(expected) = self.alarms {
            expected.compare("alarms raised", simulation.alarms_raised(device), found);
        }
        if let Some(expected) = self.log_rows {
            expected.compare("rows of the alarm log", simulation.log_rows(device), found);
        }
    }
}

impl Count {
    fn compare(self, what: &str, actual: usize, found: &mut Vec<String>) {
        let (at_least, at_most) = match self {
            Self::Exactly(count) => (count, Some(count)),
            Self::Between { at_least, at_most } => (at_least, at_most),
        };
        let is_within = actual >= at_least && at_most.is_none_or(|most| actual <= most);
        if is_within {
            return;
        }
        let expected = match (self, at_most) {
            (Self::Exactly(count), _) => count.to_string(),
            (_, Some(most)) => format!("{at_least} to {most}"),
            (_, None) => format!("at least {at_least}"),
        };
        found.push(format!("{what}: expected {expected}, are {actual}"));
    }
}

/// Describes a change as lines of a file do.
#[must_use]
pub fn describe_change(kind: &str, alarm: &Alarm) -> String {
    format!("{kind} {}", alarm.condition.code())
}

fn describe_open(alarm: &Alarm) -> String {
    let state = serde_json::to_value(alarm.state()).unwrap_or_default();
    format!(
        "{}/{}",
        alarm.condition.code(),
        state.as_str().unwrap_or_default()
    )
}

fn differ(what: &str, expected: &[String], actual: &[String], found: &mut Vec<String>) {
    if expected != actual {
        found.push(format!(
            "{what}: expected {}, are {}",
            list(expected),
            list(actual)
        ));
    }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

fn compare_alarm(
    expected: &Map<String, Value>,
    simulation: &Simulation,
    device: &DeviceId,
    found: &mut Vec<String>,
) {
    let mut expected = expected.clone();
    let number = expected.remove("number");
    let number = number
        .and_then(|number| number.as_u64())
        .and_then(|number| usize::try_from(number).ok());
    let candidates: Vec<&Alarm> = match number {
        Some(number) => {
            let named = simulation.alarm_of_number(number);
            let named = named.filter(|(owner, _)| owner == device);
            named
                .and_then(|(owner, id)| simulation.alarm(owner, id))
                .into_iter()
                .collect()
        }
        None => simulation.open_alarms(device).iter().collect(),
    };
    let alerts: Vec<Value> = candidates
        .iter()
        .map(|alarm| parse(event::alert(device, alarm).get()))
        .collect();
    let mut nearest: Option<Vec<String>> = None;
    for alert in &alerts {
        let mut differences = Vec::new();
        compare_fields("alarm", &expected, alert, &mut differences);
        if nearest
            .as_ref()
            .is_none_or(|nearest| differences.len() < nearest.len())
        {
            nearest = Some(differences);
        }
    }
    match nearest {
        Some(differences) => found.extend(differences),
        None => found.push("alarm: there is none".to_owned()),
    }
}

fn compare_fields(
    what: &str,
    expected: &Map<String, Value>,
    actual: &Value,
    found: &mut Vec<String>,
) {
    for (key, wanted) in expected {
        let is = actual.get(key).unwrap_or(&Value::Null);
        if !matches_value(wanted, is) {
            found.push(format!("{what}: `{key}`: expected {wanted}, is {is}"));
        }
    }
}

/// Whether a value is the expected one. `{"not": v}`, `{"one_of": [...]}` and `{"contains": text}` are conditions.
fn matches_value(expected: &Value, actual: &Value) -> bool {
    if let Some(fields) = expected.as_object().filter(|fields| fields.len() == 1) {
        if let Some(unwanted) = fields.get("not") {
            return !matches_value(unwanted, actual);
        }
        if let Some(choices) = fields.get("one_of").and_then(Value::as_array) {
            return choices.iter().any(|choice| matches_value(choice, actual));
        }
        if let Some(part) = fields.get("contains").and_then(Value::as_str) {
            return actual.as_str().is_some_and(|text| text.contains(part));
        }
    }
    match (expected.as_f64(), actual.as_f64()) {
        (Some(expected), Some(actual)) => (expected - actual).abs() < 1e-9,
        _ => expected == actual,
    }
}

#[cfg(test)]
mod tests;
