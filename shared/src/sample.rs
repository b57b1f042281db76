//! A sample of the history, and its compact form in Redis. Pure.
//!
//! | bytes | contents |
//! |---|---|
//! | 1 | version, [`VERSION`]. No JSON begins with it, so a release that expects JSON skips the sample |
//! | 1 | bit 0 in alarm, bits 1–2 quality, bit 3 late, bits 4–7 form of the reading's own time (`FORMS`) |
//! | 1 | bits 0–3 decimal places of the value, `NO_VALUE` for none; bits 4–7 unit (`packing.rs`) |
//! | 4 | time of the decision: the low 32 bits of its milliseconds, little endian. The id of the stream entry has the rest |
//! | 1–11 | the reading's own time: seconds or milliseconds after the time of the decision, or a text |
//! | 1–12 | digits of the value |
//! | 1– | the unit, if it has no code |
//!
//! Numbers and texts are written as in `packing.rs`. What is absent takes no bytes.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::decimal::Decimal;
use crate::event;
use crate::packing::{
    put_number, put_text, put_unit, quality_code, quality_of, take_number, take_text, take_unit,
};
use crate::reading::Quality;

/// First byte of the compact form.
pub const VERSION: u8 = 1;

/// Decimal places of a sample without a value.
const NO_VALUE: u8 = 15;

/// How a time is written: the separator of date and time, whether it has milliseconds, and its end. The code is the index plus
/// [`FIRST_FORM`]. The list may only grow at its end.
const FORMS: [(char, bool, &str); 8] = [
    (' ', false, ""),
    ('T', false, ""),
    (' ', false, "Z"),
    ('T', false, "Z"),
    (' ', true, ""),
    ('T', true, ""),
    (' ', true, "Z"),
    ('T', true, "Z"),
];
const NO_TIME: u8 = 0;
const TIME_TEXT: u8 = 1;
const FIRST_FORM: u8 = 2;

/// One reading in the history of a device. Its JSON is what REST sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Server time of the decision.
    #[serde(serialize_with = "event::iso")]
    pub timestamp: Time,
    /// The device's own time, as it was sent.
    pub reading_timestamp: Option<String>,
    /// The value; `None` if it is unknown.
    #[serde(rename = "sensor_reading")]
    pub value: Option<Decimal>,
    /// Unit of the value.
    pub unit: String,
    /// Whether the device was in alarm, or its state unknown.
    #[serde(rename = "alarm_status", serialize_with = "event::status_word")]
    pub in_alarm: bool,
    /// Quality of the reading.
    #[serde(rename = "data_quality")]
    pub quality: Quality,
    /// The reading was older than the latest one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// A sample as releases before 0.2 stored it, which is how it is sent.
#[derive(Deserialize)]
struct StoredJson {
    timestamp: String,
    reading_timestamp: Option<String>,
    sensor_reading: Option<Decimal>,
    unit: String,
    alarm_status: String,
    data_quality: Quality,
    #[serde(default)]
    late: bool,
}

impl Sample {
    /// Reads the form in which releases before 0.2 stored it. `None` for anything else.
    #[must_use]
    pub fn of_json(bytes: &[u8]) -> Option<Self> {
        let stored: StoredJson = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            timestamp: Time::from_iso(&stored.timestamp)?,
            reading_timestamp: stored.reading_timestamp,
            value: stored.sensor_reading,
            unit: stored.unit,
            in_alarm: stored.alarm_status == "ALARM",
            quality: stored.data_quality,
            late: stored.late,
        })
    }

    /// Returns the compact form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::with_capacity(16);
        let form = self.encode_time(&mut rest);
        let places = self.value.map_or(NO_VALUE, |value| {
            let (digits, places) = value.parts();
            put_number(&mut rest, digits);
            places
        });
        let unit = put_unit(&mut rest, &self.unit);
        let quality = quality_code(self.quality);
        let flags = u8::from(self.in_alarm) | quality << 1 | u8::from(self.late) << 3 | form << 4;
        let mut bytes = vec![VERSION, flags, places | unit << 4];
        bytes.extend(low_bits(self.timestamp).to_le_bytes());
        bytes.append(&mut rest);
        bytes
    }

    /// Adds the device's own time, and returns the code of its form.
    fn encode_time(&self, rest: &mut Vec<u8>) -> u8 {
        let Some(text) = &self.reading_timestamp else {
            return NO_TIME;
        };
        let mut forms = (FIRST_FORM..).zip(FORMS);
        // Only what comes back as the same text is stored as a number.
        let found = forms
            .find(|(_, form)| is_like(text, *form))
            .and_then(|(code, form)| {
                let time = Time::from_iso(text.trim_end_matches('Z'))?;
                (write_time(time, form).as_ref() == Some(text)).then_some((code, form, time))
            });
        let Some((code, (_, has_millis, _), time)) = found else {
            put_text(rest, text);
            return TIME_TEXT;
        };
        let unit = if has_millis { 1 } else { 1_000 };
        let base = self.timestamp.as_millis().div_euclid(unit);
        let difference = time.as_millis().div_euclid(unit).wrapping_sub(base);
        put_number(rest, difference.into());
        code
    }

    /// Reads the compact form. `stored` is the time in the id of its stream entry, at most 24 days from that of the decision. `None` for
    /// anything that this release does not write.
    #[must_use]
    pub fn decode(bytes: &[u8], stored: Time) -> Option<Self> {
        let (&[VERSION, flags, value_and_unit], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let (low, mut rest) = rest.split_first_chunk()?;
        let difference = u32::from_le_bytes(*low).wrapping_sub(low_bits(stored));
        let timestamp = stored
            .as_millis()
            .checked_add(difference.cast_signed().into())?;
        let reading_timestamp = match flags >> 4 {
            NO_TIME => None,
            TIME_TEXT => Some(take_text(&mut rest)?),
            code => {
                let form = *FORMS.get(usize::from(code - FIRST_FORM))?;
                let unit: i64 = if form.1 { 1 } else { 1_000 };
                let difference = i64::try_from(take_number(&mut rest)?).ok()?;
                let time = timestamp.div_euclid(unit).checked_add(difference)?;
                Some(write_time(
                    Time::from_millis(time.checked_mul(unit)?),
                    form,
                )?)
            }
        };
        let value = match value_and_unit & 15 {
            NO_VALUE => None,
            places => Some(Decimal::from_parts(take_number(&mut rest)?, places)?),
        };
        let unit = take_unit(&mut rest, value_and_unit >> 4)?;
        let quality = quality_of(flags >> 1 & 3);
        rest.is_empty().then_some(Self {
            timestamp: Time::from_millis(timestamp),
            reading_timestamp,
            value,
            unit,
            in_alarm: flags & 1 == 1,
            quality,
            late: flags >> 3 & 1 == 1,
        })
    }
}

/// The low 32 bits of the milliseconds.
fn low_bits(time: Time) -> u32 {
    let [a, b, c, d, ..] = time.as_millis().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Whether a text has the separator, the length and the end of this form. No other form has the same.
fn is_like(text: &str, (separator, has_millis, end): (char, bool, &str)) -> bool {
    let length = if has_millis { 23 } else { 19 } + end.len();
    let bytes = text.as_bytes();
    bytes.len() == length
        && bytes
            .get(10)
            .is_some_and(|byte| char::from(*byte) == separator)
        && text.ends_with(end)
}

fn write_time(time: Time, (separator, has_millis, end): (char, bool, &str)) -> Option<String> {
    // `2026-11-26T14:39:57.308Z`; years before 0 or after 9999 have another length.
    let iso = time.to_iso();
    if iso.len() != 24 {
        return None;
    }
    let (date, clock) = iso.split_once('T')?;
    let clock = clock.get(..if has_millis { 12 } else { 8 })?;
    Some(format!("{date}{separator}{clock}{end}"))
}

#[cfg(test)]
mod tests;
