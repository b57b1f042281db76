//! The answers on which two releases must agree for the same contents of Redis.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::stack::Stack;

/// The detectors of a recording: their serials, and how a path spells them.
pub const DEVICES: [(&str, &str); 14] = [
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
];

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
        answers.insert(path.to_owned(), without_time(answer.json()?));
    }
    Ok(answers.into())
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
