//! Payloads as detectors spell them, including extra spaces and misspellings.

use jiff::tz::Offset;
use serde_json::{Value, json};
use shared::clock::Time;

use super::{Detector, PayloadFormat};

/// The measurement of a detector at one time.
pub(super) struct Sample {
    pub(super) value: f64,
    pub(super) has_fault: bool,
    pub(super) device_time: Time,
}

pub(super) fn payload(detector: &Detector, sample: &Sample) -> Value {
    // The LEDs of the detector follow its value.
    let sample = &Sample {
        value: detector.gas.measured(sample.value),
        ..*sample
    };
    let value = number(sample.value);
    match detector.format {
        PayloadFormat::New => newest(detector, sample, &value),
        PayloadFormat::Old => old(detector, sample, &value),
        PayloadFormat::Mixed => mixed(detector, sample, &value),
    }
}

/// Renders an unreadable payload. `turn` chooses the broken part: the value, a flag, the serial, the text or the bytes.
pub(super) fn garbage(detector: &Detector, sample: &Sample, turn: u64) -> Vec<u8> {
    let mut payload = payload(detector, sample);
    let reading = match detector.format {
        PayloadFormat::Old => "Offset",
        PayloadFormat::New | PayloadFormat::Mixed => "Live Sensor Readings ",
    };
    match turn % 10 {
        0 => payload["Parameters"][reading] = Value::Null,
        1 => payload["Parameters"][reading] = json!("ERR"),
        2 => payload["Parameters"][reading] = json!("350 ppm"),
        3 => payload["Parameters"][reading] = json!(1e300),
        4 => payload["Parameters"] = json!({}),
        5 => payload["Parameters"]["Alarm 1 LED Status"] = json!(-1),
        6 => payload["OTSM-2 Serial Number"] = Value::Null,
        7 => payload = json!([payload]),
        8 => return truncated(&payload),
        _ => return [b"\xff\xfe".as_slice(), payload.to_string().as_bytes()].concat(),
    }
    payload.to_string().into_bytes()
}

fn truncated(payload: &Value) -> Vec<u8> {
    let mut text = payload.to_string().into_bytes();
    text.truncate(text.len() / 2);
    text
}

fn newest(detector: &Detector, sample: &Sample, value: &Value) -> Value {
    let gas = detector.gas;
    // Only the code of ppm is documented.
    let unit = if gas.unit == "ppm" {
        json!(1)
    } else {
        json!(gas.unit)
    };
    let [latitude, longitude] = place(detector);
    let mut payload = json!({
        "Device Alise Name": name(detector),
        "OTSM-2 Serial Number": detector.serial,
        "Date Time At Reading": local_time(detector, sample),
        "Message Type": "LOG DATA",
        "lat": latitude,
        "long": longitude,
        "Parameters": {
            "Live Sensor Readings ": value,
            "Unit of Measurement ": unit,
            "Decimal Point": 0,
        },
    });
    let parameters = &mut payload["Parameters"];
    // This format has no alarm type, and a missing type is read as `High`.
    if gas.is_low {
        parameters["A1Type"] = json!("Low");
    }
    add_levels(detector, sample, parameters);
    parameters["Sensor Fault"] = json!(u8::from(sample.has_fault));
    payload
}

fn old(detector: &Detector, sample: &Sample, value: &Value) -> Value {
    let mut payload = json!({
        "Device Alise Name": name(detector),
        "OTSM-2 Serial Number": detector.serial,
        "Gas": detector.gas.name,
        "timestamp": local_time(detector, sample),
        "Sender": "Device",
        "Message Type": "LOG DATA",
        "Unit of Measurement": detector.gas.unit,
        "Parameters": {"Offset": value},
    });
    add_old_parameters(detector, sample, &mut payload["Parameters"]);
    payload
}

fn mixed(detector: &Detector, sample: &Sample, value: &Value) -> Value {
    let mut payload = json!({
        "Device Alise Name": name(detector),
        "OTSM-2 Serial Number": detector.serial,
        "Gas": detector.gas.name,
        "timestamp": sample.device_time.to_iso(),
        "Sender": "Device",
        "Message Type": "LOG DATA",
        "Unit of Measurement ": format!(" {}", detector.gas.unit),
        "Parameters": {"Live Sensor Readings ": value},
    });
    add_old_parameters(detector, sample, &mut payload["Parameters"]);
    payload
}

fn add_old_parameters(detector: &Detector, sample: &Sample, parameters: &mut Value) {
    let gas = detector.gas;
    parameters["Span High"] = number(gas.span_high);
    parameters["Span Low"] = json!(0);
    parameters["Decimal Point"] = json!(0);
    parameters["A1Type"] = json!(if gas.is_low { "Low" } else { "High" });
    for key in ["A1Hysterysis", "A1Latching", "A1Siren", "A1Buzzer"] {
        parameters[key] = json!(0);
    }
    add_levels(detector, sample, parameters);
    parameters["SensorFault"] = json!(u8::from(sample.has_fault));
    let [latitude, longitude] = place(detector);
    parameters["lat"] = json!(latitude);
    parameters["long"] = json!(longitude);
}

fn add_levels(detector: &Detector, sample: &Sample, parameters: &mut Value) {
    let gas = detector.gas;
    for (level, threshold) in (1..).zip(gas.levels) {
        parameters[format!("Alarm Level A{level}")] = number(threshold);
    }
    let leds = if sample.has_fault {
        [0; 3]
    } else {
        gas.reached(sample.value)
    };
    for (level, led) in (1..).zip(leds) {
        parameters[format!("Alarm {level} LED Status")] = json!(led);
    }
}

fn name(detector: &Detector) -> String {
    format!("Gas Sensor Block{}", detector.index + 1)
}

/// Renders a number as detectors write it: whole ones without a fraction.
fn number(value: f64) -> Value {
    let whole = format!("{value:.0}").parse::<i64>().unwrap_or_default();
    if value.fract() == 0.0 {
        json!(whole)
    } else {
        json!(value)
    }
}

/// Coordinates around one plant, a few hundred metres from each other.
fn place(detector: &Detector) -> [String; 2] {
    let (row, column) = ((detector.index / 10) % 100, detector.index % 10);
    [
        format!("19.{:06}", 11_545 + row * 2_000),
        format!("72.{:06}", 823_872 + column * 2_000),
    ]
}

fn local_time(detector: &Detector, sample: &Sample) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(sample.device_time.as_millis());
    let offset = Offset::from_seconds(detector.setting.utc_offset_seconds);
    match (timestamp, offset) {
        (Ok(timestamp), Ok(offset)) => offset
            .to_datetime(timestamp)
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        // Outside the calendar: a detector would send no time either.
        _ => String::new(),
    }
}
