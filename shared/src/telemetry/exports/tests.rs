use super::*;

#[test]
fn an_outage_is_logged_when_it_begins_and_when_it_ends() {
    let began = Instant::now();
    let mut outage = Outage::NONE;
    assert_eq!(outage.observe(true, began), None);
    assert_eq!(outage.observe(false, began), Some(OutageLine::Began));
    for second in 1..600 {
        assert_eq!(
            outage.observe(false, began + Duration::from_secs(second)),
            None
        );
    }
    let end = began + Duration::from_mins(10);
    assert_eq!(
        outage.observe(true, end),
        Some(OutageLine::Ended { failed: 600 })
    );
    assert_eq!(outage.observe(true, end), None);
    assert_eq!(outage.observe(false, end), Some(OutageLine::Began));
    assert_eq!(
        outage.observe(true, end),
        Some(OutageLine::Ended { failed: 1 })
    );
    assert_eq!(outage.failed, 601);
}

#[test]
fn a_collector_that_accepts_every_second_export_causes_two_lines_a_minute() {
    let began = Instant::now();
    let mut outage = Outage::NONE;
    let lines = (0..600).filter_map(|second| {
        let now = began + Duration::from_secs(second);
        outage.observe(second % 2 == 1, now)
    });
    assert_eq!(lines.count(), 20);
    assert_eq!(outage.failed, 300);
    // An outage that continues is logged when the minute is over.
    assert_eq!(
        outage.observe(false, began + Duration::from_secs(599)),
        None
    );
    let later = began + Duration::from_secs(601);
    assert_eq!(outage.observe(false, later), Some(OutageLine::Began));
}
