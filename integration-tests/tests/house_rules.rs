//! The rules of the house, checked: what imports what, how large a file may be, what a page begins
//! with.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_integration_tests::tools::root;
use serde_json::Value;

/// What each crate of ours may name of ours.
const IMPORTS: &[(&str, &[&str])] = &[
    ("berth-domain", &[]),
    ("berth-api", &["berth-domain"]),
    ("berth-store", &["berth-domain"]),
    ("berth-scheduler", &["berth-api", "berth-domain", "berth-store"]),
    ("berth-executor", &["berth-api", "berth-domain"]),
    ("berth-gateway", &["berth-api", "berth-domain"]),
    (
        "berth",
        &["berth-api", "berth-domain", "berth-executor", "berth-gateway", "berth-scheduler", "berth-store"],
    ),
    ("berth-job", &[]),
    (
        "berth-integration-tests",
        &["berth-api", "berth-domain", "berth-executor", "berth-scheduler", "berth-store"],
    ),
];
/// Foreign crates that only one crate may name, tests aside.
const CONFINED: &[(&str, &[&str])] = &[
    ("fred", &["berth-store"]),
    ("bollard", &["berth-executor"]),
    ("nvml-wrapper", &["berth-executor"]),
    // It checks models in tests, and has nothing to do in the product.
    ("stateright", &[]),
];
/// All that the pure crate may name.
const PURE: &[&str] = &["sha2", "thiserror"];
/// Files longer than this fail, tests aside.
const MOST_LINES: usize = 600;
/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("there are packages") {
        let named = package["dependencies"].as_array().expect("a list").iter();
        let named = named.filter(|dependency| dependency["kind"].is_null());
        let named = named.map(|dependency| dependency["name"].as_str().expect("a name").to_owned());
        all.insert(package["name"].as_str().expect("a name").to_owned(), named.collect());
    }
    all
}

fn sources() -> Vec<PathBuf> {
    let output =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let output = output.expect("git runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect()
}

fn rust_sources() -> Vec<PathBuf> {
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let files: Vec<PathBuf> = sources().into_iter().filter(rust).collect();
    assert!(files.len() > 50, "the sources are found");
    files
}

fn is_test(path: &Path) -> bool {
    let in_tests =
        path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "contract")));
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    in_tests || name == "tests" || name.ends_with("_tests")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn imports_run_downward_only() {
    let all = dependencies(&metadata());
    let ours: BTreeSet<&str> = IMPORTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        all.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        ours,
        "every crate has its line in the table"
    );
    for (name, allowed) in IMPORTS {
        let named: Vec<&String> =
            all[*name].iter().filter(|dependency| ours.contains(dependency.as_str())).collect();
        for dependency in named {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not name {dependency}");
        }
    }
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    let all = dependencies(&metadata());
    for (foreign, homes) in CONFINED {
        for (name, dependencies) in &all {
            let home = homes.contains(&name.as_str()) || name == "berth-integration-tests";
            assert!(home || !dependencies.contains(*foreign), "{name} must not name {foreign}");
        }
    }
    for dependency in &all["berth-domain"] {
        assert!(PURE.contains(&dependency.as_str()), "the pure crate must not name {dependency}");
    }
}

#[test]
fn every_manifest_takes_the_shared_lints() {
    for package in metadata()["packages"].as_array().expect("there are packages") {
        let manifest = package["manifest_path"].as_str().expect("a path");
        let text = std::fs::read_to_string(manifest).expect("a manifest can be read");
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} has no shared lints");
    }
}

#[test]
fn files_are_short_enough_to_be_read() {
    for path in rust_sources().iter().filter(|path| !is_test(path)) {
        let lines = read(path).lines().count();
        let excepted = LONGER.iter().any(|(name, _)| Path::new(name) == path.as_path());
        assert!(lines <= MOST_LINES || excepted, "{} has {lines} lines", path.display());
        if lines > 400 {
            println!("warning: {} has {lines} lines", path.display());
        }
    }
}

#[test]
fn every_module_says_first_what_it_does() {
    for path in rust_sources() {
        assert!(read(&path).starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn nothing_is_silenced_or_left_undone() {
    for path in rust_sources() {
        // This page names what it looks for.
        if path.ends_with("house_rules.rs") {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            for word in ["TODO", "FIXME", "XXX", "HACK", "unimplemented!"] {
                assert!(!line.contains(word), "{place}: {word}");
            }
            assert!(!line.trim().starts_with("#[ignore]"), "{place}: #[ignore] needs a reason");
            let unbounded = ["unbounded_channel", "mpsc::channel::<()>()", "unbounded::<"];
            assert!(!unbounded.iter().any(|word| line.contains(word)), "{place}: an unbounded channel");
        }
    }
}

#[test]
fn only_the_status_table_makes_a_status() {
    for path in rust_sources().iter().filter(|path| !is_test(path) && !path.ends_with("src/status.rs")) {
        for (number, line) in read(path).lines().enumerate() {
            let makes = [
                "Status::new(",
                "Status::internal(",
                "Status::unavailable(",
                "Status::invalid_argument(",
                "Status::not_found(",
            ];
            let made = makes.iter().any(|word| line.contains(word));
            assert!(!made, "{}:{}: only src/status.rs makes a status", path.display(), number + 1);
        }
    }
}

#[test]
fn architecture_stays_short() {
    let lines = read(Path::new("ARCHITECTURE.md")).lines().count();
    assert!(lines <= 250, "ARCHITECTURE.md has {lines} lines");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let promises = read(Path::new("docs/promises.md"));
    let named: Vec<&str> = promises.split('`').filter(|text| text.contains("::")).collect();
    assert!(named.len() > 40, "the tests are found");
    for name in named {
        let (place, test) = name.split_once("::").expect("it has a place and a name");
        let place = if place.starts_with("services") {
            place.to_owned()
        } else {
            format!("integration-tests/tests/{place}")
        };
        let source = read(Path::new(&format!("{place}.rs")));
        let attribute =
            source.split(&format!("fn {test}(")).next().filter(|before| before.len() < source.len());
        let before =
            attribute.unwrap_or_else(|| panic!("docs/promises.md names {name}, which does not exist"));
        let attributed = before
            .lines()
            .rev()
            .take(3)
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        assert!(attributed, "docs/promises.md names {name}, which is no test");
    }
}

#[test]
fn shared_clippy_lines_are_equal() {
    let shared = read(Path::new("clippy.toml"));
    for path in sources().iter().filter(|path| path.ends_with("clippy.toml")) {
        let text = read(path);
        for line in shared.lines() {
            assert!(text.contains(line), "{} lacks {line:?}", path.display());
        }
    }
}
