use super::*;

#[test]
fn percentiles_are_times_that_were_measured() {
    let mut latencies = Latencies::default();
    assert_eq!(latencies.to_string(), "0 in p50 0, p99 0, max 0 ms");
    for millis in (1..=200).rev() {
        latencies.add(Duration::from_millis(millis));
    }
    assert_eq!(latencies.to_string(), "200 in p50 100, p99 198, max 200 ms");
    let mut one = Latencies::default();
    one.add(Duration::from_millis(7));
    assert_eq!(one.percentile(1), Duration::from_millis(7));
    assert_eq!(one.percentile(100), Duration::from_millis(7));
}
