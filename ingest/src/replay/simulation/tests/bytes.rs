//! For any bytes that hold the serial of a known detector as the value of its key: the detector is not shown as `NORMAL` and
//! `good` afterwards, unless the bytes are JSON, or only their framing was repaired. And they end no alarm.
//!
//! Reach of the generator: the payloads of the three formats with up to four mutations of `payload/tests/mutations.rs` (bytes and bits changed,
//! removed and inserted, pieces repeated, two payloads joined at any place, values replaced, keys added and repeated, arrays).
//!
//! Not expected: bytes with the key of the serial twice (it is not certain which detector they are about), and an object that is
//! complete and older than the latest reading (it goes into the history).

use fastrand::Rng;
use proptest::prelude::*;
use shared::alarm::ChangeKind;
use shared::reading::Repair;

use super::clocks::{START, at};
use super::detector::{Content, Detector, PayloadFormat};
use super::week::is_normal_and_good;
use super::*;
use crate::payload::ItemContent;
use crate::payload::tests::mutations::mutation::mutated;

const SERIAL: &str = "OTSM-0114";

fn detector(format: PayloadFormat) -> Detector {
    Detector {
        format,
        gas: Some("Carbon Monoxide (CO)"),
        a1_type: Some("High"),
        span: Some(("0", "2000")),
        ..Detector::carbon_monoxide(SERIAL)
    }
}

fn content(value: &str, at_ms: i64) -> Content {
    Content {
        leds: Some([0; 3]),
        ..Content::reading(value, Some(at(at_ms)))
    }
}

/// Whether the bytes hold the serial as the value of its key, found as simply as possible: the exact key, and behind it a text that
/// is complete: another key or the end of the object follows. The key must not come twice.
fn holds_serial(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let is_only = text.to_lowercase().matches("2 serial number").count() == 1;
    let value = |(_, behind): (&str, &str)| {
        let rest = behind.trim_start().strip_prefix(':')?.trim_start();
        let (value, rest) = rest.strip_prefix('"')?.split_once('"')?;
        let rest = rest.trim_start();
        let is_last = rest.starts_with('}');
        let next = rest.trim_start_matches([',', ' ']);
        let is_complete = is_last || (rest.starts_with(',') && next.starts_with(['"', '}']));
        is_complete.then(|| value.to_owned())
    };
    let found = text.split_once("\"OTSM-2 Serial Number\"").and_then(value);
    is_only && found.as_deref() == Some(SERIAL)
}

/// Whether the detector may be as before: every object of the payload that names it parses strictly, or only its framing was
/// repaired.
fn is_clean(bytes: &[u8], simulation: &Simulation) -> bool {
    let format = default_settings().format;
    let items = crate::payload::read(bytes, &format);
    let latest = simulation.state(&SERIAL.parse().expect("a serial"));
    let latest_time = latest.and_then(|state| state.order.latest_time);
    let mut of_detector = items.iter().filter_map(|item| match &item.content {
        ItemContent::Reading(parsed) => Some((parsed, true)),
        ItemContent::Unreadable(parsed, _) | ItemContent::Named(parsed) => Some((parsed, false)),
        ItemContent::Refused(_) => None,
    });
    of_detector.any(|(parsed, is_whole)| {
        let is_of_other = parsed.reading.device.as_str() != SERIAL;
        let is_older = is_whole
            && parsed.reading.device_time.is_some()
            && parsed.reading.device_time < latest_time;
        is_of_other || parsed.facts.repair == Repair::None || is_older
    })
}

fn started(value: &str, format: PayloadFormat) -> Simulation {
    let mut simulation = Simulation::new(default_settings(), START);
    let detector = detector(format);
    for (index, (value, at_ms)) in [("5", 0), ("5", 10_000), (value, 20_000)]
        .into_iter()
        .enumerate()
    {
        let payload = detector.payload(&content(value, at_ms), index);
        simulation.publish(at(at_ms), live(&payload));
    }
    simulation
}

fn formats() -> [PayloadFormat; 3] {
    [
        PayloadFormat::Newest,
        PayloadFormat::Old,
        PayloadFormat::Mixed,
    ]
}

/// A payload of 30 s after the start, mutated.
fn mutated_payload(seed: u64) -> (PayloadFormat, Vec<u8>) {
    let mut rng = Rng::with_seed(seed);
    let seeds: Vec<Vec<u8>> = formats()
        .iter()
        .flat_map(|format| {
            let detector = detector(*format);
            let payload = |value: &str| detector.payload(&content(value, 30_000), 0);
            [payload("5"), payload("1200")]
        })
        .collect();
    let format = formats()[rng.usize(..3)];
    (format, mutated(&seeds, &mut rng))
}

fn check(format: PayloadFormat, bytes: &[u8]) -> Result<(), TestCaseError> {
    let shown = || bytes.escape_ascii().to_string();
    let device: DeviceId = SERIAL.parse().expect("a serial");
    let mut simulation = started("5", format);
    prop_assert!(is_normal_and_good(&simulation, &device));
    if !holds_serial(bytes) || is_clean(bytes, &simulation) {
        return Ok(());
    }
    simulation.publish(at(30_000), live(bytes));
    prop_assert!(!is_normal_and_good(&simulation, &device), "{}", shown());
    simulation.advance_to(at(50_000));
    prop_assert!(!is_normal_and_good(&simulation, &device), "{}", shown());

    // An alarm that stands is not ended.
    let mut simulation = started("1200", format);
    simulation.publish(at(30_000), live(bytes));
    simulation.advance_to(at(50_000));
    let ended = simulation.changes().iter().find(|change| {
        !matches!(
            change.change.kind,
            ChangeKind::Raised | ChangeKind::Escalated
        )
    });
    prop_assert!(ended.is_none(), "{:?} by {}", ended, shown());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_payload_is_never_shown_as_normal(seed in any::<u64>()) {
        let (format, bytes) = mutated_payload(seed);
        check(format, &bytes)?;
    }
}

/// The detector reports 1200 ppm, and one character of its serial's key is damaged. The serial stands in an inner object, too. Such a
/// payload is JSON: it was a dead letter and nothing else, and the detector was `NORMAL` and `good` with the value before.
#[test]
fn json_whose_serial_is_not_in_its_root_is_not_shown_as_normal() {
    let whole =
        String::from_utf8(detector(PayloadFormat::Mixed).payload(&content("1200", 30_000), 0))
            .expect("a text");
    let entry = format!(r#""OTSM-2 Serial Number":"{SERIAL}""#);
    let inner = whole.replace(r#""Parameters":{"#, &format!(r#""Parameters":{{{entry},"#));
    for root in [
        r#""OTSM-2 S[erial Number":"OTSM-0114""#,
        r#""OTSM-2 Serial Numbe":"OTSM-0114""#,
        r#""Sender":"Device""#,
    ] {
        let payload = inner.replacen(&entry, root, 1);
        let bytes = payload.as_bytes();
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok());
        assert!(holds_serial(bytes) && !is_clean(bytes, &started("5", PayloadFormat::Mixed)));
        check(PayloadFormat::Mixed, bytes).expect("it is told");
    }
}
