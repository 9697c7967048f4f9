//! Large real lists through the whole pipeline, where somebody has put them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use sekisho_tests::program;
use serde_json::Value;

/// In `feeds.yaml`, as seen from its folder: a folder beside the checkout.
const BESIDE_THE_CHECKOUT: &str = "../../../shared/feeds/";

#[test]
fn real_lists_compile_and_nothing_that_must_stay_reachable_gets_in() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("real-lists");
    let lists = match env::var_os("SEKISHO_FEEDS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => own.join(BESIDE_THE_CHECKOUT),
    };
    if !lists.is_dir() {
        println!(
            "SKIPPED: there are no real lists in {}; SEKISHO_FEEDS_DIR may name a folder",
            lists.display()
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let catalogue = fs::read_to_string(own.join("feeds.yaml")).unwrap();
    let lists = format!("{}/", fs::canonicalize(lists).unwrap().display());
    let catalogue = catalogue.replace(BESIDE_THE_CHECKOUT, &lists);
    fs::write(folder.path().join("feeds.yaml"), catalogue).unwrap();

    let run = |arguments: &[&str]| {
        let output = Command::new(program!()).args(arguments).arg(folder.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"))
    };
    let report = run(&["compile", "--json", "--lists"]);
    let entries = |family: &str| report["entries"][family].as_u64().unwrap();
    assert!(entries("v4") > 100_000, "{}", entries("v4"));
    assert!(entries("v6") > 50, "{}", entries("v6"));
    for feed in report["feeds"].as_array().unwrap() {
        assert!(feed["indicators"].as_u64().unwrap() > 0, "{feed}");
    }
    for address in ["8.8.8.8", "1.1.1.1", "100.64.0.1", "192.168.1.1", "198.41.0.4"] {
        let answer = run(&["explain", address, "--json", "--lists"]);
        assert_eq!(answer["verdict"], "pass", "{address}: {answer}");
    }
}
