use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use shared::position::Position;
use shared::profile::Profile;

use super::*;
use crate::access::permission::DevicePattern;
use crate::feeds::fleet_table::FleetTable;
use crate::test_setup;

const SERIALS: [&str; 5] = ["OTSM-0114", "OTSM-0115", "OTSM-0200", "XTSM-1", "*"];
const PATTERNS: [&str; 7] = [
    "*",
    "OTSM-*",
    "OTSM-01*",
    "OTSM-0114",
    "*1",
    "XTSM",
    "OTSM-0200",
];

fn row(serial: &str, value: i32) -> Row {
    let at = Time::from_millis(1_769_600_232_000);
    let state = test_setup::state(test_setup::reading(serial, value), Position::default(), at);
    let profile = Profile::default();
    let row = Row::of(&state, &profile, Some(at), at).expect("a reading");
    row.with_location(&state, &profile, Some(Time::from_millis(value.into())))
}

fn serial_of(text: &RawValue) -> String {
    let json: Value = serde_json::from_str(text.get()).expect("an object");
    json["deviceId"].as_str().expect("a serial").to_owned()
}

/// Whether a serial matches a pattern, written without the code under test.
fn is_named(pattern: &str, serial: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => serial.ends_with(end),
        (None, Some(start)) => serial.starts_with(start),
        (None, None) => serial == pattern,
    }
}

proptest! {
    /// Whatever happens to devices, a client is shown exactly those that it may read.
    #[test]
    fn nothing_is_shown_of_a_device_that_the_client_may_not_read(
        patterns in proptest::sample::subsequence(PATTERNS.to_vec(), 0..4),
        verbs in proptest::sample::subsequence(vec![Verb::Read, Verb::Ack, Verb::Admin], 0..=3),
        changes in proptest::collection::vec((0..SERIALS.len(), 0..4_i32), 1..24),
    ) {
        let devices = patterns.iter().filter_map(|pattern| DevicePattern::parse(pattern));
        let permission = Permission::new(verbs.clone(), devices.collect());
        let mut table = FleetTable::default();
        let mut cursor = table.cursor();
        let mut expected = BTreeSet::new();
        let mut found = BTreeSet::new();
        for (device, value) in changes {
            let serial = SERIALS[device];
            table.set(&serial.parse().expect("a serial"), row(serial, value));
            let may_read = verbs.contains(&Verb::Read)
                && patterns.iter().any(|pattern| is_named(pattern, serial));
            if may_read {
                expected.insert(serial.to_owned());
            }
            let shows = |device: &DeviceId, row: &Row| shown(&permission, device, row);
            let chunk = table.next_changes(&mut cursor, shows).expect("nothing is gone");
            found.extend(chunk.rows.iter().map(|text| serial_of(text)));
            prop_assert!(chunk.removed.is_empty());
        }
        prop_assert_eq!(found, expected);
    }
}
