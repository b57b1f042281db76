//! What is stored between two steps of a random history says everything, and an earlier release can read its part.

use proptest::prelude::*;

use super::random::{Plant, any_detector, any_history};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn storing_and_loading_the_state_changes_nothing(
        detector in any_detector(),
        history in any_history(),
    ) {
        let mut kept = Plant::new(detector);
        let mut stored = Plant::new(detector);
        for step in history {
            let (expected, found) = (kept.step(step), stored.step(step));
            prop_assert_eq!(&found.changes, &expected.changes, "{:?}", step);
            prop_assert_eq!(&found.event, &expected.event, "{:?}", step);
            prop_assert_eq!(found.deadline, expected.deadline, "{:?}", step);
            let before = stored.state().clone();
            if before.latest.is_some() {
                stored.device.restart();
            }
            prop_assert_eq!(&stored.state().alarms, &before.alarms);
            prop_assert_eq!(&stored.state().closed, &before.closed);
        }
    }

    #[test]
    fn an_earlier_release_can_read_the_alarms_it_knows(
        detector in any_detector(),
        history in any_history(),
    ) {
        let mut plant = Plant::new(detector);
        for step in history {
            plant.step(step);
            let ids = crate::store::read_as_earlier_release(plant.state());
            let is_open = |id: &String| plant.state().alarms.iter().any(|alarm| alarm.id == *id);
            prop_assert!(ids.iter().all(is_open));
            // Two gas alarms would be one too many for it.
            let gas = plant.state().alarms.iter().filter(|alarm| alarm.kind().is_gas());
            prop_assert!(gas.filter(|alarm| ids.contains(&alarm.id)).count() <= 1);
        }
    }
}
