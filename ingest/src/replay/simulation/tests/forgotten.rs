//! Devices that are retired by `--forget-after`: never one that was heard within that time of listening, never one with an alarm that
//! somebody must still see, and any other in time.
//!
//! The generator reaches: readings that are normal or at a level, signs of life, payloads that are cut off, retained and redelivered
//! messages, all of them also while no ingest listens; interruptions of up to 20 hours; acknowledgements at any time, or never.
//! Between two interruptions at least ten minutes are listened to: what comes before a shorter one may not count.

use std::ops::Range;

use proptest::prelude::*;

use super::clocks::START;
use super::*;

const MINUTE_MS: i64 = 60_000;
const FORGET_MS: i64 = 2 * 24 * 60 * MINUTE_MS;
/// The silence limit: the default.
const LIMIT_MS: i64 = 3 * MINUTE_MS;
/// How late a device is forgotten at most: the acknowledgement is looked for every ten minutes.
const LATE_MS: i64 = 10 * MINUTE_MS + 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reading(i32),
    SignOfLife,
    /// A payload that is cut off, and names the device.
    CutOff,
    /// A reading that the broker had retained.
    Retained,
    /// The last message that was sent, once more, with its RETAIN flag.
    Redelivered,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Listen {
        minutes: i64,
    },
    /// No ingest listens. Halfway, a message may be sent.
    Interruption {
        minutes: i64,
        sent: Option<Kind>,
    },
    Send(Kind),
    Acknowledge,
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Reading(10)),
        1 => Just(Kind::Reading(300)),
        4 => Just(Kind::SignOfLife),
        1 => Just(Kind::CutOff),
        1 => Just(Kind::Retained),
        2 => Just(Kind::Redelivered),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let minutes = |range: Range<i64>| prop_oneof![range, Just(FORGET_MS / MINUTE_MS / 4)];
    prop_oneof![
        6 => minutes(10..900).prop_map(|minutes| Step::Listen { minutes }),
        4 => (2..1_200_i64, prop::option::weighted(0.2, any_kind()))
            .prop_map(|(minutes, sent)| Step::Interruption { minutes, sent }),
        1 => any_kind().prop_map(Step::Send),
        3 => Just(Step::Acknowledge),
    ]
}

/// The simulated device beside what is known of it.
struct World {
    simulation: Simulation,
    device: DeviceId,
    is_listening: bool,
    /// How long an ingest has listened, in milliseconds.
    listened_ms: i64,
    /// The same when the device was last heard.
    heard_ms: i64,
    /// The same when nothing but an acknowledged `device_offline` was open; `None` while that is not so.
    ready_ms: Option<i64>,
    waiting: Vec<Kind>,
    last_sent: Vec<u8>,
    was_retained: bool,
    sent: usize,
    changes_seen: usize,
    forgotten: usize,
}

impl World {
    fn new() -> Self {
        let mut settings = default_settings();
        settings.alarms.forget_after = Duration::from_millis(FORGET_MS.unsigned_abs());
        Self {
            simulation: Simulation::new(settings, START),
            device: "A".parse().expect("a serial"),
            is_listening: true,
            listened_ms: 0,
            heard_ms: 0,
            ready_ms: None,
            waiting: Vec::new(),
            last_sent: Vec::new(),
            was_retained: false,
            sent: 0,
            changes_seen: 0,
            forgotten: 0,
        }
    }

    fn is_known(&self) -> bool {
        self.simulation.state(&self.device).is_some()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Listen { minutes } => self.advance(minutes * MINUTE_MS)?,
            Step::Interruption { minutes, sent } => {
                self.set_listening(false);
                self.advance(minutes * MINUTE_MS / 2)?;
                if let Some(kind) = sent {
                    self.send(kind);
                }
                self.advance(minutes * MINUTE_MS / 2)?;
                self.set_listening(true);
                self.advance(10 * MINUTE_MS)?;
            }
            Step::Send(kind) => self.send(kind),
            Step::Acknowledge => {
                let alarms = self.simulation.open_alarms(&self.device).iter();
                let ids: Vec<String> = alarms.map(|alarm| alarm.id.clone()).collect();
                for id in ids {
                    let now = self.simulation.now();
                    self.simulation
                        .acknowledge(now, &self.device, &id, "Ann", None);
                }
            }
        }
        self.look();
        Ok(())
    }

    /// Moves the clock, and checks whether the device was rightly forgotten meanwhile, or rightly not.
    fn advance(&mut self, by_ms: i64) -> Result<(), TestCaseError> {
        self.look();
        let start = self.simulation.now();
        let by = Duration::from_millis(by_ms.unsigned_abs());
        self.simulation.advance_to(start + by);
        for found in &self.simulation.changes()[self.changes_seen..] {
            if found.change.kind != ChangeKind::Retired {
                continue;
            }
            self.forgotten += 1;
            prop_assert!(self.is_listening);
            prop_assert!(self.ready_ms.is_some(), "somebody must still see an alarm");
            let listened_ms = self.listened_ms + found.at.millis_since(start);
            let unheard_ms = listened_ms - self.heard_ms;
            prop_assert!(unheard_ms >= FORGET_MS, "heard {} ms before", unheard_ms);
        }
        if self.is_listening {
            self.listened_ms += by_ms;
        }
        self.look();
        if let Some(ready_ms) = self.ready_ms {
            let due_ms = ready_ms.max(self.heard_ms + FORGET_MS + LIMIT_MS);
            prop_assert!(
                self.listened_ms - due_ms <= LATE_MS,
                "unheard for {} ms",
                self.listened_ms - self.heard_ms
            );
        }
        Ok(())
    }

    /// Notes whether the device may be forgotten.
    fn look(&mut self) {
        self.changes_seen = self.simulation.changes().len();
        let alarms = self.simulation.open_alarms(&self.device);
        let is_ready = !alarms.is_empty()
            && alarms.iter().all(|alarm| {
                let is_silence = alarm.condition.code() == "device_offline";
                is_silence && alarm.is_active() && alarm.acknowledged.is_some()
            });
        let since = self.ready_ms.unwrap_or(self.listened_ms);
        self.ready_ms = is_ready.then_some(since);
    }

    fn set_listening(&mut self, is_listening: bool) {
        let mut is_known = self.is_known();
        let now = self.simulation.now();
        self.simulation.set_listening(now, is_listening);
        self.is_listening = is_listening;
        for kind in std::mem::take(&mut self.waiting) {
            is_known = self.note(kind, is_known);
        }
    }

    fn send(&mut self, kind: Kind) {
        self.sent += 1;
        let is_known = self.is_known();
        let payload = self.payload(kind);
        let dup = kind == Kind::Redelivered;
        let retain = kind == Kind::Retained || (dup && self.was_retained);
        let delivery = Delivery {
            payload: &payload,
            retain,
            dup,
        };
        if dup && (!is_known || self.last_sent.is_empty()) {
            return;
        }
        self.simulation.publish(self.simulation.now(), delivery);
        if self.is_listening {
            self.note(kind, is_known);
        } else {
            self.waiting.push(kind);
        }
        self.last_sent = payload;
        self.was_retained = retain;
    }

    /// Notes that a message was processed. Returns whether the device is known then.
    fn note(&mut self, kind: Kind, is_known: bool) -> bool {
        let is_created = !is_known && matches!(kind, Kind::Reading(_) | Kind::Retained);
        let is_alive = !matches!(kind, Kind::Retained | Kind::Redelivered);
        if is_created || (is_known && is_alive) {
            self.heard_ms = self.listened_ms;
        }
        is_known || is_created
    }

    fn payload(&self, kind: Kind) -> Vec<u8> {
        let reading = |value: i32| {
            let payload = json!({
                "OTSM-2 Serial Number": "A", "number": self.sent,
                "timestamp": self.simulation.now().to_iso(),
                "Parameters": {"Live Sensor Readings ": value, "Alarm Level A1": 250},
            });
            payload.to_string()
        };
        let text = match kind {
            Kind::Reading(value) => reading(value),
            Kind::Retained => reading(10),
            Kind::CutOff => {
                let whole = reading(10);
                let end = whole.find("\"Parameters\"").unwrap_or(whole.len());
                whole[..end].to_owned()
            }
            Kind::SignOfLife => {
                let payload = json!({
                    "OTSM-2 Serial Number": "A", "Message Type": "HEARTBEAT",
                    "number": self.sent,
                });
                payload.to_string()
            }
            Kind::Redelivered => return self.last_sent.clone(),
        };
        text.into_bytes()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_device_is_forgotten_when_nothing_was_heard_of_it_for_that_long_of_listening(
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let mut world = World::new();
        world.send(Kind::Reading(10));
        for step in steps {
            world.take(step)?;
        }
    }
}

#[test]
fn a_restart_of_ingest_every_hour_does_not_keep_a_silent_device_for_ever() {
    let mut world = World::new();
    world.send(Kind::Reading(10));
    for hour in 0..60 {
        let check = |result: Result<(), TestCaseError>| {
            assert!(result.is_ok(), "hour {hour}: {result:?}");
        };
        check(world.take(Step::Listen { minutes: 48 }));
        check(world.take(Step::Acknowledge));
        check(world.take(Step::Interruption {
            minutes: 2,
            sent: None,
        }));
    }
    assert_eq!(world.forgotten, 1);
    assert!(!world.is_known());
}

#[test]
fn a_device_that_is_known_only_by_a_retained_message_is_kept_as_long_as_any_other() {
    let mut world = World::new();
    world.listen_for(FORGET_MS);
    world.send(Kind::Retained);
    world.listen_for(LIMIT_MS + 1_000);
    world.take(Step::Acknowledge).expect("acknowledged");
    world.listen_for(FORGET_MS - LIMIT_MS - 2_000);
    assert!(world.is_known());
    world.listen_for(LIMIT_MS + LATE_MS);
    assert_eq!(world.forgotten, 1);
}

/// The retained message says nothing new, so ingest does not remember it: only its RETAIN flag shows that the device sent nothing.
#[test]
fn a_retained_message_that_is_delivered_again_does_not_keep_a_silent_device() {
    let mut world = World::new();
    world.send(Kind::Reading(10));
    world.send(Kind::Retained);
    let steps = [
        Step::Interruption {
            minutes: 2,
            sent: None,
        },
        Step::Acknowledge,
        Step::Listen { minutes: 720 },
        Step::Send(Kind::Redelivered),
    ];
    for step in steps {
        world.take(step).expect("it is kept");
    }
    world.listen_for(FORGET_MS - 731 * MINUTE_MS);
    assert!(world.is_known());
    world.listen_for(MINUTE_MS + LATE_MS);
    assert_eq!(world.forgotten, 1);
}

impl World {
    fn listen_for(&mut self, ms: i64) {
        let result = self.advance(ms);
        assert!(result.is_ok(), "{result:?}");
    }
}
