//! Stories about clocks: what arrives when, and how it is ordered.

mod clocks;
mod frozen;
mod properties;
mod redelivery;
mod stored;
mod usual_offset;

use std::collections::VecDeque;

use super::*;
use crate::settings::AlarmSettings;

/// The time of the test devices and of the server at the start.
const BASE_MS: i64 = 1_800_000_000_000;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;

/// The order of one device. Times are seconds since the start.
struct Device {
    state: OrderState,
    fingerprints: VecDeque<u64>,
    known: bool,
    settings: OrderSettings,
    next_fingerprint: u64,
}

/// Flags and bytes of a message.
#[derive(Clone, Copy, Default)]
struct Flags {
    dup: bool,
    retain: bool,
    /// The bytes; new ones if `None`.
    bytes: Option<u64>,
    /// A time that cannot be read.
    unreadable_time: Option<u64>,
    without_value: bool,
}

const DUP: Flags = Flags {
    dup: true,
    retain: false,
    bytes: None,
    unreadable_time: None,
    without_value: false,
};
const RETAINED: Flags = Flags {
    dup: false,
    retain: true,
    bytes: None,
    unreadable_time: None,
    without_value: false,
};

fn bytes(bytes: u64) -> Flags {
    Flags {
        bytes: Some(bytes),
        ..Flags::default()
    }
}

fn time(seconds: f64) -> Time {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the tests use whole milliseconds of a few years"
    )]
    let millis = (seconds * 1_000.0).round() as i64;
    Time::from_millis(BASE_MS + millis)
}

impl Device {
    fn new() -> Self {
        Self {
            state: OrderState::default(),
            fingerprints: VecDeque::new(),
            known: false,
            settings: AlarmSettings::default().order(),
            next_fingerprint: 1_000,
        }
    }

    fn arrive(&mut self, arrival: Arrival) -> Class {
        let (class, next) = classify(
            &self.state,
            &self.fingerprints,
            self.known,
            arrival,
            &self.settings,
        );
        if class == Class::Ignored {
            return class;
        }
        self.state = next;
        remember(&mut self.fingerprints, arrival.fingerprint);
        self.known |= matches!(class, Class::Next(_) | Class::Tie(_));
        class
    }

    fn send_at(&mut self, at: Time, device_time: Option<Time>, flags: Flags) -> Class {
        self.next_fingerprint += 1;
        self.arrive(Arrival {
            fingerprint: flags.bytes.unwrap_or(self.next_fingerprint),
            device_time,
            unreadable_time: flags.unreadable_time,
            has_value: !flags.without_value,
            dup: flags.dup,
            retain: flags.retain,
            at,
        })
    }

    /// Sends a message and describes its class: its name, the age in seconds, and `!` if the clock is suspect.
    fn send_flagged(&mut self, at: f64, device_time: Option<f64>, flags: Flags) -> String {
        describe(self.send_at(time(at), device_time.map(time), flags))
    }

    fn send(&mut self, at: f64, device_time: f64) -> String {
        self.send_flagged(at, Some(device_time), Flags::default())
    }

    fn send_without_time(&mut self, at: f64) -> String {
        self.send_flagged(at, None, Flags::default())
    }

    /// Sends ten readings at the right time, one per second, up to this time.
    fn run_until(&mut self, end: f64) {
        for back in (0..10).rev() {
            let at = end - f64::from(back);
            assert_eq!(self.send(at, at), "next 0");
        }
    }
}

fn describe(class: Class) -> String {
    #[expect(clippy::cast_precision_loss, reason = "ages of a few days")]
    let seconds = |age_ms: i64| age_ms as f64 / 1_000.0;
    let clock_text = |name: &str, clock: DeviceClock| {
        let age = clock
            .age_ms
            .map_or_else(|| "?".to_owned(), |age| seconds(age).to_string());
        let mark = if clock.clock_suspect { "!" } else { "" };
        format!("{name} {age}{mark}")
    };
    match class {
        Class::Next(clock) => clock_text("next", clock),
        Class::Tie(clock) => clock_text("tie", clock),
        Class::Late(late) => {
            let mark = if late.is_proved_old { " old" } else { "" };
            format!("late {}{mark}", seconds(late.age_ms))
        }
        Class::Repeated => "repeated".to_owned(),
        Class::RetainedNewer => "retained newer".to_owned(),
        Class::Duplicate => "duplicate".to_owned(),
        Class::Ignored => "ignored".to_owned(),
    }
}

/// Sends messages without flags and compares each class: arrival, device time, class.
#[track_caller]
fn check(device: &mut Device, story: &[(f64, f64, &str)]) {
    for (index, (at, device_time, expected)) in story.iter().enumerate() {
        let class = device.send(*at, *device_time);
        assert_eq!(&class, expected, "message {index} at {at}");
    }
}
