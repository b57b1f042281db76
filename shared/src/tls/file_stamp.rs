//! Detects whether files were replaced or changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What identifies the contents of some files: their inodes, lengths and times of change. A file that cannot be looked at is different
/// from any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamps(Vec<Option<Stamp>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    /// Of the content, in seconds and nanoseconds.
    changed: (i64, i64),
    /// Of the content, the owner or the rights: a file that could not be read may be readable now.
    status_changed: (i64, i64),
}

impl FileStamps {
    /// Looks at these files.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(paths.into_iter().map(stamp).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    // Of the file that a symbolic link leads to: Kubernetes replaces the link.
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: found.ino(),
        bytes: found.size(),
        changed: (found.mtime(), found.mtime_nsec()),
        status_changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests;
