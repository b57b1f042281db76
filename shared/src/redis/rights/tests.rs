mod users;

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn names(role: ServiceRole) -> BTreeSet<String> {
    let check = RightsCheck::new(role, 3);
    check
        .commands
        .iter()
        .map(|command| command[0].clone())
        .collect()
}

/// Returns the words in quotes behind each occurrence of `before` in the scripts.
fn words_behind(before: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "lua") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split(before).skip(1) {
            found.extend(part.split('\'').next().map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_command_of_a_script_is_checked() {
    let mut used = BTreeSet::new();
    for call in ["redis.call('", "redis.pcall('", "read('"] {
        used.extend(words_behind(call));
    }
    assert!(
        used.contains("SPUBLISH") && used.contains("ZSCORE"),
        "{used:?}"
    );
    let mut checked = names(ServiceRole::Ingest);
    checked.extend(names(ServiceRole::Gateway));
    let missing: Vec<&String> = used.difference(&checked).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_missing_is_named_with_its_key() {
    let check = RightsCheck::new(ServiceRole::Ingest, 3);
    assert_eq!(check.missing(&[]), None);
    let find = |wanted: &[&str]| {
        let found = check.commands.iter().position(|command| command == wanted);
        found.unwrap()
    };
    let script = find(&["EVALSHA", "", "1", "st:{p03}:log"]);
    let text = check.missing(&[script]).unwrap();
    assert!(
        text.starts_with("it may not run `EVALSHA st:{p03}:log`; allow"),
        "{text}"
    );
    let zadd = find(&["ZADD", "st:{p03}:seen", "0", ""]);
    let text = check.missing(&[zadd, script]).unwrap();
    assert!(
        text.starts_with("it may not run `ZADD st:{p03}:seen` and 1 more; allow"),
        "{text}"
    );
}
