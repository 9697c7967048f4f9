//! Feeds and the operator that contradict each other.

use sekisho_rules::{
    feed::Action,
    operator::{Decision, check},
    policy::Guards,
};

use super::*;

fn entry(id: u32, decision: Decision, network: &str, ports: &[u16]) -> OperatorEntry {
    OperatorEntry {
        id,
        decision,
        action: Action::Drop,
        network: network.parse().unwrap(),
        protocol: None,
        ports: ports.to_vec(),
        feed: None,
        reason: "a partner".into(),
        owner: "desk".into(),
        since: Moment::nearest(NOW),
        until: Some(Moment::nearest(NOW + 3600)),
    }
}

fn verdict(compiled: &Compiled, query: &str) -> Verdict {
    explain(compiled, query.parse().unwrap()).verdict
}

/// A plain list with the operator's entries beside it.
fn fought(text: &str, entries: &[OperatorEntry]) -> Compiled {
    let spec = spec(Format::Plain, WIDE);
    let parsed = parse_feed(&spec, text.as_bytes(), &Limits::default()).unwrap();
    compiled(&spec, &parsed, entries)
}

#[test]
fn an_allow_beats_what_lies_inside_it_around_it_and_on_it() {
    let entries = [entry(1, Decision::Allow, "198.18.4.0/24", &[])];
    let text =
        "198.18.4.0/24\n198.18.4.7\n198.18.4.0/25\n198.18.4.128/25\n198.18.0.0/16\n198.18.4.9:23\n";
    let compiled = fought(text, &entries);
    for query in ["198.18.4.0", "198.18.4.7", "198.18.4.255", "198.18.4.9:23"] {
        assert_eq!(verdict(&compiled, query), Verdict::Pass, "{query}");
    }
    assert_eq!(verdict(&compiled, "198.18.5.1"), Verdict::Drop);
    assert_eq!(compiled.feeds[0].refused_by_reason.len(), 1, "{:?}", refused(&compiled));
}

#[test]
fn an_allow_beats_the_operators_own_block_whichever_came_first() {
    for (block, allow) in [(1, 2), (2, 1)] {
        let mut entries = [
            entry(block, Decision::Block, "198.18.4.0/24", &[]),
            entry(allow, Decision::Allow, "198.18.4.7/32", &[]),
        ];
        entries.sort_by_key(|entry| entry.id);
        let compiled = fought("198.18.4.7\n198.18.4.8\n", &entries);
        assert_eq!(verdict(&compiled, "198.18.4.7"), Verdict::Pass);
        assert_eq!(verdict(&compiled, "198.18.4.8"), Verdict::Drop);
        assert_eq!(verdict(&compiled, "198.18.4.9"), Verdict::Drop);
    }
}

#[test]
fn a_suppression_of_a_feed_leaves_the_operators_block() {
    let entries = [
        entry(1, Decision::Suppress, "198.18.4.7/32", &[]),
        entry(2, Decision::Block, "198.18.4.7/32", &[23]),
    ];
    let compiled = fought("198.18.4.7\n", &entries);
    assert_eq!(verdict(&compiled, "198.18.4.7:23"), Verdict::Drop);
    assert_eq!(verdict(&compiled, "198.18.4.7:80"), Verdict::Pass);
}

#[test]
fn no_allow_widens_what_a_feed_may_list_and_no_block_passes_the_guards() {
    let compiled =
        fought("8.8.8.8\n198.18.0.1\n", &[entry(1, Decision::Allow, "198.18.0.0/24", &[])]);
    assert_eq!(refused(&compiled), ["8.8.8.8 never_block", "198.18.0.1 allowed"]);
    let policy = Policy::from_yaml(OWN, "policy.yaml").unwrap();
    let guards = Guards::new(&policy, never_block());
    let now = Moment::nearest(NOW);
    for network in
        ["8.8.8.8/32", "104.16.1.1/32", "198.19.64.1/32", "10.0.0.1/32", "2002:808:808::/48"]
    {
        let block = entry(1, Decision::Block, network, &[]);
        let refusal = check(&block, &guards, &policy, now).unwrap_err().to_string();
        assert!(refusal.contains("is refused: "), "{network}: {refusal}");
    }
    let rented = entry(1, Decision::Block, "52.94.76.0/24", &[]);
    assert!(check(&rented, &guards, &policy, now).is_ok(), "the operator knows why");
}

#[test]
fn a_comment_or_a_word_in_a_list_allows_nothing() {
    let text = "!198.18.0.1\nallow 198.18.0.2\n198.18.0.3 # allow\n-198.18.0.4\n198.18.0.5 !\n198.18.0.3\n";
    let spec = spec(Format::Plain, WIDE);
    let parsed = parse_feed(&spec, text.as_bytes(), &Limits::default()).unwrap();
    let compiled = compiled(&spec, &parsed, &[]);
    assert_eq!(verdict(&compiled, "198.18.0.3"), Verdict::Drop);
    for host in ["198.18.0.1", "198.18.0.2", "198.18.0.4"] {
        assert_eq!(verdict(&compiled, host), Verdict::Pass, "{host}");
    }
}

#[test]
fn a_feed_that_floods_crowds_out_no_other() {
    let row = |name| format!("  - {{name: {name}, source: x, format: plain, {WIDE}}}\n");
    let yaml = format!("feeds:\n{}{}", row("flood"), row("honest"));
    let specs = Catalogue::from_yaml(&yaml, "feeds.yaml").unwrap().feeds;
    let flood: String = (0..200_u32).map(|n| format!("5.{n}.0.0/16\n")).collect();
    let lists = [flood.as_str(), "198.18.0.0/15\n198.18.0.1\n"]
        .map(|text| parse_feed(&specs[0], text.as_bytes(), &Limits::default()).unwrap());
    let now = Moment::nearest(NOW);
    let inputs: Vec<_> = specs
        .iter()
        .zip(&lists)
        .map(|(spec, parsed)| FeedInput { spec, parsed: Ok(parsed), fetched_at: now })
        .collect();
    let policy = Policy::from_yaml("max_addresses_v4: 1000000", "policy.yaml").unwrap();
    let compiled = compile(&inputs, &policy, &[], now).unwrap();
    let accepted: Vec<u64> = compiled.feeds.iter().map(|feed| feed.accepted).collect();
    assert_eq!(accepted, [0, 2]);
    let text = compiled.refusals.kept[0].to_string();
    assert!(text.contains("of this feed only a /17 or longer fits"), "{text}");
}
