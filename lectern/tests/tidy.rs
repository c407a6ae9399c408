//! The rules of the house that a program can check.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates a crate may use. Arrows point down only; no role knows another; `testkit` is for tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("agent", &["control", "hub", "link", "media", "process"]),
    ("control", &[]),
    ("coordinator", &["control", "process", "testkit"]),
    ("counts", &["hub", "media", "rtc", "rtmp", "rtp"]),
    ("fmp4", &["media"]),
    ("hub", &["media"]),
    ("ingest", &["control", "hub", "media", "process", "rtmp"]),
    (
        "lectern",
        &[
            "agent",
            "control",
            "coordinator",
            "hub",
            "ingest",
            "link",
            "media",
            "process",
            "testkit",
            "whep-node",
        ],
    ),
    ("link", &["control", "hub", "media"]),
    ("load-tests", &["media", "testkit"]),
    ("media", &[]),
    ("process", &[]),
    ("rtc", &["media", "rtp"]),
    ("rtmp", &[]),
    ("rtp", &["media"]),
    ("sim", &["agent", "control", "coordinator", "hub", "link", "media"]),
    ("testkit", &[]),
    ("whep-node", &["control", "fmp4", "hub", "media", "process", "rtc", "rtp"]),
];
/// Files that may be longer than the rest, and why.
const LONG: &[(&str, &str)] = &[
    ("crates/rtc/src/srtp.rs", "two ciphers, two directions, and their test vectors"),
    ("load-tests/src/watch/pictures.rs", "what a viewer sees, from packets to pictures"),
    ("crates/rtc/src/udp.rs", "the unsafe code of the product, in one place"),
];
/// Every file with unsafe code and no other: system calls without a safe wrapper that reuses its buffers.
const UNSAFE: &[&str] =
    &["crates/rtc/src/udp.rs", "load-tests/src/limit/socket.rs", "load-tests/src/watch/socket.rs"];
/// The crates that are machines without a clock, which clippy enforces as well.
const PROTOCOLS: &[&str] = &["fmp4", "media", "rtmp", "rtp"];
/// Names of files and folders that hold anything.
const VAGUE: &[&str] = &["common", "helper", "helpers", "manager", "mod", "util", "utils"];
const LINES_MAX: usize = 400;
const LINES_EVER: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file of the project, with its path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["benches", "coordinator", "crates", "ingest", "lectern", "load-tests", "whep-node"]
            .iter()
            .map(|name| root().join(name))
            .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn crates_use_only_what_is_below_them() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), ARROWS.len(), "a crate that is not listed here");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let allowed = ARROWS.iter().find(|(known, _)| *known == name).unwrap().1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let is_ours = dependency["source"].is_null() && ARROWS.iter().any(|(known, _)| *known == used);
            // A crate's own tests may ask it for a feature.
            let is_itself = used == name && dependency["kind"] == "dev";
            assert!(!is_ours || is_itself || allowed.contains(&used), "{name} must not use {used}");
            assert!(
                used != "testkit" || dependency["kind"] == "dev",
                "{name} uses testkit outside its tests"
            );
        }
    }
}

#[test]
fn files_are_short_and_named_after_what_they_hold() {
    let sources = sources();
    for (long, _) in LONG {
        assert!(sources.contains_key(*long), "{long} does not exist: take it off the list");
    }
    for (name, text) in sources {
        let lines = text.lines().count();
        let is_excepted = LONG.iter().any(|(long, _)| *long == name);
        assert!(lines <= LINES_MAX || (is_excepted && lines <= LINES_EVER), "{name} has {lines} lines");
        assert!(lines > LINES_MAX || !is_excepted, "{name} is no longer long: take it off the list");
        let mut nouns = name.trim_end_matches(".rs").split('/');
        assert!(!nouns.any(|noun| VAGUE.contains(&noun)), "{name} says nothing");
    }
}

#[test]
fn protocol_crates_have_no_clock_and_unsafe_code_has_one_place() {
    for (name, text) in sources() {
        if PROTOCOLS.iter().any(|protocol| name.starts_with(&format!("crates/{protocol}/src"))) {
            let code = text.split("#[cfg(test)]").next().unwrap();
            assert!(
                !code.contains("Instant::now") && !code.contains("SystemTime::now"),
                "{name} reads a clock"
            );
        }
        if name.ends_with("src/lib.rs") && name != "crates/rtc/src/lib.rs" {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{name} does not forbid unsafe code");
        }
        let is_unsafe = [concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl")]
            .iter()
            .any(|keyword| text.contains(keyword));
        assert_eq!(is_unsafe, UNSAFE.contains(&name.as_str()), "{name}: has it unsafe code, is it listed?");
    }
    for name in UNSAFE {
        assert!(root().join(name).is_file(), "{name} does not exist: take it off the list");
    }
}

#[test]
fn clippy_keeps_clocks_out_of_every_protocol_crate() {
    let [first, others @ ..] = PROTOCOLS else { panic!("there are some") };
    let settings = |name: &str| {
        std::fs::read_to_string(root().join("crates").join(name).join("clippy.toml")).unwrap_or_default()
    };
    let expected = settings(first);
    assert!(expected.contains("std::time::Instant::now") && expected.contains("std::time::SystemTime::now"));
    for line in std::fs::read_to_string(root().join("clippy.toml")).unwrap().lines() {
        assert!(expected.contains(line), "a nested file replaces the root's, which says {line}");
    }
    for other in others {
        assert_eq!(settings(other), expected, "crates/{other}/clippy.toml");
    }
}

/// A path with every choice of its braces taken: `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, (choices, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    choices.split(',').flat_map(|choice| expand(&format!("{before}{choice}{after}"))).collect()
}

/// Every document of the project, with its path from the root.
fn documents() -> BTreeMap<String, String> {
    let folders = ["", "docs", "docs/decisions"].map(|folder| root().join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// What stands in `code` in a line of a document.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn documents_name_files_that_exist() {
    for (name, text) in documents() {
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            assert!(link.contains("://") || folder.join(link).exists(), "{name} links to {link}");
        }
        for path in text.lines().flat_map(quoted).filter(|code| code.contains('/') && code.ends_with(".rs")) {
            for path in expand(path) {
                assert!(root().join(&path).is_file(), "{name} names {path}");
            }
        }
    }
}

/// The cells of the rows of the first table below a heading, its head left out.
fn rows<'a>(document: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = document.split_once(heading).unwrap();
    let table =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.skip(2).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The names of metrics in a text, without their labels.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    quoted(text).filter(|code| code.starts_with("lectern_")).filter_map(|code| code.split('{').next())
}

#[test]
fn the_table_of_limits_names_constants_and_counters_that_exist() {
    let documents = documents();
    let known: Vec<&str> = documents["docs/metrics.md"].lines().flat_map(metrics).collect();
    let rows = rows(&documents["ARCHITECTURE.md"], "## Limits");
    assert!(rows.len() > 10, "the table is where this test looks for it");
    for row in rows {
        let [what, _, named, _, counter] = row[..] else { panic!("five cells: {row:?}") };
        let mut code = quoted(named);
        let (Some(file), Some(limit)) = (code.next(), code.next()) else {
            panic!("{what}: name the file and the constant")
        };
        let source = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(source.contains(&format!("{limit}: ")), "{file} has no {limit}");
        match counter.strip_prefix('-') {
            Some(reason) => assert!(!reason.trim().is_empty(), "{what}: say why nothing is counted"),
            None => {
                assert!(metrics(counter).next().is_some(), "{what}: name a metric, or `-` and the reason");
            }
        }
        for name in metrics(counter) {
            assert!(known.contains(&name), "{what}: docs/metrics.md has no {name}");
        }
    }
}

#[test]
fn the_table_of_problems_has_every_code_and_no_other() {
    let told = sources().into_iter().filter(|(path, _)| path.starts_with("ingest/src/"));
    let mut codes = BTreeSet::new();
    for (path, text) in told.filter(|(path, _)| !path.contains("tests")) {
        for marker in ["set_problem(", "say(", "push((", "map(|text| ("] {
            for after in text.split(marker).skip(1) {
                let Some(quoted) = after.trim_start().strip_prefix('"') else { continue };
                let code = quoted.split('"').next().unwrap_or_default();
                assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{path}: {code}");
                codes.insert(code.to_owned());
            }
        }
    }
    let document = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    let rows = rows(&document, "## Problems of a stream");
    let listed: BTreeSet<String> =
        rows.iter().flat_map(|row| quoted(row[0]).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(codes, listed);
    assert!(codes.len() > 15);
}
