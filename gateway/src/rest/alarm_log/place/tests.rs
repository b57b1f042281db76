mod properties;

use super::*;

#[test]
fn a_place_is_read_as_it_was_written() {
    let place = Place {
        at: Time::from_millis(1_795_705_950_244),
        id: LogId {
            millis: 1_795_705_950_245,
            number: 3,
        },
        partition: 39,
    };
    assert_eq!(place.to_string(), "1795705950244_1795705950245-3_39");
    for place in [
        place,
        Place::after_all_at(place.at),
        Place::after_all_at(Time::from_millis(-1)),
    ] {
        let read: Place = place.to_string().parse().expect("a place");
        assert_eq!(read, place);
    }
}

#[test]
fn any_other_text_is_no_place() {
    for text in [
        "",
        "1",
        "1_2_3",
        "1_2-3",
        "1_2-3_4_5",
        "1_2-3_4 ",
        "01_2-3_4",
        "1_2-3_70000",
        "1_2-99999999999999999999_4",
        "log-39-1795705950245-0",
    ] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}

#[test]
fn rows_are_ordered_by_their_time_first() {
    let place = |at, millis, partition| Place {
        at: Time::from_millis(at),
        id: LogId { millis, number: 0 },
        partition,
    };
    let ordered = [
        place(1, 9, 9),
        place(2, 1, 3),
        place(2, 1, 4),
        place(2, 2, 0),
        Place::after_all_at(Time::from_millis(2)),
        place(3, 1, 0),
    ];
    assert!(ordered.is_sorted(), "{ordered:?}");
}
