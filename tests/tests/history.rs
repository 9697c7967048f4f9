//! The operator's own entries, rollbacks, and kills in the middle of both: what is in the kernel then.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use sekisho::dataplane::{Dataplane as _, kernel::KernelDataplane};
use sekisho_tests::{
    cable::Then,
    post::{Daemon, Post},
    program,
    span::{LISTED, Span, wait_until},
};
use serde_json::Value;

struct Site {
    post: Post,
    span: Span,
}

impl Site {
    fn new(name: &str) -> Self {
        let span = Span::lay(name, Then::Drop);
        let post = Post::furnish(program!(), &span);
        let site = Self { post, span };
        let catalogue = "feeds:\n  - {name: listed, source: listed.txt, format: plain, refresh: 1s, \
                         limits: {slack: 1000}}\n";
        fs::write(site.post.file("feeds.yaml"), catalogue).expect("written");
        site
    }

    /// The feed lists so many hosts, [`LISTED`] among them.
    fn list(&self, hosts: usize) {
        let others = (0..hosts - 1).map(|n| format!("198.18.{}.{}\n", 16 + n / 200, n % 200));
        let text: String = others.chain([format!("{LISTED}\n")]).collect();
        let new = self.post.file("listed.new");
        fs::write(&new, text).expect("written");
        fs::rename(&new, self.post.file("listed.txt")).expect("replaced");
    }

    fn kernel(&self) -> KernelDataplane {
        KernelDataplane::open(&self.span.settings.pin_dir).expect("it is pinned")
    }

    /// Whether the ruleset in the kernel lists the address.
    fn lists(&self, address: &str) -> bool {
        let address = address.parse().expect("an address");
        self.kernel().ask(address, 6, Some(443)).expect("an answer").all() != 0
    }

    /// Runs a command of the operator's, to which the daemon's configuration is known.
    fn order(&self, arguments: &[&str]) -> (bool, String) {
        let config = self.post.file("sekisho.yaml");
        let mut arguments = arguments.to_vec();
        arguments.extend(["--config", config.to_str().expect("UTF-8")]);
        let output = self.post.run(&arguments);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).expect("UTF-8"))
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.post.run(arguments);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What is live is in the history under its number, and nothing that never was live is, once the
    /// daemon has made its own: a version is kept a moment before it is live.
    fn check_history(&self, entries: u64) -> u64 {
        wait_until("the newest version to be live", || {
            let told = self.ask(&["history", "--json", "--limit", "1"]);
            let live = self.kernel().installed().expect("it can be read back").generation;
            told["versions"][0]["number"].as_u64() == live.map(u64::from)
                && told["versions"][0]["entries_v4"] == entries
        });
        let told = self.ask(&["history", "--json", "--limit", "1000"]);
        let versions = told["versions"].as_array().expect("versions");
        let numbers: Vec<u64> =
            versions.iter().map(|version| version["number"].as_u64().expect("a number")).collect();
        assert!(numbers.is_sorted_by(|a, b| a > b), "{numbers:?}");
        assert!(self.kernel().installed().expect("it can be read back").intact);
        numbers[0]
    }
}

fn has_entries(daemon: &mut Daemon, entries: u64) {
    daemon.wait(&format!("{entries} entries"), |status| {
        status["ruleset"]["entries_v4"] == entries
            && status["health"]["ok"] == true
            && status["feeds"][0]["indicators"] == entries
    });
}

#[test]
fn entries_and_rollbacks_are_in_the_kernel_when_the_command_ends() {
    let site = Site::new("entries");
    site.list(1);
    let mut daemon = site.post.launch();
    has_entries(&mut daemon, 1);
    let first = site.check_history(1);

    let block = ["block", "198.18.9.9", "--reason", "ticket 7", "--for", "1h"];
    let (ok, text) = site.order(&block);
    assert!(ok && text.contains("entry 1: in effect with generation"), "{text}");
    assert!(site.lists("198.18.9.9"));
    let (ok, text) = site.order(&["allow", LISTED, "--reason", "ticket 8", "--for", "1h"]);
    assert!(ok && !site.lists(LISTED), "{text}");
    let explained = site.post.run(&["explain", LISTED]);
    let explained = String::from_utf8(explained.stdout).expect("UTF-8");
    assert!(explained.starts_with("pass\n") && explained.contains("ticket 8"), "{explained}");
    let (ok, offline) = site.order(&["explain", LISTED]);
    assert!(ok && offline.starts_with("pass\n") && offline.contains("ticket 8"), "{offline}");
    let (ok, text) = site.order(&["block", "10.0.0.1", "--reason", "x", "--for", "1h"]);
    assert!(!ok && text.contains("private use (RFC 1918)"), "{text}");
    let (ok, text) = site.order(&["block", "198.18.9.8", "--reason", "x"]);
    assert!(!ok && text.contains("needs an end"), "{text}");
    let (ok, _) = site.order(&["entries", "remove", "2"]);
    assert!(ok && site.lists(LISTED));

    let began = Instant::now();
    let (ok, text) = site.order(&["rollback", &first.to_string()]);
    assert!(ok && text.starts_with(&format!("back at version {first}")), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!site.lists("198.18.9.9") && site.lists(LISTED));
    let told = site.post.run(&["diff", &first.to_string(), &(first + 1).to_string()]);
    let told = String::from_utf8(told.stdout).expect("UTF-8");
    assert!(told.contains("+  198.18.9.9") && told.contains("drop (operator)"), "{told}");
    let (ok, _) = site.order(&["resume"]);
    assert!(ok && site.lists("198.18.9.9"));
    daemon.stop();
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_of_a_publication_leaves_a_whole_ruleset_and_its_history() {
    let site = Site::new("kills");
    site.list(1);
    let mut daemon = site.post.launch();
    has_entries(&mut daemon, 1);
    // The feed is looked at once a second: kills from just after one publication to the next.
    for round in 0..12_usize {
        site.list(2 + round);
        thread::sleep(Duration::from_millis(90 * round as u64 + 7));
        daemon.kill();
        assert!(site.lists(LISTED), "killed in round {round}");
        assert!(site.kernel().installed().expect("it can be read back").intact);
        daemon = site.post.launch();
        has_entries(&mut daemon, 2 + round as u64);
        site.check_history(2 + round as u64);
    }
}

#[test]
fn a_daemon_that_is_killed_in_a_rollback_is_back_there_or_never_went() {
    let site = Site::new("kills-back");
    site.list(1);
    let mut daemon = site.post.launch();
    has_entries(&mut daemon, 1);
    let first = site.check_history(1);
    site.list(5);
    has_entries(&mut daemon, 5);
    for round in 0..10_u64 {
        thread::scope(|scope| {
            let ordered = scope.spawn(|| site.order(&["rollback", &first.to_string()]));
            thread::sleep(Duration::from_millis(8 * round));
            daemon.kill();
            // Whether it was told of a success or a failure, what is live is whole.
            let _ = ordered.join().expect("it ends");
        });
        assert!(site.lists(LISTED) && site.kernel().installed().expect("read back").intact);
        daemon = site.post.launch();
        daemon.wait("a ruleset", |status| status["health"]["ok"] == true);
        let pinned = daemon.status()["pinned"]["version"].as_u64();
        assert!(pinned.is_none_or(|version| version == first), "{pinned:?}");
        let expected = if pinned.is_some() { 1 } else { 5 };
        daemon.wait("what it stands for", |status| status["ruleset"]["entries_v4"] == expected);
        site.check_history(expected);
        if pinned.is_some() {
            let (ok, text) = site.order(&["resume"]);
            assert!(ok, "{text}");
            daemon.wait("the list of now", |status| status["ruleset"]["entries_v4"] == 5);
        }
    }
}
