//! A parsed payload. Missing, zero and unreadable are different values. `ingest/README.md` describes the payload formats.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::forward::{UnknownFields, UnknownWord};

/// Stands in [`Reading::unit`] for a unit that is sent and cannot be read.
pub const UNKNOWN_UNIT: &str = "unknown";

/// One reading of one detector, normalised from any payload format. The parser bounds the length of every text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The detector's serial.
    pub device: DeviceId,
    /// Alias of the detector; `Unknown Device` without an alias.
    pub device_name: String,
    /// The gas as full text, e.g. `Carbon Monoxide (CO)`; `Unknown Gas` if it is missing.
    pub gas_type: String,
    /// The device's own time as received, for people; `None` if it is missing.
    pub timestamp: Option<String>,
    /// The device's own time, parsed; `None` if it is missing or unreadable.
    pub device_time: Option<Time>,
    /// Unit of the reading, trimmed; `code <n>` for an unknown code.
    pub unit: String,
    /// `Message Type`; `LOG DATA` if it is missing.
    pub message_type: String,
    /// `Sender`; `Device` if it is missing.
    pub sender: String,
    /// The concentration in [`Self::unit`]; `None` if it is missing or unreadable, never 0 instead.
    pub value: Option<Decimal>,
    /// Upper end of the measuring range, if the device sent a readable one.
    pub span_high: Option<Decimal>,
    /// Lower end of the measuring range, if the device sent a readable one.
    pub span_low: Option<Decimal>,
    /// The three alarm levels, A1 first.
    pub levels: [LevelSetting; 3],
    /// `Decimal Point`, shown as sent; 0 if it is missing.
    pub decimal_point: Decimal,
    /// `A1Type` as text, shown as sent; `High` if it is missing.
    pub a1_type: String,
    /// `A1Siren`; 0 if it is missing.
    pub a1_siren: Decimal,
    /// `A1Buzzer`; 0 if it is missing.
    pub a1_buzzer: Decimal,
    /// The detector's own alarm LEDs, A1 first. A value of 1 or more means lit.
    pub leds: [Decimal; 3],
    /// The fault flag. A value of 1 or more means set; the parser turns any other number but 0 into 1.
    pub sensor_fault: Decimal,
    /// The detector's own `Alarm Status` says something other than normal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_alarm: bool,
    /// Latitude as received, a text or a number.
    pub latitude: Coordinate,
    /// Longitude as received, a text or a number.
    pub longitude: Coordinate,
    /// Something other than the value is unreadable or unknown (unit code, flag, `A1Type`). The quality is `uncertain`.
    pub doubtful: bool,
    /// Something that the alarm rules need is unreadable. The reading may raise alarms and never lowers or clears one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The settings of one alarm level in the device.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LevelSetting {
    /// The level in the unit of the reading; `None` if it is missing or unreadable (0 is a level).
    pub level: Option<Decimal>,
    /// Which side of the level is dangerous; `None` if it is missing, unreadable or an unknown text.
    pub side: Option<Side>,
    /// `A?Hysterysis` in the unit of the reading; `None` if it is missing or unreadable. Stored as 0 then, since releases before
    /// 0.2 expect a number.
    #[serde(with = "zero_without_number")]
    pub hysteresis: Option<Decimal>,
    /// `A?Latching` as sent, 1 or more means latching; `None` if it is missing or unreadable.
    pub latching: Option<Decimal>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Which side of a level is dangerous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// At the level and above it (toxic and combustible gases).
    #[default]
    High,
    /// At the level and below it (oxygen).
    Low,
    /// A side of a newer release. Judged as [`Side::High`] where it may raise; it never lowers.
    #[serde(untagged)]
    Unknown(UnknownWord),
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "High",
            Self::Low => "Low",
            Self::Unknown(word) => word.as_str(),
        })
    }
}

/// A coordinate as received: a text stays a text, a number a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Coordinate {
    /// A JSON number.
    Number(#[serde(with = "number_text")] Decimal),
    /// Any text.
    Text(String),
}

impl Reading {
    /// Whether the detector's fault flag is set.
    #[must_use]
    pub fn has_fault(&self) -> bool {
        self.sensor_fault >= Decimal::from_int(1)
    }

    /// Whether any of the detector's own alarm LEDs is lit.
    #[must_use]
    pub fn has_led(&self) -> bool {
        self.highest_led().is_some()
    }

    /// Returns the highest of the detector's own alarm LEDs that is lit; that of A1 is 0.
    #[must_use]
    pub fn highest_led(&self) -> Option<usize> {
        let one = Decimal::from_int(1);
        self.leds.iter().rposition(|led| *led >= one)
    }
}

/// How far a reading may be trusted, worst first. On the wire in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// The detector is silent, so the values are old.
    Offline,
    /// There is no usable value.
    Bad,
    /// There is a usable value, but something about it is unknown.
    Uncertain,
    /// Known and fresh.
    Good,
}

impl Quality {
    /// Returns its word on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Bad => "bad",
            Self::Uncertain => "uncertain",
            Self::Good => "good",
        }
    }
}

/// What a message says beside its reading. Only its own decision needs it, so it is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct PayloadFacts {
    /// A key for the value is present, even if the value is unreadable.
    pub has_value_key: bool,
    /// The unit is present and readable. Otherwise [`Reading::unit`] is a default or a placeholder.
    pub unit_sent: bool,
    /// The gas is present and readable. Otherwise [`Reading::gas_type`] is a default.
    pub gas_sent: bool,
    /// `Decimal Point` is present and readable.
    pub decimal_point_sent: bool,
    /// A level is present and unreadable, A1 first.
    pub levels_unreadable: [bool; 3],
    /// A latching flag is present and unreadable, A1 first.
    pub latching_unreadable: [bool; 3],
    /// At least one of the LED keys is present.
    pub leds_sent: bool,
    /// Fingerprint of the device's own time as it was sent, if it is present and cannot be read.
    pub unreadable_time: Option<u64>,
    /// Further values of the message: of a key that comes twice, or of a payload that cannot be read as a whole. They may raise
    /// alarms, and are never shown. At most two, the lowest and the highest.
    pub other_values: Vec<Decimal>,
    /// The numbers as they were sent, if the device scales them and this message does not say how.
    pub as_sent: Option<Box<AsSent>>,
    /// How the payload was repaired.
    pub repair: Repair,
    /// The kinds of repair that made it uncertain, one bit each.
    pub repair_kinds: u16,
}

/// Numbers of a message as they were sent, before they are scaled by `Decimal Point`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AsSent {
    /// The value.
    pub value: Option<Decimal>,
    /// Further values, as in [`PayloadFacts::other_values`].
    pub other_values: Vec<Decimal>,
    /// The levels, A1 first.
    pub levels: [Option<Decimal>; 3],
    /// The hysteresis of each level.
    pub hysteresis: [Option<Decimal>; 3],
    /// The span: low and high.
    pub span: [Option<Decimal>; 2],
}

/// How much of a payload had to be repaired before it could be read, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Repair {
    /// Nothing, or only the framing: bytes around or inside the JSON that do not change what it says.
    #[default]
    None,
    /// Only keys that the alarm rules do not use, or whose last known value they use instead.
    Unimportant,
    /// Value, levels, unit, flags, LEDs or time, or the structure of the JSON. The reading may raise, and lowers nothing.
    Important,
    /// The payload cannot be read as a whole. The reading has what could be found: its value is `None`, whatever else is set may
    /// raise, and all other fields are defaults.
    Unreadable,
}

/// Serialises a missing number as 0.
mod zero_without_number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::decimal::Decimal;

    #[expect(clippy::ref_option, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Decimal>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.unwrap_or_default().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Decimal>, D::Error> {
        Decimal::deserialize(deserializer).map(Some)
    }
}

/// Inside an untagged enum serde buffers the value and the raw number is lost, so numbers are read as floats.
mod number_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::decimal::Decimal;

    pub(super) fn serialize<S: Serializer>(
        value: &Decimal,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Decimal, D::Error> {
        let number = f64::deserialize(deserializer)?;
        number.to_string().parse().map_err(D::Error::custom)
    }
}
