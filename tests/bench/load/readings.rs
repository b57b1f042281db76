//! The payloads that are published: readings in the newest format, without an alarm.

use std::io::Write;

use anyhow::Result;
use shared::clock::SystemClock;

use super::schedule::{self, Schedule};

/// Returns the serial of a device.
pub(crate) fn serial(device: u64) -> String {
    format!("OTSM-{device:05}")
}

/// Writes the payload of a message. It replaces what is in the buffer.
pub(crate) fn write(payload: &mut Vec<u8>, schedule: &Schedule, number: u64) -> Result<()> {
    let serial = serial(schedule.device(number));
    let time = SystemClock::local().to_iso();
    let reading = schedule::reading(number);
    payload.clear();
    write!(
        payload,
        "{{\"Device Alise Name\":\"Gas Sensor Block1\",\"OTSM-2 Serial Number\":\"{serial}\",\
         \"Date Time At Reading\":\"{time}\",\"Message Type\":\"LOG DATA\",\
         \"lat\":\"19.011545\",\"long\":\"72.823872\",\"Parameters\":{{\
         \"Live Sensor Readings \":{reading},\"Unit of Measurement \":1,\"Decimal Point\":0,\
         \"Alarm Level A1\":250,\"Alarm Level A2\":500,\"Alarm Level A3\":1000,\
         \"Alarm 1 LED Status\":0,\"Alarm 2 LED Status\":0,\"Alarm 3 LED Status\":0,\
         \"Sensor Fault\":0}}}}"
    )?;
    Ok(())
}
