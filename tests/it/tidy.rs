//! Rules of this repository that no compiler checks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tests::import_graph::ImportGraph;
use tests::repository;

/// Lists every file of the repository except build output and installed packages.
fn files() -> Result<Vec<PathBuf>> {
    // In a second worktree `.git` is a file.
    let skipped = ["target", "node_modules", ".git"];
    let mut folders = vec![repository::root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            if skipped.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_file() {
                files.push(path);
            } else {
                folders.push(path);
            }
        }
    }
    files.sort();
    ensure!(files.len() > 50, "only {} files found", files.len());
    Ok(files)
}

fn with_extension(extension: &str) -> Result<Vec<PathBuf>> {
    let is_wanted = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    Ok(files()?.into_iter().filter(is_wanted).collect())
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[test]
fn modules_are_files_beside_their_folder() -> Result<()> {
    for path in with_extension("rs")? {
        ensure!(
            !path.ends_with("mod.rs"),
            "{}: name it after its folder",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn every_package_inherits_the_lints() -> Result<()> {
    for package in [
        "shared",
        "ingest",
        "gateway",
        "tests",
        "tests/fuzz",
        "tests/support",
    ] {
        let manifest = text(&repository::root().join(package).join("Cargo.toml"))?;
        ensure!(
            manifest.contains("[lints]\nworkspace = true"),
            "{package}/Cargo.toml does not inherit the lints"
        );
        for line in manifest
            .lines()
            .filter(|line| line.contains("version = \""))
        {
            ensure!(
                line.starts_with("version"),
                "{package}: versions belong to the workspace: {line}"
            );
        }
    }
    Ok(())
}

/// The modules without input, output and clock.
const PURE: [&str; 74] = [
    "ingest/src/payload",
    "ingest/src/mqtt/state",
    "ingest/src/mqtt/ack_order",
    "ingest/src/pipeline/committed_fingerprints",
    "ingest/src/dead_letter_reason",
    "ingest/src/quiet",
    "ingest/src/refused_dangers",
    "ingest/src/trimming/budget",
    "ingest/src/replay/simulation",
    "ingest/src/replay/messages",
    "ingest/src/replay/file",
    "ingest/src/replay/template",
    "ingest/src/replay/player",
    "ingest/src/replay/expectation",
    "ingest/src/replay/report",
    "ingest/src/replay/span",
    "ingest/src/record/lines",
    "gateway/src/admission/limit",
    "gateway/src/admission/usage",
    "gateway/src/admission/handshakes",
    "gateway/src/feeds/alarm_key",
    "gateway/src/feeds/fleet_table",
    "gateway/src/feeds/filter",
    "gateway/src/feeds/located",
    "gateway/src/feeds/row",
    "gateway/src/location",
    "gateway/src/interest",
    "gateway/src/replay",
    "gateway/src/client/outbox",
    "gateway/src/relay/canary_check",
    "gateway/src/relay/shard/awaited_answers",
    "gateway/src/relay/device/member_view",
    "gateway/src/rest/alarm_log/counts",
    "gateway/src/rest/alarm_log/fold",
    "gateway/src/rest/alarm_log/index",
    "gateway/src/rest/alarm_log/place",
    "gateway/src/rest/history/buckets",
    "gateway/src/rest/history/sources",
    "gateway/src/rest/history/stretch",
    "gateway/src/rest/query",
    "gateway/src/status",
    "gateway/src/hosts",
    "gateway/src/packet_budget",
    "gateway/src/websocket/decoder",
    "gateway/src/websocket/deflate",
    "gateway/src/websocket/frame",
    "gateway/src/socket/packet",
    "gateway/src/socket/websocket_connection/heartbeat",
    "gateway/src/origins",
    "shared/src/args/unknown_variables",
    "shared/src/decimal",
    "shared/src/visible_text",
    "shared/src/device",
    "shared/src/listening",
    "shared/src/position",
    "shared/src/forward",
    "shared/src/reading",
    "shared/src/alarm",
    "shared/src/alarm_log",
    "shared/src/state",
    "shared/src/order",
    "shared/src/rules",
    "shared/src/decide",
    "shared/src/profile",
    "shared/src/event",
    "shared/src/device_status",
    "shared/src/sample",
    "shared/src/packing",
    "shared/src/rollup",
    "shared/src/keys",
    "shared/src/memory_need",
    "shared/src/store/event_diff",
    "shared/src/store/stored_events",
    "shared/src/resp",
];

#[test]
fn pure_modules_import_no_input_or_output() -> Result<()> {
    let forbidden = [
        "tokio",
        "redis::",
        "rumqttc",
        "axum",
        "socketioxide",
        "tracing::",
        "std::env",
        "std::fs",
        "std::net",
        "SystemTime",
        "Instant::now",
    ];
    let root = repository::root();
    let mut checked = 0;
    for path in with_extension("rs")? {
        let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        let module = name.trim_end_matches(".rs");
        let is_pure = PURE
            .iter()
            .any(|pure| module == *pure || module.starts_with(&format!("{pure}/")));
        if !is_pure || name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        checked += 1;
        for (number, line) in text(&path)?.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                ensure!(
                    !code.contains(word),
                    "{name}:{}: `{word}` in a pure module",
                    number + 1
                );
            }
        }
    }
    ensure!(checked >= PURE.len(), "only {checked} pure files found");
    Ok(())
}

#[test]
fn only_keys_spells_keys() -> Result<()> {
    let root = repository::root();
    for path in with_extension("rs")? {
        let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        let is_test = name.starts_with("tests/") || name.contains("/tests");
        if is_test || name.starts_with("shared/src/keys") {
            continue;
        }
        ensure!(!text(&path)?.contains("\"st:"), "{name} spells a key");
    }
    Ok(())
}

#[test]
fn fixtures_hold_no_secrets_and_no_machine_is_named() -> Result<()> {
    let home = ["/ho", "me/"].concat();
    let work = ["/wo", "rk/"].concat();
    let key = ["-----BEG", "IN "].concat();
    for path in files()? {
        // Some fixtures are not UTF-8.
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&bytes);
        for word in [&home, &work, &key] {
            ensure!(
                !text.contains(word.as_str()),
                "{}: contains `{word}`",
                path.display()
            );
        }
        let is_fixture = path.components().any(|part| part.as_os_str() == "fixtures");
        for word in ["password", "token", "secret"] {
            let found = is_fixture && text.to_lowercase().contains(word);
            ensure!(!found, "{}: contains `{word}`", path.display());
        }
    }
    Ok(())
}

#[test]
fn lock_files_of_packages_name_no_host() -> Result<()> {
    for name in [
        "tests/js/package-lock.json",
        "tests/bench/peers/package-lock.json",
        "gateway/dashboard/package-lock.json",
    ] {
        let lock = text(&repository::root().join(name))?;
        ensure!(
            !lock.contains("\"resolved\""),
            "{name} names where packages come from"
        );
    }
    Ok(())
}

#[test]
fn comments_contain_no_examples_that_nothing_compiles() -> Result<()> {
    for path in with_extension("rs")? {
        let text = text(&path)?;
        let lines = text.lines().enumerate();
        let comments = lines.filter_map(|(number, line)| {
            let line = line.trim_start();
            let comment = line.strip_prefix("//!").or(line.strip_prefix("///"))?;
            Some((number + 1, comment.trim()))
        });
        let mut fences = comments.filter(|(_, comment)| comment.starts_with("```"));
        // Opening and closing fences by turns. Doc tests are switched off in every package.
        while let Some((number, opening)) = fences.next() {
            ensure!(
                opening != "```" && !opening.starts_with("```rust"),
                "{}:{number}: an example in Rust",
                path.display()
            );
            fences.next();
        }
    }
    Ok(())
}

#[test]
fn scripts_can_be_run() -> Result<()> {
    for name in [
        "deploy/demo",
        "deploy/link-static",
        "deploy/make-secrets",
        "deploy/restore-redis",
        "tests/run",
        "tests/fuzz/run",
        "tests/fuzz/instrument",
        "tests/bench/run",
        ".ci/run",
    ] {
        let path = repository::root().join(name);
        let mode = fs::metadata(&path)
            .with_context(|| name.to_owned())?
            .permissions()
            .mode();
        ensure!(mode & 0o111 == 0o111, "{name} is not executable");
        ensure!(
            text(&path)?.contains("set -euo pipefail"),
            "{name} does not stop at an error"
        );
    }
    Ok(())
}

#[test]
fn relative_links_of_documents_resolve() -> Result<()> {
    for path in with_extension("md")? {
        let text = text(&path)?;
        let folder = path.parent().context("a document lies in a folder")?;
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            ensure!(
                folder.join(target).exists(),
                "{}: `{link}` leads nowhere",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn no_files_import_each_other_in_a_circle() -> Result<()> {
    let mut circles = Vec::new();
    for folder in [
        "shared/src",
        "ingest/src",
        "gateway/src",
        "tests/support/src",
        "tests/src",
        "tests/it",
    ] {
        let root = repository::root().join(folder);
        let mut sources = Vec::new();
        for path in with_extension("rs")? {
            let Ok(name) = path.strip_prefix(&root) else {
                continue;
            };
            sources.push((name.to_string_lossy().into_owned(), text(&path)?));
        }
        ensure!(!sources.is_empty(), "no files in {folder}");
        // A binary beside the library is a crate of its own that nothing imports.
        let is_binary = |name: &str| name == "main.rs" || name.starts_with("bin/");
        let has_library = sources.iter().any(|(name, _)| name == "lib.rs");
        sources.retain(|(name, _)| !(has_library && is_binary(name)));
        let sources = sources
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        let found = ImportGraph::new(sources)?.circles();
        circles.extend(
            found
                .into_iter()
                .map(|circle| format!("{folder}: {circle}")),
        );
    }
    ensure!(circles.is_empty(), "{}", circles.join("\n"));
    Ok(())
}
