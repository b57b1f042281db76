//! One test per known defect of the system that this one replaces. Each shows that this system does not have the defect.
//!
//! These tests send MQTT messages and check the events that clients receive. Defects of the parser alone are tested beside
//! the parser.

mod delivery;
mod readings;

use serde_json::Value;

/// The detector of most tests.
const SERIAL: &str = "OTSM-0001";

/// Returns the types of the alarms that are not cleared, sorted.
fn open_alarm_types(alerts: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = alerts
        .iter()
        .filter(|alert| alert["state"] != "cleared")
        .filter_map(|alert| alert["type"].as_str())
        .collect();
    types.sort_unstable();
    types
}
