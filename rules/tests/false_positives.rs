//! What the operator decides against a feed's entries lowers what its word counts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, Decided, FeedInput, compile_decided},
    explain::{Verdict, explain},
    feed::{Action, FeedSpec},
    moment::Moment,
    operator::{Decision, OperatorEntry},
    parse::{Limits, Parsed, parse},
    policy::{FalsePositive, Policy, Trust},
    story::story,
};

const NOW: i64 = 1_795_000_000;
const DAY: i64 = 86_400;

/// Two feeds with the same list.
struct Site {
    specs: Vec<FeedSpec>,
    parsed: Parsed,
    policy: Policy,
}

impl Site {
    fn new(list: &str, policy: &str) -> Self {
        let row =
            |name| format!("  - {{name: {name}, source: x, format: plain, min_prefix_v4: 16}}\n");
        let text = format!("feeds:\n{}{}", row("a"), row("b"));
        let specs = Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds;
        let parsed = parse(specs[0].format, list.as_bytes(), &Limits::default()).unwrap();
        Self { specs, parsed, policy: Policy::from_yaml(policy, "policy.yaml").unwrap() }
    }

    fn inputs(&self) -> Vec<FeedInput<'_>> {
        let input = |spec| FeedInput { spec, parsed: Ok(&self.parsed), fetched_at: now() };
        self.specs.iter().map(input).collect()
    }

    fn compile(&self, entries: &[OperatorEntry], false_positives: &[FalsePositive]) -> Compiled {
        let decided = Decided { entries, false_positives };
        compile_decided(&self.inputs(), &self.policy, &[], decided, now()).unwrap()
    }
}

fn now() -> Moment {
    Moment::nearest(NOW)
}

fn entry(decision: Decision, network: &str, feed: Option<&str>) -> OperatorEntry {
    OperatorEntry {
        id: 1,
        decision,
        action: Action::Drop,
        network: network.parse().unwrap(),
        protocol: None,
        ports: Vec::new(),
        feed: feed.map(|feed| feed.parse().unwrap()),
        reason: "a partner".into(),
        owner: "desk".into(),
        since: now(),
        until: Some(Moment::nearest(NOW + DAY)),
    }
}

fn found(feed: &str, host: u8, days_ago: i64) -> FalsePositive {
    FalsePositive {
        feed: feed.parse().unwrap(),
        network: format!("198.18.9.{host}/32").parse().unwrap(),
        at: Moment::nearest(NOW - days_ago * DAY),
    }
}

fn trusts(compiled: &Compiled) -> Vec<(u8, u32)> {
    compiled.feeds.iter().map(|feed| (feed.trust.weight, feed.trust.false_positives)).collect()
}

fn news(compiled: &Compiled) -> Vec<String> {
    compiled.found.iter().map(|found| format!("{} {}", found.feed, found.network)).collect()
}

#[test]
fn a_decision_counts_once_against_each_feed_that_it_meets() {
    let site = Site::new("198.18.0.1\n198.18.0.1:80\n198.18.0.2\n", "{}");
    let compiled = site.compile(&[entry(Decision::Allow, "198.18.0.0/24", None)], &[]);
    assert_eq!(news(&compiled), ["a 198.18.0.0/24", "b 198.18.0.0/24"]);
    assert_eq!(trusts(&compiled), [(91, 1), (91, 1)]);
    let compiled = site.compile(&[entry(Decision::Suppress, "198.18.0.1/32", Some("b"))], &[]);
    assert_eq!(news(&compiled), ["b 198.18.0.1/32"]);
    assert_eq!(trusts(&compiled), [(100, 0), (91, 1)]);
}

#[test]
fn an_allow_inside_a_wider_entry_counts_and_one_that_meets_nothing_does_not() {
    let site = Site::new("198.18.0.0/16\n", "{}");
    let compiled = site.compile(&[entry(Decision::Allow, "198.18.4.7/32", None)], &[]);
    assert_eq!(news(&compiled), ["a 198.18.4.7/32", "b 198.18.4.7/32"]);
    let compiled = site.compile(&[entry(Decision::Allow, "198.19.4.7/32", None)], &[]);
    assert_eq!((news(&compiled), trusts(&compiled)), (vec![], vec![(100, 0), (100, 0)]));
    let block = entry(Decision::Block, "198.18.4.0/24", None);
    let compiled = site.compile(&[block, entry(Decision::Allow, "198.18.4.7/32", None)], &[]);
    assert_eq!(trusts(&compiled), [(91, 1), (91, 1), (100, 0)], "the operator's own word stays");
}

#[test]
fn what_is_known_lowers_the_score_until_it_ages() {
    let site = Site::new("198.18.0.1\n", "score: {block: 80, observe: 0}");
    let verdict = |past: &[FalsePositive]| {
        explain(&site.compile(&[], past), "198.18.0.1".parse().unwrap()).verdict
    };
    assert_eq!(verdict(&[]), Verdict::Drop);
    let fresh: Vec<_> = (0..10).map(|host| found("a", host, 0)).collect();
    assert_eq!(verdict(&fresh), Verdict::Observe, "60 and 30 make 72");
    let old: Vec<_> = (0..10).map(|host| found("a", host, 1_000)).collect();
    assert_eq!(verdict(&old), Verdict::Drop);
    let again: Vec<_> = (0..10).map(|_| found("a", 1, 0)).collect();
    assert_eq!(verdict(&again), Verdict::Drop, "one network is one false positive");
}

#[test]
fn the_story_and_the_explanation_say_what_lowered_the_score() {
    let site = Site::new("198.18.0.1\n", "score: {block: 80, observe: 0}");
    let past: Vec<_> = (0..10).map(|host| found("a", host, 0)).collect();
    let compiled = site.compile(&[], &past);
    assert_eq!(compiled.feeds[0].trust, Trust { given: 100, weight: 50, false_positives: 10 });
    let told = serde_json::to_string(&explain(&compiled, "198.18.0.1".parse().unwrap())).unwrap();
    assert!(
        told.contains("10 false positives of the feed took its weight from 100 to 50"),
        "{told}"
    );
    let address = "198.18.0.1".parse().unwrap();
    let told = story(&site.inputs(), &site.policy, &compiled, address, now());
    let told = serde_json::to_value(told).unwrap();
    let word = &told["indicators"][0]["words"][0];
    assert_eq!((&word["weight"], &word["given_weight"]), (&50.into(), &100.into()));
    assert_eq!(word["false_positives"], 10);
}
