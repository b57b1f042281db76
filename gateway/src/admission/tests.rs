use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use shared::metrics::{LabelledCount, Meters};

use super::*;
use crate::client_address::ClientAddress;
use crate::test_setup;

fn caller(last: u8) -> Caller {
    Caller::Address(ClientAddress::new([192, 0, 2, last].into()))
}

/// Limits with these flags, and what they count.
fn admission(flags: &[&str]) -> (Admission, Arc<LimitMetrics>) {
    counting(&test_setup::config("127.0.0.1:6379", flags), Instant::now())
}

fn counting(config: &Config, start: Instant) -> (Admission, Arc<LimitMetrics>) {
    let metrics = Arc::new(LimitMetrics::new(&Meters::local("gateway").unwrap()));
    (Admission::new(config, &metrics, start), metrics)
}

/// Other limits are off.
const ALONE: [(&str, &[&str]); 4] = [
    (
        "max-connections-per-address",
        &[
            "--max-connections-per-address=3",
            "--handshake-rate=0",
            "--handshake-rate-per-address=0",
        ],
    ),
    (
        "handshake-rate-per-address",
        &[
            "--max-connections-per-address=0",
            "--handshake-rate=0",
            "--handshake-rate-per-address=1",
        ],
    ),
    (
        "handshake-rate",
        &[
            "--max-connections-per-address=0",
            "--handshake-rate=1",
            "--handshake-rate-per-address=0",
        ],
    ),
    ("request-rate", &["--request-rate=2"]),
];

#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u8),
    /// The session that was tried to open so many steps ago.
    Close(usize),
    Ask(u8, u32),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..4).prop_map(Step::Open),
        2 => (0_usize..20).prop_map(Step::Close),
        4 => (0_u8..4, 1_u32..21).prop_map(|(caller, cost)| Step::Ask(caller, cost)),
        2 => (0_u64..3_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

/// Returns how many steps were refused.
fn carry_out(admission: &Admission, steps: &[Step], start: Instant) -> u64 {
    let (mut now, mut sessions) = (start, Vec::new());
    let mut carry_out = |step: &Step| match *step {
        Step::Open(number) => {
            let opened = admission.open_session(caller(number), now).ok();
            sessions.push(opened);
            sessions.last().is_some_and(Option::is_some)
        }
        Step::Close(ago) => {
            let index = sessions.len().checked_sub(ago + 1);
            if let Some(session) = index.and_then(|index| sessions.get_mut(index)) {
                *session = None;
            }
            true
        }
        Step::Ask(number, cost) => {
            let asked = admission.begin_request(caller(number), cost, Purpose::Other, now);
            asked.is_ok()
        }
        Step::Wait(millis) => {
            now += Duration::from_millis(millis);
            true
        }
    };
    steps
        .iter()
        .map(&mut carry_out)
        .filter(|is_admitted| !is_admitted)
        .count() as u64
}

fn counts(counts: &LabelledCount) -> BTreeMap<&'static str, u64> {
    counts.get().collect()
}

#[test]
fn a_dry_run_counts_exactly_what_would_be_refused() {
    let start = Instant::now();
    let configs = ALONE.map(|(setting, flags)| {
        let dry = format!("--limits-dry-run={setting}");
        let refusing = test_setup::config("127.0.0.1:6379", flags);
        let trying = test_setup::config("127.0.0.1:6379", &[flags, &[dry.as_str()]].concat());
        (refusing, trying)
    });
    let mut runner = TestRunner::default();
    let compared = runner.run(&steps(), |steps| {
        for (refusing, trying) in &configs {
            let (admission, refused) = counting(refusing, start);
            let limited = carry_out(&admission, &steps, start);
            let (admission, tried) = counting(trying, start);
            prop_assert_eq!(carry_out(&admission, &steps, start), 0);
            prop_assert_eq!(counts(&refused.refused), counts(&tried.dry_run));
            prop_assert_eq!(counts(&refused.refused).values().sum::<u64>(), limited);
            prop_assert_eq!(counts(&tried.refused).values().sum::<u64>(), 0);
        }
        Ok(())
    });
    compared.unwrap();
}

#[test]
fn each_limit_is_reached_and_named() {
    let now = Instant::now();
    for (setting, flags) in ALONE {
        let (admission, metrics) = admission(flags);
        let mut sessions = Vec::new();
        for _ in 0..30 {
            sessions.push(admission.open_session(caller(1), now));
            admission
                .begin_request(caller(1), 1, Purpose::Other, now)
                .ok();
        }
        let reached: Vec<_> = metrics
            .refused
            .get()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(reached.len(), 1, "{setting}: {reached:?}");
        assert_eq!(reached[0].0.replace('_', "-"), setting);
        // Others are not held, except by the limit of all together.
        if setting != "handshake-rate" {
            admission.open_session(caller(2), now).unwrap();
        }
        admission
            .begin_request(caller(2), 1, Purpose::Other, now)
            .unwrap();
    }
}

#[test]
fn a_session_refused_by_a_rate_does_not_count_as_open() {
    let now = Instant::now();
    let (admission, _) = admission(&[
        "--max-connections-per-address=11",
        "--handshake-rate-per-address=1",
    ]);
    let first: Vec<_> = (0..10)
        .map(|_| admission.open_session(caller(1), now).unwrap())
        .collect();
    for _ in 0..20 {
        let refused = admission.open_session(caller(1), now).unwrap_err();
        assert_eq!(refused.status(), 429);
    }
    let later = now + Duration::from_mins(2);
    admission.open_session(caller(1), later).unwrap();
    drop(first);
}

#[test]
fn acknowledgements_have_the_last_tenth_for_themselves() {
    let now = Instant::now();
    let (admission, _) = admission(&["--request-rate=10"]);
    let ask = |purpose| admission.begin_request(caller(1), 1, purpose, now).is_ok();
    let read = (0..1_000).filter(|_| ask(Purpose::Other)).count();
    let acknowledged = (0..1_000).filter(|_| ask(Purpose::Acknowledge)).count();
    assert_eq!((read, acknowledged), (90, 10));
}

#[test]
fn a_heavy_request_is_possible_with_every_rate() {
    let now = Instant::now();
    let (admission, _) = admission(&["--request-rate=1"]);
    admission
        .begin_request(caller(1), 20, Purpose::Other, now)
        .unwrap();
    admission
        .begin_request(caller(1), 20, Purpose::Other, now)
        .unwrap();
    let refused = admission
        .begin_request(caller(1), 20, Purpose::Other, now)
        .unwrap_err();
    assert_eq!(refused.retry_after(), "7");
}
