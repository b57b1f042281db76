//! The rollups of the history, made of samples with old ids.

use super::history::memory_usage;
use super::*;
use crate::apply::retire;
use crate::rollup::{BlockBuilder, Level, Levels, Width};
use crate::sample::Sample;

/// Where a block of every width begins.
const START: i64 = 1_795_500_000_000;
const HOUR: i64 = 3_600_000;

fn levels() -> Levels {
    "1m:36500m,15m:90d".parse().expect("levels")
}

fn width(seconds: u32) -> Width {
    Width::from_seconds(seconds).expect("a width")
}

fn sample(number: i64) -> Sample {
    Sample {
        timestamp: Time::from_millis(START + number),
        reading_timestamp: None,
        value: format!("{}.{}", number * 7 % 40, number % 10).parse().ok(),
        unit: "ppm".to_owned(),
        in_alarm: false,
        quality: crate::reading::Quality::Good,
        late: false,
    }
}

/// Adds samples this many milliseconds apart. Returns them with the times of their entries.
async fn fill(
    redis: &mut MultiplexedConnection,
    key: &str,
    count: i64,
    step: i64,
) -> Vec<(Time, Sample)> {
    let samples: Vec<(Time, Sample)> = (0..count)
        .map(|number| (Time::from_millis(START + number * step), sample(number)))
        .collect();
    for chunk in samples.chunks(1_000) {
        let mut pipe = redis::pipe();
        for (at, sample) in chunk {
            pipe.cmd("XADD")
                .arg(key)
                .arg(format!("{}-0", at.as_millis()));
            pipe.arg("s").arg(sample.encode()).ignore();
        }
        pipe.exec_async(redis).await.expect("added");
    }
    samples
}

/// The blocks that these samples make.
fn blocks_of(width: Width, samples: &[(Time, Sample)]) -> Vec<crate::rollup::Block> {
    let mut builder = BlockBuilder::new(width);
    let mut blocks: Vec<_> = samples
        .iter()
        .filter_map(|(at, sample)| builder.add_sample(*at, sample))
        .collect();
    blocks.extend(builder.finish());
    blocks
}

/// Makes the blocks of one level until then.
async fn make(
    store: &Store,
    device: &DeviceId,
    (level, source): (Level, RollupSource),
    until: i64,
    last: Option<Time>,
) -> Result<(RollupProgress, Option<Time>), StoreError> {
    let bounds = (Time::from_millis(START - HOUR), Time::from_millis(until));
    let mut work = RollupWork::new(device, level, source, bounds, last);
    loop {
        let progress = store.roll_up(&mut work).await?;
        if progress != RollupProgress::More {
            return Ok((progress, work.last()));
        }
    }
}

fn level(seconds: u32) -> Level {
    let levels = levels();
    let level = levels.iter().find(|level| level.width == width(seconds));
    *level.expect("a level")
}

async fn make_minutes(store: &Store, until: i64) -> Result<RollupProgress, StoreError> {
    let (_, marks) = store.rollup_marks(&[device()], &levels()).await?;
    let last = marks[0].clone()?.ends[0];
    let minutes = (level(60), RollupSource::History);
    Ok(make(store, &device(), minutes, until, last).await?.0)
}

async fn stored(store: &Store, seconds: u32) -> Vec<crate::rollup::Block> {
    let device = device();
    let mut blocks = Vec::new();
    let until = Time::from_millis(START + 1_000 * HOUR);
    let mut since = Time::from_millis(0);
    loop {
        let piece = store.rollup_piece(&device, width(seconds), (since, until));
        let piece = piece.await.expect("blocks");
        blocks.extend(piece.blocks);
        match piece.next {
            Some(next) => since = next,
            None => return blocks,
        }
    }
}

#[tokio::test]
async fn blocks_are_made_of_all_samples_and_coarser_ones_of_them() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let history = store.keys(&device()).history(&device());
    // Two and a half hours and some, in several pieces, one sample every 3 s.
    let samples = fill(&mut redis, &history, 3_100, 3_000).await;
    let until = START + 150 * 60_000;
    let done = make_minutes(&store, until).await.expect("made");
    assert_eq!(done, RollupProgress::Done);
    let before = |until: i64| {
        let index = samples.partition_point(|(at, _)| at.as_millis() < until);
        &samples[..index]
    };
    assert_eq!(
        stored(&store, 60).await,
        blocks_of(width(60), before(until))
    );

    // Later the rest follows.
    let until = START + 225 * 60_000;
    assert_eq!(make_minutes(&store, until).await.expect("made"), done);
    let minutes = stored(&store, 60).await;
    assert_eq!(minutes, blocks_of(width(60), &samples));
    let quarters = (level(900), RollupSource::Finer(width(60)));
    let made = make(&store, &device(), quarters, until, None).await;
    let end = Time::from_millis(until);
    assert_eq!(made.expect("made"), (RollupProgress::Done, Some(end)));
    assert_eq!(stored(&store, 900).await, blocks_of(width(900), &samples));

    let (now, marks) = store
        .rollup_marks(&[device()], &levels())
        .await
        .expect("marks");
    assert!(now.as_millis() > START, "the time of Redis");
    let last_minute = minutes.last().map(crate::rollup::Block::end);
    assert_eq!(
        marks[0].as_ref().expect("marks"),
        &RollupMarks {
            newest_sample: samples.last().map(|(at, _)| *at),
            ends: vec![last_minute, Some(end)],
        }
    );
    let widths = [width(60), width(900)];
    let begin = store.history_begin(&device(), &widths).await;
    let start = Some(Time::from_millis(START));
    let expected = HistoryBegin {
        samples: start,
        levels: vec![start, start],
    };
    assert_eq!(begin.expect("an answer"), expected);
    // It goes by itself.
    let key = store.keys(&device()).rollup(&device(), width(60));
    let life: i64 = redis.pttl(&key).await.expect("an answer");
    let age = i64::try_from(level(60).age.as_millis()).expect("it fits");
    assert!((1..=age).contains(&life), "{life}");
}

#[tokio::test]
async fn two_writers_write_each_block_once() {
    let server = RedisServer::start().await;
    let (store, other) = (server.store(), server.store());
    let mut redis = server.connect().await;
    let history = store.keys(&device()).history(&device());
    let samples = fill(&mut redis, &history, 5_000, 2_000).await;
    let until = START + 180 * 60_000;
    // Whoever is late finds what the other one wrote, and begins again behind it.
    let persist = async |store: &Store| {
        let mut rounds = 0;
        while make_minutes(store, until).await.expect("an answer") != RollupProgress::Done {
            rounds += 1;
        }
        rounds
    };
    let rounds = tokio::join!(persist(&store), persist(&other));
    assert_eq!(
        stored(&store, 60).await,
        blocks_of(width(60), &samples),
        "{rounds:?}"
    );
}

#[tokio::test]
async fn what_one_writer_left_the_next_continues() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let history = store.keys(&device()).history(&device());
    let samples = fill(&mut redis, &history, 3_000, 1_000).await;
    let until = START + 60 * 60_000;
    let bounds = (Time::from_millis(START), Time::from_millis(until));
    let device = device();
    let mut work = RollupWork::new(&device, level(60), RollupSource::History, bounds, None);
    let first = store.roll_up(&mut work).await.expect("a piece");
    assert_eq!(first, RollupProgress::More);
    assert_eq!(stored(&store, 60).await.len(), 1);
    // It stops here, and wakes up when another one is done.
    let done = make_minutes(&store, until).await.expect("made");
    assert_eq!(done, RollupProgress::Done);
    let expected = blocks_of(width(60), &samples);
    assert_eq!(stored(&store, 60).await, expected);
    let late = store.roll_up(&mut work).await.expect("an answer");
    assert_eq!(late, RollupProgress::Changed);
    assert_eq!(stored(&store, 60).await, expected);
}

#[tokio::test]
async fn what_was_trimmed_is_absent_and_what_is_there_is_made() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let history = store.keys(&device()).history(&device());
    let samples = fill(&mut redis, &history, 3_000, 1_000).await;
    let mut trim = redis::cmd("XTRIM");
    trim.arg(&history).arg("MAXLEN").arg(1_000);
    trim.exec_async(&mut redis).await.expect("trimmed");
    let until = START + 60 * 60_000;
    make_minutes(&store, until).await.expect("made");
    assert_eq!(
        stored(&store, 60).await,
        blocks_of(width(60), &samples[2_000..])
    );
}

#[tokio::test]
async fn old_blocks_are_trimmed_but_never_the_last_one() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let history = store.keys(&device()).history(&device());
    // 1000 blocks of minutes.
    fill(&mut redis, &history, 1_000, 15 * 60_000).await;
    let until = START + 1_000 * 15 * 60_000;
    make_minutes(&store, until).await.expect("made");
    let key = store.keys(&device()).rollup(&device(), width(60));
    assert_eq!(stream_length(&mut redis, &key).await, 1_000);
    let end = Some(Time::from_millis(until));
    let trim = async |now: Time| {
        let devices = [(device(), vec![end, None])];
        let trimmed = store.trim_rollups(&devices, &levels(), now).await;
        trimmed.expect("trimmed");
        stored(&store, 60).await
    };
    let now = Time::from_millis(START + 700 * 15 * 60_000) + level(60).age;
    let left = trim(now).await.len();
    assert!((300..=400).contains(&left), "{left}");
    let long_after = now + Duration::from_hours(10_000);
    let left = trim(long_after).await;
    assert!((1..=100).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().map(crate::rollup::Block::end), end);
    // The next one follows.
    let widths = [60, 900].map(width);
    let dropped = store.drop_blocks(&[device()], &widths, 0).await;
    assert!(dropped.expect("dropped") <= 100);
    let uses = store.rollup_uses(&[device()], &widths).await;
    let uses = uses.expect("an answer");
    assert!(uses[0].blocks >= 1 && uses[0].bytes > 0, "{uses:?}");
    assert_eq!(uses[1], RollupUse::default());
}

#[tokio::test]
async fn nothing_is_left_of_a_retired_device_and_nothing_comes_back() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    store.ping().await.expect("connected");
    // An earlier setting had another width.
    let earlier: Levels = "5m:90d".parse().expect("levels");
    for levels in [&earlier, &levels()] {
        store.register_rollups(levels).await.expect("registered");
    }
    let widths = store.rollup_widths().await.expect("widths");
    assert_eq!(widths, [60, 300, 900].map(width));
    let keys = store.keys(&device());
    let samples = fill(&mut redis, &keys.history(&device()), 3_000, 1_000).await;
    let until = START + 60 * 60_000;
    let first_half = START + 30 * 60_000;
    make_minutes(&store, first_half).await.expect("made");
    for seconds in [300, 900] {
        let mut level = level(900);
        level.width = width(seconds);
        let source = RollupSource::Finer(width(60));
        let until = START + 225 * 60_000;
        let made = make(&store, &device(), (level, source), until, None).await;
        assert_eq!(made.expect("made").0, RollupProgress::Done);
    }
    let device = device();
    let bounds = (Time::from_millis(START), Time::from_millis(until));
    let last = Some(Time::from_millis(first_half));
    let mut work = RollupWork::new(&device, level(60), RollupSource::History, bounds, last);
    commit_reading(&store, DEVICE, "20", 0).await;
    let found: Vec<String> = redis
        .keys(format!("*:rollup:*:{DEVICE}"))
        .await
        .expect("keys");
    assert_eq!(found.len(), 3, "{found:?}");

    let gateway = server.store();
    retire(&gateway, &device, "Asha").await.expect("retired");
    let found: Vec<String> = redis.keys(format!("*{DEVICE}")).await.expect("keys");
    assert!(found.is_empty(), "{found:?}");
    // A process that had read the samples before: they are gone.
    let taken = store.roll_up(&mut work).await.expect("an answer");
    assert_eq!(taken, RollupProgress::Done, "there is nothing to read");
    let mut script = redis::cmd("EVAL");
    script.arg(include_str!("../rollup.lua")).arg(2);
    script.arg(keys.history(&device));
    script.arg(keys.rollup(&device, width(60)));
    script.arg(format!("{}-0", samples[899].0.as_millis()));
    script.arg("").arg(1_000).arg(format!("{until}-0")).arg("x");
    let added: u64 = script.query_async(&mut redis).await.expect("an answer");
    assert_eq!(added, 0);
    let found: Vec<String> = redis.keys(format!("*{DEVICE}")).await.expect("keys");
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_width_that_is_no_longer_made_is_forgotten_when_nothing_can_be_left_of_it() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    store.ping().await.expect("connected");
    store.register_rollups(&levels()).await.expect("registered");
    let mut set = redis::cmd("HSET");
    set.arg(crate::keys::ROLLUP_LEVELS);
    set.arg("300").arg("86400000 1795500000000");
    set.arg("7").arg("x").arg("420").arg("5 x");
    set.arg("of a newer release").arg(b"\xff");
    set.exec_async(&mut redis).await.expect("set");
    let widths = async || store.rollup_widths().await.expect("widths");
    assert_eq!(widths().await, [60, 300, 900].map(width));
    let coarse: Levels = "15m:90d".parse().expect("levels");
    store.register_rollups(&coarse).await.expect("registered");
    assert_eq!(widths().await, [60, 900].map(width), "a day has passed");
    // One that is made again after nothing could be left of it.
    let mut set = redis::cmd("HSET");
    set.arg(crate::keys::ROLLUP_LEVELS);
    set.arg("900").arg("86400000 1795500000000");
    set.exec_async(&mut redis).await.expect("set");
    store.register_rollups(&coarse).await.expect("registered");
    assert_eq!(widths().await, [60, 900].map(width));
    redis::cmd("SET")
        .arg(crate::keys::ROLLUP_LEVELS)
        .arg("x")
        .exec_async(&mut redis)
        .await
        .expect("set");
    assert_eq!(widths().await, [], "a key of the wrong type");
}

#[tokio::test]
async fn a_block_that_cannot_be_read_hides_no_other() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let key = store.keys(&device()).rollup(&device(), width(60));
    let end = START + 15 * 60_000;
    let mut add = redis::cmd("XADD");
    add.arg(&key).arg(format!("{end}-0")).arg("b").arg("x");
    add.exec_async(&mut redis).await.expect("added");
    let history = store.keys(&device()).history(&device());
    let samples = fill(&mut redis, &history, 2_000, 1_000).await;
    let until = end + 15 * 60_000;
    make_minutes(&store, until).await.expect("made");
    let expected = blocks_of(width(60), &samples[900..1_800]);
    assert_eq!(stored(&store, 60).await, expected);
    let begin = store.history_begin(&device(), &[width(60)]).await;
    let start = Some(Time::from_millis(START));
    assert_eq!(begin.expect("an answer").levels, [start]);
}

#[tokio::test]
async fn a_key_of_the_wrong_type_concerns_one_device() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let other: DeviceId = "OTSM-0115".parse().expect("a serial");
    for device in [&device(), &other] {
        let history = store.keys(device).history(device);
        fill(&mut redis, &history, 100, 1_000).await;
    }
    let key = store.keys(&device()).rollup(&device(), width(60));
    let () = redis.set(&key, "x").await.expect("set");
    let devices = [device(), other.clone()];
    let (_, marks) = store
        .rollup_marks(&devices, &levels())
        .await
        .expect("marks");
    assert!(
        matches!(marks[0], Err(StoreError::Refused(_))),
        "{:?}",
        marks[0]
    );
    let expected = RollupMarks {
        newest_sample: Some(Time::from_millis(START + 99_000)),
        ends: vec![None, None],
    };
    assert_eq!(marks[1].as_ref().expect("marks"), &expected);
    let minutes = (level(60), RollupSource::History);
    let until = START + 15 * 60_000;
    let refused = make(&store, &device(), minutes, until, None).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    let made = make(&store, &other, minutes, until, None).await;
    assert_eq!(made.expect("made").0, RollupProgress::Done);
    // Readers find nothing, and trimming goes on.
    assert_eq!(stored(&store, 60).await, []);
    let begin = store.history_begin(&device(), &[width(60)]).await;
    assert_eq!(begin.expect("an answer").levels, [None]);
    let ends = vec![Some(Time::from_millis(until)); 2];
    let devices = [(device(), ends)];
    let now = Time::from_millis(START + 1_000 * HOUR);
    let trimmed = store.trim_rollups(&devices, &levels(), now).await;
    trimmed.expect("trimmed");
}

#[tokio::test]
async fn a_full_redis_gets_no_blocks_and_all_of_them_when_it_has_memory_again() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let history = store.keys(&device()).history(&device());
    let samples = fill(&mut redis, &history, 2_000, 1_000).await;
    store.ping().await.expect("connected");
    server.config_set("maxmemory", "256kb").await;
    let until = START + 45 * 60_000;
    let refused = make_minutes(&store, until).await.expect_err("no memory");
    assert!(refused.is_out_of_memory(), "{refused:?}");
    assert!(store.full().is_some());
    assert_eq!(stored(&store, 60).await, []);
    server.config_set("maxmemory", "0").await;
    make_minutes(&store, until).await.expect("made");
    assert_eq!(stored(&store, 60).await, blocks_of(width(60), &samples));
}

/// What the arithmetic of the memory says, and the documents.
#[tokio::test]
async fn a_bucket_of_a_steady_detector_takes_at_most_10_bytes() {
    let server = RedisServer::start().await;
    let (store, mut redis) = (server.store(), server.connect().await);
    let history = store.keys(&device()).history(&device());
    // A sample every 5 s for 50 hours, with a noise of a few tenths around 20.5.
    for part in 0..36 {
        let mut pipe = redis::pipe();
        for number in part * 1_000..(part + 1) * 1_000_i64 {
            let value = format!("20.{}", 3 + number * number % 5);
            let sample = Sample {
                value: value.parse().ok(),
                ..sample(number)
            };
            let id = format!("{}-0", START + number * 5_000);
            pipe.cmd("XADD").arg(&history).arg(id);
            pipe.arg("s").arg(sample.encode()).ignore();
        }
        pipe.exec_async(&mut redis).await.expect("added");
    }
    let until = START + 48 * HOUR;
    make_minutes(&store, until).await.expect("made");
    let quarters = (level(900), RollupSource::Finer(width(60)));
    let until = START + 225 * 60_000 * 12;
    let made = make(&store, &device(), quarters, until, None).await;
    made.expect("made");
    for (seconds, buckets) in [(60, 48 * 60), (900, 180)] {
        let key = store.keys(&device()).rollup(&device(), width(seconds));
        let bytes = memory_usage(&mut redis, &key).await;
        let tenths = bytes * 10 / buckets;
        println!(
            "{seconds} s: {bytes} bytes, {tenths} tenths of a byte for each of {buckets} buckets"
        );
        // The first node has its whole size.
        let each = bytes.saturating_sub(4_096) / buckets;
        assert!(each <= 10, "{seconds} s: {bytes} bytes, {each} each");
        assert!(each < crate::memory_need::BUCKET_BYTES);
    }
}
