//! Parses the payload of a detector into a [`Reading`], or into an error with all faults of the payload. Pure.
//!
//! Both payload formats are read by the same rules; `ingest/README.md` lists the keys. The value and its unit come from the
//! first of their keys that is *present*, even if it is unreadable: an old `Offset` must not replace an unreadable live
//! reading. Names, times and coordinates come from the first of their keys that is present and not empty.
//!
//! No number is guessed. An unreadable field makes the reading doubtful, or is `None`. Only an unreadable flag becomes
//! 0, and then the reading is doubtful too.

mod device_time;
mod document;
mod error;
mod number;

use std::str::FromStr;

use shared::args::UnitCodes;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::forward::UnknownFields;
use shared::reading::{Coordinate, LevelSetting, Reading, Side};

pub use error::{Fault, Faults, PayloadError};

use document::{Document, JsonValue, KeyPath};
use number::{Scale, flag, number};

/// Default of `--max-payload-bytes`.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 65_536;

/// Maximum length of a text taken from a payload. A longer text is cut between two characters.
pub const MAX_TEXT_BYTES: usize = 256;

/// The operator's settings for facts that are missing in payloads.
#[derive(Clone, Debug)]
pub struct Format {
    /// Offset of device times without a zone, in seconds east of UTC.
    pub utc_offset_seconds: i32,
    /// Units of the numeric codes.
    pub unit_codes: UnitCodes,
    /// Meaning of `Decimal Point`.
    pub decimal_point: DecimalPoint,
    /// Words that mean "not set".
    pub normal_words: NormalWords,
    /// Longer payloads are refused before they are parsed.
    pub max_payload_bytes: usize,
}

/// Words that mean "not set" in a fault flag and in `Alarm Status`, compared without case and surrounding blanks.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NormalWords(Vec<String>);

impl NormalWords {
    /// Reads a comma-separated list.
    #[must_use]
    pub fn new(list: &str) -> Self {
        let words = list.split(',').map(|word| word.trim().to_uppercase());
        Self(words.filter(|word| !word.is_empty()).collect())
    }

    /// Whether the text means "not set". An empty text does.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let text = text.trim().to_uppercase();
        text.is_empty() || self.0.contains(&text)
    }
}

/// Meaning of `Decimal Point` n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DecimalPoint {
    /// Numbers are sent as they are; the key is only shown
    #[default]
    Ignore,
    /// Value, alarm levels, hysteresis and span are integers, to be divided by ten to the power of n
    Scale,
}

const SERIAL: KeyPath = KeyPath::Root("OTSM-2 Serial Number");
const NAME: [KeyPath; 2] = [
    KeyPath::Root("Device Alias Name"),
    KeyPath::Root("Device Alise Name"),
];
const TIME: [KeyPath; 2] = [
    KeyPath::Root("Date Time At Reading"),
    KeyPath::Root("timestamp"),
];
const UNIT: [KeyPath; 4] = [
    KeyPath::Parameter("Unit of Measurement "),
    KeyPath::Parameter("Unit of Measurement"),
    KeyPath::Root("Unit of Measurement "),
    KeyPath::Root("Unit of Measurement"),
];
const VALUE: [KeyPath; 4] = [
    KeyPath::Parameter("Live Sensor Readings "),
    KeyPath::Parameter("Live Sensor Readings"),
    KeyPath::Root("Sensor Reading"),
    KeyPath::Parameter("Offset"),
];
const FAULT_FLAGS: [KeyPath; 2] = [
    KeyPath::Parameter("Sensor Fault"),
    KeyPath::Parameter("SensorFault"),
];
const LEDS: [KeyPath; 3] = [
    KeyPath::Parameter("Alarm 1 LED Status"),
    KeyPath::Parameter("Alarm 2 LED Status"),
    KeyPath::Parameter("Alarm 3 LED Status"),
];
const DECIMAL_POINT: KeyPath = KeyPath::Parameter("Decimal Point");

/// The keys of one alarm level. Detectors do misspell hysteresis.
struct LevelKeys {
    level: KeyPath,
    side: KeyPath,
    hysteresis: KeyPath,
    latching: KeyPath,
}

const A1: LevelKeys = LevelKeys {
    level: KeyPath::Parameter("Alarm Level A1"),
    side: KeyPath::Parameter("A1Type"),
    hysteresis: KeyPath::Parameter("A1Hysterysis"),
    latching: KeyPath::Parameter("A1Latching"),
};
const A2: LevelKeys = LevelKeys {
    level: KeyPath::Parameter("Alarm Level A2"),
    side: KeyPath::Parameter("A2Type"),
    hysteresis: KeyPath::Parameter("A2Hysterysis"),
    latching: KeyPath::Parameter("A2Latching"),
};
const A3: LevelKeys = LevelKeys {
    level: KeyPath::Parameter("Alarm Level A3"),
    side: KeyPath::Parameter("A3Type"),
    hysteresis: KeyPath::Parameter("A3Hysterysis"),
    latching: KeyPath::Parameter("A3Latching"),
};

/// Parses one payload.
///
/// # Errors
/// The payload names no detector, or is not a JSON object in UTF-8 within the bounds. Other faults are not
/// errors: an unreadable value or level is `None`, and [`Reading::doubtful`] marks all other faults.
pub fn parse(bytes: &[u8], format: &Format) -> Result<Reading, PayloadError> {
    check_size(bytes.len(), format)?;
    let document = Document::read(bytes)?;
    let mut fields = FieldReader {
        document: &document,
        faults: Faults::default(),
        unclear: false,
    };
    if document.has_broken_parameters() {
        fields.faults.doubt(Fault::NotAnObject("Parameters"));
        fields.unclear = true;
    }

    let (decimal_point, scale) = fields.decimal_point(format.decimal_point);
    let value = fields.value().and_then(|value| scale.apply(value));
    let span_high = fields.decimal(KeyPath::Parameter("Span High"));
    let span_low = fields.decimal(KeyPath::Parameter("Span Low"));
    let first = fields.level(&A1, &LevelSetting::default(), scale);
    let a1_type = fields.text_of(A1.side).unwrap_or_else(|| "High".to_owned());
    // A2 and A3 take the settings that they do not have themselves from A1, but never its level.
    let as_first = LevelSetting {
        level: None,
        ..first.clone()
    };
    let levels = [
        first,
        fields.level(&A2, &as_first, scale),
        fields.level(&A3, &as_first, scale),
    ];
    let (timestamp, device_time) = fields.time(format.utc_offset_seconds).unzip();
    let [latitude, longitude] = ["lat", "long"].map(|key| fields.coordinate(key));
    let unit = fields.unit(&format.unit_codes);
    let device_name = fields.text(&NAME, "Unknown Device");
    let gas_type = fields.text(&[KeyPath::Root("Gas")], "Unknown Gas");
    let message_type = fields.text(&[KeyPath::Root("Message Type")], "LOG DATA");
    let sender = fields.text(&[KeyPath::Root("Sender")], "Device");
    let a1_siren = fields.flag(KeyPath::Parameter("A1Siren"));
    let a1_buzzer = fields.flag(KeyPath::Parameter("A1Buzzer"));
    let leds = LEDS.map(|key| fields.flag(key));
    let sensor_fault = fields.sensor_fault();

    let serial = fields.serial();
    let unclear = fields.unclear;
    let faults = fields.faults;
    let device = match serial {
        Serial::Missing => return Err(PayloadError::MissingSerial { others: faults }),
        Serial::NotText => return Err(PayloadError::SerialNotText { others: faults }),
        Serial::Text(text) => match DeviceId::from_str(&text) {
            Ok(device) => device,
            Err(source) => {
                return Err(PayloadError::BadSerial {
                    source,
                    others: faults,
                });
            }
        },
    };

    Ok(Reading {
        device,
        device_name,
        gas_type,
        timestamp,
        device_time,
        unit,
        message_type,
        sender,
        value,
        span_high: span_high.and_then(|span| scale.apply(span)),
        span_low: span_low.and_then(|span| scale.apply(span)),
        levels,
        decimal_point,
        a1_type,
        a1_siren,
        a1_buzzer,
        leds,
        sensor_fault,
        own_alarm: false,
        latitude,
        longitude,
        doubtful: faults.is_doubtful(),
        unclear,
        unknown: UnknownFields::default(),
    })
}

/// Checks the received size of a payload. Only its beginning may have been kept.
///
/// # Errors
/// It is longer than [`Format::max_payload_bytes`].
pub fn check_size(size_bytes: usize, format: &Format) -> Result<(), PayloadError> {
    let max_bytes = format.max_payload_bytes;
    if size_bytes > max_bytes {
        return Err(PayloadError::TooLarge {
            size_bytes,
            max_bytes,
        });
    }
    Ok(())
}

enum Serial {
    Missing,
    NotText,
    Text(String),
}

/// Reads the fields of one payload, and collects their faults.
struct FieldReader<'a> {
    document: &'a Document<'a>,
    faults: Faults,
    /// Whether a field that the alarm rules need could not be read.
    unclear: bool,
}

impl FieldReader<'_> {
    fn serial(&self) -> Serial {
        match self.document.get(SERIAL) {
            None | Some(JsonValue::Null) => Serial::Missing,
            Some(JsonValue::Text(text)) => Serial::Text(text),
            Some(_) => Serial::NotText,
        }
    }

    fn value(&mut self) -> Option<Decimal> {
        let Some((key, value)) = self.first_present(&VALUE) else {
            self.faults.note(Fault::NoReading);
            return None;
        };
        let value = number(&value);
        if value.is_none() {
            self.faults.note(Fault::NotANumber(key.name()));
        }
        value
    }

    fn unit(&mut self, codes: &UnitCodes) -> String {
        let Some((key, value)) = self.first_present(&UNIT) else {
            return "ppm".to_owned();
        };
        if let Some(code) = number(&value) {
            let code = code.to_string();
            if let Some(unit) = codes.lookup(&code) {
                return bounded(unit);
            }
            self.faults.doubt(Fault::UnknownUnitCode(key.name()));
            return bounded(&format!("code {code}"));
        }
        match value.text().map(str::trim) {
            Some(unit) if !unit.is_empty() => bounded(unit),
            _ => {
                self.faults.doubt(Fault::NotAText(key.name()));
                "unknown".to_owned()
            }
        }
    }

    fn level(&mut self, keys: &LevelKeys, fallback: &LevelSetting, scale: Scale) -> LevelSetting {
        // Without a level here, the last known one of the device may apply. That is decided with its state, not here.
        let level = self.document.get(keys.level);
        let readable = level.as_ref().and_then(number);
        if level.is_some() && readable.is_none() {
            self.faults.note(Fault::NotANumber(keys.level.name()));
        }
        let hysteresis = self.decimal(keys.hysteresis);
        self.unclear |= hysteresis.is_none() && self.document.get(keys.hysteresis).is_some();
        let hysteresis = hysteresis.and_then(|hysteresis| scale.apply(hysteresis));
        LevelSetting {
            level: readable.and_then(|level| scale.apply(level)),
            // If it is present and unreadable, the last known one of the device applies, not that of A1.
            side: match self.document.get(keys.side) {
                Some(_) => self.side(keys.side),
                None => fallback.side,
            },
            hysteresis: hysteresis.or(fallback.hysteresis),
            latching: self.rule_flag(keys.latching).or(fallback.latching),
            unknown: UnknownFields::default(),
        }
    }

    fn side(&mut self, key: KeyPath) -> Option<Side> {
        let value = self.document.get(key)?;
        let text = value.text().map(str::trim).unwrap_or_default();
        if text.is_empty() {
            self.faults.doubt(Fault::UnknownSide(key.name()));
            return None;
        }
        if text.starts_with(['l', 'L']) {
            return Some(Side::Low);
        }
        if text.eq_ignore_ascii_case("high") || text.eq_ignore_ascii_case("h") {
            return Some(Side::High);
        }
        self.faults.doubt(Fault::UnknownSide(key.name()));
        None
    }

    /// Returns the device's own time, as received and parsed; `None` if it is missing or unreadable.
    fn time(&mut self, utc_offset_seconds: i32) -> Option<(String, shared::clock::Time)> {
        let (key, value) = self.first_not_blank(&TIME)?;
        let text = value.text().unwrap_or_default();
        let Some(time) = device_time::parse(text, utc_offset_seconds) else {
            self.faults.note(Fault::NotATime(key.name()));
            return None;
        };
        Some((bounded(text), time))
    }

    fn coordinate(&mut self, key: &'static str) -> Coordinate {
        for key in [KeyPath::Root(key), KeyPath::Parameter(key)] {
            match self.document.get(key) {
                Some(JsonValue::Text(text)) if !text.trim().is_empty() => {
                    return Coordinate::Text(bounded(&text));
                }
                Some(value @ JsonValue::Number(_)) => match number(&value) {
                    Some(number) => return Coordinate::Number(number),
                    None => self.faults.note(Fault::NotANumber(key.name())),
                },
                _ => {}
            }
        }
        Coordinate::Text("0.00".to_owned())
    }

    fn text(&mut self, keys: &[KeyPath], default: &str) -> String {
        self.first_not_blank(keys)
            .and_then(|(_, value)| value.as_name().map(bounded))
            .unwrap_or_else(|| default.to_owned())
    }

    fn text_of(&self, key: KeyPath) -> Option<String> {
        let value = self.document.get(key)?;
        let text = value.text()?;
        (!text.trim().is_empty()).then(|| bounded(text))
    }

    fn decimal_point(&mut self, meaning: DecimalPoint) -> (Decimal, Scale) {
        let field = self.document.get(DECIMAL_POINT);
        let places = field.as_ref().and_then(number);
        if field.is_some() && places.is_none() {
            self.faults.doubt(Fault::NotANumber(DECIMAL_POINT.name()));
        }
        let displayed = places.unwrap_or(Decimal::ZERO);
        let scale = match (meaning, field.is_some()) {
            (DecimalPoint::Ignore, _) | (DecimalPoint::Scale, false) => Scale::AsSent,
            (DecimalPoint::Scale, true) => places.map_or(Scale::Unknown, Scale::from_places),
        };
        if scale == Scale::Unknown && places.is_some() {
            self.faults.doubt(Fault::UnknownScale(DECIMAL_POINT.name()));
        }
        (displayed, scale)
    }

    /// Returns the first fault flag that is set. A flag that is 0 or unreadable does not hide the other.
    fn sensor_fault(&mut self) -> Decimal {
        let [newest, old] = FAULT_FLAGS.map(|key| self.rule_flag(key).unwrap_or(Decimal::ZERO));
        let first =
            |wanted: fn(Decimal) -> bool| [newest, old].into_iter().find(|flag| wanted(*flag));
        first(|flag| flag >= Decimal::from_int(1))
            .or_else(|| first(|flag| flag != Decimal::ZERO))
            .unwrap_or(Decimal::ZERO)
    }

    /// Reads a flag; 0 if it is missing or unreadable.
    fn flag(&mut self, key: KeyPath) -> Decimal {
        self.read_flag(key).unwrap_or(Decimal::ZERO)
    }

    /// Reads a flag that the alarm rules need to clear an alarm. If it is unreadable, the reading is unclear.
    fn rule_flag(&mut self, key: KeyPath) -> Option<Decimal> {
        let faults_before = self.faults.count();
        let flag = self.read_flag(key);
        self.unclear |= self.faults.count() > faults_before;
        flag
    }

    /// Reads a flag, if it is present and readable. A value below 0, or between 0 and 1, is neither off nor on: it is a fault.
    fn read_flag(&mut self, key: KeyPath) -> Option<Decimal> {
        let value = self.document.get(key)?;
        let flag = flag(&value);
        let is_clear =
            flag.is_some_and(|flag| flag == Decimal::ZERO || flag >= Decimal::from_int(1));
        if !is_clear {
            self.faults.doubt(Fault::NotAFlag(key.name()));
        }
        flag
    }

    fn decimal(&mut self, key: KeyPath) -> Option<Decimal> {
        let value = self.document.get(key)?;
        let decimal = number(&value);
        if decimal.is_none() {
            self.faults.doubt(Fault::NotANumber(key.name()));
        }
        decimal
    }

    fn first_present(&self, keys: &[KeyPath]) -> Option<(KeyPath, JsonValue<'_>)> {
        keys.iter()
            .find_map(|key| Some((*key, self.document.get(*key)?)))
    }

    fn first_not_blank(&self, keys: &[KeyPath]) -> Option<(KeyPath, JsonValue<'_>)> {
        keys.iter()
            .filter_map(|key| Some((*key, self.document.get(*key)?)))
            .find(|(_, value)| !value.is_null_or_blank())
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
