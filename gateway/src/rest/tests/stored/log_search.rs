//! Searches of the alarm log.

use super::*;

/// Adds entries to the only log that there is, behind everything that is in it. None of them can be read.
fn fill_log(world: &World, number: u32) {
    let log = redis_cli(&world.redis, &["--scan", "--pattern", "st:*:log"]);
    let fill = format!(
        "for _ = 1, {number} do redis.call('XADD', KEYS[1], '*', 'device', 'X', 'line', '{{') end"
    );
    redis_cli(&world.redis, &["EVAL", &fill, "1", &log]);
}

#[tokio::test]
async fn a_search_goes_on_behind_its_bound_until_it_has_found_the_row() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 300).await;
    let found = world.get("/alarm-logs?limit=1000").await;
    assert_eq!(found["total_count"], json!(1));
    assert!(found.get("incomplete_before").is_none(), "{found}");
    assert!(found.get("next").is_none(), "{found}");
    fill_log(&world, 110_000);
    for path in ["/alarm-logs", "/devices/OTSM-0114/alarm-logs"] {
        // A gateway that was just started knows nothing of the log.
        world.restart_gateway();
        let mut found = world.get(&format!("{path}?limit=1")).await;
        assert_eq!(found["total_count"], json!(0), "{path}");
        let mut requests = 1;
        while let Some(next) = found.get("next").and_then(Value::as_str) {
            assert!(found["incomplete_before"].is_string(), "{found}");
            assert_eq!(requests, 1, "{path}");
            found = world.get(&format!("{path}?limit=1&before={next}")).await;
            requests += 1;
        }
        assert_eq!(found["total_count"], json!(1), "{path}");
        assert!(found.get("incomplete_before").is_none(), "{found}");
    }
}

/// Follows `next` from this query on. Returns the rows of all pages.
async fn all_pages(world: &World, query: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut before = String::new();
    loop {
        let page = world.get(&format!("{query}{before}")).await;
        check_schema("Logs", &page);
        rows.extend(page["logs"].as_array().expect("rows").iter().cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => before = format!("&before={next}"),
            None => return rows,
        }
        assert!(rows.len() < 1_000, "it does not end");
    }
}

#[tokio::test]
async fn the_pages_of_a_search_have_every_row_once_and_in_order() {
    let mut world = World::start().await;
    for value in [300, 600, 10, 1_200, 10, 300] {
        for device in 0..7 {
            world.reading(&format!("A-{device}"), value).await;
        }
    }
    let alerts = world.get("/devices/A-3/subtronics/alerts").await;
    let newest = alerts.as_array().expect("alerts").last().expect("one");
    let id = newest["id"].as_str().expect("an id");
    assert_eq!(world.acknowledge("A-3", id, "").await.0, 200);

    let whole = world.get("/alarm-logs?limit=1000").await;
    assert!(whole.get("next").is_none(), "{whole}");
    let whole = whole["logs"].as_array().expect("rows");
    assert!(whole.len() >= 7 * 4, "{}", whole.len());
    let times: Vec<_> = whole.iter().map(|row| row["timestamp"].as_str()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
    for query in ["limit=3", "limit=4", "limit=28"] {
        // What a replica read before does not matter.
        world.restart_gateway();
        let pages = all_pages(&world, &format!("/alarm-logs?{query}")).await;
        assert_eq!(&pages, whole, "{query}");
    }
    let critical = all_pages(&world, "/alarm-logs?limit=2&severity=critical").await;
    let expected = whole.iter().filter(|row| row["severity"] == "critical");
    assert_eq!(
        critical.iter().collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    let acknowledged = whole.iter().filter(|row| row["acknowledged"] == true);
    assert!(acknowledged.count() > 0);
}

#[tokio::test]
async fn a_search_with_an_end_date_finds_rows_behind_many_entries() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 300).await;
    let row = world.get("/alarm-logs").await["logs"][0].clone();
    fill_log(&world, 5_000);
    world.reading("OTSM-0114", 600).await;
    let end = row["timestamp"].as_str().expect("a time");
    for path in ["/alarm-logs", "/devices/OTSM-0114/alarm-logs"] {
        world.restart_gateway();
        let found = world.get(&format!("{path}?limit=1&end_date={end}")).await;
        assert_eq!(found["logs"][0]["id"], row["id"], "{found}");
        assert_eq!(found["total_count"], json!(1), "{found}");
        assert!(found.get("next").is_none(), "{found}");
    }
}

#[tokio::test]
async fn a_replica_that_was_not_asked_for_long_finds_the_newest_rows_first() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 300).await;
    assert_eq!(world.get("/alarm-logs").await["total_count"], json!(1));
    fill_log(&world, 4_500);
    world.reading("OTSM-0114", 600).await;
    let newest = world.get("/alarm-logs?limit=1").await;
    assert_eq!(newest["logs"][0]["alarm_type"], json!("alarm_level_2"));
    let statistics = world.get("/alarm-logs/statistics").await;
    assert_eq!(statistics["total_alarms"], json!(2), "{statistics}");
    assert_eq!(world.get("/alarm-logs").await["total_count"], json!(2));
}

/// Returns the sizes of the pieces that were read backwards, and the number of commands that read entries of rows.
fn read_sizes(world: &World) -> (Vec<usize>, usize) {
    let commands = redis_cli(&world.redis, &["SLOWLOG", "GET", "-1"]);
    let words: Vec<&str> = commands.lines().map(str::trim).collect();
    // A piece: direction, the id to read on from, size.
    let pieces = words.windows(3).filter(|words| words[0] == "older");
    let sizes = pieces.map(|words| words[2].parse().expect("a size"));
    // One entry: command, key, and its id twice.
    let ranges = words.windows(4).filter(|words| words[0] == "XRANGE");
    let of_rows = ranges.filter(|words| words[2] == words[3]);
    (sizes.collect(), of_rows.count())
}

#[tokio::test]
async fn a_search_for_one_row_reads_little_and_the_next_one_only_what_is_new() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 300).await;
    // Entries of long ago: the last seconds are always read, because clocks differ.
    let log = redis_cli(&world.redis, &["--scan", "--pattern", "st:*:log"]);
    let replace = "redis.call('DEL', KEYS[1]) \
        for n = 1, 5000 do redis.call('XADD', KEYS[1], n .. '-0', 'device', 'X', 'line', '{') end";
    redis_cli(&world.redis, &["EVAL", replace, "1", &log]);
    world.reading("OTSM-0114", 600).await;
    world.restart_gateway();
    for (setting, value) in [
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "10000"),
    ] {
        redis_cli(&world.redis, &["CONFIG", "SET", setting, value]);
    }
    for expected in [vec![32; 64], Vec::new()] {
        redis_cli(&world.redis, &["SLOWLOG", "RESET"]);
        let found = world.get("/alarm-logs?limit=1").await;
        assert_eq!(found["total_count"], json!(1), "{found}");
        let (sizes, of_rows) = read_sizes(&world);
        assert_eq!(sizes, expected);
        assert_eq!(of_rows, 1);
    }
}

#[tokio::test]
async fn a_log_that_lost_entries_is_read_again() {
    let mut world = World::start().await;
    for value in [300, 600, 1_200] {
        world.reading("OTSM-0114", value).await;
    }
    let log = redis_cli(&world.redis, &["--scan", "--pattern", "st:*:log"]);
    let delete = |world: &World, row: &Value| {
        let id = row["id"].as_str().expect("an id");
        let (_, id) = id
            .trim_start_matches("log-")
            .split_once('-')
            .expect("an id");
        redis_cli(&world.redis, &["XDEL", &log, id])
    };
    let types = |found: &Value| -> Vec<Value> {
        let rows = found["logs"].as_array().expect("rows").iter();
        rows.map(|row| row["alarm_type"].clone()).collect()
    };
    let found = world.get("/alarm-logs").await;
    assert_eq!(
        types(&found),
        ["alarm_level_3", "alarm_level_2", "alarm_level_1"]
    );
    assert_eq!(delete(&world, &found["logs"][1]), "1");
    let without_middle = world.get("/alarm-logs").await;
    assert_eq!(types(&without_middle), ["alarm_level_3", "alarm_level_1"]);
    // The newest, as if Redis had gone back.
    assert_eq!(delete(&world, &found["logs"][0]), "1");
    let found = world.get("/devices/OTSM-0114/alarm-logs").await;
    assert_eq!(types(&found), ["alarm_level_1"]);
    let statistics = world.get("/alarm-logs/statistics").await;
    assert_eq!(statistics["total_alarms"], json!(1), "{statistics}");
}

#[tokio::test]
async fn a_place_that_no_answer_had_is_refused() {
    let world = World::start().await;
    for before in ["soon", "1_2", "log-0-1-0"] {
        let line = format!("GET /alarm-logs?before={before}");
        let found = world.error(&line).await;
        let problem = "`before` is not the `next` of an answer".to_owned();
        assert_eq!(found, (400, problem), "{before}");
    }
}
