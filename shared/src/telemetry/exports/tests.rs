use super::*;

#[test]
fn an_outage_is_a_line_at_its_begin_and_one_at_its_end() {
    let began = Instant::now();
    let mut outage = Outage::NONE;
    assert_eq!(outage.saw(true, began), None);
    assert_eq!(outage.saw(false, began), Some(Line::Began));
    for second in 1..600 {
        assert_eq!(outage.saw(false, began + Duration::from_secs(second)), None);
    }
    let end = began + Duration::from_mins(10);
    assert_eq!(outage.saw(true, end), Some(Line::Ended { failed: 600 }));
    assert_eq!(outage.saw(true, end), None);
    assert_eq!(outage.saw(false, end), Some(Line::Began));
    assert_eq!(outage.saw(true, end), Some(Line::Ended { failed: 1 }));
    assert_eq!(outage.failed, 601);
}

#[test]
fn a_collector_that_takes_now_and_then_makes_two_lines_a_minute() {
    let began = Instant::now();
    let mut outage = Outage::NONE;
    let lines = (0..600).filter_map(|second| {
        let now = began + Duration::from_secs(second);
        outage.saw(second % 2 == 1, now)
    });
    assert_eq!(lines.count(), 20);
    assert_eq!(outage.failed, 300);
    // One that stays away from then on is told when the minute is over.
    assert_eq!(outage.saw(false, began + Duration::from_secs(599)), None);
    let later = began + Duration::from_secs(601);
    assert_eq!(outage.saw(false, later), Some(Line::Began));
}
