use super::*;

#[test]
fn instruments_are_read_in_the_text_format() {
    let meters = Meters::local("test").unwrap();
    let counts = Arc::new(Counts::new(&["cold", "warm"]));
    let told = Arc::clone(&counts);
    meters.counters("tea.cups", "Cups of tea.", move |tell| {
        told.tell("kind", tell);
    });
    meters.gauge("tea.left", "Tea left.", || 7);
    meters.age("tea.age", "Age of the tea.", || Some(1.5));
    meters.age("tea.none", "Never told.", || None);
    let steeped = meters.durations("tea.steeping", "Steeping.");
    counts.add("warm");
    counts.add_many("warm", 2);
    steeped.record(0.3, &[]);

    let text = meters.reader()();
    for line in [
        "# HELP tea_cups_total Cups of tea.",
        "# TYPE tea_cups_total counter",
        r#"tea_cups_total{kind="cold"} 0"#,
        r#"tea_cups_total{kind="warm"} 3"#,
        "# TYPE tea_left gauge",
        "tea_left 7",
        "tea_age_seconds 1.5",
        "# TYPE tea_steeping_seconds histogram",
        r#"tea_steeping_seconds_bucket{le="0.25"} 0"#,
        r#"tea_steeping_seconds_bucket{le="0.5"} 1"#,
        "tea_steeping_seconds_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("tea_none"), "{text}");
    assert_eq!(text.matches("# TYPE tea_cups_total").count(), 1, "{text}");
}

#[test]
fn a_value_nobody_foresaw_is_counted_and_bounded() {
    let counts = Counts::new(&["known"]);
    assert_eq!(counts.read().collect::<Vec<_>>(), [("known", 0)]);
    counts.add("invented");
    counts.add("invented too");
    let read: Vec<_> = counts.read().collect();
    assert_eq!(read, [("known", 0), ("other", 2)]);
}
