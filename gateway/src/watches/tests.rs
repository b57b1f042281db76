use super::*;

const LIMITS: WatchLimits = WatchLimits {
    devices: 3,
    per_address: 2,
};

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn address(last: u8) -> ClientAddress {
    ClientAddress::new([10, 0, 0, last].into())
}

#[test]
fn distinct_devices_are_bounded_in_all_and_per_address() {
    let watches = Watches::new(LIMITS);
    let begin = |name: &str, last| watches.begin(&device(name), address(last));
    let [a, _b] = ["A", "B"].map(|name| begin(name, 1).unwrap());
    assert_eq!(begin("C", 1).unwrap_err(), WatchRefused::AddressFull(2));
    // A device that is watched already costs nothing more.
    let _again = begin("A", 1).unwrap();
    let _c = begin("C", 2).unwrap();
    assert_eq!(begin("D", 2).unwrap_err(), WatchRefused::Full(3));
    let _shared = begin("A", 2).unwrap();
    drop(a);
    assert_eq!(begin("D", 3).unwrap_err(), WatchRefused::Full(3));
}

#[test]
fn watches_that_ended_leave_nothing_behind() {
    let watches = Watches::new(LIMITS);
    let all = ["A", "B", "A"].map(|name| watches.begin(&device(name), address(1)).unwrap());
    drop(all);
    assert_eq!(watches.devices(), 0);
    assert!(watches.table().addresses.is_empty());
}
