use clap::Parser;

use super::*;
use crate::args;

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    redis: RedisConfig,
}

/// Returns the settings of these flags, and their problems.
fn read(flags: &[&str]) -> (RedisConfig, Vec<String>) {
    let flags = [&["test"], flags].concat();
    let mut redis = args::parse::<Settings, _>(flags).unwrap().redis;
    let problems = redis.read_files();
    (redis, problems)
}

#[test]
fn the_url_is_a_flag_or_the_content_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let flag = format!("--redis-url-file={}", path.display());
    let problem = |flags: &[&str]| {
        let problems = read(flags).1;
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].replace(path.to_str().unwrap(), "FILE")
    };
    assert_eq!(
        problem(&[]),
        "--redis-url (variable REDIS_URL) or --redis-url-file (variable REDIS_URL_FILE) is required"
    );
    assert!(problem(&[&flag]).starts_with("--redis-url-file: cannot read `FILE`: "));
    fs::write(&path, " \n").unwrap();
    assert_eq!(problem(&[&flag]), "--redis-url-file: `FILE` is empty");
    fs::write(&path, "http://:secret@h").unwrap();
    assert_eq!(
        problem(&[&flag]),
        "--redis-url-file: `FILE`: the scheme must be redis:// or rediss://"
    );
    fs::write(&path, "rediss://user:secret@h:1/2\n").unwrap();
    let (redis, problems) = read(&[&flag]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(redis.shown_url(), "rediss://h:1/2");
    let display = redis.url_display().unwrap();
    assert_eq!(display.value, "rediss://h:1/2");
    assert_eq!(display.source, Some("--redis-url-file"));
    assert_eq!(
        problem(&[&flag, "--redis-url=redis://h"]),
        "--redis-url and --redis-url-file are both given: choose one"
    );
}

#[test]
fn a_certificate_is_always_checked() {
    let refused = "rediss://h/#insecure".parse::<RedisUrl>().unwrap_err();
    assert!(refused.contains("always checked"), "{refused}");
}
