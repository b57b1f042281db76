use super::*;

#[track_caller]
fn check(turns: &[u64], lost: u64, duplicates: u64, reordered: u64) {
    let mut tally = Tally::new(1);
    for &turn in turns {
        tally.add(turn, 0);
    }
    let expected = Sums {
        lost,
        duplicates,
        reordered,
        announced: 0,
    };
    assert_eq!(tally.sums(&(1..6)), expected, "{turns:?}");
}

#[test]
fn every_turn_once_and_in_order_is_nothing_to_report() {
    check(&[1, 2, 3, 4, 5], 0, 0, 0);
}

#[test]
fn what_is_missing_anywhere_is_lost() {
    check(&[2, 3, 5], 2, 0, 0);
    check(&[1, 2], 3, 0, 0);
    check(&[], 5, 0, 0);
}

#[test]
fn what_comes_twice_is_a_duplicate_and_what_comes_late_is_reordered() {
    check(&[1, 2, 2, 3, 4, 5, 1], 0, 2, 0);
    check(&[1, 3, 2, 5, 4], 0, 0, 2);
    check(&[1, 3, 2, 2, 5, 4], 0, 1, 2);
}

#[test]
fn what_the_server_says_it_left_out_is_not_lost() {
    let mut tally = Tally::new(1);
    tally.add(1, 0);
    tally.add(5, 3);
    let sums = tally.sums(&(1..6));
    assert_eq!((sums.lost, sums.announced), (0, 3));
}
