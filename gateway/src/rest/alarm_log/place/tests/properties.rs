use proptest::prelude::*;
use shared::store::is_entry_id;

use super::*;

proptest! {
    #[test]
    fn every_place_is_read_as_it_was_written(at in any::<i64>(), millis in any::<u64>(), number in any::<u64>(), partition in any::<u16>()) {
        let place = Place {
            at: Time::from_millis(at),
            id: LogId { millis, number },
            partition,
        };
        prop_assert_eq!(place.to_string().parse::<Place>().ok(), Some(place));
    }

    #[test]
    fn whatever_is_read_has_one_text(text in "[0-9_+. a-z-]{0,30}|.{0,30}") {
        if let Ok(place) = text.parse::<Place>() {
            prop_assert_eq!(place.to_string(), text);
        }
    }

    /// The text becomes an argument of a command.
    #[test]
    fn a_place_in_the_audit_trail_has_two_numbers(text in "[0-9-]{0,45}|.{0,30}") {
        let numbers: Vec<&str> = text.split('-').collect();
        let are_numbers = numbers.iter().all(|part| {
            !part.is_empty() && part.len() <= 20 && part.bytes().all(|byte| byte.is_ascii_digit())
        });
        prop_assert_eq!(is_entry_id(&text), numbers.len() == 2 && are_numbers);
    }
}
