//! What one payload says, parsed once: missing, zero and unreadable are three different values.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;

/// One reading of one detector, normalised from either payload format. Every text is bounded by the parser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The detector's serial.
    pub device: DeviceId,
    /// Alias of the detector; `Unknown Device` without one.
    pub device_name: String,
    /// The gas by its full text, e.g. `Carbon Monoxide (CO)`; `Unknown Gas` without one.
    pub gas_type: String,
    /// The device's own time as it was received, shown to people; `None` if there was none.
    pub timestamp: Option<String>,
    /// The same as a moment of the device's clock; `None` if it is missing or unreadable.
    pub device_time: Option<Time>,
    /// Unit of the reading, trimmed; `code <n>` for an unknown code.
    pub unit: String,
    /// `Message Type`; `LOG DATA` without one.
    pub message_type: String,
    /// `Sender`; `Device` without one.
    pub sender: String,
    /// The concentration in [`Self::unit`]; `None` if it is missing or unreadable, which is never zero.
    pub value: Option<Decimal>,
    /// Upper end of the measuring range, if the device sent a readable one.
    pub span_high: Option<Decimal>,
    /// Lower end of the measuring range, if the device sent a readable one.
    pub span_low: Option<Decimal>,
    /// The three alarm levels, A1 first.
    pub levels: [LevelSetting; 3],
    /// `Decimal Point`, shown as sent; 0 without one.
    pub decimal_point: Decimal,
    /// `A1Type` as text, shown as sent; `High` without one.
    pub a1_type: String,
    /// `A1Siren`; 0 without one.
    pub a1_siren: Decimal,
    /// `A1Buzzer`; 0 without one.
    pub a1_buzzer: Decimal,
    /// The detector's own alarm LEDs, A1 first; set from 1 on.
    pub leds: [Decimal; 3],
    /// The fault flag; set from 1 on.
    pub sensor_fault: Decimal,
    /// Latitude as received: a text, or a number as its JSON text says.
    pub latitude: Coordinate,
    /// Longitude, likewise.
    pub longitude: Coordinate,
    /// Something but the value could not be read or is not known (unit code, flag, `A1Type`): quality `uncertain`.
    pub doubtful: bool,
    /// A flag that judging needs could not be read: the reading may raise, but prove nothing over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

/// How one alarm level is set in the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LevelSetting {
    /// The level in the unit of the reading; `None` if it is missing or unreadable (0 is a level).
    pub level: Option<Decimal>,
    /// Which side of the level is dangerous; `None` if it is missing, unreadable or an unknown word.
    pub side: Option<Side>,
    /// `A?Hysterysis` in the unit of the reading; 0 if it was not sent.
    pub hysteresis: Decimal,
    /// `A?Latching` as sent, latching from 1 on; `None` if it is missing or unreadable.
    pub latching: Option<Decimal>,
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
        self.leds.iter().any(|led| *led >= Decimal::from_int(1))
    }
}

/// How far a reading may be trusted, worst first; its wire word is lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// The detector is silent: the values are old.
    Offline,
    /// There is no usable value.
    Bad,
    /// There is a value, but something about it is not known.
    Uncertain,
    /// Known and fresh.
    Good,
}

/// Inside an untagged enum serde buffers the value, so that the raw number is gone: numbers pass as floats there.
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
