//! Lists through the policy into a table, and the table's answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;

use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, FeedInput, FeedReport, compile},
    explain::{Explanation, Query, Verdict, explain},
    feed::{Class, FeedSpec},
    indicator::Protocol,
    moment::Moment,
    parse::{Limits, ParseFailure, Parsed, parse},
    policy::{NeverBlock, Policy},
    refusal::RefusalReason,
};

const NOW: i64 = 1_795_000_000;

/// A feed with extra keys of the catalogue, and its list.
type Feed<'a> = (&'a str, &'a str);

fn compiled_with(feeds: &[Feed<'_>], policy: &Policy, never_block: &str) -> Compiled {
    let rows = feeds.iter().zip('a'..).map(|((extra, text), name)| {
        let format = if text.starts_with("# threatfox") { "threatfox-csv" } else { "plain" };
        format!("  - {{name: {name}, source: x, format: {format}, {extra}}}\n")
    });
    let yaml = format!("feeds:\n{}", rows.collect::<String>());
    let specs = Catalogue::from_yaml(&yaml, "feeds.yaml").unwrap().feeds;
    let read = |(spec, (_, text)): (&FeedSpec, &Feed<'_>)| {
        parse(spec.format, text.as_bytes(), &Limits::default())
    };
    let parsed: Vec<Result<Parsed, ParseFailure>> = specs.iter().zip(feeds).map(read).collect();
    let inputs: Vec<_> = specs.iter().zip(&parsed).map(input).collect();
    let never_block = NeverBlock::from_yaml(never_block, "never.yaml").unwrap();
    compile(&inputs, policy, &[never_block], Moment::nearest(NOW)).unwrap()
}

fn input<'a>((spec, parsed): (&'a FeedSpec, &'a Result<Parsed, ParseFailure>)) -> FeedInput<'a> {
    FeedInput { spec, parsed: parsed.as_ref(), fetched_at: Moment::nearest(NOW) }
}

const NEVER: &str = "
name: resolvers
version: '1'
source: a test
networks:
  - {network: 8.8.8.8, reason: a public resolver}
  - {network: 198.18.7.0/24, reason: a friend}
";
const WIDE: &str = "min_prefix_v4: 8, min_prefix_v6: 16";

fn compiled(feeds: &[Feed<'_>]) -> Compiled {
    compiled_with(feeds, &Policy::default(), NEVER)
}

fn ask(compiled: &Compiled, query: &str) -> (Verdict, serde_json::Value) {
    let Explanation { verdict, because, .. } = explain(compiled, query.parse().unwrap());
    (verdict, serde_json::to_value(because).unwrap())
}

fn verdict(compiled: &Compiled, query: &str) -> Verdict {
    ask(compiled, query).0
}

fn refused(compiled: &Compiled) -> Vec<(String, &'static str)> {
    let row = |r: &sekisho_rules::refusal::Refusal| (r.indicator(), r.why.reason().as_str());
    compiled.refusals.kept.iter().map(row).collect()
}

#[test]
fn every_guard_refuses_with_its_reason() {
    let text = "10.0.0.0/8\n0.0.0.0/0\n::/0\n100.64.0.1\n8.8.8.8:53/udp\n198.18.7.7\n198.18.0.0/24\n\
                2001:db8::1\n2001:2::/64\n192.0.2.1:80\n198.18.0.1\n";
    let compiled = compiled(&[("", text)]);
    let expected = [
        ("10.0.0.0/8", "reserved"),
        ("0.0.0.0/0", "too_wide"),
        ("::/0", "too_wide"),
        ("100.64.0.1", "reserved"),
        ("8.8.8.8:53/udp", "never_block"),
        ("198.18.7.7", "never_block"),
        ("198.18.0.0/24", "too_wide"),
        ("2001:db8::1", "reserved"),
        ("2001:2::/64", "too_wide"),
        ("192.0.2.1:80", "reserved"),
    ];
    assert_eq!(refused(&compiled), expected.map(|(text, reason)| (text.to_owned(), reason)));
    assert_eq!(compiled.table.len(), (1, 0));
    let [FeedReport { indicators: 11, accepted: 1, refused: 10, .. }] = compiled.feeds[..] else {
        panic!("{:?}", compiled.feeds);
    };
    assert_eq!(
        compiled.refusals.kept[4].to_string(),
        "8.8.8.8:53/udp of feed 'a' (line 5) is refused: 8.8.8.8/32 is on the never-block list \
         'resolvers': a public resolver."
    );
}

#[test]
fn a_floor_lets_networks_in_and_never_around_a_reserved_one() {
    let compiled =
        compiled(&[(WIDE, "198.18.0.0/15\n192.0.0.0/8\n2001:2::/48\n::/16\n0.0.0.0/1\n")]);
    assert_eq!(compiled.table.len(), (1, 1));
    let expected = [("192.0.0.0/8", "reserved"), ("::/16", "reserved"), ("0.0.0.0/1", "too_wide")];
    assert_eq!(refused(&compiled), expected.map(|(text, reason)| (text.to_owned(), reason)));
}

#[test]
fn own_networks_are_refused_from_inside_and_outside() {
    let policy = "own_prefixes: [{network: 198.18.64.0/20, name: subscribers}]";
    let policy = Policy::from_yaml(policy, "policy.yaml").unwrap();
    let compiled =
        compiled_with(&[(WIDE, "198.18.64.9\n198.18.0.0/16\n198.18.80.0/20\n")], &policy, NEVER);
    let expected = [("198.18.64.9", "own_prefix"), ("198.18.0.0/16", "own_prefix")];
    assert_eq!(refused(&compiled), expected.map(|(text, reason)| (text.to_owned(), reason)));
}

#[test]
fn a_never_block_network_is_cut_out_of_a_wider_entry() {
    let compiled = compiled(&[(WIDE, "198.18.0.0/16\n8.8.0.0/16\n")]);
    let never: Vec<_> = compiled.table.never_block.iter().map(ToString::to_string).collect();
    assert_eq!(never, ["8.8.8.8/32", "198.18.7.0/24"]);
    assert_eq!(verdict(&compiled, "8.8.8.9"), Verdict::Drop);
    let (verdict, because) = ask(&compiled, "8.8.8.8:53/udp");
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(because[0]["kind"], "never_block");
    assert_eq!(because[1]["network"], "8.8.0.0/16");
}

#[test]
fn a_port_is_blocked_alone() {
    let compiled =
        compiled(&[("", "198.18.0.1:23\n198.18.0.1:53/udp\n[2001:2::1]:443/tcp\n198.18.0.2\n")]);
    for (query, expected) in [
        ("198.18.0.1:23/tcp", Verdict::Drop),
        ("198.18.0.1:23/udp", Verdict::Drop),
        ("198.18.0.1:23", Verdict::Drop),
        ("198.18.0.1:53/udp", Verdict::Drop),
        ("198.18.0.1:53/tcp", Verdict::Pass),
        ("198.18.0.1:53", Verdict::Drop),
        ("198.18.0.1:80", Verdict::Pass),
        ("198.18.0.1", Verdict::Drop),
        ("[2001:2::1]:443", Verdict::Drop),
        ("[2001:2::1]:444", Verdict::Pass),
        ("2001:2::1", Verdict::Drop),
        ("198.18.0.2:9", Verdict::Drop),
        ("::ffff:198.18.0.2", Verdict::Drop),
        ("198.18.0.3", Verdict::Pass),
    ] {
        assert_eq!(verdict(&compiled, query), expected, "{query}");
    }
    let (_, because) = ask(&compiled, "198.18.0.1:80");
    assert_eq!(because[0]["kind"], "other_port");
    let (_, because) = ask(&compiled, "198.18.0.3");
    assert_eq!(because[0]["kind"], "not_listed");
}

#[test]
fn the_strictest_action_wins_at_every_length() {
    let compiled = compiled(&[
        ("action: observe, min_prefix_v4: 8", "198.18.0.0/16\n198.18.0.1\n198.19.0.0/16\n"),
        ("action: drop, min_prefix_v4: 8", "198.18.0.0/24\n198.19.0.1\n"),
    ]);
    assert_eq!(verdict(&compiled, "198.18.0.1"), Verdict::Drop);
    assert_eq!(verdict(&compiled, "198.18.1.1"), Verdict::Observe);
    assert_eq!(verdict(&compiled, "198.19.0.1"), Verdict::Drop);
    assert_eq!(ask(&compiled, "198.18.0.1").1[0]["feed"], "b");
}

#[test]
fn an_explanation_names_what_the_feed_said() {
    let text = "# threatfox \n# ioc_value,ioc_type,threat_type,malware_printable,confidence_level,last_seen_utc\n\
                198.18.0.1:23,ip:port,botnet_cc,Mirai,90,2026-11-15 00:00:00\n";
    let compiled = compiled(&[("", text)]);
    let (verdict, because) = ask(&compiled, "198.18.0.1:23/tcp");
    assert_eq!(verdict, Verdict::Drop);
    assert_eq!(
        because[0],
        serde_json::json!({
            "kind": "entry", "network": "198.18.0.1/32", "feed": "a", "malware": "Mirai",
            "first_seen": null, "last_seen": "2026-11-15T00:00:00Z", "confidence": 90, "class": "unknown",
            "expires": "2026-11-25T11:06:40Z", "port": 23, "protocol": null, "action": "drop",
            "left": "drop", "demotions": [], "score": 64, "since": null, "line": 3,
            "text": "Feed 'a' lists 198.18.0.1 as Mirai for port 23 of tcp and udp only, last seen \
                     2026-11-15T00:00:00Z, until 2026-11-25T11:06:40Z; its action is drop.",
        })
    );
}

#[test]
fn age_and_confidence_decide() {
    let row = |host: u8, confidence: u8, seen: &str| {
        format!("198.18.0.{host}:23,ip:port,botnet_cc,{confidence},{seen}\n")
    };
    let text = format!(
        "# threatfox\n# ioc_value,ioc_type,threat_type,confidence_level,last_seen_utc\n{}{}{}",
        row(1, 74, "2026-11-18"),
        row(2, 75, "2026-11-01"),
        row(3, 75, "2036-01-01")
    );
    let compiled = compiled(&[("min_confidence: 75, max_age: 7d", &text)]);
    let expected = [("198.18.0.1:23", "low_confidence"), ("198.18.0.2:23", "expired")];
    assert_eq!(refused(&compiled), expected.map(|(text, reason)| (text.to_owned(), reason)));
    assert_eq!(compiled.table.claims[0].expires.as_second(), NOW + 7 * 86_400);
}

#[test]
fn ports_are_dropped_on_request_except_of_hosts_that_were_broken_into() {
    let text = "# threatfox\n# ioc_value,ioc_type,threat_type,is_compromised\n\
                198.18.0.1:23,ip:port,botnet_cc,False\n198.18.0.2:23,ip:port,botnet_cc,True\n";
    let compiled = compiled(&[("ports: ignore", text)]);
    assert_eq!(verdict(&compiled, "198.18.0.1:80"), Verdict::Drop);
    assert_eq!(verdict(&compiled, "198.18.0.2:80"), Verdict::Pass);
    assert_eq!(verdict(&compiled, "198.18.0.2:23"), Verdict::Drop);
    let classes: Vec<Class> = compiled.table.claims.iter().map(|claim| claim.class).collect();
    assert_eq!(classes, [Class::Unknown, Class::Compromised]);
}

#[test]
fn repeats_of_a_feed_collapse_and_other_feeds_keep_their_claims() {
    let compiled =
        compiled(&[("", "198.18.0.1\n198.18.0.1\n198.18.0.1:23\n"), ("", "198.18.0.1\n")]);
    assert_eq!(compiled.table.len(), (1, 0));
    let claims: Vec<_> = compiled.table.claims.iter().map(|c| (c.feed, c.traffic.port)).collect();
    assert_eq!(claims, [(0, None), (0, Some(23)), (1, None)]);
    assert_eq!(compiled.feeds[0].accepted, 3);
}

#[test]
fn limits_on_the_whole_refuse_the_widest_and_the_surplus() {
    let policy = "{max_addresses_v4: 300, max_ports_per_network: 2}";
    let policy = Policy::from_yaml(policy, "policy.yaml").unwrap();
    let text = "198.18.0.0/16\n198.19.0.0/24\n198.19.0.7\n198.19.1.1:1\n198.19.1.1:2\n198.19.1.1:2\n198.19.1.1:3\n";
    let compiled = compiled_with(&[(WIDE, text)], &policy, NEVER);
    let expected = [("198.19.1.1:3", "too_many_ports"), ("198.18.0.0/16", "coverage")];
    assert_eq!(refused(&compiled), expected.map(|(text, reason)| (text.to_owned(), reason)));
    assert_eq!(compiled.table.len(), (3, 0));
    assert_eq!(compiled.feeds[0].accepted, 5);
}

#[test]
fn a_feed_that_failed_is_reported_and_spoils_no_other() {
    let compiled = compiled(&[("", "<html>"), ("", "bad\nworse\n"), ("", "198.18.0.1\n")]);
    let failures: Vec<_> = compiled
        .feeds
        .iter()
        .map(|f| (f.failure.as_ref().map(ParseFailure::as_str), f.rejected))
        .collect();
    assert_eq!(failures, [(Some("html"), 0), (Some("too_many_rejects"), 2), (None, 0)]);
    assert_eq!(verdict(&compiled, "198.18.0.1"), Verdict::Drop);
    assert_eq!(compiled.table.claims[0].feed, 2);
}

#[test]
fn queries_are_read_strictly() {
    for text in [
        "",
        "x",
        "1.2.3",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:70000",
        "1.2.3.4/tcp",
        "1.2.3.4:5/icmp",
        "[2001:2::1",
        "[2001:2::1]5",
        "1.2.3.4:+5",
        "2001:2::1/udp",
    ] {
        assert!(text.parse::<Query>().is_err(), "{text}");
    }
    let query: Query = "[2001:2::1]:53/udp".parse().unwrap();
    assert_eq!((query.port, query.protocol.map(Protocol::as_str)), (Some(53), Some("udp")));
}

mod model {
    //! A table as a list of claims, asked one by one.

    use ipnet::{IpNet, Ipv4Net};
    use proptest::prelude::*;

    use super::*;

    /// A claim: feed, network, port, protocol.
    type Claim = (usize, Ipv4Net, Option<u16>, Option<&'static str>);

    fn network() -> impl Strategy<Value = Ipv4Net> {
        (0..64_u32, 24..=32_u8).prop_map(|(host, length)| {
            Ipv4Net::new((0xc612_0000 | host).into(), length).unwrap().trunc()
        })
    }

    fn claim() -> impl Strategy<Value = Claim> {
        let port = prop_oneof![Just(None), (1..4_u16).prop_map(Some)];
        let protocol = prop_oneof![Just(None), Just(Some("tcp")), Just(Some("udp"))];
        (0..3_usize, network(), port, protocol).prop_map(|(feed, network, port, protocol)| {
            // Lists name ports of single hosts only.
            match port {
                Some(_) => (feed, network.addr().into(), port, protocol),
                None => (feed, network, None, None),
            }
        })
    }

    /// What the claims say of a packet, without any cleverness.
    fn expected(
        claims: &[Claim],
        never: &[Ipv4Net],
        packet: (std::net::Ipv4Addr, u16, &str),
    ) -> Verdict {
        let (address, port, protocol) = packet;
        if never.iter().any(|network| network.contains(&address)) {
            return Verdict::Pass;
        }
        let hits = claims.iter().filter(|(_, network, on, over)| {
            network.contains(&address)
                && on.is_none_or(|on| on == port)
                && over.is_none_or(|over| over == protocol)
        });
        hits.map(|(feed, ..)| if *feed == 0 { Verdict::Observe } else { Verdict::Drop })
            .max()
            .unwrap_or(Verdict::Pass)
    }

    fn list(claims: &[Claim], of: usize) -> String {
        let mut text = String::from("# a list\n");
        for (_, network, port, protocol) in claims.iter().filter(|(feed, ..)| *feed == of) {
            let network = IpNet::from(*network);
            let host =
                if port.is_some() { network.addr().to_string() } else { network.to_string() };
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            let protocol = protocol.map_or(String::new(), |protocol| format!("/{protocol}"));
            text += &format!("{host}{port}{protocol}\n");
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_table_answers_as_the_list_of_claims_does(
            claims in proptest::collection::vec(claim(), 0..40),
            never in proptest::collection::vec(network(), 0..3),
        ) {
            let lists: Vec<_> = (0..3).map(|feed| list(&claims, feed)).collect();
            let extra = ["action: observe, min_prefix_v4: 8", WIDE, WIDE];
            let feeds: Vec<_> = extra.into_iter().zip(lists.iter().map(String::as_str)).collect();
            let rows: String =
                never.iter().map(|network| format!("  - {{network: {network}, reason: x}}\n")).collect();
            let networks = if rows.is_empty() { "networks: []".into() } else { format!("networks:\n{rows}") };
            let never_block = format!("name: n\nversion: v\nsource: s\n{networks}");
            let compiled = compiled_with(&feeds, &Policy::default(), &never_block);
            for host in 0..66_u32 {
                for port in 1..5_u16 {
                    for protocol in ["tcp", "udp"] {
                        let address = std::net::Ipv4Addr::from(0xc612_0000 | host);
                        let found = verdict(&compiled, &format!("{address}:{port}/{protocol}"));
                        let expected = expected(&claims, &never, (address, port, protocol));
                        prop_assert_eq!(found, expected, "{}:{}/{}", address, port, protocol);
                    }
                }
            }
            let mut networks: Vec<_> = compiled.table.v4.iter().map(|entry| entry.network).collect();
            networks.dedup();
            prop_assert!(networks.is_sorted() && networks.len() == compiled.table.v4.len());
            let by_reason: BTreeMap<RefusalReason, u64> = compiled.refusals.by_reason;
            let refused = by_reason.values().sum::<u64>();
            let accepted: u64 = compiled.feeds.iter().map(|feed| feed.accepted).sum();
            prop_assert_eq!(accepted + refused, claims.len() as u64);
        }
    }
}
