use super::*;

/// Returns a set with 8 fingerprints per device, and 32 together.
fn small() -> CommittedFingerprints {
    CommittedFingerprints::new(2)
}

fn device(number: u64) -> DeviceId {
    format!("OTSM-{number}").parse().expect("a serial")
}

fn counts(committed: &CommittedFingerprints) -> [usize; 3] {
    let places = committed.places.values().map(VecDeque::len).sum();
    [committed.known.len(), committed.order.len(), places]
}

#[test]
fn the_oldest_fingerprint_of_a_device_is_forgotten_beyond_its_share() {
    let mut committed = small();
    for fingerprint in [1, 2, 2, 3, 1, 4, 5, 6, 7, 8] {
        committed.insert(Some(&device(1)), fingerprint);
    }
    assert!((1..=8).all(|fingerprint| committed.contains(fingerprint)));
    committed.insert(Some(&device(1)), 9);
    assert!(!committed.contains(1));
    assert!((2..=9).all(|fingerprint| committed.contains(fingerprint)));
    assert_eq!(counts(&committed), [8; 3]);
}

#[test]
fn a_device_that_sends_very_much_does_not_make_others_forgotten() {
    let mut committed = small();
    committed.insert(Some(&device(1)), 1);
    for fingerprint in 1_000..2_000 {
        committed.insert(Some(&device(2)), fingerprint);
        committed.insert(None, 1_000 + fingerprint);
    }
    assert!(committed.contains(1));
    assert_eq!(counts(&committed), [17; 3]);
}

#[test]
fn many_devices_have_four_shares_together() {
    let mut committed = small();
    for fingerprint in 1..=100 {
        committed.insert(Some(&device(fingerprint)), fingerprint);
    }
    assert!((1..=68).all(|fingerprint| !committed.contains(fingerprint)));
    assert!((69..=100).all(|fingerprint| committed.contains(fingerprint)));
    assert_eq!(counts(&committed), [32; 3]);
    assert_eq!(committed.places.len(), 32);
}
