use super::*;

#[test]
fn a_file_that_is_changed_replaced_or_removed_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let (path, new) = (folder.path().join("file"), folder.path().join("new"));
    let look = || FileStamps::of([path.as_path()]);
    let missing = look();
    fs::write(&path, "one").unwrap();
    let first = look();
    assert_ne!(first, missing);
    assert_eq!(first, look());
    fs::write(&path, "longer").unwrap();
    let second = look();
    assert_ne!(second, first);
    // As long as the one before, and it may be written within one tick of the clock.
    fs::write(&new, "replac").unwrap();
    fs::rename(&new, &path).unwrap();
    assert_ne!(look(), second);
    fs::remove_file(&path).unwrap();
    assert_eq!(look(), missing);
}
