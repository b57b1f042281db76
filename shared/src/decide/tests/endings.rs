//! Every alarm that is raised can end.

use proptest::prelude::*;

use super::random::{Flaw, Plant, Step, any_detector, any_history};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// From any state that a random history reaches, five good readings in clean air, less than three minutes apart, with the timers
    /// between and with every alarm acknowledged, leave no alarm open.
    #[test]
    fn five_good_readings_and_acknowledgements_end_everything(
        detector in any_detector(),
        history in any_history(),
    ) {
        let mut plant = Plant::new(detector);
        for step in history {
            plant.step(step);
        }
        let pause_ms = 170_000 + detector.off_delay_s * 1_000 / 5;
        plant.device.settings.offline_after = Duration::from_mins(5);
        for _ in 0..5 {
            plant.advance_ms(pause_ms / 2);
            plant.run_timer();
            plant.advance_ms(pause_ms / 2);
            plant.run_timer();
            let value = plant.clean_air();
            plant.step(Step::Message { value, after_ms: 0, flaw: Flaw::None });
            let open: Vec<String> = plant.state().alarms.iter().map(|a| a.id.clone()).collect();
            for id in open {
                plant.device.acknowledge(&id);
            }
        }
        plant.advance_ms(pause_ms);
        plant.run_timer();
        let open: Vec<_> = plant.state().alarms.iter().map(|a| (&a.id, a.state())).collect();
        prop_assert!(open.is_empty(), "{open:?}");
    }
}
