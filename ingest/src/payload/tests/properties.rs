use std::fmt;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::*;

/// Every key the parser knows and some it does not.
const KEYS: [&str; 30] = [
    "OTSM-2 Serial Number",
    "Device Alias Name",
    "Device Alise Name",
    "Gas",
    "Date Time At Reading",
    "timestamp",
    "Message Type",
    "Sender",
    "Unit of Measurement ",
    "Unit of Measurement",
    "Sensor Reading",
    "lat",
    "long",
    "Parameters",
    "Live Sensor Readings ",
    "Live Sensor Readings",
    "Offset",
    "Span High",
    "Span Low",
    "Alarm Level A1",
    "Alarm Level A2",
    "Decimal Point",
    "A1Type",
    "A1Hysterysis",
    "A1Latching",
    "Alarm 1 LED Status",
    "Sensor Fault",
    "SensorFault",
    "Temperature",
    "",
];

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(KEYS.as_slice()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text serialises")
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| format!("{number:?}")),
        (-5_000_i32..5_000, 0_u32..5).prop_map(|(digits, places)| format!("{digits}e-{places}")),
        (-500_i32..500).prop_map(|number| json_text(&number.to_string())),
        any::<String>().prop_map(|text| json_text(&text)),
        Just(json_text("2026-01-28 11:37:12")),
        Just(json_text("Low")),
        Just("1e999".to_owned()),
    ]
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::collection::vec((key(), value), 0..24).prop_map(|entries| {
        let entries: Vec<_> = entries
            .iter()
            .map(|(key, value)| format!("{}:{value}", json_text(key)))
            .collect();
        format!("{{{}}}", entries.join(","))
    })
}

fn payloads() -> impl Strategy<Value = String> {
    let nested = scalar().prop_recursive(3, 48, 12, |inner| {
        prop_oneof![
            object(inner.clone()),
            proptest::collection::vec(inner, 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
        ]
    });
    (object(nested), object(scalar()), any::<bool>()).prop_map(|(root, parameters, has_both)| {
        // Random keys alone hardly ever have both a serial and parameters.
        match root.strip_suffix('}') {
            Some(open) if has_both => {
                let comma = if open.len() > 1 { "," } else { "" };
                format!(r#"{open}{comma}"OTSM-2 Serial Number":"A","Parameters":{parameters}}}"#)
            }
            _ => root,
        }
    })
}

/// Every number anywhere in a JSON, also of keys that come twice.
#[derive(Default)]
struct Numbers(Vec<f64>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self::default())
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E>(mut self, number: f64) -> Result<Self, E> {
        self.0.push(number);
        Ok(self)
    }

    fn visit_str<E>(mut self, text: &str) -> Result<Self, E> {
        self.0.extend(text.trim().parse::<f64>());
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self, A::Error> {
        while let Some(Self(numbers)) = items.next_element()? {
            self.0.extend(numbers);
        }
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self, A::Error> {
        while let Some((_, Self(numbers))) = entries.next_entry::<IgnoredAny, Self>()? {
            self.0.extend(numbers);
        }
        Ok(self)
    }
}

fn check_bounds(reading: &Reading) {
    for text in [
        &reading.device_name,
        &reading.gas_type,
        &reading.unit,
        &reading.message_type,
        &reading.sender,
        &reading.a1_type,
    ] {
        assert!(text.len() <= MAX_TEXT_BYTES);
    }
    assert!(
        reading
            .timestamp
            .as_ref()
            .is_none_or(|text| text.len() <= MAX_TEXT_BYTES)
    );
    assert_eq!(reading.timestamp.is_some(), reading.device_time.is_some());
    // A stored reading must be readable again, or the state of the device would be treated as lost.
    let stored = serde_json::to_string(reading).expect("a reading serialises");
    let restored: Reading = serde_json::from_str(&stored).expect("a stored reading is readable");
    assert_eq!(restored.value, reading.value);
    // A missing hysteresis is stored as 0.
    let stored_levels = reading.levels.clone().map(|level| LevelSetting {
        hysteresis: Some(level.hysteresis.unwrap_or_default()),
        ..level
    });
    assert_eq!(restored.levels, stored_levels);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(Parsed { reading, .. }) = parse(&bytes, &format()) {
            check_bounds(&reading);
        }
    }

    #[test]
    fn broken_examples_never_panic(at in 0_usize..700, byte in any::<u8>(), end in 0_usize..900) {
        for example in [NEWEST, OLD, MIXED] {
            let mut bytes = example.as_bytes()[..end.min(example.len())].to_vec();
            if let Some(broken) = bytes.get_mut(at) {
                *broken = byte;
            }
            if let Ok(Parsed { reading, .. }) = parse(&bytes, &scaling()) {
                check_bounds(&reading);
            }
        }
    }

    #[test]
    fn every_value_and_level_is_a_number_of_the_payload(text in payloads()) {
        if let Ok(Parsed { reading, .. }) = parse(text.as_bytes(), &format()) {
            check_bounds(&reading);
            // A number too large for a float cannot be a value either.
            let floats = text.replace("1e999", "null");
            let Numbers(sent) = serde_json::from_str(&floats).expect("the text is JSON");
            let levels = reading.levels.iter().filter_map(|level| level.level);
            for value in reading.value.into_iter().chain(levels) {
                let value: f64 = value.to_string().parse().expect("a decimal is a float");
                // `serde_json` may be off by the last bits of a float.
                let slack = |number: f64| (number.abs() * 4.0 * f64::EPSILON).max(1e-11);
                let is_sent = sent.iter().any(|number| (number - value).abs() <= slack(*number));
                prop_assert!(is_sent, "{value} is not in {text}");
            }
        }
    }

    #[test]
    fn scaled_readings_can_be_stored_and_read_again(text in payloads()) {
        if let Ok(Parsed { reading, .. }) = parse(text.as_bytes(), &scaling()) {
            check_bounds(&reading);
        }
    }
}
