use super::*;

const NOW: Time = Time::from_millis(1_769_600_232_000);

fn mark(epoch: &str, number: u64) -> PartitionMark {
    PartitionMark::new(epoch.parse().unwrap(), number)
}

const EPOCH: &str = "73047088fdba";
const LATER: &str = "1d1b56f61d8f";

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn devices(names: &[&str]) -> Vec<DeviceId> {
    names.iter().map(|name| device(name)).collect()
}

fn look(epoch: &str, number: u64, numbered: Option<&[&str]>, listed: u64) -> Look {
    Look {
        mark: Some(mark(epoch, number)),
        is_refused: false,
        numbered: numbered.map(devices),
        listed,
        heard: Vec::new(),
    }
}

fn list(names: &[&str]) -> DeviceList {
    let devices = names.iter().map(|name| (device(name), Some(NOW)));
    DeviceList {
        devices: devices.collect(),
        listed: names.len() as u64,
    }
}

/// A partition with these devices, all of them read.
fn known(names: &[&str]) -> PartitionView {
    let mut view = PartitionView::new(3);
    let first = look(EPOCH, 5, None, names.len() as u64);
    assert_eq!(view.looked(&first, NOW).whole, Some(Whole::Anew));
    assert_eq!(view.listed(list(names), NOW).new, devices(names));
    let seq = |seq| Position {
        epoch: EPOCH.parse().unwrap(),
        seq,
    };
    for (number, name) in (10..).zip(names) {
        view.read_until(&device(name), seq(number));
    }
    view.complete(mark(EPOCH, 5));
    view
}

#[test]
fn only_devices_with_a_new_number_are_read_with_the_changes_since_then() {
    let mut view = known(&["A", "B"]);
    let to_read = view.looked(&look(EPOCH, 7, Some(&["B"]), 2), NOW);
    assert_eq!((to_read.list, to_read.whole), (false, None));
    assert_eq!(to_read.numbered, devices(&["B"]));
    let read = view.with_changes(&device("B"));
    assert_eq!(read.alarms, ReadAlarms::ChangesAfter(11));
    assert_eq!(view.look(false).mark, Some(mark(EPOCH, 5)));
    view.complete(mark(EPOCH, 7));
    assert_eq!(view.look(false).mark, Some(mark(EPOCH, 7)));
}

#[test]
fn the_list_is_read_when_it_has_another_length_or_unknown_devices() {
    for (numbered, listed, expected) in [
        (&[][..], 2, false),
        (&["A"][..], 2, false),
        (&["C"][..], 3, true),
        (&[][..], 1, true),
        // One was retired, and another one listed.
        (&["C"][..], 2, true),
    ] {
        let mut view = known(&["A", "B"]);
        let to_read = view.looked(&look(EPOCH, 7, Some(numbered), listed), NOW);
        assert_eq!(to_read.list, expected, "{numbered:?} {listed}");
    }
    let mut view = known(&["A", "B"]);
    let changes = view.listed(list(&["B", "C"]), NOW);
    assert_eq!(changes.new, devices(&["C"]));
    assert_eq!(changes.gone, devices(&["A"]));
    // Everything that a new device did is news.
    let read = view.with_changes(&device("C"));
    assert_eq!(read.alarms, ReadAlarms::ChangesAfter(0));
    let odd = DeviceList {
        listed: 3,
        ..list(&["B", "C"])
    };
    view.listed(odd, NOW);
    let to_read = view.looked(&look(EPOCH, 7, Some(&[]), 3), NOW);
    assert!(!to_read.list, "an entry that is no device");
}

#[test]
fn after_a_failure_everything_is_read_with_the_changes_since_it_was_read() {
    let mut view = known(&["A"]);
    view.read_again();
    assert_eq!(view.look(true).mark, None);
    let to_read = view.looked(&look(EPOCH, 9, None, 1), NOW);
    assert_eq!(to_read.whole, Some(Whole::Continued));
    assert_eq!(
        view.all(Whole::Continued)[0].alarms,
        ReadAlarms::ChangesAfter(10)
    );
}

#[test]
fn after_a_loss_of_data_missing_devices_are_believed_for_a_while() {
    let mut view = known(&["A", "B"]);
    let to_read = view.looked(&look(LATER, 1, None, 1), NOW);
    assert_eq!(to_read.whole, Some(Whole::Anew));
    assert_eq!(view.all(Whole::Anew)[0].alarms, ReadAlarms::Open);
    let changes = view.listed(list(&["A"]), NOW);
    assert_eq!((changes.gone, changes.doubted), (vec![], devices(&["B"])));
    view.complete(mark(LATER, 1));
    // The length says so again at the next look.
    let to_read = view.looked(&look(LATER, 1, Some(&[]), 1), NOW);
    assert!(to_read.list);
    let changes = view.listed(list(&["A"]), NOW + BELIEVED_FOR);
    assert_eq!(changes.gone, devices(&["B"]));
}

#[test]
fn a_partition_without_an_epoch_says_nothing() {
    let mut view = known(&["A"]);
    let nothing = Look {
        mark: None,
        numbered: None,
        listed: 0,
        ..look(EPOCH, 5, None, 0)
    };
    assert_eq!(view.looked(&nothing, NOW), ToRead::default());
    assert!(view.has(&device("A")));
}

#[test]
fn devices_that_were_heard_of_are_asked_for_once_their_time_is_over() {
    let mut view = known(&["A"]);
    // Another message may still be committed in the same millisecond.
    assert_eq!(view.look(true).heard_since, Some(NOW));
    assert_eq!(view.look(false).heard_since, None);
    let later = NOW + Duration::from_millis(200);
    let heard = Look {
        heard: vec![(device("A"), later)],
        ..look(EPOCH, 5, Some(&[]), 1)
    };
    let to_read = view.looked(&heard, later);
    assert_eq!(to_read.heard, devices(&["A"]));
    assert_eq!(view.last_message(&device("A")), Some(later));
    assert_eq!(view.look(true).heard_since, Some(later));
    view.looked(&look(EPOCH, 5, Some(&[]), 1), later + CLOCK_MARGIN);
    assert_eq!(
        view.look(true).heard_since,
        Some(later + Duration::from_millis(1))
    );
}

#[test]
fn a_device_that_is_gone_when_everything_is_read_anew_is_noticed() {
    let mut view = known(&["A", "B"]);
    view.begin_anew();
    assert_eq!(view.look(true).mark, None);
    let to_read = view.looked(&look(EPOCH, 6, None, 1), NOW);
    assert_eq!(to_read.whole, Some(Whole::Anew));
    assert_eq!(view.listed(list(&["A"]), NOW).gone, devices(&["B"]));
    // What happened to its alarms before is not asked for.
    let read = view.with_changes(&device("A"));
    assert_eq!(read.alarms, ReadAlarms::ChangesAfter(0));
    view.complete(mark(EPOCH, 6));
    view.read_again();
    let to_read = view.looked(&look(EPOCH, 7, None, 1), NOW);
    assert_eq!(to_read.whole, Some(Whole::Continued));
}

#[test]
fn a_time_in_the_future_hides_no_device() {
    let mut view = known(&["A", "B"]);
    let heard = Look {
        heard: vec![(device("A"), NOW + Duration::from_hours(1))],
        ..look(EPOCH, 5, Some(&[]), 2)
    };
    view.looked(&heard, NOW);
    assert_eq!(view.look(true).heard_since, Some(NOW));
}
