//! The alarm changes that the readings of one device must have caused. Pure.
//!
//! This is a second, short implementation of the alarm rules. It suffices for the payloads of the load: their levels are far
//! apart, without latching or delays. The load runs with [`Plan::every_raise_is_an_alarm`](crate::stack::Plan::every_raise_is_an_alarm):
//! no alarm is kept as returned, and none chatters.

/// One sample as it was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) level: u8,
    pub(super) fault: bool,
}

/// Returns the changes in order, as `<change> <type>`.
pub(super) fn changes(samples: impl Iterator<Item = Sample>) -> Vec<String> {
    let mut changes = Vec::new();
    let mut level = 0;
    let mut fault = false;
    for sample in samples {
        if sample.fault != fault {
            let change = if sample.fault { "raised" } else { "cleared" };
            changes.push(format!("{change} sensor_fault"));
        }
        // A reading with the fault flag does not lower the level.
        let new_level = if sample.fault {
            level.max(sample.level)
        } else {
            sample.level
        };
        if new_level != level {
            let change = match (level, new_level) {
                (0, _) => "raised",
                (_, 0) => "cleared",
                (old, _) if new_level > old => "escalated",
                _ => "de_escalated",
            };
            // A cleared alarm keeps its last level.
            let shown = if new_level == 0 { level } else { new_level };
            changes.push(format!("{change} alarm_level_{shown}"));
        }
        (level, fault) = (new_level, sample.fault);
    }
    changes
}
