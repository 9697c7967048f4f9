//! Lists that would hurt subscribers, in every format: nothing dangerous is ever compiled, and each
//! refusal says why.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod fights;
mod notations;
mod ranges;
mod shapes;
mod written;

use std::{net::IpAddr, sync::OnceLock};

use ipnet::IpNet;
use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, Decided, FeedInput, compile, compile_decided},
    explain::{Query, Verdict, explain},
    feed::{FeedSpec, Format},
    moment::Moment,
    operator::OperatorEntry,
    parse::{Limits, Parsed, parse_feed},
    policy::{NeverBlock, Policy},
    shipped,
};

const NOW: i64 = 1_795_000_000;
/// The widest floors that a catalogue may set, for whatever the format.
const WIDE: &str = "min_prefix_v4: 8, min_prefix_v6: 16";
const OWN: &str = "own_prefixes: [{network: 198.19.64.0/20, name: subscribers}, \
                   {network: '2001:2:64::/48', name: subscribers}]";

fn spec(format: Format, extra: &str) -> FeedSpec {
    let mapping = if format.needs_mapping() { ", mapping: {value: ip, port: port}" } else { "" };
    let yaml = format!("feeds: [{{name: a, source: x, format: {format}{mapping}, {extra}}}]");
    Catalogue::from_yaml(&yaml, "feeds.yaml").unwrap().feeds.remove(0)
}

fn never_block() -> &'static [NeverBlock] {
    static LISTS: OnceLock<Vec<NeverBlock>> = OnceLock::new();
    LISTS.get_or_init(|| shipped::never_block().unwrap())
}

/// The table of one feed, by the shipped never-block lists.
fn compiled(spec: &FeedSpec, parsed: &Parsed, entries: &[OperatorEntry]) -> Compiled {
    let policy = Policy::from_yaml(OWN, "policy.yaml").unwrap();
    let now = Moment::nearest(NOW);
    let input = FeedInput { spec, parsed: Ok(parsed), fetched_at: now };
    let decided = Decided { entries, ..Decided::default() };
    compile_decided(&[input], &policy, never_block(), decided, now).unwrap()
}

/// What becomes of one list.
fn read(format: Format, extra: &str, text: &str) -> (Parsed, Compiled) {
    let spec = spec(format, extra);
    let parsed = parse_feed(&spec, text.as_bytes(), &Limits::default())
        .unwrap_or_else(|failure| panic!("{format}: {failure} in {text}"));
    let compiled = compiled(&spec, &parsed, &[]);
    (parsed, compiled)
}

/// Addresses that must be reached whatever a list says.
const PROBES: [&str; 34] = [
    "8.8.8.8",
    "8.8.4.4",
    "1.1.1.1",
    "1.0.0.1",
    "9.9.9.9",
    "208.67.222.222",
    "198.41.0.4",
    "192.5.6.30",
    "104.16.1.1",
    "151.101.1.1",
    "23.32.0.1",
    "13.32.1.1",
    "142.250.1.1",
    "157.240.1.1",
    "17.1.2.3",
    "198.19.64.1",
    "198.19.79.255",
    "10.1.2.3",
    "172.16.1.1",
    "192.168.1.1",
    "100.64.1.1",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2620:fe::fe",
    "2001:2:64::1",
    "2001:db8::1",
    "fe80::1",
    "::1",
    "2a03:2880::1",
];

/// Nothing that a subscriber needs is stopped, on any port of the web or of names.
fn assert_harmless(compiled: &Compiled, what: &str) {
    for probe in PROBES {
        let address: IpAddr = probe.parse().unwrap();
        for port in [None, Some(53), Some(80), Some(443)] {
            let query = Query { address, port, protocol: None };
            let verdict = explain(compiled, query).verdict;
            assert_eq!(verdict, Verdict::Pass, "{what}: {probe} on {port:?}");
        }
    }
}

/// Every indicator is in one place only: in the table, or refused with a name and a sentence that
/// `explain` repeats.
fn assert_explained(parsed: &Parsed, compiled: &Compiled, what: &str) {
    let [report] = &compiled.feeds[..] else { panic!("{what}: one feed") };
    let by_reason: u64 = report.refused_by_reason.values().sum();
    assert_eq!(report.accepted + report.refused, parsed.indicators.len() as u64, "{what}");
    assert_eq!(
        (by_reason, compiled.refusals.kept.len() as u64),
        (report.refused, by_reason),
        "{what}"
    );
    for refusal in &compiled.refusals.kept {
        let (text, why) = (refusal.to_string(), refusal.why.to_string());
        assert!(text.contains("is refused: ") && why.contains(' '), "{what}: {text}");
        let address = refusal.network.network();
        let told = explain(compiled, Query { address, port: None, protocol: None });
        let told = serde_json::to_string(&told).unwrap();
        assert!(told.contains(&why.replace('"', "\\\"")), "{what}: {text} is not in {told}");
    }
}

fn refused(compiled: &Compiled) -> Vec<String> {
    let kept = compiled.refusals.kept.iter();
    kept.map(|refusal| format!("{} {}", refusal.indicator(), refusal.why.reason())).collect()
}

fn networks(compiled: &Compiled) -> Vec<IpNet> {
    let v4 = compiled.table.v4.iter().map(|entry| IpNet::V4(entry.network));
    v4.chain(compiled.table.v6.iter().map(|entry| IpNet::V6(entry.network))).collect()
}
