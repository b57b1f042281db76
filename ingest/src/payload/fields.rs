//! Reads the fields of a document.

use std::collections::BTreeSet;

use shared::args::UnitCodes;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::forward::UnknownFields;
use shared::reading::{
    AsSent, Coordinate, LevelSetting, PayloadFacts, Reading, Repair, Side, UNKNOWN_UNIT,
};
use shared::visible_text::{clean, cut};
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Document, JsonValue};
use super::error::{Fault, Faults, PayloadError};
use super::field::{Field, trim};
use super::flag::{NormalWords, fault, flag, is_clear, is_set, led};
use super::number::{Scale, number};
use super::repeats::{lowest_and_highest, say_the_same};
use super::{DEFAULT_MESSAGE_TYPE, DecimalPoint, Format, MAX_TEXT_BYTES, Parsed, device_time};

/// The keys of the reading. Those of one list are one key.
const VALUE: [&[Field]; 3] = [
    &[Field::LiveReadingBlank, Field::LiveReading],
    &[Field::SensorReading],
    &[Field::Offset],
];
const NAME: [Field; 2] = [Field::AliasName, Field::AliseName];
const TIME: [Field; 2] = [Field::ReadingTime, Field::Timestamp];
const UNIT: [Field; 4] = [
    Field::UnitBlank,
    Field::Unit,
    Field::RootUnitBlank,
    Field::RootUnit,
];
const LEDS: [Field; 3] = [Field::Led1, Field::Led2, Field::Led3];
/// The fault flag belongs to `Parameters`. One that is set in the root is not ignored.
const FAULT_FLAGS: [Field; 4] = [
    Field::NewestFault,
    Field::OldFault,
    Field::RootNewestFault,
    Field::RootOldFault,
];

/// The keys of one alarm level.
struct LevelKeys {
    level: Field,
    side: Field,
    hysteresis: Field,
    latching: Field,
}

const LEVELS: [LevelKeys; 3] = [
    LevelKeys {
        level: Field::Level1,
        side: Field::Side1,
        hysteresis: Field::Hysteresis1,
        latching: Field::Latching1,
    },
    LevelKeys {
        level: Field::Level2,
        side: Field::Side2,
        hysteresis: Field::Hysteresis2,
        latching: Field::Latching2,
    },
    LevelKeys {
        level: Field::Level3,
        side: Field::Side3,
        hysteresis: Field::Hysteresis3,
        latching: Field::Latching3,
    },
];

/// Reads the fields.
///
/// # Errors
/// The document names no detector. Other faults are not errors: an unreadable value or level is `None`, and
/// [`Reading::doubtful`] marks all other faults.
pub(super) fn read(document: &Document<'_>, format: &Format) -> Result<Parsed, PayloadError> {
    let mut fields = FieldReader::new(document, format);
    if document.has_broken_parameters() {
        fields.faults.doubt(Fault::NotAnObject("Parameters"));
        fields.unclear = true;
    }
    fields.note_repeats();

    let (decimal_point, scale) = fields.decimal_point(format.decimal_point);
    let value = fields.value(scale);
    let span_high = fields.decimal(Field::SpanHigh);
    let span_low = fields.decimal(Field::SpanLow);
    let levels = std::array::from_fn(|index| fields.level(index, scale));
    if format.decimal_point == DecimalPoint::Scale && !fields.facts.decimal_point_sent {
        fields.facts.as_sent = Some(Box::new(as_sent(document, format)));
    }
    let a1_type = fields
        .text_of(Field::Side1)
        .unwrap_or_else(|| "High".to_owned());
    let (timestamp, device_time) = fields.time(format.utc_offset_seconds).unzip();
    let latitude = fields.coordinate([Field::RootLatitude, Field::Latitude]);
    let longitude = fields.coordinate([Field::RootLongitude, Field::Longitude]);
    let unit = fields.unit(&format.unit_codes);
    let device_name = fields.text(&NAME, "Unknown Device");
    let gas_type = fields.gas();
    let message_type = fields.text(&[Field::MessageType], DEFAULT_MESSAGE_TYPE);
    let sender = fields.text(&[Field::Sender], "Device");
    let a1_siren = fields.flag(Field::Siren).unwrap_or_default();
    let a1_buzzer = fields.flag(Field::Buzzer).unwrap_or_default();
    let leds = LEDS.map(|key| fields.led(key));
    let sensor_fault = fields.sensor_fault();
    let own_alarm = is_set(fields.fault(Field::AlarmStatus));

    let serial = fields.serial()?;
    let FieldReader {
        faults,
        unclear,
        facts,
        ..
    } = fields;
    let device = device(serial, &faults)?;
    let reading = Reading {
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
        own_alarm,
        latitude,
        longitude,
        doubtful: faults.is_doubtful(),
        unclear: unclear || facts.repair >= Repair::Important,
        unknown: UnknownFields::default(),
    };
    Ok(Parsed { reading, facts })
}

/// Reads the numbers that are scaled, as they were sent.
fn as_sent(document: &Document<'_>, format: &Format) -> AsSent {
    let mut fields = FieldReader::new(document, format);
    let value = fields.value(Scale::AsSent);
    let levels: [LevelSetting; 3] = std::array::from_fn(|index| fields.level(index, Scale::AsSent));
    let number = |key: Field| document.get(key).as_ref().and_then(number);
    AsSent {
        value,
        other_values: fields.facts.other_values,
        levels: levels.each_ref().map(|setting| setting.level),
        hysteresis: levels.each_ref().map(|setting| setting.hysteresis),
        span: [Field::SpanLow, Field::SpanHigh].map(number),
    }
}

#[derive(PartialEq)]
enum Serial {
    Missing,
    NotText,
    /// Trimmed.
    Text(String),
}

impl Serial {
    fn of(value: JsonValue<'_>) -> Self {
        match value {
            JsonValue::Null => Self::Missing,
            JsonValue::Text(text) => Self::Text(text.trim().to_owned()),
            _ => Self::NotText,
        }
    }

    /// Whether the key has more than nothing.
    fn is_named(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::NotText => true,
            Self::Text(text) => !text.is_empty(),
        }
    }
}

fn device(serial: Serial, faults: &Faults) -> Result<DeviceId, PayloadError> {
    let others = || faults.clone();
    match serial {
        Serial::Missing => Err(PayloadError::MissingSerial { others: others() }),
        Serial::NotText => Err(PayloadError::SerialNotText { others: others() }),
        Serial::Text(text) => text.parse().map_err(|source| PayloadError::BadSerial {
            source,
            others: others(),
        }),
    }
}

/// Reads the fields of one payload, and collects their faults.
struct FieldReader<'d> {
    document: &'d Document<'d>,
    words: &'d NormalWords,
    faults: Faults,
    /// Whether a field that the alarm rules need could not be read.
    unclear: bool,
    facts: PayloadFacts,
}

impl<'d> FieldReader<'d> {
    fn new(document: &'d Document<'d>, format: &'d Format) -> Self {
        Self {
            document,
            words: &format.normal_words,
            faults: Faults::default(),
            unclear: false,
            facts: PayloadFacts::default(),
        }
    }

    /// Notes the keys that come twice with different values.
    fn note_repeats(&mut self) {
        for (field, used, other) in self.document.repeated() {
            if field.repeat() == Repair::Important && !say_the_same(used, other) {
                self.note_repeat(field);
            }
        }
    }

    fn note_repeat(&mut self, field: Field) {
        self.faults.doubt(Fault::Repeated(field.name()));
        self.facts.repair = Repair::Important;
    }

    /// Reads the serial. If its key comes twice, it must be the same.
    fn serial(&self) -> Result<Serial, PayloadError> {
        let all: Vec<Serial> = self.all(Field::Serial).map(Serial::of).collect();
        let (named, empty): (Vec<_>, Vec<_>) = all.into_iter().partition(Serial::is_named);
        let mut all = named.into_iter().chain(empty);
        let first = all.next().unwrap_or(Serial::Missing);
        let others: Vec<Serial> = all
            .filter(|other| *other != first && other.is_named())
            .collect();
        if others.is_empty() {
            return Ok(first);
        }
        let all = [first].into_iter().chain(others);
        let usable: BTreeSet<DeviceId> = all
            .filter_map(|serial| device(serial, &Faults::default()).ok())
            .collect();
        let serials = usable.into_iter().collect();
        Err(PayloadError::AmbiguousSerial { serials })
    }

    fn value(&mut self, scale: Scale) -> Option<Decimal> {
        let is_present = |keys: &&[Field]| keys.iter().any(|key| self.document.has(*key));
        let Some(keys) = VALUE.into_iter().find(is_present) else {
            self.faults.note(Fault::NoReading);
            return None;
        };
        self.facts.has_value_key = true;
        let mut present = keys.iter().filter_map(|key| self.document.get(*key));
        let first = present.next();
        let second = present.next();
        if second.is_some() || self.document.has_repeats() {
            return self.value_of_several(keys, scale);
        }
        let value = first.as_ref().and_then(number);
        if value.is_none() {
            self.faults
                .note(Fault::NotANumber(self.first_of(keys).name()));
        }
        value.and_then(|value| scale.apply(value))
    }

    /// Reads the values of a key that comes twice. Returns the highest; the alarm rules judge all of them, and show
    /// the lowest where A1 is Low.
    fn value_of_several(&mut self, keys: &[Field], scale: Scale) -> Option<Decimal> {
        let document = self.document;
        let all = keys.iter().flat_map(|key| {
            let first = document.get(*key);
            first.into_iter().chain(document.repeats(*key))
        });
        let all: Vec<Option<Decimal>> = all
            .map(|value| number(&value).and_then(|value| scale.apply(value)))
            .collect();
        let key = self.first_of(keys);
        let readable = all.iter().flatten().copied();
        if readable.clone().count() < all.len() {
            self.faults.note(Fault::NotANumber(key.name()));
            if all.len() > 1 {
                self.note_repeat(key);
            }
            self.facts.other_values = lowest_and_highest(readable);
            return None;
        }
        let highest = readable.clone().max();
        if readable.clone().any(|value| Some(value) != highest) {
            self.note_repeat(key);
            let others = readable.filter(|value| Some(*value) != highest);
            self.facts.other_values = lowest_and_highest(others);
        }
        highest
    }

    fn first_of(&self, keys: &[Field]) -> Field {
        let mut keys = keys.iter().copied();
        let fallback = Field::LiveReadingBlank;
        keys.find(|key| self.document.has(*key)).unwrap_or(fallback)
    }

    fn unit(&mut self, codes: &UnitCodes) -> String {
        let Some((key, value)) = self.first_present(&UNIT) else {
            return "ppm".to_owned();
        };
        if let Some(code) = number(&value) {
            let code = code.to_string();
            self.facts.unit_sent = true;
            if let Some(unit) = codes.lookup(&code) {
                return bounded(unit);
            }
            self.faults.doubt(Fault::UnknownUnitCode(key.name()));
            return bounded(&format!("code {code}"));
        }
        match value.text().map(|unit| bounded(trim(unit))) {
            Some(unit) if !trim(&unit).is_empty() => {
                self.facts.unit_sent = true;
                unit
            }
            _ => {
                self.faults.doubt(Fault::NotAText(key.name()));
                UNKNOWN_UNIT.to_owned()
            }
        }
    }

    fn gas(&mut self) -> String {
        let sent = self.first_not_blank(&[Field::Gas]);
        let gas = sent.as_ref().and_then(|(_, value)| value.as_name());
        if let Some(gas) = gas.map(bounded).filter(|gas| !trim(gas).is_empty()) {
            self.facts.gas_sent = true;
            return gas;
        }
        if sent.is_some() {
            self.faults.doubt(Fault::NotAText(Field::Gas.name()));
        }
        "Unknown Gas".to_owned()
    }

    fn level(&mut self, index: usize, scale: Scale) -> LevelSetting {
        let keys = &LEVELS[index];
        // Without a level here, the last known one of the device may apply. That is decided with its state, not here.
        let sent = self.document.get(keys.level);
        let readable = sent.as_ref().and_then(number);
        if sent.is_some() && readable.is_none() {
            self.faults.note(Fault::NotANumber(keys.level.name()));
        }
        let level = readable.and_then(|level| scale.apply(level));
        self.facts.levels_unreadable[index] = sent.is_some() && level.is_none();
        let hysteresis = self.decimal(keys.hysteresis);
        let latching = self.flag(keys.latching);
        self.facts.latching_unreadable[index] =
            latching.is_none() && self.document.has(keys.latching);
        LevelSetting {
            level,
            side: self.side(keys.side),
            hysteresis: hysteresis.and_then(|hysteresis| scale.apply(hysteresis)),
            latching,
            unknown: UnknownFields::default(),
        }
    }

    fn side(&mut self, key: Field) -> Option<Side> {
        let value = self.document.get(key)?;
        let text = value.text().map(trim).unwrap_or_default();
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
            // A text without a digit, such as `--`, stands for no time.
            let text = value
                .as_name()
                .filter(|text| text.contains(|letter: char| letter.is_ascii_digit()));
            self.facts.unreadable_time = text.map(|text| xxh3_64(text.as_bytes()));
            return None;
        };
        Some((bounded(text), time))
    }

    fn coordinate(&mut self, keys: [Field; 2]) -> Coordinate {
        for key in keys {
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

    fn text(&mut self, keys: &[Field], default: &str) -> String {
        self.first_not_blank(keys)
            .and_then(|(_, value)| value.as_name().map(bounded))
            .filter(|text| !trim(text).is_empty())
            .unwrap_or_else(|| default.to_owned())
    }

    fn text_of(&self, key: Field) -> Option<String> {
        let value = self.document.get(key)?;
        let text = value.text()?;
        let text = bounded(text);
        (!text.trim().is_empty()).then_some(text)
    }

    fn decimal_point(&mut self, meaning: DecimalPoint) -> (Decimal, Scale) {
        let field = self.document.get(Field::DecimalPoint);
        let places = field.as_ref().and_then(number);
        let name = Field::DecimalPoint.name();
        if field.is_some() && places.is_none() {
            self.faults.doubt(Fault::NotANumber(name));
        }
        let displayed = places.unwrap_or(Decimal::ZERO);
        let scale = match (meaning, field.is_some()) {
            (DecimalPoint::Ignore, _) | (DecimalPoint::Scale, false) => Scale::AsSent,
            (DecimalPoint::Scale, true) => places.map_or(Scale::Unknown, Scale::from_places),
        };
        if scale == Scale::Unknown && places.is_some() {
            self.faults.doubt(Fault::UnknownScale(name));
        }
        self.facts.decimal_point_sent = places.is_some() && scale != Scale::Unknown;
        (displayed, scale)
    }

    /// Returns the first fault flag that is set, else 0.
    fn sensor_fault(&self) -> Decimal {
        let mut flags = FAULT_FLAGS.iter().map(|key| self.fault(*key));
        flags.find(|flag| is_set(*flag)).unwrap_or_default()
    }

    /// Reads a fault flag or `Alarm Status`; 0 if it is missing. If the key comes twice, the highest: nothing that is set is
    /// hidden.
    fn fault(&self, key: Field) -> Decimal {
        let states = self.all(key).map(|value| fault(&value, self.words));
        states.max().unwrap_or_default()
    }

    /// Reads a LED; 0 if it is missing or unreadable. If the key comes twice, the highest.
    fn led(&mut self, key: Field) -> Decimal {
        let Some(value) = self.document.get(key) else {
            return Decimal::ZERO;
        };
        self.facts.leds_sent = true;
        let states: Vec<Option<Decimal>> =
            self.all(key).map(|value| led(&value, self.words)).collect();
        let is_readable = states.iter().all(|state| state.is_some_and(is_clear));
        if !is_readable || value.is_null_or_blank() {
            self.faults.doubt(Fault::NotAFlag(key.name()));
        }
        let states = states.into_iter().map(Option::unwrap_or_default);
        states.max().unwrap_or_default()
    }

    /// Returns every value of a key that may come twice.
    fn all(&self, key: Field) -> impl Iterator<Item = JsonValue<'d>> {
        let first = self.document.get(key);
        first.into_iter().chain(self.document.repeats(key))
    }

    /// Reads a flag, if it is present and readable.
    fn flag(&mut self, key: Field) -> Option<Decimal> {
        let value = self.document.get(key)?;
        let flag = flag(&value, self.words);
        if flag.is_none() {
            self.faults.doubt(Fault::NotAFlag(key.name()));
        }
        flag
    }

    fn decimal(&mut self, key: Field) -> Option<Decimal> {
        let value = self.document.get(key)?;
        let decimal = number(&value);
        if decimal.is_none() {
            self.faults.doubt(Fault::NotANumber(key.name()));
        }
        decimal
    }

    fn first_present(&self, keys: &[Field]) -> Option<(Field, JsonValue<'d>)> {
        keys.iter()
            .find_map(|key| Some((*key, self.document.get(*key)?)))
    }

    fn first_not_blank(&self, keys: &[Field]) -> Option<(Field, JsonValue<'d>)> {
        keys.iter()
            .filter_map(|key| Some((*key, self.document.get(*key)?)))
            .find(|(_, value)| !value.is_null_or_blank())
    }
}

/// Makes a text fit to be stored and shown.
fn bounded(text: &str) -> String {
    cut(&clean(text), MAX_TEXT_BYTES).to_owned()
}
