use std::collections::BTreeMap;

use sekisho_rules::change::Figures;

use super::*;
use crate::{
    dataplane::{Attachment, PortStatus},
    feeds::{Trouble, hold::HeldStatus},
};

const fn dropped(lists: u64) -> Lists {
    Lists { observe: 0, drop: lists, reject: 0, sinkhole: 0 }
}

fn sample() -> Sample {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut by_reason = [Count::default(); Reason::COUNT];
    by_reason[Reason::NotListed as usize] = Count { packets: 96, bytes: 9600 };
    by_reason[Reason::Dropped as usize] = Count { packets: 3, bytes: 180 };
    by_reason[Reason::TruncatedIpv4 as usize] = Count { packets: 1, bytes: 14 };
    let hits = |packets| RuleTotals {
        hits: Count { packets, bytes: packets * 60 },
        overflow: Count { packets: 1, bytes: 60 },
    };
    let installed = Installed {
        generation: Some(7),
        entries_v4: 5,
        entries_v6: 2,
        lists: vec!["one".to_owned(), "two".to_owned()],
        image_bytes: 6_000_000,
        image_capacity: 64 << 20,
        lease: Duration::from_secs(3600),
        ports: vec![PortStatus {
            interface: "eth0".to_owned(),
            slot: 0,
            attachment: Some(Attachment::Native),
        }],
        intact: true,
        ..Installed::default()
    };
    Sample {
        now,
        healthy: true,
        is_pinned: true,
        unparsed_lately: Some("1.5%".parse().unwrap()),
        carriers: vec![("eth0".to_owned(), true), ("eth1".to_owned(), false)],
        modes: Modes::all(Mode::Observe),
        counts: vec![PortCounts { slot: 0, by_reason }],
        rule_totals: vec![
            (dropped(0b01), hits(2)),
            (dropped(0b11), hits(5)),
            (dropped(0b01), hits(4)),
        ],
        ledger: LedgerCounts { events_lost: 8, events_suppressed: 9 },
        installed,
        feed_flows: vec![("one".to_owned(), [6, 1])],
        breaker: breaker::Counts { tripped: 2, kept: 1, released: 0, trips: 3, forgotten: 0 },
        feeds: vec![feed(now)],
        ruleset: None,
        rows_drained: 11,
        store_errors: 1,
        drain_errors: 0,
        publish_errors: 0,
        attributions: [(Certainty::Exact, 6), (Certainty::Ambiguous, 1), (Certainty::Unknown, 4)],
        drifts: DriftKind::ALL.map(|kind| (kind, u64::from(kind == DriftKind::Pin) * 3)),
        standing: vec![DriftKind::Link],
        compared_at: Some(now - Duration::from_secs(2)),
    }
}

/// The same, with these feeds.
pub(crate) fn sample_of(feeds: Vec<FeedStatus>) -> Sample {
    Sample { now: Timestamp::now(), feeds, ..sample() }
}

fn held(now: Timestamp) -> HeldStatus {
    HeldStatus {
        list: "01020304".to_owned(),
        reason: HoldReason::Shrinkage,
        figures: Figures::default(),
        since: now,
        fetched_at: now,
        text: String::new(),
    }
}

fn feed(now: Timestamp) -> FeedStatus {
    FeedStatus {
        name: "one".parse().unwrap(),
        source: "https://example.net/secret-path".to_owned(),
        fetched_at: Some(now - Duration::from_secs(400)),
        confirmed_at: Some(now - Duration::from_secs(60)),
        stamp: None,
        content_from: Some(now - Duration::from_secs(500)),
        max_content_age: Some("8m".parse().unwrap()),
        bytes: 1,
        indicators: 5,
        named: 0,
        rejected: 2,
        trouble: Some(Trouble { at: now, reason: "html", text: "x".to_owned() }),
        failures: 1,
        successes: 3,
        failures_by_reason: BTreeMap::from([("html", 1)]),
        next_at: None,
        held: Some(held(now)),
    }
}

#[test]
fn every_series_has_its_value() {
    let text = render(&sample());
    let expected = [
        "sekisho_packets_total{interface=\"eth0\",reason=\"dropped\",verdict=\"drop\"} 3",
        "sekisho_bytes_total{interface=\"eth0\",reason=\"not_listed\",verdict=\"pass\"} 9600",
        "sekisho_packets_total{interface=\"eth0\",reason=\"not_ip\",verdict=\"pass\"} 0",
        "sekisho_rule_packets_total{lists=\"one\",action=\"drop\"} 6",
        "sekisho_rule_packets_total{lists=\"one,two\",action=\"drop\"} 5",
        "sekisho_rule_overflow_packets_total{lists=\"one\",action=\"drop\"} 2",
        "sekisho_unparsed_packets_ratio 0.01",
        "sekisho_unparsed_packets_recent_ratio 0.015",
        "sekisho_events_lost_total 8",
        "sekisho_events_suppressed_total 9",
        "sekisho_interface_carrier{interface=\"eth0\"} 1",
        "sekisho_interface_carrier{interface=\"eth1\"} 0",
        "sekisho_interface_mode{interface=\"eth0\",mode=\"observe\"} 1",
        "sekisho_interface_mode{interface=\"eth0\",mode=\"enforce\"} 0",
        "sekisho_drift_total{kind=\"pin\"} 3",
        "sekisho_drift_total{kind=\"checksum\"} 0",
        "sekisho_drift_standing{kind=\"link\"} 1",
        "sekisho_drift_standing{kind=\"pin\"} 0",
        "sekisho_proof_age_seconds 2",
        "sekisho_lease_seconds 3600",
        "sekisho_ruleset_generation 7",
        "sekisho_ruleset_entries{family=\"ipv6\"} 2",
        "sekisho_feed_confirmed_age_seconds{feed=\"one\"} 60",
        "sekisho_feed_content_age_seconds{feed=\"one\"} 500",
        "sekisho_feed_held{feed=\"one\",reason=\"shrinkage\"} 1",
        "sekisho_feed_held{feed=\"one\",reason=\"growth\"} 0",
        "sekisho_feed_stale{feed=\"one\"} 1",
        "sekisho_ruleset_pinned 1",
        "sekisho_feed_broken{feed=\"one\"} 1",
        "sekisho_feed_failures_total{feed=\"one\",reason=\"html\"} 1",
        "sekisho_attributions_total{verdict=\"exact\"} 6",
        "sekisho_store_errors_total 1",
        "sekisho_flow_rows_drained_total 11",
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_metric_that_is_shown_is_described() {
    let text = render(&sample());
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        let known = ALL.iter().find(|(known, ..)| *known == name);
        let (_, kind, help) = known.unwrap_or_else(|| panic!("{name} has no description"));
        assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name} shows no help");
        let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
    }
}

#[test]
fn every_metric_that_is_described_is_shown() {
    let mut sample = sample();
    let (generation, _) = crate::testing::generation(7, &[]);
    let mut compiled = sekisho_rules::compile::Compiled::default();
    compiled.feeds.push(crate::testing::report("one"));
    sample.ruleset = Some(std::sync::Arc::new(Ruleset {
        generation: 7,
        header: crate::testing::image(7, &[]).header(),
        slots: generation.slots().clone(),
        compiled: std::sync::Arc::new(compiled),
        live_since: sample.now,
        compiled_at: sample.now,
    }));
    let text = render(&sample);
    for (name, ..) in ALL {
        let shown = text.lines().any(|line| line.split(['{', ' ']).next() == Some(name));
        assert!(shown, "{name} is never shown");
    }
}

#[test]
fn names_say_their_kind() {
    for (name, kind, help) in ALL {
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(name.starts_with("sekisho_") && help.ends_with('.'), "{name}");
    }
}

#[test]
fn no_source_and_no_address_is_in_a_label() {
    let text = render(&sample());
    assert!(!text.contains("secret") && !text.contains("example.net"));
}
