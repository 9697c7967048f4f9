//! What the command makes of wrong configurations and hostile lists.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Command};

use sekisho_tests::{program, scene::write_lists};
use serde_json::Value;

/// Starts the daemon on a configuration that it must refuse; the one line that it says.
fn refusal(config: &str, folder: &Path) -> String {
    let path = folder.join("sekisho.yaml");
    fs::write(&path, config).unwrap();
    let output = Command::new(program!()).args(["run", "-c"]).arg(&path).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{errors}");
    assert_eq!(errors.lines().count(), 1, "one clear line: {errors}");
    errors
}

#[test]
fn a_wrong_configuration_is_refused_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let place = |line: u32, column: u32| {
        format!("{}:{line}:{column}: ", folder.path().join("sekisho.yaml").display())
    };
    let least = "interfaces:\n  - {name: lo, role: subscriber}\n";
    let cases = [
        ("list_lifetim: 1h\n", place(3, 1)),
        ("drain_interval: [1]\n", place(3, 17)),
        ("api:\n  listen: nowhere\n", place(4, 11)),
    ];
    for (rest, place) in cases {
        let error = refusal(&format!("{least}{rest}"), folder.path());
        assert!(error.contains(&place), "expected {place} in: {error}");
    }
    let wrong_role = "interfaces:\n  - {name: lo, role: customer}\n";
    assert!(refusal(wrong_role, folder.path()).contains(&place(2, 22)));
}

#[test]
fn a_file_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = "interfaces: [{name: lo, role: both}]\nfeeds: nowhere.yaml\n";
    assert!(refusal(config, folder.path()).contains("nowhere.yaml"));
    let output =
        Command::new(program!()).args(["run", "-c", "/nowhere/sekisho.yaml"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/sekisho.yaml"));
}

#[test]
fn an_interface_that_is_missing_is_named() {
    sekisho::demo::netns::require_root("this test").unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_lists(folder.path(), &[("one", "plain", b"198.18.0.1\n")]).unwrap();
    let pins = format!("/sys/fs/bpf/sekisho-input-{}", std::process::id());
    let config = format!(
        "interfaces: [{{name: nosuch0, role: subscriber}}]\nfeeds: feeds.yaml\nstate_dir: state\n\
         dataplane: {{pin_dir: {pins}}}\napi: {{listen: '127.0.0.1:0'}}\n"
    );
    let error = refusal(&config, folder.path());
    assert!(error.contains("'nosuch0'"), "{error}");
    assert!(!Path::new(&pins).exists(), "nothing is left");
}

/// Compiles one list; its account, the refused indicators, and how many entries there are.
fn compile(format: &str, content: &[u8]) -> (Value, Vec<String>, u64) {
    let folder = tempfile::tempdir().unwrap();
    write_lists(folder.path(), &[("hostile", format, content)]).unwrap();
    let output = Command::new(program!())
        .args(["compile", "--json", "--lists"])
        .arg(folder.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let refused = report["refused"].as_array().unwrap().iter();
    let refused = refused.map(|row| row["indicator"].as_str().unwrap().to_owned()).collect();
    let entries = ["v4", "v6"].map(|family| report["entries"][family].as_u64().unwrap());
    (report["feeds"][0].clone(), refused, entries[0] + entries[1])
}

#[test]
fn nothing_dangerous_is_ever_compiled() {
    let dangerous = [
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.1",
        "8.8.8.8",
        "1.1.1.1",
        "224.0.0.0/4",
        "192.168.0.0/16",
        "fe80::/10",
        "2000::/3",
        "128.0.0.0/1",
    ];
    let (feed, refused, entries) = compile("plain", dangerous.join("\n").as_bytes());
    assert_eq!(entries, 0);
    assert_eq!(feed["indicators"], dangerous.len());
    assert_eq!(refused.len(), dangerous.len(), "{refused:?}");
}

#[test]
fn what_cannot_be_read_is_counted_and_the_rest_stands() {
    let long = "9".repeat(300);
    let lines = format!("198.18.0.1\n198.18.0.2:0\n198.18.0.3:70000\n{long}\nnot an address\n");
    let (feed, _, entries) = compile("plain", lines.as_bytes());
    assert_eq!(feed["rejected"], 4, "{feed}");
    assert_eq!(entries, 1);
}

#[test]
fn bytes_that_editors_and_servers_add_do_no_harm() {
    let (feed, _, entries) =
        compile("plain", b"\xef\xbb\xbf198.18.0.1\r\n198.18.0.1\r\n198.18.0.2");
    assert_eq!((&feed["rejected"], entries), (&Value::from(0), 2), "{feed}");
    let (feed, _, entries) = compile("plain", b"# caf\xe9\n198.18.0.1 # \xfc\n198.18.0.2\n");
    assert_eq!(entries, 2, "{feed}");
}

#[test]
fn pages_and_nothing_are_no_lists() {
    let page = b"<!DOCTYPE html>\n<html><body>198.18.0.1 is blocked</body></html>\n";
    for content in [&page[..], b"", b"\n\n"] {
        for format in ["plain", "feodo-csv", "threatfox-csv", "spamhaus-drop-json"] {
            let (feed, _, entries) = compile(format, content);
            assert_eq!(entries, 0, "{format}: {feed}");
        }
    }
}

#[test]
fn a_truncated_list_is_refused_as_a_whole() {
    let (feed, _, entries) =
        compile("spamhaus-drop-json", b"{\"cidr\":\"198.18.0.0/24\",\"sblid\":\"SBL1\"}\n{\"cid");
    assert_eq!(entries, 0, "{feed}");
}
