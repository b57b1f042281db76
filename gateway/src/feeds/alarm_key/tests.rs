use shared::alarm::{Acknowledgement, Condition};
use shared::position::Position;

use super::*;

fn alarm(id: &str, condition: Condition, at: i64, is_acknowledged: bool) -> Alarm {
    let at = Time::from_millis(at);
    let acknowledged = is_acknowledged.then(|| Acknowledgement::new("Asha", at));
    Alarm {
        acknowledged,
        ..Alarm::new(id.to_owned(), condition, at, Position::default())
    }
}

#[test]
fn the_most_urgent_comes_first() {
    use Condition as C;
    let ordered = [
        alarm("new", C::AlarmLevel3, 20, false),
        alarm("old", C::AlarmLevel3, 10, false),
        alarm("seen", C::AlarmLevel3, 30, true),
        alarm("high", C::AlarmLevel2, 40, false),
        alarm("low", C::AlarmLevel1, 50, false),
    ];
    let keys: Vec<AlarmKey> = ordered.iter().map(AlarmKey::of).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn a_place_is_read_as_it_was_written() {
    for (condition, is_acknowledged) in [
        (Condition::AlarmLevel1, false),
        (Condition::AlarmLevel2, true),
        (Condition::SensorFault, false),
    ] {
        let key = AlarmKey::of(&alarm(
            "alarm1_A_73_1",
            condition,
            1_769_600_232_000,
            is_acknowledged,
        ));
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    for text in [
        "", "c", "c0", "c0.1", "c2.1.id", "x0.1.id", "c0.y.id", "ä0.1.id",
    ] {
        assert_eq!(text.parse::<AlarmKey>(), Err(NotAKey), "{text}");
    }
}
