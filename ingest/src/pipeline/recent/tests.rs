use super::*;

#[test]
fn so_many_are_known_and_no_more() {
    let mut recent = Recent::new(3);
    for print in [1, 2, 2, 3, 1] {
        recent.remember(print);
    }
    assert!((1..=3).all(|print| recent.contains(print)));
    recent.remember(4);
    assert!(!recent.contains(1));
    assert!((2..=4).all(|print| recent.contains(print)));
    assert_eq!((recent.known.len(), recent.order.len()), (3, 3));
}
