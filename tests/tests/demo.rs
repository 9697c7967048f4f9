//! `sekisho demo`, from the command to the JSON.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sekisho::demo::patience::Interrupt;
use sekisho_tests::{program, scene::write_lists};
use serde_json::Value;

#[test]
fn the_demo_blocks_every_listed_packet_passes_every_clean_one_and_names_the_subscribers() {
    let output = Command::new(program!()).args(["demo", "--json"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packets = |name: &str| report["packets"][name].as_u64().unwrap();
    assert!(packets("clean_sent") > 0 && packets("listed_sent") > 0);
    assert_eq!(packets("clean_sent"), packets("clean_passed"));
    assert_eq!(packets("listed_sent"), packets("listed_blocked"));
    for name in ["entries_v4", "entries_v6", "refused"] {
        assert!(report["ruleset"][name].as_u64().unwrap() > 0, "{name}");
    }

    let hits = report["hits"].as_array().unwrap();
    let told: u64 = hits.iter().map(|hit| hit["packets"].as_u64().unwrap()).sum();
    assert_eq!(told, packets("listed_blocked"));
    for hit in hits {
        for name in ["subscriber", "remote", "protocol", "feed", "first_seen", "last_seen"] {
            assert!(!hit[name].as_str().unwrap().is_empty(), "{name} of {hit}");
        }
        assert!(hit["remote_port"].is_u64() && hit["malware"].is_string(), "{hit}");
    }
    let any = |test: &dyn Fn(&Value) -> bool| hits.iter().any(test);
    assert!(any(&|hit| hit["remote"].as_str().unwrap().contains(':')), "IPv6");
    assert!(any(&|hit| hit["vlans"][0] == 200), "tagged");
    assert!(any(&|hit| hit["vlans"][0].is_null()), "untagged");
    assert!(any(&|hit| hit["direction"] == "inbound"));
    assert!(any(&|hit| hit["malware"] == "Mirai"));
    for refused in ["10.0.0.0/8", "0.0.0.0/0"] {
        let refusals = report["ruleset"]["refusals"].as_array().unwrap();
        assert!(refusals.iter().any(|row| row["indicator"] == refused), "{refused}");
    }
}

#[test]
fn lists_that_block_nothing_are_said_to_block_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_lists(folder.path(), &[("nothing", "plain", b"8.8.8.8\n10.0.0.1\n")]).unwrap();
    let output = Command::new(program!())
        .args(["demo", "--json", "--lists"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("nothing to show"), "{errors}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let progress = folder.path().join("progress");
    let mut demo = Command::new(program!())
        .args(["demo", "--keep"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&progress).unwrap())
        .spawn()
        .unwrap();
    let id = demo.id();
    let waits = Interrupt::default();
    waits
        .wait_for("the demo to keep running", std::time::Duration::from_secs(60), || {
            Ok(fs::read_to_string(&progress)?.contains("Ctrl-C").then_some(()))
        })
        .unwrap();
    let left = || -> Vec<String> {
        ["/run/netns", "/sys/fs/bpf"]
            .iter()
            .flat_map(|folder| fs::read_dir(Path::new(folder)).unwrap())
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(&format!("-{id}")))
            .collect()
    };
    assert_eq!(left().len(), 4, "three namespaces and the pins: {:?}", left());
    kill(Pid::from_raw(id.cast_signed()), Signal::SIGINT).unwrap();
    assert!(demo.wait().unwrap().success(), "the demo itself had passed");
    assert_eq!(left(), Vec::<String>::new());
}
