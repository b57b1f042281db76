//! The open alarms of all devices.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::alarm::{Alarm, Severity};
use shared::device::DeviceId;
use shared::event;
use shared::store::Shown;

use super::access_check::Requester;
use super::context::RestContext;
use super::query::Query;
use super::reply;
use crate::access::permission::Verb;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::feeds::alarm_key::{AlarmKey, NotAKey};
use crate::feeds::filter::{AlarmFilter, Place};
use crate::store_reader::StoreReader;

/// Number of devices that are read in one round trip. Larger reads could exceed the timeout or delay other reads.
const CHUNK: usize = 500;

#[derive(Serialize)]
struct OpenAlarms {
    success: bool,
    /// Number of alarms in this answer.
    count: usize,
    /// Number of all open alarms that the filters allow.
    total: usize,
    alarms: Vec<Box<RawValue>>,
    /// `after` of the request for those that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The most urgent alarms of those that were added, rendered as `T`.
pub(super) struct Urgent<T> {
    limit: usize,
    after: Option<AlarmKey>,
    total: usize,
    /// One more than is wanted: it shows that there are more.
    found: BTreeMap<AlarmKey, T>,
}

/// `GET /api/alarms/open`: the open alarms of the devices that the client may read, most urgent first.
pub(crate) async fn list(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = filter_of(&query)?;
    let after = query.text("after").map(str::parse).transpose();
    let after = after.map_err(|NotAKey| ApiError::Unreadable {
        problem: "`after` is not the `next` of an answer".to_owned(),
    })?;
    let urgent = Urgent::new(query.limit()?, after);
    let found = urgent.read(
        &context,
        &requester,
        client,
        &filter,
        |device, shown, alarm| {
            event::listed_alarm(device, alarm, None, &shown.profile, shown.state.position)
        },
    );
    Ok(reply::ok(&found.await?.finish()))
}

fn filter_of(query: &Query) -> Result<AlarmFilter, ApiError> {
    let words = query.text("severity").unwrap_or_default();
    let words = words.split(',').map(str::trim);
    let severities: Option<Vec<Severity>> = words
        .filter(|word| !word.is_empty())
        .map(|word| match word {
            "critical" => Some(Severity::Critical),
            "high" => Some(Severity::High),
            "warning" => Some(Severity::Warning),
            _ => None,
        })
        .collect();
    let severities = severities.ok_or_else(|| ApiError::Unreadable {
        problem: "`severity` is not a list of `critical`, `high` and `warning`".to_owned(),
    })?;
    let text = |key| query.text(key).map(str::to_owned);
    let filter = AlarmFilter::new(severities, text("prefix"), text("zone"), text("site"));
    filter.ok_or_else(|| ApiError::Unreadable {
        problem: "`prefix`, `zone` or `site` is too long".to_owned(),
    })
}

/// Reads those of these devices that may have open alarms.
async fn in_alarm(
    reader: &StoreReader,
    devices: &[DeviceId],
) -> Result<Vec<(DeviceId, Shown)>, ApiError> {
    let store = &reader.store;
    let glances = reader.with_timeout(store.glance_at_alarms(devices)).await;
    let glances = glances.map_err(ApiError::unavailable)?;
    let may_have = devices
        .iter()
        .zip(glances)
        .filter(|(_, glance)| glance.may_have_alarms);
    let may_have: Vec<_> = may_have.map(|(device, _)| (device.clone(), None)).collect();
    let shown = reader.with_timeout(store.shown_devices(&may_have)).await;
    let shown = shown.map_err(ApiError::unavailable)?;
    let shown = may_have.into_iter().zip(shown);
    Ok(shown
        .filter_map(|((device, _), (shown, _))| Some((device, shown?)))
        .collect())
}

impl<T> Urgent<T> {
    /// At most `limit` of them, behind this place.
    pub(super) fn new(limit: usize, after: Option<AlarmKey>) -> Self {
        Self {
            limit,
            after,
            total: 0,
            found: BTreeMap::new(),
        }
    }

    /// Adds the open alarms of every device that the client may read.
    pub(super) async fn read(
        mut self,
        context: &RestContext,
        requester: &Requester,
        client: ClientAddress,
        filter: &AlarmFilter,
        render: impl Fn(&DeviceId, &Shown, &Alarm) -> T,
    ) -> Result<Self, ApiError> {
        let _turn = context.large_reads.wait(client).await?;
        let source = &context.reader;
        let devices = source.with_timeout(source.store.devices()).await;
        let devices = devices.map_err(ApiError::unavailable)?;
        let limited = requester.limited();
        let may_read = |device: &DeviceId| {
            limited.is_none_or(|reader| reader.permission().allows(Verb::Read, device.as_str()))
        };
        let devices: Vec<DeviceId> = devices
            .into_iter()
            .map(|(device, _)| device)
            .filter(|device| filter.matches_device(device) && may_read(device))
            .collect();
        for chunk in devices.chunks(CHUNK) {
            for (device, shown) in in_alarm(source, chunk).await? {
                self.add(&device, &shown, filter, &render);
            }
        }
        Ok(self)
    }

    fn add(
        &mut self,
        device: &DeviceId,
        shown: &Shown,
        filter: &AlarmFilter,
        render: &impl Fn(&DeviceId, &Shown, &Alarm) -> T,
    ) {
        if !filter.matches_place(&Place::of(&shown.profile)) {
            return;
        }
        let alarms = shown.state.alarms.iter();
        for alarm in alarms.filter(|alarm| filter.matches_severity(alarm.severity())) {
            self.total += 1;
            let key = AlarmKey::of(alarm);
            let is_before = self.after.as_ref().is_some_and(|after| key <= *after);
            let last = self.found.last_key_value().map(|(last, _)| last);
            let is_behind = self.found.len() > self.limit && last.is_some_and(|last| key > *last);
            if is_before || is_behind {
                continue;
            }
            self.found.insert(key, render(device, shown, alarm));
            if self.found.len() > self.limit + 1 {
                self.found.pop_last();
            }
        }
    }

    /// Returns them, most urgent first, and where those that follow begin.
    pub(super) fn into_alarms(mut self) -> (Vec<T>, Option<AlarmKey>) {
        let has_more = self.found.len() > self.limit;
        if has_more {
            self.found.pop_last();
        }
        let last = self.found.last_key_value().map(|(last, _)| last.clone());
        let alarms = self.found.into_values().collect();
        (alarms, last.filter(|_| has_more))
    }
}

impl Urgent<Box<RawValue>> {
    fn finish(self) -> OpenAlarms {
        let total = self.total;
        let (alarms, next) = self.into_alarms();
        OpenAlarms {
            success: true,
            count: alarms.len(),
            total,
            alarms,
            next: next.map(|next| next.to_string()),
        }
    }
}
