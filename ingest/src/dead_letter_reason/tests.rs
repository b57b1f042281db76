use super::*;

#[test]
fn the_readme_lists_every_reason() {
    let readme = include_str!("../../README.md");
    for code in DeadLetterReason::CODES {
        assert!(readme.contains(&format!("`{code}`")), "{code} is missing");
    }
}

#[test]
fn the_last_reason_has_the_last_code() {
    assert_eq!(DeadLetterReason::TooLarge.code(), "too_large");
    assert_eq!(DeadLetterReason::CommitFailed.code(), "commit_failed");
}
