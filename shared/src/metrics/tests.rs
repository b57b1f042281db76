use super::*;

#[test]
fn instruments_are_read_in_the_text_format() {
    let meters = Meters::local("test").unwrap();
    let pots = meters.count("tea.pots", "Pots of tea.");
    let cups = meters.count_by("tea.cups", "Cups of tea.", "kind", &["cold", "warm"]);
    let [home, away] = meters.count_by_two(
        "tea.guests",
        "Guests.",
        ("place", ["home", "away"]),
        ("kind", &["old", "new"]),
    );
    meters.gauge("tea.left", "Tea left.", || 7);
    meters.age("tea.age", "Age of the tea.", || Some(1.5));
    meters.age("tea.none", "Never observed.", || None);
    let steeped = meters.durations("tea.steeping", "Steeping.");
    pots.increment();
    cups.increment("warm");
    cups.add("warm", 2);
    home.increment("old");
    away.add("new", 3);
    steeped.record(Duration::from_millis(300));

    let text = meters.reader()();
    for line in [
        "# HELP tea_cups_total Cups of tea.",
        "# TYPE tea_cups_total counter",
        "tea_pots_total 1",
        r#"tea_cups_total{kind="cold"} 0"#,
        r#"tea_cups_total{kind="warm"} 3"#,
        r#"tea_guests_total{kind="old",place="home"} 1"#,
        r#"tea_guests_total{kind="new",place="away"} 3"#,
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
fn an_undeclared_label_value_is_counted_as_other() {
    let counts = LabelledCount::new(&["known"]);
    assert_eq!(counts.get().collect::<Vec<_>>(), [("known", 0)]);
    counts.increment("invented");
    counts.increment("invented too");
    let read: Vec<_> = counts.get().collect();
    assert_eq!(read, [("known", 0), ("other", 2)]);
}
