use std::collections::HashMap;

use super::*;

/// The hash of a device, as Redis has it.
#[derive(Default)]
pub(super) struct Hash(HashMap<&'static str, Vec<u8>>);

impl Hash {
    pub(super) fn write(&mut self, before: &DeviceState, after: &DeviceState) {
        for field in changed_fields(before, after) {
            self.0.insert(field.name(), field.value(after));
        }
    }

    pub(super) fn read(&self) -> Option<DeviceState> {
        let value = |field| self.0.get(field).cloned();
        let text = |field| String::from_utf8(value(field)?).ok();
        let fields = Fields {
            rev: value("rev"),
            epoch: text("epoch"),
            seq: text("seq"),
            alarms: text("alarms"),
            order: text("order"),
            fingerprints: value("prints"),
            latest: text("latest"),
            memory: text("memory"),
            more: text("more"),
            newest_fingerprints: value("newest"),
        };
        fields.decode()
    }
}

/// A stored state without fingerprints.
fn stored_state() -> DeviceState {
    let level = r#"{"level":250,"side":null,"hysteresis":0,"latching":null}"#;
    let latest = format!(
        r#"{{"reading":{{"device":"A","device_name":"","gas_type":"","timestamp":"","device_time":1,"unit":"ppm","message_type":"",
            "sender":"","value":10,"span_high":null,"span_low":null,"levels":[{level},{level},{level}],"decimal_point":0,
            "a1_type":"High","a1_siren":0,"a1_buzzer":0,"leds":[0,0,0],"sensor_fault":0,"latitude":"","longitude":"","doubtful":false}},
            "levels":[250,500,1000],"sides":["high","high","high"],"used":[true,true,true],"taken_at":1,"published_at":1,"age_ms":2,
            "doubtful":false,"clock_suspect":false,"in_order":true}}"#
    );
    DeviceState {
        latest: serde_json::from_str(&latest).expect("a reading"),
        ..DeviceState::default()
    }
}

/// Decisions may add a fingerprint or none, one commit may have several, and a lost state may bring many.
#[test]
fn fingerprints_are_read_as_they_were_committed() {
    let mut random = fastrand::Rng::with_seed(20_261_127);
    let mut hash = Hash::default();
    let mut state = stored_state();
    hash.write(&DeviceState::default(), &state);
    let mut written = [0; 2];
    for commit in 0..5_000 {
        let before = state.clone();
        let decisions = if random.u8(..10) == 0 {
            random.u64(1..20)
        } else {
            1
        };
        for _ in 0..decisions {
            state.rev += 1;
            let added = match random.u8(..20) {
                0..3 => 0,
                3 => random.usize(..80),
                _ => 1,
            };
            for _ in 0..added {
                order::remember(&mut state.fingerprints, random.u64(..300));
            }
        }
        hash.write(&before, &state);
        let fields = changed_fields(&before, &state);
        written[0] += usize::from(fields.contains(&Field::Fingerprints));
        written[1] += usize::from(fields.contains(&Field::NewestFingerprints));
        let read = hash.read().expect("readable");
        assert_eq!(read.fingerprints, state.fingerprints, "commit {commit}");
    }
    assert!(written[1] > written[0], "{written:?}");
}

/// A release that does not know the newest ones writes all that it knows.
#[test]
fn fingerprints_that_an_earlier_release_wrote_are_added_to() {
    let mut hash = Hash::default();
    let (mut before, mut state) = (DeviceState::default(), stored_state());
    for rev in 1..6 {
        state.rev = rev;
        order::remember(&mut state.fingerprints, rev);
        hash.write(&before, &state);
        before = state.clone();
    }
    let earlier = [1_u64, 9].map(u64::to_be_bytes).concat();
    hash.0.insert("prints", earlier);
    let read = hash.read().expect("readable").fingerprints;
    for number in [1, 2, 3, 4, 5, 9] {
        assert!(read.contains(&number), "{read:?}");
    }
    hash.0.insert("newest", b"odd".to_vec());
    assert!(hash.read().is_none(), "it is not guessed");
}
