//! The answers on which two releases must agree for the same contents of Redis.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::device::{Device, Payload};
use crate::stack::Stack;

/// The detectors of a recording: their serials, and how a path spells them.
pub const DEVICES: [(&str, &str); 20] = [
    ("OTSM-NORMAL", "OTSM-NORMAL"),
    ("OTSM odd ä", "OTSM%20odd%20%C3%A4"),
    ("OTSM-A1", "OTSM-A1"),
    ("OTSM-ESCALATED", "OTSM-ESCALATED"),
    ("OTSM-ACKNOWLEDGED", "OTSM-ACKNOWLEDGED"),
    ("OTSM-CLEARED", "OTSM-CLEARED"),
    ("OTSM-LATCHED", "OTSM-LATCHED"),
    ("OTSM-OXYGEN", "OTSM-OXYGEN"),
    ("OTSM-RANGE", "OTSM-RANGE"),
    ("OTSM-FAULT", "OTSM-FAULT"),
    ("OTSM-INVALID", "OTSM-INVALID"),
    ("OTSM-LATE", "OTSM-LATE"),
    ("OTSM-OFFLINE", "OTSM-OFFLINE"),
    ("OTSM-RETIRED", "OTSM-RETIRED"),
    ("OTSM-PEAK", "OTSM-PEAK"),
    ("OTSM-BOTH-SIDES", "OTSM-BOTH-SIDES"),
    ("OTSM-BOTH-LATCHED", "OTSM-BOTH-LATCHED"),
    ("OTSM-RICH", "OTSM-RICH"),
    ("OTSM-THIN", "OTSM-THIN"),
    ("OTSM-DELAY", "OTSM-DELAY"),
];

/// Builds a payload of an oxygen detector: too thin at 19.5, too rich at 23.5 and 24.5. Its levels latch.
pub fn oxygen(device: &Device, value: &str) -> Payload {
    device
        .old(value)
        .with("Gas", "Oxygen (O2)")
        .with("Unit of Measurement", "%VOL")
        .with_parameter("Span High", 25)
        .with_parameter("A1Type", "Low")
        .with_parameter("A2Type", "High")
        .with_parameter("A3Type", "High")
        .with_parameter("Alarm Level A1", 19.5)
        .with_parameter("Alarm Level A2", 23.5)
        .with_parameter("Alarm Level A3", 24.5)
        .with_parameter("A1Latching", 1)
        .with_parameter("A2Latching", 1)
        .with_parameter("A3Latching", 1)
}

/// Collects the answers of the first gateway about all stored data, without the parts that depend on the time of the
/// request.
pub async fn answers(stack: &Stack) -> Result<Value> {
    let mut answers = Map::new();
    for (serial, path) in DEVICES {
        for about in ["telemetry/latest", "alerts"] {
            let answer = stack
                .get(&format!("/devices/{path}/subtronics/{about}"))
                .await?;
            let answer = without_time(answer.json()?);
            answers.insert(format!("{serial} {about}"), answer);
        }
        let history = stack.get(&format!("/api/devices/{path}/history")).await?;
        answers.insert(format!("{serial} history"), without_time(history.json()?));
    }
    for path in ["/alarm-logs?limit=1000", "/alarm-logs/statistics"] {
        let answer = stack.get(path).await?;
        let answer = with_ordered_ties(without_time(answer.json()?));
        answers.insert(path.to_owned(), answer);
    }
    Ok(answers.into())
}

/// Orders rows of the alarm log that have the same time. In which order they come is not promised.
pub fn with_ordered_ties(mut answer: Value) -> Value {
    let rows = answer.get_mut("logs").and_then(Value::as_array_mut);
    if let Some(rows) = rows {
        for ties in rows.chunk_by_mut(|one, other| one["timestamp"] == other["timestamp"]) {
            ties.sort_by_cached_key(|row| row["id"].to_string());
        }
    }
    answer
}

/// Whether an answer has everything that an older release answered, in the same order. It may have new fields.
pub fn keeps(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => old
            .iter()
            .all(|(name, old)| new.get(name).is_some_and(|new| keeps(new, old))),
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| keeps(new, old))
        }
        _ => new == old,
    }
}

/// Removes the fields that depend on freshness, which is evaluated at the time of the request.
fn without_time(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        for field in ["alarm_status", "data_quality", "age_ms"] {
            fields.remove(field);
        }
    }
    answer
}
