use std::collections::BTreeMap;

use super::totals::watchers_by_device;
use super::*;

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

#[test]
fn reports_of_all_replicas_are_added_up() {
    let one = WatchReport {
        websocket: 3,
        polling: 1,
        ..report_of(vec![(device("A"), 3), (device("B"), 1)])
    };
    let other = WatchReport {
        websocket: 2,
        ..report_of(vec![(device("B"), 2)])
    };
    let reports = BTreeMap::from([("one".to_owned(), one), ("other".to_owned(), other)]);
    let totals = FleetTotals::of(&reports);
    assert_eq!((totals.connections, totals.subscriptions), (6, 6));
    assert_eq!((totals.replicas, totals.rooms), (2, 2));
    let devices = watchers_by_device(&reports);
    let of_b = BTreeMap::from([("one", 1), ("other", 2)]);
    assert_eq!(devices[&device("B")], of_b);
    assert_eq!(devices[&device("A")].len(), 1);
}

#[test]
fn a_report_names_a_bounded_number_of_devices_and_counts_all() {
    let count = WatchReport::MAX_DEVICES + 5;
    let watched = (0..count).map(|number| {
        let watchers = if number % 2 == 0 { 1 } else { 2 };
        (device(&format!("D{number}")), watchers)
    });
    let watched: Vec<_> = watched.collect();
    let sum: u64 = watched.iter().map(|(_, watchers)| watchers).sum();
    let report = report_of(watched);
    assert_eq!(report.devices.len(), WatchReport::MAX_DEVICES);
    assert_eq!((report.rooms, report.subscriptions), (count as u64, sum));
    assert_eq!(report.devices[&device("D1")], 2);
}
