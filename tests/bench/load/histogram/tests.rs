use super::*;

#[test]
fn classes_follow_each_other_without_a_hole() {
    let mut last = 0;
    for micros in 0..300_000 {
        let class = class(micros);
        assert!(class == last || class == last + 1, "{micros}: {class}");
        assert!(upper(class) >= micros, "{micros}: {}", upper(class));
        assert!(upper(class) - micros <= micros / 32, "{micros}");
        last = class;
    }
    assert!(class(3_600_000_000) < CLASSES);
}

#[test]
fn quantiles_are_those_of_the_times() {
    let histogram = Histogram::default();
    assert_eq!(histogram.quantile(500), 0);
    for micros in 1..=1000 {
        histogram.add(micros);
    }
    assert_eq!(histogram.count(), 1000);
    let p50 = histogram.quantile(500);
    assert!((500..=516).contains(&p50), "{p50}");
    let p99 = histogram.quantile(990);
    assert!((990..=1000).contains(&p99), "{p99}");
    assert_eq!(histogram.max(), 1000);
}
