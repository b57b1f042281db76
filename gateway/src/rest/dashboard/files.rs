//! The files of the dashboard, read into memory with everything that is sent beside them.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use crate::rest::memory_file::{MemoryFile, SVG};

const FLAG: &str = "--dashboard-dir";
const INDEX: &str = "index.html";
/// The most bytes that all files may have together. The dashboard has some 400 KiB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The most files, and folders below folders.
const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 8;
/// Every file of the folder by its path, with `/` between folders.
pub(crate) struct DashboardFiles {
    index: MemoryFile,
    files: HashMap<String, MemoryFile>,
}

impl Debug for DashboardFiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let paths = self.files.keys();
        f.debug_set().entry(&INDEX).entries(paths).finish()
    }
}

impl DashboardFiles {
    /// Reads a folder.
    ///
    /// # Errors
    /// It is not the folder of a built dashboard, it cannot be read, or it is too large.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let mut found = HashMap::new();
        for (path, file) in paths_below(folder)? {
            let bytes =
                fs::read(&file).map_err(|err| format!("{FLAG}: `{}`: {err}", file.display()))?;
            found.insert(path, MemoryFile::new(content_type(&file), bytes));
        }
        let index = found.remove(INDEX).ok_or_else(|| {
            let folder = folder.display();
            format!("{FLAG}: `{folder}` has no {INDEX}: build gateway/dashboard first")
        })?;
        Ok(Self {
            index,
            files: found,
        })
    }

    pub(super) fn index(&self) -> &MemoryFile {
        &self.index
    }

    pub(super) fn get(&self, path: &str) -> Option<&MemoryFile> {
        if path == INDEX {
            return Some(&self.index);
        }
        self.files.get(path)
    }
}

/// Lists the files below a folder with their paths in it. Hidden ones are left out.
fn paths_below(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let failed = |path: &Path, err| format!("{FLAG}: `{}`: {err}", path.display());
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut folders = vec![(String::new(), folder.to_owned(), 0)];
    while let Some((prefix, folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|err| failed(&folder, err))? {
            let path = entry.map_err(|err| failed(&folder, err))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let about = fs::metadata(&path).map_err(|err| failed(&path, err))?;
            let inner = format!("{prefix}{name}");
            if about.is_dir() {
                if depth == MAX_DEPTH {
                    return Err(format!("{FLAG}: `{}`: too many folders", path.display()));
                }
                folders.push((inner + "/", path, depth + 1));
                continue;
            }
            bytes += about.len();
            found.push((inner, path));
            if bytes > MAX_BYTES || found.len() > MAX_FILES {
                return Err(format!(
                    "{FLAG}: more than {MAX_FILES} files or {} MiB: this is not the folder of the built dashboard",
                    MAX_BYTES / 1024 / 1024
                ));
            }
        }
    }
    Ok(found)
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json; charset=utf-8",
        Some("svg") => SVG,
        Some("png") => "image/png",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
