use super::*;

fn parse(text: &str) -> Result<String, String> {
    let levels: Result<Levels, LevelsError> = text.parse();
    levels
        .map(|levels| levels.to_string())
        .map_err(|err| err.to_string())
}

#[test]
fn levels_are_read_and_shown() {
    for (text, expected) in [
        ("1m:7d,15m:90d", "1m:7d,15m:90d"),
        (" 60s : 168h , 15m:90d", "1m:7d,15m:90d"),
        ("10s:1h", "10s:1h"),
        ("24h:700d", "1d:700d"),
        ("none", "none"),
        ("", "none"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
    let levels: Levels = "1m:7d,15m:90d".parse().expect("levels");
    assert_eq!(levels.buckets(), 10_080 + 8_640);
    assert_eq!(levels.longest_age(), Duration::from_hours(24 * 90));
    assert_eq!(levels.finest().map(|level| level.width.seconds()), Some(60));
}

#[test]
fn what_cannot_be_is_said() {
    for (text, problem) in [
        ("1m", "`1m` is not WIDTH:AGE, such as 1m:7d"),
        ("1:7d", "1:7d: expected a whole number and a unit, such as"),
        ("7m:7d", "7m:7d: the width must divide a day"),
        ("500ms:7d", "500ms:7d: the width must divide a day"),
        ("1500ms:7d", "the width must divide a day"),
        ("0s:7d", "the width must divide a day"),
        ("1d:7d", "1d must be kept for 15 times as long at least"),
        ("1s:7d", "1s is kept for more than 100000 times as long"),
        ("1m:7d,90s:9d", "90s is not a multiple of 1m"),
        ("1m:7d,1m:9d", "1m is not a multiple of 1m"),
        ("15m:90d,1m:7d", "1m is not a multiple of 15m"),
        (
            "1m:7d,15m:7d",
            "15m must be kept for longer than 1m: else it is of no use",
        ),
        (
            "1m:1h,15m:90d",
            "1m must be kept for 450m at least, because 15m is made of it",
        ),
        ("1m:1d,2m:2d,4m:4d,8m:8d,16m:16d", "more than 4 levels"),
        ("1m:7d,", "`` is not WIDTH:AGE"),
    ] {
        let found = parse(text).expect_err(text);
        assert!(found.contains(problem), "{text}: {found}");
    }
}

#[test]
fn blocks_of_a_level_are_made_of_whole_blocks_of_a_finer_one() {
    let [fine, coarse] = [60, 300].map(|seconds| Width::from_seconds(seconds).expect("a width"));
    assert!(coarse.is_multiple_of(fine) && !fine.is_multiple_of(coarse));
    for millis in [0, 1, 4_499_999, 4_500_000, -1, 1_795_466_059_773] {
        let start = coarse.block_start(Time::from_millis(millis));
        assert!((0..coarse.block_millis()).contains(&(millis - start.as_millis())));
        assert_eq!(fine.block_start(start), start);
    }
    let first = coarse.bucket_start(Time::from_millis(i64::MIN));
    assert!(first.as_millis() < 0, "no overflow");
}
