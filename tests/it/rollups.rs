//! Charts of a time from which no sample is left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::keys::{PartitionKeys, ROLLUP_LEVELS};
use shared::reading::Quality;
use shared::rollup::Width;
use shared::sample::Sample;
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";
/// Few enough for one node of a stream, which `--history-age` only removes as a whole.
const OLD: u64 = 60;
/// More than a block of the coarser level: each sample has blocks of its own.
const STEP: Duration = Duration::from_hours(8);
const PEAK: u64 = 17;

async fn now(redis: &mut MultiplexedConnection) -> Result<Time> {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
    Ok(Time::from_millis(seconds * 1_000 + micros / 1_000))
}

fn history_key() -> Result<String> {
    let device: DeviceId = SERIAL.parse()?;
    Ok(PartitionKeys::new(device.partition(64)).history(&device))
}

fn rollup_keys() -> Result<Vec<String>> {
    let device: DeviceId = SERIAL.parse()?;
    let keys = PartitionKeys::new(device.partition(64));
    let widths = [60, 900].map(Width::from_seconds);
    let key = |width: Option<Width>| Ok(keys.rollup(&device, width.context("a width")?));
    widths.into_iter().map(key).collect()
}

/// Returns the number of stored blocks of both levels.
async fn stored(redis: &mut MultiplexedConnection) -> Result<u64> {
    let mut sum = 0;
    for key in rollup_keys()? {
        let length: u64 = redis::cmd("XLEN").arg(key).query_async(redis).await?;
        sum += length;
    }
    Ok(sum)
}

/// Replaces the history by one of 20 days with a peak of one sample, of which nothing was put together yet. Returns the time of the first
/// sample.
async fn replace_history(redis: &mut MultiplexedConnection) -> Result<Time> {
    let key = history_key()?;
    let first = now(redis).await? - STEP * u32::try_from(OLD)?;
    for key in rollup_keys()?.iter().chain([&key]) {
        redis::cmd("DEL").arg(key).exec_async(redis).await?;
    }
    for number in 0..OLD {
        let at = first + STEP * u32::try_from(number)?;
        let value = if number == PEAK { "612.5" } else { "12" };
        let value: Decimal = value.parse()?;
        let sample = Sample {
            timestamp: at,
            reading_timestamp: None,
            value: Some(value),
            unit: "ppm".to_owned(),
            in_alarm: false,
            quality: Quality::Good,
            late: false,
        };
        redis::cmd("XADD")
            .arg(&key)
            .arg(format!("{}-0", at.as_millis()))
            .arg("s")
            .arg(sample.encode())
            .exec_async(redis)
            .await?;
    }
    Ok(first)
}

/// Adds a long rollup of a width that is no longer made.
async fn leave_earlier_rollup(redis: &mut MultiplexedConnection) -> Result<()> {
    let device: DeviceId = SERIAL.parse()?;
    let width = Width::from_seconds(300).context("a width")?;
    let key = PartitionKeys::new(device.partition(64)).rollup(&device, width);
    let now = now(redis).await?.as_millis();
    let level = format!("86400000 {now}");
    let () = redis.hset(ROLLUP_LEVELS, 300, level).await?;
    redis::cmd("XADD")
        .arg(key)
        .arg(format!("{}-0", now - 3_600_000))
        .arg("b")
        .arg("x".repeat(100_000))
        .exec_async(redis)
        .await?;
    Ok(())
}

async fn chart(stack: &Stack, from: Time, until: Time, points: u32) -> Result<Value> {
    let (from, until) = (from.as_millis(), until.as_millis());
    let path = format!(
        "/api/devices/{SERIAL}/history?from={from}&until={until}&points={points}&limit=1000"
    );
    stack.get(&path).await?.expect(200)
}

/// Returns how many samples the buckets have in all, and their highest values.
fn counted(chart: &Value) -> Result<(u64, Vec<f64>)> {
    let buckets = chart["buckets"].as_array().context("buckets")?;
    let counts = buckets.iter().filter_map(|bucket| bucket["count"].as_u64());
    let highest = buckets.iter().filter_map(|bucket| bucket["max"].as_f64());
    Ok((counts.sum(), highest.collect()))
}

/// Returns the number of blocks that all replicas have written since they were started.
async fn written(stack: &Stack) -> Result<u64> {
    let mut sum = 0.0;
    for ingest in &stack.ingests {
        sum += ingest.metric("ingest_rollups_blocks_total").await?;
    }
    Ok(sum.to_string().parse()?)
}

async fn kill_all(stack: &mut Stack) -> Result<()> {
    for ingest in &mut stack.ingests {
        ingest.process.kill().await?;
    }
    Ok(())
}

async fn start_all(stack: &mut Stack) -> Result<()> {
    for ingest in &mut stack.ingests {
        ingest.process.restart()?;
    }
    for ingest in &mut stack.ingests {
        ingest.ready().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_peak_of_one_sample_stays_in_the_chart_when_its_sample_is_gone() -> Result<()> {
    let mut stack = Plan::default().ingests(2).operator_port().start().await?;
    stack.device(SERIAL).send(5).await?;
    stack.shows(SERIAL, 5).await?;
    let mut redis = stack.redis_connection().await?;
    // No pass may see half of it, whenever a block ends.
    kill_all(&mut stack).await?;
    let first = replace_history(&mut redis).await?;

    // Both begin to make the rollups at the same time. Each old sample has a block of minutes, and one of quarters of an hour.
    start_all(&mut stack).await?;
    stack.device(SERIAL).send(7).await?;
    stack.shows(SERIAL, 7).await?;
    eventually("all blocks are written, each once", async || {
        let stored = stored(&mut redis.clone()).await?;
        let written = written(&stack).await?;
        ensure!(stored >= 2 * OLD && stored == written, "{stored} {written}");
        Ok(())
    })
    .await?;

    let until = now(&mut redis).await?;
    let month = chart(&stack, until - Duration::from_hours(24 * 30), until, 500).await?;
    let (count, highest) = counted(&month)?;
    assert_eq!(count, OLD + 1, "{month}");
    let is_peak = |value: &&f64| **value > 600.0;
    assert_eq!(highest.iter().filter(is_peak).count(), 1, "{month}");
    assert_eq!(month["count"], OLD + 1, "{month}");
    let width = month["bucket_ms"].as_i64().context("a width")?;
    assert_eq!(width % 900_000, 0, "{width}");

    // The samples are gone.
    let key = history_key()?;
    redis::cmd("XTRIM")
        .arg(&key)
        .arg("MINID")
        .arg((until - Duration::from_hours(1)).as_millis())
        .exec_async(&mut redis)
        .await?;
    let later = chart(&stack, until - Duration::from_hours(24 * 30), until, 500).await?;
    assert_eq!(later["count"], 1, "{later}");
    assert_eq!(later["samples"][0]["sensor_reading"], 7, "{later}");
    assert_eq!(counted(&later)?, (count, highest), "{later}");
    // Minutes may be there for longer than they are kept: Redis removes many blocks at once.
    let peak = first + STEP * u32::try_from(PEAK)?;
    let bounds = (
        peak - Duration::from_hours(1),
        peak + Duration::from_hours(1),
    );
    let close = chart(&stack, bounds.0, bounds.1, 2_000).await?;
    let width = close["bucket_ms"].as_i64().context("a width")?;
    assert!([60_000, 900_000].contains(&width), "{close}");
    assert_eq!(counted(&close)?, (1, vec![612.5]), "{close}");
    let reaches_from = close["reaches_from"].as_str().and_then(Time::from_iso);
    let reaches_from = reaches_from.context("a time")?;
    assert!(reaches_from <= first && first < reaches_from + Duration::from_mins(15));

    // Whoever begins anew finds what there is, and adds nothing to it, unless a block has ended meanwhile.
    kill_all(&mut stack).await?;
    let before = stored(&mut redis).await?;
    leave_earlier_rollup(&mut redis).await?;
    start_all(&mut stack).await?;
    eventually("the passes are over, and wrote nothing twice", async || {
        for ingest in &stack.ingests {
            let behind = ingest.metric("ingest_rollups_behind_seconds").await?;
            ensure!(behind > 0.0, "no pass yet");
        }
        let stored = stored(&mut redis.clone()).await?;
        ensure!(stored - before == written(&stack).await?, "{stored}");
        Ok(())
    })
    .await?;

    eventually("what an earlier setting left is counted", async || {
        for ingest in &stack.ingests {
            let bytes = ingest.metric("ingest_rollups_bytes").await?;
            ensure!(bytes > 100_000.0, "{bytes}");
        }
        Ok(())
    })
    .await?;

    let retired = stack.retire(SERIAL, "").await?.expect(200)?;
    assert_eq!(retired["success"], json!(true), "{retired}");
    let left: Vec<String> = redis.keys(format!("*{SERIAL}")).await?;
    assert!(left.is_empty(), "{left:?}");
    stack.pass()
}
