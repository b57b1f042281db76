//! Paths in this repository and in its build.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Returns the folder of this profile in the build: `target/<triple>/<profile>`.
fn profile() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of the running test")?;
    // target/<triple>/<profile>/deps/it-… or target/<triple>/<profile>/simulator
    let profile = own
        .ancestors()
        .skip(1)
        .find(|folder| folder.file_name().is_some_and(|name| name != "deps"))
        .context("the test lies in a folder")?;
    Ok(profile.to_owned())
}

/// Returns the folder into which `tests/run` builds and installs.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Returns the path of a binary of this workspace, built beside the running test.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = profile()?.join(name);
    ensure!(
        path.is_file(),
        "`{}` is missing: run `tests/run`",
        path.display()
    );
    Ok(path)
}

/// Returns the folder of the built dashboard.
pub fn dashboard() -> Result<PathBuf> {
    let folder = target().join("dashboard");
    ensure!(
        folder.join("index.html").is_file(),
        "the dashboard is not built: run `tests/run`"
    );
    Ok(folder)
}

/// Returns the path of a script of `tests/js`, whose packages must be installed.
pub fn script(name: &str) -> Result<PathBuf> {
    let folder = root().join("tests/js");
    let client = folder.join("node_modules/socket.io-client");
    ensure!(
        client.is_dir(),
        "`socket.io-client` is not installed: run `tests/run`"
    );
    Ok(folder.join(name))
}
