//! Real servers of other houses deliver indicators, which end up in a ruleset and in the kernel.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sekisho::{
    config::FetchConfig,
    feeds::{Feed, FeedConfig, News, http::Fetcher, last_good::LastGood},
    rulebook::Rulebook,
};
use sekisho_rules::{catalogue::Catalogue, feed::FeedSpec};
use sekisho_tests::{
    link::Link,
    peer::{CrowdSec, Medallion},
    post::Daemon,
    program,
    span::{CLEAN, LISTED, LISTED_V6, SUBSCRIBER, SUBSCRIBER_V6, wait_until},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::Semaphore};

/// An indicator of this address in its nth version.
fn indicator(address: &str, version: u32) -> Value {
    let kind = if address.contains(':') { "ipv6-addr" } else { "ipv4-addr" };
    let digits: String = address.bytes().map(|byte| format!("{byte:02x}")).collect();
    let digits = format!("{digits:0>32}");
    let digits = &digits[digits.len() - 32..];
    let id = format!(
        "{}-{}-4{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..]
    );
    json!({
        "type": "indicator",
        "spec_version": "2.1",
        "id": format!("indicator--{id}"),
        "created": "2026-01-01T00:00:00.000Z",
        "modified": format!("2026-01-{version:02}T00:00:00.000Z"),
        "valid_from": "2026-01-01T00:00:00Z",
        "pattern": format!("[{kind}:value = '{address}']"),
        "pattern_type": "stix",
        "indicator_types": ["malicious-activity"],
        "labels": ["Mirai"],
    })
}

fn revoked(address: &str, version: u32) -> Value {
    let mut object = indicator(address, version);
    object["revoked"] = true.into();
    object
}

fn spec(rows: &str) -> FeedSpec {
    let catalogue = Catalogue::from_yaml(&format!("feeds:\n{rows}"), "feeds.yaml");
    catalogue.expect("a catalogue").feeds.remove(0)
}

fn feed(spec: &FeedSpec, state: &Path) -> Feed {
    let fetcher = Fetcher::new(&FetchConfig::default()).expect("a client");
    let config = FeedConfig { spec: spec.clone(), floor: Duration::from_secs(300) };
    let mut feed = Feed::new(config, fetcher, LastGood::new(state), Arc::new(Semaphore::new(1)));
    feed.load(Timestamp::now());
    feed
}

/// The networks of the ruleset that the list of a feed comes to.
fn compiled(folder: &Path, spec: &FeedSpec, news: &News) -> Vec<String> {
    let empty = "feeds: []\n";
    fs::write(folder.join("feeds.yaml"), empty).expect("written");
    let rulebook = Rulebook::of_folder(folder).expect("a rulebook");
    let list = news.list.as_ref().expect("a list");
    let compiled = rulebook.compile(&[(spec, list)], Timestamp::now()).expect("a ruleset");
    let v4 = compiled.table.v4.iter().map(|entry| entry.network.to_string());
    v4.chain(compiled.table.v6.iter().map(|entry| entry.network.to_string())).collect()
}

#[test]
fn indicators_of_a_taxii_server_become_entries_and_its_news_go_over_them() {
    let addresses: Vec<String> = (1..=7).map(|nth| format!("198.18.0.{nth}")).collect();
    let mut objects: Vec<Value> = addresses.iter().map(|address| indicator(address, 1)).collect();
    let malware = "malware--11111111-1111-4111-8111-111111111111";
    objects.push(json!({
        "type": "malware", "spec_version": "2.1", "id": malware, "name": "Mirai", "is_family": true,
        "created": "2026-01-01T00:00:00.000Z", "modified": "2026-01-01T00:00:00.000Z",
    }));
    let server = Medallion::start(&objects, 3);
    let (state, runtime) = (tempfile::tempdir().expect("a folder"), Runtime::new().expect("tokio"));
    let spec = spec(&server.row(", collections: [Indicators]"));
    let mut first = feed(&spec, state.path());
    runtime.block_on(first.poll());
    let news = first.news();
    assert_eq!(news.status.trouble, None);
    let hosts = |last: &[u32]| -> Vec<String> {
        last.iter().map(|nth| format!("198.18.0.{nth}/32")).collect()
    };
    assert_eq!(compiled(state.path(), &spec, &news), hosts(&[1, 2, 3, 4, 5, 6, 7]));
    let pages = server.asked();
    assert_eq!(pages.len(), 3, "seven indicators, three a page: {pages:?}");
    assert!(pages[1].contains("next=") && pages[2].contains("next="), "{pages:?}");
    assert!(pages.iter().all(|page| !page.contains("added_after")), "{pages:?}");

    server.add(&[indicator("198.18.0.9", 1), revoked("198.18.0.2", 2)]);
    // Another daemon, which has nothing but the folder of the first.
    let mut second = feed(&spec, state.path());
    assert_eq!(compiled(state.path(), &spec, &second.news()), hosts(&[1, 2, 3, 4, 5, 6, 7]));
    runtime.block_on(second.poll());
    let news = second.news();
    assert_eq!(news.status.trouble, None);
    assert_eq!(compiled(state.path(), &spec, &news), hosts(&[1, 3, 4, 5, 6, 7, 9]));
    let pages = server.asked();
    assert!(pages[3..].iter().all(|page| page.contains("added_after=2026-01-01")), "{pages:?}");
    runtime.block_on(second.poll());
    assert_eq!(second.news().status.trouble, None, "nothing new is no trouble");
    assert_eq!(compiled(state.path(), &spec, &second.news()), hosts(&[1, 3, 4, 5, 6, 7, 9]));
}

#[test]
fn a_taxii_server_that_refuses_or_names_another_host_leaves_the_list_as_it_was() {
    let server = Medallion::start(&[indicator("198.18.0.1", 1)], 10);
    let (state, runtime) = (tempfile::tempdir().expect("a folder"), Runtime::new().expect("tokio"));
    let mut spec = spec(&server.row(""));
    let mut feed_of = feed(&spec, state.path());
    runtime.block_on(feed_of.poll());
    assert_eq!(feed_of.news().status.indicators, 1);
    fs::write(server.password(), "wrong").expect("written");
    runtime.block_on(feed_of.poll());
    let status = feed_of.news().status;
    assert_eq!(status.trouble.expect("a refusal").reason, "denied");
    assert_eq!(status.indicators, 1);
    fs::write(server.password(), "hunter2").expect("written");
    spec.taxii = None;
    let mut astray = feed(&spec, state.path());
    runtime.block_on(astray.poll());
    let trouble = astray.news().status.trouble.expect("a refusal");
    assert_eq!(trouble.reason, "protocol");
    assert!(trouble.text.contains("http://taxii.example:5000/lists/"), "{}", trouble.text);
}

/// Makes this feed the only one of the next daemon.
fn read_only(link: &Link, row: &str) {
    // What comes later is to stop packets at once, too.
    let row = format!("feeds:\n{row}    observe_for: 0\n");
    fs::write(link.post.file("feeds.yaml"), row).expect("written");
    link.post.configure("fetch: {floor: 1s}\nlog: {level: trace}");
}

/// Every file that the daemon wrote, as it stood at one time: `None` if one was replaced meanwhile.
fn written(link: &Link) -> Option<Vec<(PathBuf, Vec<u8>)>> {
    let mut folders = vec![link.post.file("state")];
    let mut files = vec![link.post.file("log")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let read = |path: PathBuf| match fs::read(&path) {
        Ok(bytes) => Some((path, bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    files.into_iter().map(read).collect()
}

/// No file that the daemon wrote, and nothing that it says of itself, has the key in it.
fn assert_unseen(link: &Link, daemon: &Daemon, key: &str) {
    let mut files = None;
    wait_until("a moment in which no file is replaced", || {
        files = written(link);
        files.is_some()
    });
    let files = files.expect("waited for");
    assert!(files.len() > 3, "{files:?}");
    for (path, bytes) in files {
        assert!(!String::from_utf8_lossy(&bytes).contains(key), "{}", path.display());
    }
    for path in ["/api/v1/status", "/api/v1/feeds", "/api/v1/ruleset", "/metrics", "/healthz"] {
        let text = daemon.get(path);
        assert!(!text.is_empty() && !text.contains(key), "{path}: {text}");
    }
}

#[test]
fn indicators_of_a_taxii_server_stop_packets() {
    let link = Link::new(program!(), "taxii");
    let server = Medallion::start(&[indicator(LISTED, 1), indicator(LISTED_V6, 1)], 1);
    read_only(&link, &server.row(""));
    let daemon = link.post.start();
    assert!(!link.passes_to(SUBSCRIBER, LISTED) && !link.passes_to(SUBSCRIBER_V6, LISTED_V6));
    assert!(link.passes_to(SUBSCRIBER, CLEAN));
    daemon.kill();
    let asked = server.asked().len();
    server.add(&[indicator(CLEAN, 1), revoked(LISTED_V6, 2)]);
    let next = link.post.launch();
    wait_until("what was added", || !link.passes_to(SUBSCRIBER, CLEAN));
    wait_until("what was revoked", || link.passes_to(SUBSCRIBER_V6, LISTED_V6));
    assert!(!link.passes_to(SUBSCRIBER, LISTED), "what did not change stays");
    let pages = server.asked();
    assert!(pages[asked..].iter().all(|page| page.contains("added_after=")), "{pages:?}");
    assert_unseen(&link, &next, "hunter2");
}

#[test]
fn decisions_of_crowdsec_stop_packets_for_as_long_as_they_stand() {
    let link = Link::new(program!(), "crowdsec");
    let lapi = CrowdSec::start();
    lapi.decide(&["add", "-i", LISTED, "-d", "4h"]);
    lapi.decide(&["add", "-i", LISTED, "-d", "1h"]);
    lapi.decide(&["add", "-i", LISTED_V6, "-d", "1h"]);
    read_only(&link, &lapi.row(""));
    let daemon = link.post.start();
    assert!(!link.passes_to(SUBSCRIBER, LISTED) && !link.passes_to(SUBSCRIBER_V6, LISTED_V6));
    assert!(link.passes_to(SUBSCRIBER, CLEAN));
    // The longer of two goes, and one for another address comes: the shorter one still stands.
    lapi.decide(&["delete", "--id", "1"]);
    lapi.decide(&["add", "-i", CLEAN, "-d", "25s", "-R", "a test"]);
    wait_until("a new decision", || !link.passes_to(SUBSCRIBER, CLEAN));
    assert!(!link.passes_to(SUBSCRIBER, LISTED), "its other decision stands");
    lapi.decide(&["delete", "--ip", LISTED]);
    wait_until("the end of a deleted decision", || link.passes_to(SUBSCRIBER, LISTED));
    wait_until("the end of a decision that is over", || link.passes_to(SUBSCRIBER, CLEAN));
    assert!(!link.passes_to(SUBSCRIBER_V6, LISTED_V6));
    lapi.decide(&["delete", "--all"]);
    wait_until("an empty list", || link.passes_to(SUBSCRIBER_V6, LISTED_V6));
    let key = fs::read_to_string(lapi.key()).expect("a key");
    assert_unseen(&link, &daemon, key.trim());
}
