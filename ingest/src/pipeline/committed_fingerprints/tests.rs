use super::*;

#[test]
fn the_oldest_fingerprint_is_forgotten_beyond_the_limit() {
    let mut committed = CommittedFingerprints::new(3);
    for fingerprint in [1, 2, 2, 3, 1] {
        committed.insert(fingerprint);
    }
    assert!((1..=3).all(|fingerprint| committed.contains(fingerprint)));
    committed.insert(4);
    assert!(!committed.contains(1));
    assert!((2..=4).all(|fingerprint| committed.contains(fingerprint)));
    assert_eq!((committed.known.len(), committed.order.len()), (3, 3));
}
