use futures_util::FutureExt;

use super::*;
use crate::test_setup;

const LIMITS: WatchLimits = WatchLimits {
    devices: 3,
    per_address: 2,
    unlisted: 3,
    unlisted_per_address: 2,
};

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn address(last: u8) -> ClientAddress {
    ClientAddress::new([10, 0, 0, last].into())
}

/// The limits of these settings are only tried out.
fn watches(tried_out: &[&str]) -> Watches {
    Watches::new(LIMITS, test_setup::enforcement(tried_out))
}

/// Begins a watch, and looks the device up.
fn begin(watches: &Watches, name: &str, last: u8, is_listed: bool) -> Result<Watch, WatchRefused> {
    let device = device(name);
    let begun = watches.begin(&device, address(last)).now_or_never();
    let watch = begun.expect("everything was looked up")?;
    if is_listed {
        watches.record_listed(&device);
    } else {
        watches.record_unlisted(&device);
    }
    watch.refused().map_or(Ok(watch), Err)
}

#[test]
fn distinct_devices_are_bounded_in_all_and_per_address() {
    let watches = watches(&[]);
    let begin = |name: &str, last| begin(&watches, name, last, true);
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
fn names_that_are_not_listed_take_no_room_from_devices() {
    let watches = watches(&[]);
    let invent = |name: &str, last| begin(&watches, name, last, false);
    let mut held: Vec<Watch> = ["X1", "X2"].map(|name| invent(name, 1).unwrap()).into();
    let of_address = WatchRefused::AddressUnlistedFull(2);
    assert_eq!(invent("X3", 1).unwrap_err(), of_address);
    // An address that is at its bound may not share the names of others either.
    held.push(invent("Y1", 2).unwrap());
    assert_eq!(invent("Y1", 1).unwrap_err(), of_address);
    assert_eq!(invent("Y2", 2).unwrap_err(), WatchRefused::UnlistedFull(3));
    assert_eq!(invent("Z", 3).unwrap_err(), WatchRefused::UnlistedFull(3));
    held.push(invent("X1", 3).unwrap());
    assert_eq!(watches.devices(), 3);
    for (name, last) in [("A", 1), ("B", 1), ("C", 2)] {
        held.push(begin(&watches, name, last, true).unwrap());
    }
    drop(held);
    assert_eq!(watches.devices(), 0);
    assert_eq!(watches.table().all, Counts::default());
    assert!(watches.table().addresses.is_empty());
}

#[test]
fn a_refused_watch_holds_nothing_and_another_one_may_begin() {
    let watches = watches(&[]);
    let kept = ["X1", "X2"].map(|name| begin(&watches, name, 1, false).unwrap());
    let begun = watches.begin(&device("X3"), address(1)).now_or_never();
    let refused = begun.expect("no wait").unwrap();
    watches.record_unlisted(&device("X3"));
    assert!(refused.refused().is_some());
    assert_eq!(watches.devices(), 2);
    drop(kept);
    // The same name again, while the refused watch is still there.
    let again = begin(&watches, "X3", 1, false).unwrap();
    drop(refused);
    assert_eq!(watches.devices(), 1);
    drop(again);
    assert_eq!(watches.table().all, Counts::default());
}

#[test]
fn a_name_that_appears_becomes_a_device() {
    let watches = watches(&[]);
    let names = ["X1", "X2"].map(|name| begin(&watches, name, 1, false).unwrap());
    let devices = ["A", "B"].map(|name| begin(&watches, name, 1, true).unwrap());
    watches.record_listed(&device("X1"));
    // It is real, so it stays although the address has too many devices now.
    assert!(names[0].refused().is_none());
    let full = begin(&watches, "C", 1, true).unwrap_err();
    assert_eq!(full, WatchRefused::Full(3));
    drop(devices);
    let _name = begin(&watches, "X3", 1, false).unwrap();
    let of_address = watches.table().addresses[&address(1)];
    assert_eq!((of_address.listed, of_address.unlisted), (1, 2));
}

#[test]
fn a_device_waits_while_names_that_were_not_looked_up_are_in_its_way() {
    let watches = watches(&[]);
    let begin = |name: &str, last| {
        Box::pin({
            let (watches, device) = (watches.clone(), device(name));
            async move { watches.begin(&device, address(last)).await }
        })
    };
    let mut held = Vec::new();
    for (name, last) in [("X1", 1), ("X2", 1), ("X3", 2)] {
        held.push(begin(name, last).now_or_never().expect("room").unwrap());
    }
    let mut full = begin("A", 3);
    let mut full_address = begin("A", 1);
    assert!(full.as_mut().now_or_never().is_none());
    assert!(full_address.as_mut().now_or_never().is_none());
    watches.record_unlisted(&device("X1"));
    let _a = full.now_or_never().expect("room").unwrap();
    let _own = full_address.now_or_never().expect("room").unwrap();
    watches.record_listed(&device("A"));
    watches.record_listed(&device("X2"));
    watches.record_listed(&device("X3"));
    let refused = begin("B", 3).now_or_never().expect("an answer");
    assert_eq!(refused.unwrap_err(), WatchRefused::Full(3));
}

#[test]
fn watches_that_ended_leave_nothing_behind() {
    let watches = watches(&[]);
    let all = ["A", "B", "A"].map(|name| begin(&watches, name, 1, true).unwrap());
    drop(all);
    assert_eq!(watches.devices(), 0);
    assert!(watches.table().addresses.is_empty());
}

#[test]
fn a_limit_that_is_tried_out_refuses_nothing_and_counts_nothing_beyond_it() {
    let watches = watches(&["max-watched", "watched-per-address", "max-unlisted"]);
    let listed = |name: &str, last| begin(&watches, name, last, true).unwrap();
    let held: Vec<Watch> = ["A", "B", "C", "D"].map(|name| listed(name, 1)).into();
    // As if `C` and `D` had been refused.
    assert_eq!(watches.devices(), 2);
    let other = [listed("C", 2), listed("D", 2)];
    assert_eq!(watches.devices(), 3);
    // The client of `C` at the first address leaves, and that at the second one stays counted.
    drop(held);
    assert_eq!(watches.devices(), 1);
    let _e = listed("E", 2);
    assert_eq!(watches.devices(), 2);
    drop(other);
    let names = ["X1", "X2", "X3"].map(|name| begin(&watches, name, 3, false).unwrap());
    assert_eq!(watches.devices(), 3);
    // The same name once more, when there is room for it.
    let [first, _, third] = names;
    drop(first);
    let again = begin(&watches, "X3", 3, false).unwrap();
    assert_eq!(watches.devices(), 3);
    drop(third);
    assert_eq!(watches.devices(), 3);
    drop(again);
    assert_eq!(watches.devices(), 2);
}
