//! A sample reading, as JSON: this crate does not know the types of the others.

use serde::de::DeserializeOwned;

const READING: &str = r#"{
    "device": "OTSM-0114",
    "device_name": "Gas Sensor Block1",
    "gas_type": "Carbon Monoxide (CO)",
    "timestamp": "2026-01-28 11:37:12",
    "device_time": null,
    "unit": "ppm",
    "message_type": "LOG DATA",
    "sender": "Device",
    "value": 120,
    "span_high": 2000,
    "span_low": 0,
    "levels": [
        {"level": 250, "side": null, "hysteresis": 0, "latching": null},
        {"level": 500, "side": null, "hysteresis": 0, "latching": null},
        {"level": 1000, "side": null, "hysteresis": 0, "latching": null}
    ],
    "decimal_point": 0,
    "a1_type": "High",
    "a1_siren": 0,
    "a1_buzzer": 0,
    "leds": [0, 0, 0],
    "sensor_fault": 0,
    "latitude": "19.011545",
    "longitude": "72.823872",
    "doubtful": false
}"#;

/// Builds a reading: 120 ppm of carbon monoxide, below every level, from OTSM-0114. `R` is `shared::reading::Reading`.
///
/// # Panics
/// If `R` has other fields.
pub fn reading<R: DeserializeOwned>() -> R {
    serde_json::from_str(READING).expect("the fields of a reading")
}
