//! The log of a detector that has written its share of it: several alarms are logged together, and what is shown of them is true.

use std::sync::Arc;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use shared::decide::{AcknowledgeRequest, Decision, Input, Message, Outcome, StoredDevice, decide};
use shared::reading::{PayloadFacts, Reading};
use shared::settings::AlarmSettings;

use super::*;

/// A detector on a virtual clock, with everything that it has written to the log.
struct Detector {
    stored: StoredDevice,
    settings: AlarmSettings,
    now: Time,
    log: Vec<LoggedEntry>,
    /// Each alarm as its last change left it, in the order in which they were raised first.
    alarms: Vec<Alarm>,
    /// Ids of the alarms that were acknowledged at any time.
    acknowledged: BTreeSet<String>,
    /// Number of raises and escalations.
    raises: u32,
}

/// What happens to it next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Sends(&'static str),
    /// Its open alarms are acknowledged.
    Acknowledged,
    /// An alarm that was cleared is acknowledged now, so many alarms before the newest.
    AcknowledgedLate(usize),
    Deadline,
}

impl Detector {
    fn new(settings: AlarmSettings) -> Self {
        Self {
            stored: StoredDevice::unknown(
                "OTSM-0114".parse().expect("a serial"),
                Epoch::from_bits(0xabc),
            ),
            settings,
            now: at(0),
            log: Vec::new(),
            alarms: Vec::new(),
            acknowledged: BTreeSet::new(),
            raises: 0,
        }
    }

    fn apply(&mut self, input: Input<'_>) -> Decision {
        let decision = decide(&self.stored, input, self.now, None);
        if decision.outcome.is_unchanged() {
            return decision;
        }
        for change in &decision.changes {
            let is_raise = matches!(change.kind, ChangeKind::Raised | ChangeKind::Escalated);
            self.raises += u32::from(is_raise);
        }
        let changed = decision.changes.iter().map(|change| &change.alarm);
        for alarm in changed.chain(&decision.state.alarms) {
            match self.alarms.iter_mut().find(|known| known.id == alarm.id) {
                Some(known) => known.clone_from(alarm),
                None => self.alarms.push(alarm.clone()),
            }
        }
        for entry in &decision.log {
            let number = self.log.len();
            self.log.push(LoggedEntry {
                id: format!("log-0-{number}-0"),
                ..logged(entry.clone())
            });
        }
        self.stored = self.stored.after(&decision);
        decision
    }

    fn step(&mut self, step: Step) {
        let settings = self.settings.clone();
        match step {
            Step::Sends(value) => {
                let message = Message {
                    reading: Arc::new(Reading {
                        value: Some(decimal(value)),
                        device_time: Some(self.now),
                        ..test_support::sample::reading()
                    }),
                    facts: PayloadFacts::default(),
                    fingerprint: self.stored.state.rev + 1,
                    dup: false,
                    retain: false,
                    live_raw_message: None,
                };
                self.apply(Input::Message {
                    message: &message,
                    settings: &settings,
                });
            }
            Step::Acknowledged => {
                for alarm in self.stored.state.alarms.clone() {
                    self.acknowledge(&alarm.id, None);
                }
            }
            Step::AcknowledgedLate(before) => {
                let mut ended = self.alarms.iter().rev().filter(|a| a.cleared_at.is_some());
                if let Some(alarm) = ended.nth(before).cloned() {
                    self.acknowledge(&alarm.id, Some(&alarm));
                }
            }
            Step::Deadline => {
                self.apply(Input::Deadline {
                    listening: at(0).into(),
                    settings: &settings,
                });
            }
        }
    }

    /// Acknowledges without a position, as a client that does not know it: it covers the present one.
    fn acknowledge(&mut self, id: &str, closed: Option<&Alarm>) -> Outcome {
        self.acknowledged.insert(id.to_owned());
        let seen = self.stored.state.position;
        let by = "Asha";
        self.apply(Input::Acknowledge(AcknowledgeRequest {
            alarm_id: id,
            by,
            note: None,
            seen,
            closed,
        }))
        .outcome
    }

    fn rows(&self) -> Vec<LogRow> {
        fold(self.log.clone())
    }

    /// No row shows as cleared, or as acknowledged, what stands and is not.
    fn check_standing(&self) {
        let rows = self.rows();
        for alarm in &self.stored.state.alarms {
            let id = alarm.group_id();
            let own: Vec<&LogRow> = rows.iter().filter(|row| group_id(row) == id).collect();
            assert!(!own.is_empty(), "no row of {id}");
            for row in own {
                assert_ne!(row.state, Cleared, "{alarm:?} stands: {row:?}");
            }
            if !self.acknowledged.contains(&alarm.id) {
                let mut own = rows.iter().filter(|row| row.alarm_id == alarm.id);
                let acknowledged = own.find(|row| row.acknowledged);
                assert_eq!(acknowledged, None, "nobody did");
            }
        }
    }

    /// Once no counts wait, the rows show the state of the newest alarm, and stand for all raises.
    fn check_at_end(&mut self) {
        for _ in 0..40 {
            self.now = self.now + Duration::from_hours(1);
            self.step(Step::Deadline);
        }
        let rows = self.rows();
        let newest: BTreeMap<&str, &Alarm> = self
            .alarms
            .iter()
            .map(|alarm| (alarm.group_id(), alarm))
            .collect();
        for (id, alarm) in newest {
            let states = rows.iter().filter(|row| group_id(row) == id);
            let states: Vec<_> = states.map(|row| (row.state, row.cleared_at)).collect();
            assert!(!states.is_empty(), "no row of {id}");
            let expected = (alarm.state(), alarm.cleared_at);
            assert!(
                states.iter().all(|state| *state == expected),
                "{id}: {states:?}, not {expected:?}"
            );
        }
        let stands_for = |row: &LogRow| row.folded.as_ref().map_or(1, |folded| folded.rows);
        assert_eq!(rows.iter().map(stands_for).sum::<u32>(), self.raises);
    }
}

fn group_id(row: &LogRow) -> &str {
    row.first_alarm_id.as_deref().unwrap_or(&row.alarm_id)
}

fn settings(log_burst: u32) -> AlarmSettings {
    AlarmSettings {
        chatter_calm: Duration::ZERO,
        // An alarm that nobody acknowledged ends with its value, so late acknowledgements are possible.
        returned_levels: [false; 3],
        offline_after: Duration::from_hours(1_000),
        device_rate: 0,
        log_burst,
        ..AlarmSettings::default()
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Sends("10")),
        4 => Just(Step::Sends("300")),
        2 => Just(Step::Sends("1200")),
        2 => Just(Step::Sends("2500")),
        1 => Just(Step::Acknowledged),
        2 => (0..4_usize).prop_map(Step::AcknowledgedLate),
        1 => Just(Step::Deadline),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_of_alarms_that_are_logged_together_is_true(
        steps in prop::collection::vec(
            (any_step(), prop::sample::select(vec![0_u64, 100, 5_000, 600_000, 4_000_000])),
            1..150,
        ),
        log_burst in 1..6_u32,
        calm_s in prop::sample::select(vec![0_u64, 600]),
    ) {
        let mut detector = Detector::new(AlarmSettings {
            chatter_calm: Duration::from_secs(calm_s),
            ..settings(log_burst)
        });
        for (step, passed_ms) in steps {
            detector.now = detector.now + Duration::from_millis(passed_ms);
            detector.step(step);
            detector.check_standing();
        }
        detector.check_at_end();
    }
}

#[test]
fn a_search_by_the_id_of_a_newer_alarm_finds_the_rows_of_the_first() {
    let mut detector = Detector::new(settings(2));
    for _ in 0..3 {
        detector.now = detector.now + Duration::from_mins(10);
        detector.step(Step::Sends("300"));
        detector.now = detector.now + Duration::from_mins(10);
        detector.step(Step::Sends("10"));
    }
    detector.now = detector.now + Duration::from_mins(10);
    detector.step(Step::Sends("300"));
    for _ in 0..10 {
        detector.now = detector.now + Duration::from_hours(1);
        detector.step(Step::Deadline);
    }
    let newest = detector.alarms.last().expect("raised").clone();
    let rows = detector.rows();
    let found = rows.iter().find(|row| row.alarm_id == newest.id);
    let found = found.expect("a row with this id");
    let first = &detector.alarms[0].id;
    assert_eq!(found.first_alarm_id.as_ref(), Some(first));
    let first = rows.iter().find(|row| row.alarm_id == *first);
    assert_eq!(first.map(|row| row.state), Some(Unacknowledged));
}

#[test]
fn a_late_acknowledgement_of_the_first_alarm_says_nothing_about_the_one_that_stands() {
    let mut detector = Detector::new(settings(2));
    for value in ["300", "10", "300"] {
        detector.now = detector.now + Duration::from_mins(10);
        detector.step(Step::Sends(value));
    }
    let (first, second) = (detector.alarms[0].clone(), detector.alarms[1].clone());
    assert_eq!(second.log_group.as_ref(), Some(&first.id));
    assert_eq!(
        detector.acknowledge(&first.id, Some(&first)),
        Outcome::Acknowledged
    );
    let rows = detector.rows();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (&row.alarm_id, row.acknowledged, row.state))
        .collect();
    assert_eq!(
        shown,
        [
            (&second.id, false, Unacknowledged),
            (&first.id, true, Unacknowledged),
        ]
    );
}
