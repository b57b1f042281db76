//! A detector: what it sends, as bytes.

use shared::clock::Time;
use shared::device::DeviceId;

/// Offset of device times without a zone: the default of `--device-utc-offset`.
const LOCAL_MS: i64 = 19_800_000;

/// The formats in which detectors send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadFormat {
    /// Without gas, span and type; the time is local, in whole seconds.
    Newest,
    /// With gas, span and type; the reading is called `Offset`.
    Old,
    /// With gas, span and type; the time is in UTC, with milliseconds.
    Mixed,
    /// The newest and the old format by turns.
    Alternating,
}

/// The settings of a detector.
#[derive(Clone, Debug)]
pub(super) struct Detector {
    pub(super) serial: &'static str,
    pub(super) name: &'static str,
    pub(super) format: PayloadFormat,
    pub(super) gas: Option<&'static str>,
    pub(super) unit: &'static str,
    /// Code of the unit, in the newest format.
    pub(super) unit_code: u8,
    pub(super) levels: Vec<&'static str>,
    pub(super) a1_type: Option<&'static str>,
    pub(super) span: Option<(&'static str, &'static str)>,
    pub(super) latching: bool,
}

/// What one message says.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// The reading as it stands in the payload.
    pub(super) value: String,
    pub(super) fault: bool,
    /// The LEDs; `None`: the payload has no LED keys.
    pub(super) leds: Option<[u8; 3]>,
    pub(super) time: Option<Time>,
    pub(super) message_type: &'static str,
    /// Different in every message, so that no two have the same bytes. 0 leaves it out.
    pub(super) number: usize,
}

impl Content {
    /// A reading of a healthy detector.
    pub(super) fn reading(value: impl Into<String>, time: Option<Time>) -> Self {
        Self {
            value: value.into(),
            fault: false,
            leds: None,
            time,
            message_type: "LOG DATA",
            number: 0,
        }
    }
}

impl Detector {
    /// A detector of carbon monoxide with levels 250, 500, 1000.
    pub(super) fn carbon_monoxide(serial: &'static str) -> Self {
        Self {
            serial,
            name: "Boiler room",
            format: PayloadFormat::Newest,
            gas: None,
            unit: "ppm",
            unit_code: 1,
            levels: vec!["250", "500", "1000"],
            a1_type: None,
            span: None,
            latching: false,
        }
    }

    /// A detector of oxygen with levels 19.5 Low and 23.5 High.
    pub(super) fn oxygen(serial: &'static str, span_high: Option<&'static str>) -> Self {
        Self {
            name: "Tank",
            format: PayloadFormat::Mixed,
            gas: Some("Oxygen (O2)"),
            unit: "%VOL",
            unit_code: 2,
            levels: vec!["19.5", "23.5"],
            a1_type: Some("Low"),
            span: span_high.map(|high| ("0", high)),
            ..Self::carbon_monoxide(serial)
        }
    }

    pub(super) fn device(&self) -> DeviceId {
        self.serial.parse().expect("a serial")
    }

    /// The payload of the message with this number.
    pub(super) fn payload(&self, content: &Content, message: usize) -> Vec<u8> {
        let format = match self.format {
            PayloadFormat::Alternating if message.is_multiple_of(2) => PayloadFormat::Newest,
            PayloadFormat::Alternating => PayloadFormat::Old,
            format => format,
        };
        let mut root = vec![
            format!(r#""Device Alise Name":"{}""#, self.name),
            format!(r#""OTSM-2 Serial Number":"{}""#, self.serial),
            format!(r#""Message Type":"{}""#, content.message_type),
        ];
        let mut parameters = Vec::new();
        let text = content.time.map(|time| match format {
            PayloadFormat::Mixed => time.to_iso(),
            _ => local_text(time),
        });
        if format == PayloadFormat::Newest {
            root.extend(text.map(|text| format!(r#""Date Time At Reading":"{text}""#)));
            parameters.push(format!(r#""Unit of Measurement ":{}"#, self.unit_code));
        } else {
            root.extend(text.map(|text| format!(r#""timestamp":"{text}""#)));
            root.extend(self.gas.map(|gas| format!(r#""Gas":"{gas}""#)));
            root.push(format!(r#""Unit of Measurement":"{}""#, self.unit));
            parameters.extend(self.a1_type.map(|name| format!(r#""A1Type":"{name}""#)));
            if let Some((low, high)) = self.span {
                parameters.push(format!(r#""Span High":{high},"Span Low":{low}"#));
            }
            let latching = u8::from(self.latching);
            parameters.push(format!(r#""A1Hysterysis":0,"A1Latching":{latching}"#));
        }
        let value_key = match format {
            PayloadFormat::Old => "Offset",
            _ => "Live Sensor Readings ",
        };
        parameters.push(format!(r#""{value_key}":{}"#, content.value));
        for (index, level) in self.levels.iter().enumerate() {
            parameters.push(format!(r#""Alarm Level A{}":{level}"#, index + 1));
        }
        for (index, led) in content.leds.iter().flatten().enumerate() {
            parameters.push(format!(r#""Alarm {} LED Status":{led}"#, index + 1));
        }
        parameters.push(format!(r#""Sensor Fault":{}"#, u8::from(content.fault)));
        if content.number > 0 {
            root.push(format!(r#""lat":"{}""#, content.number));
        }
        root.push(format!(r#""Parameters":{{{}}}"#, parameters.join(",")));
        format!("{{{}}}", root.join(",")).into_bytes()
    }
}

/// Local time in whole seconds, without a zone.
fn local_text(time: Time) -> String {
    let local = Time::from_millis(time.as_millis() + LOCAL_MS).to_iso();
    local[..19].replace('T', " ")
}
