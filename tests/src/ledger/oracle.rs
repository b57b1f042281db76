//! The alarm changes that the readings of one device must have caused. Pure.
//!
//! The rules are implemented again in a few lines, for the payloads of the load only: levels far from each other, no
//! latching, no delay.

/// One sample as it was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) level: u8,
    pub(super) fault: bool,
}

/// The changes in order, as `change type`.
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
        let now = if sample.fault {
            level.max(sample.level)
        } else {
            sample.level
        };
        if now != level {
            let change = match (level, now) {
                (0, _) => "raised",
                (_, 0) => "cleared",
                (before, _) if now > before => "escalated",
                _ => "de_escalated",
            };
            // A cleared alarm keeps its last level.
            let shown = if now == 0 { level } else { now };
            changes.push(format!("{change} alarm_level_{shown}"));
        }
        (level, fault) = (now, sample.fault);
    }
    changes
}
