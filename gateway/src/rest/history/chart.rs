//! A time of one device as a chart: buckets of samples and rollups.

use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso;
use shared::rollup::Width;

use super::buckets::{Bucket, Buckets};
use super::sources::Sources;
use super::stretch::Stretch;
use super::{open_alarms, read};
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::rest::alarm_log::spans::{self, Spans};
use crate::rest::context::RestContext;
use crate::rest::reply;

/// What a chart needs.
#[derive(Serialize)]
struct Chart {
    device_id: DeviceId,
    count: usize,
    samples: Vec<Box<RawValue>>,
    #[serde(serialize_with = "iso")]
    from: Time,
    #[serde(serialize_with = "iso")]
    until: Time,
    /// The oldest time of which anything is stored.
    #[serde(serialize_with = "iso")]
    reaches_from: Time,
    /// Length of a bucket.
    bucket_ms: i64,
    buckets: Vec<Bucket>,
    #[serde(flatten)]
    spans: Spans,
}

/// What is stored of a time, in so many buckets at most.
pub(super) struct Charted {
    /// The oldest time of which anything is stored; now, if nothing is.
    pub(super) reaches_from: Time,
    /// Length of a bucket.
    bucket_ms: i64,
    pub(super) buckets: Vec<Bucket>,
}

/// Answers with the time between these bounds (inclusive) in so many buckets, and with its newest samples.
pub(super) async fn chart(
    context: &RestContext,
    client: ClientAddress,
    device: DeviceId,
    bounds: (Time, Time),
    points: usize,
    limit: usize,
) -> Result<Response, ApiError> {
    let _turn = context.large_reads.wait(client).await?;
    let open = open_alarms(context, &device).await?;
    let charted = Charted::read(context, &device, bounds, points).await?;
    let reader = &context.reader;
    let samples = reader
        .store
        .history(&device, Some(bounds.0), Some(bounds.1), limit);
    let samples = reader.with_timeout(samples).await;
    let samples = samples.map_err(ApiError::unavailable)?;
    if samples.is_empty() && charted.buckets.is_empty() && open.is_none() {
        return Err(ApiError::UnknownDevice);
    }
    let open = open.unwrap_or_default();
    let spans = spans::read(context, &device, bounds, &open);
    let spans = spans.await.map_err(ApiError::unavailable)?;
    Ok(reply::ok(&Chart {
        device_id: device,
        count: samples.len(),
        samples,
        from: bounds.0,
        until: bounds.1,
        reaches_from: charted.reaches_from,
        bucket_ms: charted.bucket_ms,
        buckets: charted.buckets,
        spans,
    }))
}

impl Charted {
    /// Reads the time between these bounds (inclusive).
    pub(super) async fn read(
        context: &RestContext,
        device: &DeviceId,
        bounds: (Time, Time),
        points: usize,
    ) -> Result<Self, ApiError> {
        let reader = &context.reader;
        let widths = reader.with_timeout(reader.store.rollup_widths()).await;
        let widths = widths.map_err(ApiError::unavailable)?;
        let begin = reader.store.history_begin(device, &widths);
        let begin = reader.with_timeout(begin).await;
        let begin = begin.map_err(ApiError::unavailable)?;
        let now = context.now();
        let sources = Sources::choose(bounds, points, (&widths, &begin), now);
        let sources = sources.ok_or_else(|| ApiError::Unreadable {
            problem: "`from` is after `until`".to_owned(),
        })?;
        Ok(Self {
            reaches_from: sources.reaches_from.unwrap_or(now),
            bucket_ms: sources.frame.width_ms(),
            buckets: fill(context, device, &sources).await?.finish(),
        })
    }
}

/// Reads the coarsest rollup, then what it has not from the next, and the rest from the samples. Nothing is asked for a time before it
/// begins.
async fn fill(
    context: &RestContext,
    device: &DeviceId,
    sources: &Sources,
) -> Result<Buckets, ApiError> {
    let mut buckets = Buckets::new(sources.frame);
    let mut left = vec![sources.frame.stretch()];
    for (width, start) in &sources.rollups {
        let (mut still_left, since) = Stretch::split(&left, *start);
        for stretch in since {
            let blocks = read_rollup(context, device, *width, stretch, &mut buckets).await?;
            still_left.extend(stretch.without(&blocks));
        }
        left = still_left;
    }
    let samples = sources.samples.map(|start| Stretch::split(&left, start).1);
    for stretch in samples.unwrap_or_default() {
        let last = Time::from_millis(stretch.end.as_millis() - 1);
        read(context, device, (stretch.start, last), |samples| {
            for sample in samples {
                buckets.add(sample.at, &sample.sample);
            }
            Ok(())
        })
        .await?;
    }
    Ok(buckets)
}

/// Adds the buckets of a rollup in this time, piece by piece: Redis does nothing else while it answers. Returns the times of their blocks, of
/// which a level has few thousands at most.
async fn read_rollup(
    context: &RestContext,
    device: &DeviceId,
    width: Width,
    stretch: Stretch,
    buckets: &mut Buckets,
) -> Result<Vec<Stretch>, ApiError> {
    let reader = &context.reader;
    let mut times = Vec::new();
    let mut since = stretch.start;
    loop {
        let piece = reader
            .store
            .rollup_piece(device, width, (since, stretch.end));
        let piece = reader.with_timeout(piece).await;
        let piece = piece.map_err(ApiError::unavailable)?;
        for block in &piece.blocks {
            let of_it = block.buckets().filter(|(at, _)| stretch.contains(*at));
            for (at, sums) in of_it {
                buckets.merge(at, sums);
            }
            times.push(Stretch::of(block));
        }
        match piece.next {
            Some(next) => since = next,
            None => return Ok(times),
        }
    }
}
