//! Claims that stand and do less than their feed asks for: sinkholes, scores, the breaker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;

use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, FeedInput, compile},
    demotion::Demotion,
    explain::{Because, Explanation, Verdict, explain},
    indicator::Traffic,
    moment::Moment,
    parse::{Limits, parse_feed},
    policy::{EntryKey, NeverBlock, Policy, demote},
};

const NOW: i64 = 1_795_000_000;
const SINKHOLES: &str = "
name: sinkholes
version: '1'
source: a test
tier: sinkhole
reason: run by defenders
networks: [{network: 198.18.4.7}, {network: 198.18.6.0/24}, {network: '2001:2:4::7'}]
";

fn compiled(feeds: &[(&str, &str)], policy: &str) -> Compiled {
    let rows = feeds.iter().zip('a'..).map(|((extra, _), name)| {
        format!("  - {{name: {name}, source: x, format: plain, {extra}}}\n")
    });
    let yaml = format!("feeds:\n{}", rows.collect::<String>());
    let specs = Catalogue::from_yaml(&yaml, "feeds.yaml").unwrap().feeds;
    let parsed: Vec<_> = specs
        .iter()
        .zip(feeds)
        .map(|(spec, (_, list))| parse_feed(spec, list.as_bytes(), &Limits::default()))
        .collect();
    let now = Moment::nearest(NOW);
    let input = |(spec, parsed)| FeedInput { spec, parsed, fetched_at: now };
    let inputs: Vec<_> = specs.iter().zip(parsed.iter().map(Result::as_ref)).map(input).collect();
    let policy = Policy::from_yaml(policy, "policy.yaml").unwrap();
    let lists = [NeverBlock::from_yaml(SINKHOLES, "list.yaml").unwrap()];
    compile(&inputs, &policy, &lists, now).unwrap()
}

fn ask(compiled: &Compiled, query: &str) -> (Verdict, String) {
    let Explanation { verdict, because, .. } = explain(compiled, query.parse().unwrap());
    let text = because.iter().find_map(|because| match because {
        Because::Entry(fact) => Some(fact.text.clone()),
        _ => None,
    });
    (verdict, text.unwrap_or_default())
}

fn demoted(compiled: &Compiled, feed: usize) -> BTreeMap<Demotion, u64> {
    compiled.feeds[feed].demoted_by_reason.clone()
}

const WIDE: &str = "min_prefix_v4: 16, min_prefix_v6: 32";

#[test]
fn known_sinkholes_and_feeds_of_sinkholes_are_only_observed() {
    let list = "198.18.4.7\n198.18.6.8:443\n2001:2:4::7\n198.18.9.1\n";
    let compiled = compiled(&[("", list), ("class: sinkhole", "198.18.9.2\n")], "{}");
    for address in ["198.18.4.7", "198.18.6.8:443", "2001:2:4::7", "198.18.9.2"] {
        assert_eq!(ask(&compiled, address).0, Verdict::Observe, "{address}");
    }
    assert_eq!(ask(&compiled, "198.18.9.1").0, Verdict::Drop);
    assert_eq!(demoted(&compiled, 0), [(Demotion::Sinkhole, 3)].into());
    assert_eq!(demoted(&compiled, 1), [(Demotion::Sinkhole, 1)].into());
    let (_, text) = ask(&compiled, "198.18.4.7");
    let end = "its action is drop, but only observes: 198.18.4.7 is on the list 'sinkholes': run by \
               defenders.";
    assert!(text.ends_with(end), "{text}");
    assert!(ask(&compiled, "198.18.9.2").1.contains("the feed says that it is a sinkhole"));
}

#[test]
fn a_wider_entry_observes_its_sinkholes_and_stops_the_rest() {
    let compiled = compiled(&[(WIDE, "198.18.0.0/16\n2001:2::/32\n")], "{}");
    let parts: Vec<_> = compiled.table.observed.iter().map(ToString::to_string).collect();
    assert_eq!(parts, ["198.18.4.7/32", "198.18.6.0/24", "2001:2:4::7/128"]);
    for (address, verdict) in [
        ("198.18.4.6", Verdict::Drop),
        ("198.18.4.7", Verdict::Observe),
        ("198.18.5.255", Verdict::Drop),
        ("198.18.6.255", Verdict::Observe),
        ("2001:2:4::7", Verdict::Observe),
        ("2001:2:4::8", Verdict::Drop),
    ] {
        assert_eq!(ask(&compiled, address).0, verdict, "{address}");
    }
    assert!(ask(&compiled, "198.18.4.7").1.contains("198.18.4.7 is on the list 'sinkholes'"));
    assert!(!ask(&compiled, "198.18.4.6").1.contains("observes"));
}

#[test]
fn a_score_below_the_thresholds_observes_or_does_nothing() {
    let lists = [("", "198.18.9.1\n198.18.9.2\n"), ("weight: 50", "198.18.9.2\n198.18.9.3\n")];
    let by_policy = |policy: &str| {
        let compiled = compiled(&lists, policy);
        ["198.18.9.1", "198.18.9.2", "198.18.9.3"].map(|address| ask(&compiled, address).0)
    };
    assert_eq!(by_policy("{}"), [Verdict::Drop; 3], "no threshold, no change");
    let limits = "score: {block: 65, observe: 40}";
    assert_eq!(by_policy(limits), [Verdict::Observe, Verdict::Drop, Verdict::Pass]);
    let compiled = compiled(&lists, limits);
    assert_eq!(demoted(&compiled, 0), [(Demotion::LowScore, 1)].into());
    assert_eq!(demoted(&compiled, 1), [(Demotion::TooLowScore, 1)].into());
    assert!(ask(&compiled, "198.18.9.3").1.ends_with("does nothing: its score of 30 is below what counts."));
}

#[test]
fn the_breaker_demotes_the_claims_of_all_feeds_on_the_entry_and_no_other() {
    let lists = [("", "198.18.9.1\n198.18.9.1:443\n198.18.9.2\n"), ("", "198.18.9.1\n")];
    let mut compiled = compiled(&lists, "{}");
    let key = |network: &str| EntryKey { network: network.parse().unwrap(), traffic: Traffic::ANY };
    let gone = key("198.18.77.0/24");
    demote(&mut compiled, [key("198.18.9.1/32"), gone].into_iter());
    assert_eq!(ask(&compiled, "198.18.9.1").0, Verdict::Observe);
    assert_eq!(ask(&compiled, "198.18.9.1:443").0, Verdict::Drop, "a claim of its own");
    assert_eq!(ask(&compiled, "198.18.9.2").0, Verdict::Drop);
    for feed in 0..2 {
        assert_eq!(demoted(&compiled, feed), [(Demotion::Breaker, 1)].into());
    }
}

#[test]
fn overlaps_count_networks_once_a_feed() {
    let lists = [
        ("", "198.18.9.1\n198.18.9.1:443\n198.18.9.2\n"),
        ("", "198.18.9.1:80\n198.18.9.3\n"),
        ("", "198.18.9.1\n"),
    ];
    let compiled = compiled(&lists, "{}");
    let overlap = |feed: usize| {
        let overlap = &compiled.feeds[feed].overlap;
        let shared: Vec<_> = overlap.shared.iter().map(|(name, n)| format!("{name} {n}")).collect();
        (overlap.networks, overlap.unique, shared.join(", "))
    };
    assert_eq!(overlap(0), (2, 1, "b 1, c 1".to_owned()));
    assert_eq!(overlap(1), (2, 1, "a 1, c 1".to_owned()));
    assert_eq!(overlap(2), (1, 0, "a 1, b 1".to_owned()));
}
