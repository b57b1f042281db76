//! The keys that the parser knows. `ingest/README.md` lists what each of them means.

use shared::reading::Repair;

/// The object that contains a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    /// The object `Parameters` of the root.
    Parameters,
}

/// A known key, in the order of [`KEYS`]. Detectors do misspell some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Serial,
    AliasName,
    AliseName,
    Gas,
    ReadingTime,
    Timestamp,
    MessageType,
    Sender,
    RootUnitBlank,
    RootUnit,
    SensorReading,
    AlarmStatus,
    RootNewestFault,
    RootOldFault,
    RootLatitude,
    RootLongitude,
    Parameters,
    LiveReadingBlank,
    LiveReading,
    Offset,
    UnitBlank,
    Unit,
    SpanHigh,
    SpanLow,
    Level1,
    Level2,
    Level3,
    Side1,
    Side2,
    Side3,
    Hysteresis1,
    Hysteresis2,
    Hysteresis3,
    Latching1,
    Latching2,
    Latching3,
    DecimalPoint,
    Siren,
    Buzzer,
    Led1,
    Led2,
    Led3,
    NewestFault,
    OldFault,
    Latitude,
    Longitude,
}

/// Every known key with its place. Those of the root come first.
const KEYS: [(Field, &str); Field::COUNT] = [
    (Field::Serial, "OTSM-2 Serial Number"),
    (Field::AliasName, "Device Alias Name"),
    (Field::AliseName, "Device Alise Name"),
    (Field::Gas, "Gas"),
    (Field::ReadingTime, "Date Time At Reading"),
    (Field::Timestamp, "timestamp"),
    (Field::MessageType, "Message Type"),
    (Field::Sender, "Sender"),
    (Field::RootUnitBlank, "Unit of Measurement "),
    (Field::RootUnit, "Unit of Measurement"),
    (Field::SensorReading, "Sensor Reading"),
    (Field::AlarmStatus, "Alarm Status"),
    (Field::RootNewestFault, "Sensor Fault"),
    (Field::RootOldFault, "SensorFault"),
    (Field::RootLatitude, "lat"),
    (Field::RootLongitude, "long"),
    (Field::Parameters, "Parameters"),
    (Field::LiveReadingBlank, "Live Sensor Readings "),
    (Field::LiveReading, "Live Sensor Readings"),
    (Field::Offset, "Offset"),
    (Field::UnitBlank, "Unit of Measurement "),
    (Field::Unit, "Unit of Measurement"),
    (Field::SpanHigh, "Span High"),
    (Field::SpanLow, "Span Low"),
    (Field::Level1, "Alarm Level A1"),
    (Field::Level2, "Alarm Level A2"),
    (Field::Level3, "Alarm Level A3"),
    (Field::Side1, "A1Type"),
    (Field::Side2, "A2Type"),
    (Field::Side3, "A3Type"),
    (Field::Hysteresis1, "A1Hysterysis"),
    (Field::Hysteresis2, "A2Hysterysis"),
    (Field::Hysteresis3, "A3Hysterysis"),
    (Field::Latching1, "A1Latching"),
    (Field::Latching2, "A2Latching"),
    (Field::Latching3, "A3Latching"),
    (Field::DecimalPoint, "Decimal Point"),
    (Field::Siren, "A1Siren"),
    (Field::Buzzer, "A1Buzzer"),
    (Field::Led1, "Alarm 1 LED Status"),
    (Field::Led2, "Alarm 2 LED Status"),
    (Field::Led3, "Alarm 3 LED Status"),
    (Field::NewestFault, "Sensor Fault"),
    (Field::OldFault, "SensorFault"),
    (Field::Latitude, "lat"),
    (Field::Longitude, "long"),
];

/// How a key of a payload was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) field: Field,
    /// Whether case and blanks match. Otherwise another key may match better.
    pub(super) is_exact: bool,
}

impl Field {
    /// The number of known keys.
    pub(super) const COUNT: usize = 46;

    /// The key, with its blanks.
    pub(super) fn name(self) -> &'static str {
        KEYS[self as usize].1
    }

    pub(super) fn place(self) -> Place {
        if self as usize <= Self::Parameters as usize {
            Place::Root
        } else {
            Place::Parameters
        }
    }

    /// Recognises a key of an object: exactly, else without surrounding blanks and case.
    pub(super) fn find(place: Place, key: &str) -> Option<Match> {
        let keys = keys_in(place);
        let found = |is_exact| {
            move |(field, _): &(Self, &str)| Match {
                field: *field,
                is_exact,
            }
        };
        let exact = keys.iter().find(|(_, name)| *name == key);
        exact.map(found(true)).or_else(|| {
            let key = trim(key);
            let similar = |name: &str| name.trim_end().eq_ignore_ascii_case(key);
            keys.iter()
                .find(|(_, name)| similar(name))
                .map(found(false))
        })
    }

    /// Recognises a key without knowing the object that contains it.
    pub(super) fn find_anywhere(key: &str) -> Option<Self> {
        let found = Self::find(Place::Parameters, key).or_else(|| Self::find(Place::Root, key));
        found.map(|found| found.field)
    }

    /// The key that differs from this one only by a trailing blank.
    pub(super) fn with_other_blank(self) -> Option<Self> {
        match self {
            Self::LiveReadingBlank => Some(Self::LiveReading),
            Self::LiveReading => Some(Self::LiveReadingBlank),
            Self::UnitBlank => Some(Self::Unit),
            Self::Unit => Some(Self::UnitBlank),
            Self::RootUnitBlank => Some(Self::RootUnit),
            Self::RootUnit => Some(Self::RootUnitBlank),
            _ => None,
        }
    }

    /// Whether the key has the state of a lamp, of a fault or of an alarm. Words are allowed there, and an odd one means "set".
    pub(super) fn takes_words(self) -> bool {
        matches!(
            self,
            Self::AlarmStatus
                | Self::Led1
                | Self::Led2
                | Self::Led3
                | Self::NewestFault
                | Self::OldFault
                | Self::RootNewestFault
                | Self::RootOldFault
        )
    }

    /// What different values of a repeated key amount to.
    pub(super) fn repeat(self) -> Repair {
        if self.has_last_known() {
            Repair::Important
        } else {
            self.repair()
        }
    }

    /// Whether an unreadable value is replaced by one that is no less sensitive: the last known one.
    fn has_last_known(self) -> bool {
        matches!(
            self,
            Self::Hysteresis1
                | Self::Hysteresis2
                | Self::Hysteresis3
                | Self::Latching1
                | Self::Latching2
                | Self::Latching3
        )
    }

    /// What a repair of the key or its value amounts to.
    pub(super) fn repair(self) -> Repair {
        match self {
            _ if self.has_last_known() => Repair::Unimportant,
            Self::AliasName
            | Self::AliseName
            | Self::Sender
            | Self::RootLatitude
            | Self::RootLongitude
            | Self::Siren
            | Self::Buzzer
            | Self::Latitude
            | Self::Longitude => Repair::Unimportant,
            _ => Repair::Important,
        }
    }
}

fn keys_in(place: Place) -> &'static [(Field, &'static str)] {
    let (root, parameters) = KEYS.split_at(Field::Parameters as usize + 1);
    match place {
        Place::Root => root,
        Place::Parameters => parameters,
    }
}

/// Removes blanks and control characters around a text. Firmware pads texts with NUL, too.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_in_the_order_of_the_fields() {
        for (index, (field, _)) in KEYS.iter().enumerate() {
            assert_eq!(*field as usize, index, "{field:?}");
        }
    }
}
