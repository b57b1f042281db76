//! Payloads of every kind, as files: they are the seeds of `mutations`, too.

use std::fs;
use std::path::PathBuf;

use shared::reading::Repair;

use super::*;

/// Reads the files of a folder of the corpus: their names and contents, in order.
pub(super) fn files(kind: &str) -> Vec<(String, Vec<u8>)> {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/payloads/corpus"
    );
    let folder = PathBuf::from(corpus).join(kind);
    let entries = fs::read_dir(&folder).expect("a folder of the corpus");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a file of the corpus").path();
            let bytes = fs::read(&path).expect("a readable file");
            (path.display().to_string(), bytes)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{kind} has no files");
    files
}

/// Checks that each payload of a folder has one item, but for the detectors that a refused one names, and what it is.
#[track_caller]
fn check_all(kind: &str, is_expected: impl Fn(&Item<'_>) -> bool) {
    for (name, bytes) in files(kind) {
        let mut items = super::super::read(&bytes, &format());
        items.retain(|item| !matches!(item.content, ItemContent::Named(_)));
        assert_eq!(items.len(), 1, "{name}");
        assert!(is_expected(&items[0]), "{name}: {:?}", items[0].content);
    }
}

fn reading<'i>(item: &'i Item<'_>) -> Option<&'i Parsed> {
    match &item.content {
        ItemContent::Reading(parsed) => Some(parsed),
        _ => None,
    }
}

#[test]
fn every_payload_of_the_corpus_is_what_its_folder_says() {
    check_all("strict", |item| {
        item.repairs.is_empty() && reading(item).is_some()
    });
    check_all("framing", |item| {
        let is_clean = |parsed: &Parsed| {
            parsed.facts.repair == Repair::None
                && !parsed.reading.doubtful
                && parsed.reading.value.is_some()
        };
        !item.repairs.is_empty() && reading(item).is_some_and(is_clean)
    });
    check_all("uncertain", |item| {
        let is_uncertain =
            |parsed: &Parsed| parsed.facts.repair != Repair::None && parsed.reading.doubtful;
        !item.repairs.is_empty() && reading(item).is_some_and(is_uncertain)
    });
    check_all("unreadable", |item| {
        matches!(item.content, ItemContent::Unreadable(..))
    });
    check_all("refused", |item| {
        matches!(item.content, ItemContent::Refused(_))
    });
}

#[test]
fn payloads_with_several_objects_have_several_items() {
    for (name, bytes) in files("several") {
        let items = super::super::read(&bytes, &format());
        assert!(items.len() > 1, "{name}");
        assert!(items.iter().any(|item| reading(item).is_some()), "{name}");
    }
}
