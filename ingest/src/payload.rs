//! One payload of a detector, parsed once: bytes in, a [`Reading`] or every fault of the payload out.
//!
//! Both live formats are read by the same rules. Of the keys that can hold the value or its unit, the first that is
//! *present* decides, even if nothing can be made of it: a broken live reading must not be covered by an old `Offset`.
//! Names, times and places come from the first key that is present and not empty. Whatever is there and cannot be
//! read makes the reading doubtful, never wrong: no number is guessed, and nothing unreadable turns into zero
//! except flags, which are then marked.

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

use document::{Document, Key, Value};
use number::{Scale, flag, number};

/// The longest payload that is parsed unless the operator says otherwise.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 65_536;

/// The longest text kept of any key; what is longer is cut at a character.
pub const MAX_TEXT_BYTES: usize = 256;

/// What the operator told about the payloads, because they do not say it themselves.
#[derive(Clone, Debug)]
pub struct Format {
    /// Zone of device times that name none, in seconds east of UTC.
    pub utc_offset_seconds: i32,
    /// The units behind the numeric codes.
    pub unit_codes: UnitCodes,
    /// What `Decimal Point` means.
    pub decimal_point: DecimalPoint,
    /// A longer payload is refused before anything of it is read.
    pub max_payload_bytes: usize,
}

/// What a `Decimal Point` of n means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DecimalPoint {
    /// Nothing: numbers mean what they say, the key is only shown.
    #[default]
    Ignore,
    /// Value, alarm levels, hysteresis and span are integers to be divided by ten to the power of n.
    Scale,
}

const SERIAL: Key = Key::Root("OTSM-2 Serial Number");
const NAME: [Key; 2] = [
    Key::Root("Device Alias Name"),
    Key::Root("Device Alise Name"),
];
const TIME: [Key; 2] = [Key::Root("Date Time At Reading"), Key::Root("timestamp")];
const UNIT: [Key; 4] = [
    Key::Parameter("Unit of Measurement "),
    Key::Parameter("Unit of Measurement"),
    Key::Root("Unit of Measurement "),
    Key::Root("Unit of Measurement"),
];
const VALUE: [Key; 4] = [
    Key::Parameter("Live Sensor Readings "),
    Key::Parameter("Live Sensor Readings"),
    Key::Root("Sensor Reading"),
    Key::Parameter("Offset"),
];
const FAULT_FLAGS: [Key; 2] = [
    Key::Parameter("Sensor Fault"),
    Key::Parameter("SensorFault"),
];
const LEDS: [Key; 3] = [
    Key::Parameter("Alarm 1 LED Status"),
    Key::Parameter("Alarm 2 LED Status"),
    Key::Parameter("Alarm 3 LED Status"),
];
const DECIMAL_POINT: Key = Key::Parameter("Decimal Point");

/// The keys of one alarm level; the misspelling is the detector's.
struct LevelKeys {
    level: Key,
    side: Key,
    hysteresis: Key,
    latching: Key,
}

const A1: LevelKeys = LevelKeys {
    level: Key::Parameter("Alarm Level A1"),
    side: Key::Parameter("A1Type"),
    hysteresis: Key::Parameter("A1Hysterysis"),
    latching: Key::Parameter("A1Latching"),
};
const A2: LevelKeys = LevelKeys {
    level: Key::Parameter("Alarm Level A2"),
    side: Key::Parameter("A2Type"),
    hysteresis: Key::Parameter("A2Hysterysis"),
    latching: Key::Parameter("A2Latching"),
};
const A3: LevelKeys = LevelKeys {
    level: Key::Parameter("Alarm Level A3"),
    side: Key::Parameter("A3Type"),
    hysteresis: Key::Parameter("A3Hysterysis"),
    latching: Key::Parameter("A3Latching"),
};

/// Reads one payload.
///
/// # Errors
/// The payload names no detector, or is not a JSON object in UTF-8 within the bounds. Anything else that is wrong with
/// it is told by the reading itself: `None` for the value or a level, [`Reading::doubtful`] for the rest.
pub fn parse(bytes: &[u8], format: &Format) -> Result<Reading, PayloadError> {
    check_size(bytes.len(), format)?;
    let document = Document::read(bytes)?;
    let mut fields = Fields {
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
    let span_high = fields.decimal(Key::Parameter("Span High"));
    let span_low = fields.decimal(Key::Parameter("Span Low"));
    let first = fields.level(&A1, &LevelSetting::default(), scale);
    let a1_type = fields.shown(A1.side).unwrap_or_else(|| "High".to_owned());
    // What A2 and A3 do not say themselves is as in A1; their levels are never taken from it.
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
    let gas_type = fields.text(&[Key::Root("Gas")], "Unknown Gas");
    let message_type = fields.text(&[Key::Root("Message Type")], "LOG DATA");
    let sender = fields.text(&[Key::Root("Sender")], "Device");
    let a1_siren = fields.flag(Key::Parameter("A1Siren"));
    let a1_buzzer = fields.flag(Key::Parameter("A1Buzzer"));
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
        latitude,
        longitude,
        doubtful: faults.is_doubtful(),
        unclear,
        unknown: UnknownFields::default(),
    })
}

/// Refuses a payload of this size, of which only the beginning may be at hand.
///
/// # Errors
/// It is above the bound.
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

/// The keys of one payload and what was found wrong with them so far.
struct Fields<'a> {
    document: &'a Document<'a>,
    faults: Faults,
    /// A flag that judging needs could not be read.
    unclear: bool,
}

impl Fields<'_> {
    fn serial(&self) -> Serial {
        match self.document.get(SERIAL) {
            None | Some(Value::Null) => Serial::Missing,
            Some(Value::Text(text)) => Serial::Text(text),
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
        // Which level counts where this one says nothing is decided with the device's last known one, not here.
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
            // One that is there and cannot be read is the last known one, not that of A1.
            side: match self.document.get(keys.side) {
                Some(_) => self.side(keys.side),
                None => fallback.side,
            },
            hysteresis: hysteresis.unwrap_or(fallback.hysteresis),
            latching: self.judged_flag(keys.latching).or(fallback.latching),
            unknown: UnknownFields::default(),
        }
    }

    fn side(&mut self, key: Key) -> Option<Side> {
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

    /// The device's own time, as received and as a moment; nothing if it cannot be told.
    fn time(&mut self, utc_offset_seconds: i32) -> Option<(String, shared::clock::Time)> {
        let (key, value) = self.first_filled(&TIME)?;
        let text = value.text().unwrap_or_default();
        let Some(time) = device_time::parse(text, utc_offset_seconds) else {
            self.faults.note(Fault::NotATime(key.name()));
            return None;
        };
        Some((bounded(text), time))
    }

    fn coordinate(&mut self, key: &'static str) -> Coordinate {
        for key in [Key::Root(key), Key::Parameter(key)] {
            match self.document.get(key) {
                Some(Value::Text(text)) if !text.trim().is_empty() => {
                    return Coordinate::Text(bounded(&text));
                }
                Some(value @ Value::Number(_)) => match number(&value) {
                    Some(number) => return Coordinate::Number(number),
                    None => self.faults.note(Fault::NotANumber(key.name())),
                },
                _ => {}
            }
        }
        Coordinate::Text("0.00".to_owned())
    }

    fn text(&mut self, keys: &[Key], default: &str) -> String {
        self.first_filled(keys)
            .and_then(|(_, value)| value.shown().map(bounded))
            .unwrap_or_else(|| default.to_owned())
    }

    fn shown(&self, key: Key) -> Option<String> {
        let value = self.document.get(key)?;
        let text = value.text()?;
        (!text.trim().is_empty()).then(|| bounded(text))
    }

    fn decimal_point(&mut self, meaning: DecimalPoint) -> (Decimal, Scale) {
        let sent = self.document.get(DECIMAL_POINT);
        let places = sent.as_ref().and_then(number);
        if sent.is_some() && places.is_none() {
            self.faults.doubt(Fault::NotANumber(DECIMAL_POINT.name()));
        }
        let shown = places.unwrap_or(Decimal::ZERO);
        let scale = match (meaning, sent.is_some()) {
            (DecimalPoint::Ignore, _) | (DecimalPoint::Scale, false) => Scale::AsSent,
            (DecimalPoint::Scale, true) => places.map_or(Scale::Unknown, Scale::from_places),
        };
        if scale == Scale::Unknown && places.is_some() {
            self.faults.doubt(Fault::UnknownScale(DECIMAL_POINT.name()));
        }
        (shown, scale)
    }

    /// The first of the fault flags that is set, so that one which says nothing cannot hide the other.
    fn sensor_fault(&mut self) -> Decimal {
        let [newest, old] = FAULT_FLAGS.map(|key| self.judged_flag(key).unwrap_or(Decimal::ZERO));
        let first =
            |wanted: fn(Decimal) -> bool| [newest, old].into_iter().find(|flag| wanted(*flag));
        first(|flag| flag >= Decimal::from_int(1))
            .or_else(|| first(|flag| flag != Decimal::ZERO))
            .unwrap_or(Decimal::ZERO)
    }

    fn flag(&mut self, key: Key) -> Decimal {
        self.set_flag(key).unwrap_or(Decimal::ZERO)
    }

    /// A flag that judging needs: one that cannot be read leaves the whole reading unclear.
    fn judged_flag(&mut self, key: Key) -> Option<Decimal> {
        let found = self.faults.count();
        let flag = self.set_flag(key);
        self.unclear |= self.faults.count() > found;
        flag
    }

    /// A flag, if it was sent and can be read; between 0 and 1, or below 0, it is neither off nor on.
    fn set_flag(&mut self, key: Key) -> Option<Decimal> {
        let value = self.document.get(key)?;
        let flag = flag(&value);
        let is_clear =
            flag.is_some_and(|flag| flag == Decimal::ZERO || flag >= Decimal::from_int(1));
        if !is_clear {
            self.faults.doubt(Fault::NotAFlag(key.name()));
        }
        flag
    }

    fn decimal(&mut self, key: Key) -> Option<Decimal> {
        let value = self.document.get(key)?;
        let decimal = number(&value);
        if decimal.is_none() {
            self.faults.doubt(Fault::NotANumber(key.name()));
        }
        decimal
    }

    fn first_present(&self, keys: &[Key]) -> Option<(Key, Value<'_>)> {
        keys.iter()
            .find_map(|key| Some((*key, self.document.get(*key)?)))
    }

    fn first_filled(&self, keys: &[Key]) -> Option<(Key, Value<'_>)> {
        keys.iter()
            .filter_map(|key| Some((*key, self.document.get(*key)?)))
            .find(|(_, value)| !value.is_empty())
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
