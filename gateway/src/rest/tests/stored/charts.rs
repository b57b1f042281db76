//! Histories as charts and as tables.

use shared::rollup::Levels;
use shared::store::{RollupProgress, RollupSource, RollupWork};

use super::*;

const DEVICE: &str = "OTSM-0114";
const FROM: i64 = 1_795_466_000_000;

/// Adds a sample as Redis had it at this time.
fn add(world: &World, after_ms: i64, value: &str, quality: &str) {
    let device: DeviceId = DEVICE.parse().expect("a serial");
    let number = device.partition(world.store.partitions());
    let key = format!("st:{{p{number:02}}}:history:{DEVICE}");
    let at = Time::from_millis(FROM + after_ms);
    let sample = json!({
        "timestamp": at.to_iso(),
        "reading_timestamp": null,
        "sensor_reading": value.parse::<f64>().ok(),
        "unit": "ppm",
        "alarm_status": "NORMAL",
        "data_quality": quality,
    });
    let id = format!("{}-0", at.as_millis());
    let added = redis_cli(&world.redis, &["XADD", &key, &id, "s", &sample.to_string()]);
    assert_eq!(added, id);
}

fn path(from: i64, until: i64, rest: &str) -> String {
    let (from, until) = (FROM + from, FROM + until);
    format!("/api/devices/{DEVICE}/history{rest}from={from}&until={until}")
}

#[tokio::test]
async fn a_chart_has_every_peak_and_every_gap() {
    let world = World::start().await;
    // More than are read at once, one each second, with a peak in one of them.
    for second in 0..2_500 {
        let value = if second == 1_717 { "612.5" } else { "12" };
        add(&world, second * 1_000, value, "good");
    }
    add(&world, 4_000_000, "", "bad");

    let chart = world.get(&path(0, 4_999_999, "?points=50&limit=2&")).await;
    check_schema("History", &chart);
    assert_eq!(chart["bucket_ms"], 100_000);
    assert_eq!(chart["count"], 2);
    let buckets = chart["buckets"].as_array().expect("buckets");
    // 25 with values, a gap, one without a value, and nothing.
    assert_eq!(buckets.len(), 26);
    let max: Vec<&Value> = buckets.iter().map(|bucket| &bucket["max"]).collect();
    assert_eq!(max[17], &json!(612.5));
    assert_eq!(max.iter().filter(|max| ***max == 12).count(), 24);
    assert!(buckets[..25].iter().all(|bucket| bucket["count"] == 100));
    assert_eq!(buckets[17]["mean"], json!(18.005));
    let last = &buckets[25];
    let at = |ms: i64| json!(Time::from_millis(FROM + ms).to_iso());
    assert_eq!(
        (&last["from"], &last["until"]),
        (&at(4_000_000), &at(4_099_999))
    );
    assert_eq!((&last["count"], &last["unknown"]), (&json!(0), &json!(1)));
    assert_eq!(
        (&last["max"], &last["data_quality"]),
        (&json!(null), &json!("bad"))
    );
    for form in ["history", "history.csv"] {
        for query in [
            "points=0",
            "points=2001",
            "points=x",
            "points=5&from=2026-01-02&until=2026-01-01",
        ] {
            let line = format!("GET /api/devices/{DEVICE}/{form}?{query}");
            assert_eq!(world.error(&line).await.0, 400, "{line}");
        }
        let unknown = format!("GET /api/devices/OTSM-9999/{form}?points=5");
        assert_eq!(world.error(&unknown).await.0, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_chart_shows_when_alarms_stood() {
    let mut world = World::start().await;
    for value in [300, 600, 10] {
        world.reading(DEVICE, value).await;
    }
    world.reading("OTSM-0115", 600).await;
    let chart = world
        .get(&format!("/api/devices/{DEVICE}/history?points=10"))
        .await;
    check_schema("History", &chart);
    let spans = chart["spans"].as_array().expect("spans");
    let types: Vec<&Value> = spans.iter().map(|span| &span["type"]).collect();
    assert_eq!(types, ["alarm_level_1", "alarm_level_2"], "{chart}");
    assert_eq!(spans[0]["until"], spans[1]["from"]);
    assert_eq!(spans[0]["id"], spans[1]["id"]);
    let alerts = world
        .get(&format!("/devices/{DEVICE}/subtronics/alerts"))
        .await;
    assert_eq!(spans[1]["until"], alerts[0]["cleared_at"], "{alerts}");

    // One that was raised before the time of the chart, and is open.
    world.reading(DEVICE, 1_200).await;
    let alerts = world
        .get(&format!("/devices/{DEVICE}/subtronics/alerts"))
        .await;
    let open = alerts
        .as_array()
        .and_then(|alerts| alerts.last())
        .expect("an alert");
    let later = Time::from_iso(open["raised_at"].as_str().expect("a time")).expect("a time");
    let later = (later + Duration::from_hours(1)).as_millis();
    let path = format!(
        "/api/devices/{DEVICE}/history?points=10&from={later}&until={}",
        later + 1
    );
    let chart = world.get(&path).await;
    let span = json!({"id": open["id"], "type": "alarm_level_3", "severity": "critical", "from": open["timestamp"], "until": null});
    assert_eq!(chart["spans"], json!([span]), "{open}");
    assert_eq!(chart["buckets"], json!([]));
    let path = format!("/api/devices/{DEVICE}/history?points=3&from=2020-01-01&until=2020-01-02");
    let empty = world.get(&path).await;
    check_schema("History", &empty);
    assert_eq!(
        (&empty["count"], &empty["buckets"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(empty["spans"], json!([]));
}

/// Trims the history to what is not older than this.
fn trim(world: &World, from_ms: i64) {
    let device: DeviceId = DEVICE.parse().expect("a serial");
    let number = device.partition(world.store.partitions());
    let key = format!("st:{{p{number:02}}}:history:{DEVICE}");
    let oldest = (FROM + from_ms).to_string();
    redis_cli(&world.redis, &["XTRIM", &key, "MINID", &oldest]);
}

/// Makes the rollups of this level until then, of the samples that are left.
async fn roll_up(world: &World, level: &str, until_ms: i64) {
    let levels: Levels = level.parse().expect("levels");
    let level = levels.finest().expect("a level");
    let store = &world.store;
    store.register_rollups(&levels).await.expect("registered");
    let device: DeviceId = DEVICE.parse().expect("a serial");
    let bounds = (Time::from_millis(0), Time::from_millis(FROM + until_ms));
    let mut work = RollupWork::new(&device, level, RollupSource::History, bounds, None);
    let progress = store.roll_up(&mut work).await.expect("an answer");
    assert_eq!(progress, RollupProgress::Done);
}

#[tokio::test]
async fn a_chart_goes_on_from_rollups_to_samples_without_a_seam() {
    /// From `FROM` to where a block of 15 minutes begins.
    const START: i64 = 700_000;
    const MINUTE: i64 = 60_000;
    let world = World::start().await;
    // 40 minutes, of which two blocks of 15 are put together; one peak in each part.
    for number in 0..480 {
        let value = if number == 100 || number == 470 {
            "612.5"
        } else {
            "12"
        };
        add(&world, START + number * 5_000, value, "good");
    }
    roll_up(&world, "1m:7d", START + 30 * MINUTE).await;
    let minutes = |from: i64, until: i64, rest: &str| {
        path(START + from * MINUTE, START + until * MINUTE - 1, rest)
    };
    let of = |chart: &Value, name: &str| -> Vec<Value> {
        let buckets = chart["buckets"].as_array().expect("buckets");
        buckets.iter().map(|bucket| bucket[name].clone()).collect()
    };
    let check = async |points: u32, width: i64| {
        let chart = world
            .get(&minutes(0, 40, &format!("?points={points}&limit=3&")))
            .await;
        check_schema("History", &chart);
        assert_eq!(chart["bucket_ms"], width, "{points}");
        let counts = of(&chart, "count");
        let expected = i64::try_from(counts.len()).expect("it fits") * width;
        assert_eq!(expected, 40 * MINUTE, "{points}");
        assert!(
            counts.iter().all(|count| *count == width / 5_000),
            "{points}: {counts:?}"
        );
        let highest = of(&chart, "max");
        let peaks = highest.iter().filter(|max| **max == json!(612.5));
        assert_eq!(peaks.count(), 2, "{highest:?}");
        chart
    };
    check(40, MINUTE).await;
    check(8, 5 * MINUTE).await;
    // Finer than minutes: by the samples alone.
    check(480, 5_000).await;

    // Of the first 20 minutes there are only rollups. So no chart of them is finer.
    trim(&world, START + 20 * MINUTE);
    check(40, MINUTE).await;
    let chart = check(480, MINUTE).await;
    assert_eq!(chart["count"], 3, "{chart}");
    let start = json!(Time::from_millis(FROM + START).to_iso());
    assert_eq!(chart["reaches_from"], start, "{chart}");
    let newest = world.get(&minutes(20, 40, "?points=240&")).await;
    assert_eq!(newest["bucket_ms"], 5_000);
    assert_eq!(of(&newest, "count").len(), 240);
    // Buckets do not cut those of minutes.
    let (from, until) = (START + 90_000, START + 210_000);
    let cut = world.get(&path(from, until, "?points=2&")).await;
    let from = of(&cut, "from");
    let at = |after: i64| json!(Time::from_millis(FROM + START + after).to_iso());
    assert_eq!(from, [at(MINUTE), at(3 * MINUTE)], "{cut}");
    assert_eq!(of(&cut, "count"), [24, 12], "{cut}");
}

#[tokio::test]
async fn the_first_block_of_a_new_level_hides_nothing_of_an_earlier_one() {
    /// From `FROM` to where a block of every width begins.
    const START: i64 = 34_000_000;
    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    let world = World::start().await;
    // Two blocks of hours, eight of quarters of an hour.
    for number in 0..180 {
        let value = if number == 15 { "612.5" } else { "12" };
        add(&world, START + number * 10 * MINUTE, value, "good");
    }
    roll_up(&world, "15m:90d", START + 30 * HOUR).await;
    // The source of the new level reaches into the middle of its first block.
    trim(&world, START + 7 * HOUR);
    roll_up(&world, "1h:90d", START + 30 * HOUR).await;
    trim(&world, START + 29 * HOUR);
    let whole = path(START, START + 30 * HOUR - 1, "?points=30&");
    let chart = world.get(&whole).await;
    assert_eq!(chart["bucket_ms"], HOUR);
    let buckets = chart["buckets"].as_array().expect("buckets");
    let counts: Vec<&Value> = buckets.iter().map(|bucket| &bucket["count"]).collect();
    assert_eq!(counts, [6; 30]);
    assert_eq!(buckets[2]["max"], json!(612.5));
}

#[tokio::test]
async fn a_table_has_every_sample_of_its_time() {
    let world = World::start().await;
    for number in 0..1_001 {
        add(&world, number * 10, &number.to_string(), "good");
    }
    add(&world, 60_000, "", "bad");
    let line = format!("GET {}", path(0, 30_000, ".csv?"));
    let response = send(&world.router, request(&line)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/csv; charset=utf-8; header=present"
    );
    let file = &response.headers()["content-disposition"];
    assert_eq!(file, "attachment; filename=\"OTSM-0114.csv\"");
    let table = text_of(response).await;
    let rows: Vec<&str> = table.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 1_002);
    let at = Time::from_millis(FROM + 10_000).to_iso();
    assert_eq!(rows[1_001], format!("{at},,1000,ppm,NORMAL,good,0"));
    let all = send(
        &world.router,
        request(&format!("GET {}", path(0, 90_000, ".csv?"))),
    )
    .await;
    assert!(text_of(all).await.ends_with(",,,ppm,NORMAL,bad,0\r\n"));
    // Nothing is known of it, and nothing was stored in this time.
    let nothing = world.error(&format!("GET {}", path(-9, -1, ".csv?"))).await;
    assert_eq!(nothing, (404, "Device not found".to_owned()));
}

/// A bucket of a chart as a row of its table.
fn row_of(bucket: &Value) -> String {
    let cell = |name: &str| match &bucket[name] {
        Value::String(text) => text.clone(),
        Value::Null if ["unknown", "late"].contains(&name) => "0".to_owned(),
        Value::Null => String::new(),
        number => number.to_string(),
    };
    let names = csv_columns().map(cell);
    names.collect::<Vec<_>>().join(",")
}

fn csv_columns() -> impl Iterator<Item = &'static str> {
    "from,until,min,max,mean,count,unknown,late,unit,alarm_status,data_quality".split(',')
}

#[tokio::test]
async fn a_table_of_points_has_the_buckets_of_the_chart_also_of_times_without_samples() {
    /// From `FROM` to where a block of 15 minutes begins.
    const START: i64 = 700_000;
    const MINUTE: i64 = 60_000;
    let world = World::start().await;
    for number in 0..480 {
        let value = if number == 100 { "612.5" } else { "12" };
        add(&world, START + number * 5_000, value, "good");
    }
    add(&world, START + 50 * MINUTE, "", "bad");
    roll_up(&world, "1m:7d", START + 30 * MINUTE).await;
    trim(&world, START + 20 * MINUTE);
    let start = Time::from_millis(FROM + START).to_iso();
    for points in [1, 7, 60, 2_000] {
        // It begins before anything is stored.
        let (from, until) = (START - 20 * MINUTE, START + 60 * MINUTE - 1);
        let query = format!("points={points}&");
        let chart = world.get(&path(from, until, &format!("?{query}"))).await;
        let line = format!("GET {}", path(from, until, &format!(".csv?{query}")));
        let response = send(&world.router, request(&line)).await;
        assert_eq!(response.status(), 200, "{line}");
        let headers = response.headers();
        assert_eq!(
            headers["content-type"],
            "text/csv; charset=utf-8; header=present"
        );
        let file = &headers["content-disposition"];
        assert_eq!(file, "attachment; filename=\"OTSM-0114.csv\"");
        assert_eq!(headers["reaches-from"], start.as_str(), "{line}");
        assert_eq!(chart["reaches_from"], json!(start), "{line}");
        let table = text_of(response).await;
        let rows: Vec<&str> = table.split_terminator("\r\n").collect();
        let buckets = chart["buckets"].as_array().expect("buckets");
        let names = csv_columns().collect::<Vec<_>>().join(",");
        let mut expected = vec![names];
        expected.extend(buckets.iter().map(row_of));
        assert_eq!(rows, expected, "{line}");
        // The peak is older than every sample.
        assert!(table.contains(",612.5,"), "{table}");
    }
    // Nothing was stored in this time.
    let line = format!("GET {}", path(-9, -1, ".csv?points=5&"));
    let nothing = world.error(&line).await;
    assert_eq!(nothing, (404, "Device not found".to_owned()));
}
