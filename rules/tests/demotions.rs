//! Claims that stand and do less than their feed asks for: sinkholes, scores, the breaker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;

use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, FeedInput, compile},
    demotion::Demotion,
    explain::{Because, Explanation, Verdict, explain},
    feed::Action,
    indicator::Traffic,
    moment::Moment,
    parse::{Limits, parse_feed},
    policy::{EntryKey, NeverBlock, Policy, demote},
    public::public_answer,
    story::{Story, story},
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
    compiled_and(feeds, policy, |_, _, compiled| compiled)
}

/// The same, with what it is compiled of.
fn compiled_and<T>(
    feeds: &[(&str, &str)],
    policy: &str,
    then: impl FnOnce(&[FeedInput<'_>], &Policy, Compiled) -> T,
) -> T {
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
    let compiled = compile(&inputs, &policy, &lists, now).unwrap();
    then(&inputs, &policy, compiled)
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
    assert!(
        ask(&compiled, "198.18.9.3")
            .1
            .ends_with("does nothing: its score of 30 is below what counts.")
    );
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

/// Each indicator with its stages, those that let it through by a dot.
fn told(Story { indicators, .. }: &Story) -> Vec<String> {
    let stage = |stage: &sekisho_rules::story::StageVerdict| {
        let name = serde_json::to_value(stage.stage).unwrap();
        match serde_json::to_value(stage.outcome).unwrap().as_str().unwrap() {
            "passed" => ".".to_owned(),
            outcome => format!("{} {outcome}", name.as_str().unwrap()),
        }
    };
    let row = |told: &sekisho_rules::story::Told| {
        let stages: Vec<_> = told.stages.iter().map(stage).collect();
        format!("{} {}:{} {}", told.indicator, told.feed, told.line, stages.join(" "))
    };
    indicators.iter().map(row).collect()
}

#[test]
fn the_story_has_every_indicator_and_every_stage_in_order() {
    let feeds = [
        (WIDE, "198.18.4.0/23\n198.18.4.7\n198.18.4.7:443\n198.18.0.0/15\n10.0.0.1\n"),
        ("min_confidence: 50, confidence: 40", "198.18.4.7\n"),
        ("weight: 20", "198.18.9.9\n198.18.4.6\n198.18.4.7:443\n"),
    ];
    compiled_and(&feeds, "{score: {block: 50, observe: 20}}", |inputs, policy, mut compiled| {
        let network = "198.18.4.6".parse::<std::net::IpAddr>().unwrap().into();
        demote(&mut compiled, [EntryKey { network, traffic: Traffic::ANY }].into_iter());
        let ask = |address: &str| {
            story(inputs, policy, &compiled, address.parse().unwrap(), Moment::nearest(NOW))
        };
        let sinkhole = ask("198.18.4.7");
        assert_eq!(
            told(&sinkhole),
            [
                "198.18.4.0/23 a:1 . . . . . . . sinkhole demoted . . . .",
                "198.18.4.7 a:2 . . . . . . . sinkhole demoted . . . .",
                "198.18.4.7:443 a:3 . . . . . . . sinkhole demoted . . . .",
                "198.18.0.0/15 a:4 . prefix_floor refused",
                "198.18.4.7 b:1 . . . . confidence refused",
                "198.18.4.7:443 c:3 . . . . . . . sinkhole demoted . . . .",
            ]
        );
        let port = &sinkhole.indicators[5];
        assert_eq!((port.score, port.left.map(Action::as_str)), (Some(64), Some("observe")));
        let words: Vec<_> = port.words.iter().map(|w| (&*w.feed, w.word.worth)).collect();
        assert_eq!(words, [("a", 60), ("c", 12)]);
        let score = &port.stages[8].text;
        assert_eq!(score, "a score of 64 of feed a 60, feed c 12, and 50 blocks");
        let broken = ask("198.18.4.6");
        assert_eq!(
            told(&broken)[2],
            "198.18.4.6 c:2 . . . . . . . . score demoted . breaker demoted ."
        );
        assert_eq!(broken.indicators[2].left, None);
        assert_eq!(told(&ask("10.0.0.1")), ["10.0.0.1 a:5 refuse_list refused"]);
        assert_eq!(told(&ask("198.20.0.1")), [""; 0]);
    });
}

#[test]
fn a_public_answer_names_no_feed_that_does_not_ask_for_it() {
    let feeds = [
        ("attribution: 'The Example Project, https://example.net/'", "198.18.9.1\n"),
        ("licence: secret", "198.18.9.1:443\n198.18.9.2\n"),
    ];
    compiled_and(&feeds, "{}", |inputs, _, compiled| {
        let specs: Vec<_> = inputs.iter().map(|input| input.spec).collect();
        let ask = |query: &str| {
            let query = query.parse().unwrap();
            public_answer(&explain(&compiled, query), query, &specs)
        };
        let both = ask("198.18.9.1:443");
        assert_eq!(both.verdict, Verdict::Drop);
        assert_eq!(both.text[0], "Traffic to and from 198.18.9.1 is blocked.");
        let sources: Vec<_> = both.sources.iter().map(String::as_str).collect();
        assert_eq!(sources, ["The Example Project, https://example.net/"]);
        let secret = serde_json::to_string(&ask("198.18.9.2")).unwrap();
        assert!(!secret.contains("\"b\"") && !secret.contains("'b'"), "{secret}");
        assert_eq!(ask("198.18.9.2").sources.len(), 0);
        let free = ask("198.18.9.3");
        assert_eq!(free.text, ["Traffic to and from 198.18.9.3 is not blocked."]);
    });
}
