use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::device_status::DeviceStatus;
use shared::position::Position;
use shared::profile::Profile;

use super::*;
use crate::feeds::event_size::{MAX_BYTES, MAX_ITEMS};
use crate::test_setup::{self, SILENCE_LIMIT_MS};

const TAKEN: i64 = 1_769_600_232_000;

fn device(name: &str) -> DeviceId {
    name.parse().expect("a serial")
}

/// A row whose text depends on the value, and whose status is `online` if it is below 250.
fn row(name: &str, value: i32) -> Row {
    let at = Time::from_millis(TAKEN);
    let position = Position {
        seq: 1,
        ..Position::default()
    };
    let mut reading = test_setup::reading(name, value);
    reading.own_alarm = value >= 250;
    let state = test_setup::state(reading, position, at);
    Row::of(&state, &Profile::default(), Some(at), at).expect("a reading")
}

/// What a client shows: the rows by device.
#[derive(Debug, Default)]
struct Screen {
    rows: BTreeMap<String, String>,
}

impl Screen {
    fn apply(&mut self, chunk: &FleetChunk) {
        assert!(chunk.rows.len() + chunk.removed.len() <= MAX_ITEMS);
        for row in &chunk.rows {
            let json: serde_json::Value = serde_json::from_str(row.get()).expect("a row");
            let name = json["deviceId"].as_str().expect("a serial").to_owned();
            self.rows.insert(name, row.get().to_owned());
        }
        for device in &chunk.removed {
            let removed = self.rows.remove(device.as_str());
            assert!(removed.is_some(), "{device} was not shown");
        }
    }

    /// Takes everything up to now.
    fn take(&mut self, table: &FleetTable, cursor: &mut FleetCursor, wants: fn(&Row) -> bool) {
        if !table.can_continue(cursor) {
            *cursor = table.cursor();
            self.rows.clear();
        }
        let until = table.version();
        loop {
            let chunk = table.next(cursor, until, |_, row| {
                wants(row).then(|| Arc::clone(&row.text))
            });
            self.apply(&chunk);
            if !chunk.has_more {
                return;
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a client may be shown nothing")]
fn everything(_: &DeviceId, row: &Row) -> Option<Arc<RawValue>> {
    Some(Arc::clone(&row.text))
}

fn any(_: &Row) -> bool {
    true
}

fn is_online(row: &Row) -> bool {
    row.status == DeviceStatus::Online
}

#[test]
fn a_client_gets_everything_in_chunks_and_then_what_changes() {
    let mut table = FleetTable::default();
    let name = |number: usize| format!("D{number:03}");
    for number in 0..250 {
        table.set(&device(&name(number)), row(&name(number), 1));
    }
    let mut cursor = table.cursor();
    let mut sizes = Vec::new();
    loop {
        let chunk = table.next(&mut cursor, table.version(), everything);
        sizes.push(chunk.rows.len());
        if !chunk.has_more {
            break;
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 250);
    assert!(
        sizes.iter().all(|size| (1..=MAX_ITEMS).contains(size)),
        "{sizes:?}"
    );
    table.set(&device("D007"), row("D007", 1));
    let same = table.next(&mut cursor, table.version(), everything);
    assert!(same.is_empty(), "{same:?}");
    table.set(&device("D007"), row("D007", 2));
    table.set(&device("D007"), row("D007", 3));
    table.remove(&device("D008"));
    let chunk = table.next(&mut cursor, table.version(), everything);
    assert_eq!(chunk.rows.len(), 1);
    assert!(chunk.rows[0].get().contains(r#""sensor_reading":3"#));
    assert_eq!(chunk.removed, [device("D008")]);
}

/// An event must fit into the smallest outbox.
#[test]
fn events_with_long_rows_have_fewer_of_them() {
    let mut table = FleetTable::default();
    let mut cursor = table.cursor();
    let name = |number: usize| format!("{}{number:03}", "\"".repeat(125));
    for number in 0..MAX_ITEMS {
        let name = name(number);
        table.set(&device(&name), row(&name, 1));
    }
    let (mut rows, mut removed) = (0, 0);
    for _ in 0..2 {
        loop {
            let chunk = table.next(&mut cursor, table.version(), everything);
            let texts = chunk.rows.iter().map(|row| row.get().len());
            let names = chunk.removed.iter().map(|device| {
                let text = serde_json::to_string(device).expect("a serial");
                text.len()
            });
            assert!(texts.chain(names).sum::<usize>() <= MAX_BYTES);
            assert!(!chunk.is_empty());
            rows += chunk.rows.len();
            removed += chunk.removed.len();
            if !chunk.has_more {
                break;
            }
        }
        for number in 0..MAX_ITEMS {
            table.remove(&device(&name(number)));
        }
    }
    assert_eq!((rows, removed), (MAX_ITEMS, MAX_ITEMS));
}

#[test]
fn a_silent_device_changes_by_the_clock_and_once() {
    let mut table = FleetTable::default();
    table.set(&device("A"), row("A", 1));
    let mut cursor = table.cursor();
    table.next(&mut cursor, table.version(), everything);
    table.expire(Time::from_millis(TAKEN + SILENCE_LIMIT_MS));
    assert!(
        table
            .next(&mut cursor, table.version(), everything)
            .is_empty()
    );
    table.expire(Time::from_millis(TAKEN + SILENCE_LIMIT_MS + 1));
    table.expire(Time::from_millis(TAKEN + SILENCE_LIMIT_MS + 2));
    let chunk = table.next(&mut cursor, table.version(), everything);
    assert_eq!(chunk.rows.len(), 1);
    assert!(chunk.rows[0].get().contains(r#""status":"offline""#));
}

#[test]
fn clients_start_again_when_very_many_devices_are_gone() {
    let mut table = FleetTable::default();
    table.set(&device("A"), row("A", 1));
    let mut screen = Screen::default();
    let mut cursor = table.cursor();
    screen.take(&table, &mut cursor, any);
    for number in 0..=MAX_GONE {
        let name = format!("D{number}");
        table.set(&device(&name), row(&name, 1));
        table.remove(&device(&name));
    }
    assert!(!table.can_continue(&cursor));
    // Slots belong to others now: nothing may be told by what the client was shown.
    assert!(table.next_changes(&mut cursor, |_, _| None).is_none());
    assert_eq!(table.entries.len(), 1);
    screen.take(&table, &mut cursor, any);
    assert_eq!(screen.rows.keys().collect::<Vec<_>>(), ["A"]);
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, i32),
    Remove(usize),
    Doubt(usize),
    /// A chunk is taken by the client with this number.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_usize, prop_oneof![Just(1), Just(2), Just(300)]).prop_map(|(d, v)| Step::Set(d, v)),
        1 => (0..6_usize).prop_map(Step::Remove),
        1 => (0..6_usize).prop_map(Step::Doubt),
        2 => (0..2_usize).prop_map(Step::Take),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whenever clients take what there is, they show in the end what is there and wanted, whatever happened meanwhile.
    #[test]
    fn every_client_shows_the_table_in_the_end(steps in steps()) {
        let mut table = FleetTable::default();
        let wants: [fn(&Row) -> bool; 2] = [any, is_online];
        let mut clients = [0, 1].map(|_| (Screen::default(), table.cursor()));
        for step in steps {
            let name = |number: usize| format!("D{number}");
            match step {
                Step::Set(number, value) => table.set(&device(&name(number)), row(&name(number), value)),
                Step::Remove(number) => table.remove(&device(&name(number))),
                Step::Doubt(number) => table.doubt(&device(&name(number))),
                Step::Take(client) => {
                    let (screen, cursor) = &mut clients[client];
                    screen.take(&table, cursor, wants[client]);
                }
            }
        }
        for ((screen, cursor), wants) in clients.iter_mut().zip(wants) {
            screen.take(&table, cursor, wants);
            let expected: BTreeMap<String, String> = table
                .entries
                .iter()
                .filter_map(|entry| {
                    let row = entry.row.as_ref().filter(|row| wants(row))?;
                    Some((entry.device.to_string(), row.text.get().to_owned()))
                })
                .collect();
            prop_assert_eq!(&screen.rows, &expected);
        }
    }
}
