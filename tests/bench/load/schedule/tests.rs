use super::*;

fn schedule() -> Schedule {
    Schedule {
        devices: 7,
        per_second: 3,
        first: 7,
        start_us: 1_000,
    }
}

#[test]
fn messages_are_due_at_an_even_pace() {
    let schedule = schedule();
    assert_eq!(schedule.due_us(7), 1_000);
    assert_eq!(schedule.due_us(8), 334_333);
    assert_eq!(schedule.due_us(10), 1_001_000);
}

#[test]
fn what_is_due_is_the_inverse_of_when_it_is_due() {
    let schedule = schedule();
    assert_eq!(schedule.due_before(999), 7);
    for number in 7..100 {
        let due = schedule.due_us(number);
        assert_eq!(schedule.due_before(due), number + 1, "{number}");
        assert_eq!(schedule.due_before(due - 1), number, "{number}");
    }
}

#[test]
fn a_number_tells_device_and_turn() {
    let schedule = schedule();
    for device in 0..7 {
        for end in 7..40 {
            let turns = (7..end).filter(|&number| schedule.device(number) == device);
            let turns: Vec<u64> = turns.map(|number| schedule.turn(number)).collect();
            let range = schedule.turns(device, end);
            assert_eq!(range.collect::<Vec<_>>(), turns, "{device} below {end}");
        }
    }
}

#[test]
fn the_number_comes_back_in_an_event() {
    for number in [0, 1, 10, 1_234_567, 120_000_000, 999_999_999] {
        let reading = reading(number);
        let shortened = reading.trim_end_matches('0').trim_end_matches('.');
        for reading in [reading.as_str(), shortened] {
            let event = format!(r#"["device:data",{{"sensor_reading":{reading},"offset":1}}]"#);
            assert_eq!(number_in(&event), Some(number), "{event}");
        }
    }
    assert_eq!(number_in(r#"{"sensor_reading":null}"#), None);
    assert_eq!(number_in(r#"{"sensor_reading":258}"#), None);
    assert_eq!(number_in(r#"{"sensor_reading":101}"#), None);
}
