//! The end of a device.

use super::codec::json;
use super::write::StoredLine;
use super::{Committed, Store, StoreError};
use crate::alarm::{Alarm, ChangeKind};
use crate::decide::{Retirement, StoredDevice};
use crate::keys;

impl Store {
    /// Retires the device if what `retirement` started from still stands.
    pub async fn retire(
        &self,
        subject: &StoredDevice,
        retirement: &Retirement,
        traceparent: Option<&str>,
    ) -> Result<Committed, StoreError> {
        let device = &subject.device;
        let lines = log_lines(subject, retirement, traceparent);
        let answer = self
            .run(|scripts, pipe| {
                let keys = self.keys(device);
                pipe.cmd("EVALSHA").arg(&scripts.retire).arg(10);
                pipe.arg(keys.device(device))
                    .arg(keys.partition())
                    .arg(keys.seen());
                pipe.arg(keys.events(device))
                    .arg(keys.changes(device))
                    .arg(keys.deadlines());
                pipe.arg(keys.changed())
                    .arg(keys.log())
                    .arg(keys.history(device));
                pipe.arg(keys.channel(device));
                pipe.arg(device.as_str())
                    .arg(&subject.stored_rev)
                    .arg(subject.epoch.to_string());
                pipe.arg(retirement.position.seq).arg(&retirement.envelope);
                pipe.arg(keys::MAX_LOG).arg(&lines);
            })
            .await?;
        let committed = self.committed(device, Ok(answer))?;
        if matches!(committed, Committed::Done(_)) {
            self.committed_states.forget(device, subject.epoch);
        }
        Ok(committed)
    }
}

/// One line for the device, which says who and when even where nothing stood, and one for each alarm it closes. What
/// was lost with an unreadable state is told as it is when a reading replaces one.
fn log_lines(
    subject: &StoredDevice,
    retirement: &Retirement,
    traceparent: Option<&str>,
) -> Vec<Vec<u8>> {
    let line = |change: Option<ChangeKind>, alarm: Option<&Alarm>| {
        json(&StoredLine {
            at: retirement.at,
            change,
            alarm: alarm.cloned(),
            by: change.map(|_| retirement.by.clone()),
            seen: None,
            trace: traceparent.map(str::to_owned),
        })
    };
    let lost = subject.lost.then(|| line(None, None));
    let closed = retirement
        .changes
        .iter()
        .map(|change| line(Some(change.kind), Some(&change.alarm)));
    let device = line(Some(ChangeKind::Retired), None);
    lost.into_iter().chain([device]).chain(closed).collect()
}
