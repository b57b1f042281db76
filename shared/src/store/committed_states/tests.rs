use super::*;
use crate::decide::Decision;

fn stored(device: usize) -> StoredDevice {
    StoredDevice::unknown(
        format!("OTSM-{device:04}").parse().expect("a serial"),
        Epoch::from_bits(1),
    )
}

/// Records a commit of this device that leaves this `rev`.
fn record(states: &CommittedStates, device: usize, rev: u64) {
    let stored = stored(device);
    let mut decision = Decision::unchanged(&stored, Outcome::SignOfLife);
    Arc::make_mut(&mut decision.state).rev = rev;
    let commit = Commit {
        stored: &stored,
        decisions: std::slice::from_ref(&decision),
        raw: None,
        bounds: None,
    };
    states.record(&commit, Time::from_millis(1), None, None);
}

/// The numbers of the devices that are kept.
fn kept(states: &CommittedStates) -> Vec<usize> {
    let all = 0..1_000;
    all.filter(|device| states.kept().devices.contains_key(&stored(*device).device))
        .collect()
}

#[test]
fn beyond_the_bound_the_states_recorded_longest_ago_are_dropped() {
    let states = CommittedStates::with_max(64);
    for device in 0..64 {
        record(&states, device, 1);
    }
    assert_eq!(kept(&states).len(), 64);
    for device in 0..8 {
        record(&states, device, 2);
    }
    record(&states, 100, 1);
    let kept = kept(&states);
    assert!(kept.len() <= 64);
    let recent: Vec<usize> = (0..8).chain(20..64).chain([100]).collect();
    assert!(
        recent.iter().all(|device| kept.contains(device)),
        "{kept:?}"
    );
    assert!(!kept.contains(&8), "{kept:?}");
}

#[test]
fn however_small_the_bound_is_there_is_room_for_the_next_state() {
    let states = CommittedStates::with_max(1);
    for device in 0..4 {
        record(&states, device, 1);
        assert_eq!(kept(&states), [device]);
    }
}
