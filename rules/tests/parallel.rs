//! However many threads go through the lists, the same comes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fmt::Write as _;

use fastrand::Rng;
use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, Decided, FeedInput, compile_decided},
    feed::{Action, FeedSpec},
    moment::Moment,
    operator::{Decision, OperatorEntry},
    parse::{Limits, MAX_SAMPLES, ParseFailure, Parsed, parse},
    period::Period,
    policy::{Policy, stage},
    refusal::MAX_KEPT_PER_FEED,
    seen::Seen,
    shipped,
};

/// More than several pieces of every stage.
const LINES: usize = 120_000;

/// Hosts, ports and networks of both families, many of them twice, some refused, some unreadable.
fn plain(rng: &mut Rng) -> String {
    let mut text = String::from("# Last updated: 2026-01-02 03:04:05 UTC\n");
    for _ in 0..LINES {
        let host = [u8::try_from(rng.u32(1..255)).unwrap(), rng.u8(0..4), rng.u8(..), rng.u8(..)];
        let [a, b, c, d] = host;
        let end = if rng.u8(..) < 40 { "\r\n" } else { "\n" };
        let _ = match rng.u8(0..20) {
            0 => write!(text, "{a}.{b}.{c}.0/24{end}"),
            1 | 2 => write!(text, "{a}.{b}.{c}.{d}:{}{end}", rng.u16(1..9)),
            3 | 4 => write!(text, "2a02:aaaa:{c:x}::{d:x}{end}"),
            5 => write!(text, "{a}.{b}.{c}.{d} # a comment{end}"),
            6 => write!(text, "10.{b}.{c}.{d}{end}{end}"),
            7 => write!(text, "8.8.8.8{end}"),
            8 if rng.u8(..) < 90 => write!(text, "{a}.{b}.{c}.{d}.example{end}"),
            _ => write!(text, "{a}.{b}.{c}.{d}{end}"),
        };
    }
    text
}

fn table(rng: &mut Rng) -> String {
    let mut text = String::from("ip,port,malware,last_seen,confidence\n");
    for _ in 0..LINES / 4 {
        let [a, b, c, d] = [rng.u8(1..220), rng.u8(0..4), rng.u8(..), rng.u8(..)];
        let (port, family, day) = (rng.u16(1..5), rng.u8(0..4), rng.u8(1..29));
        let confidence = rng.u8(0..=100);
        let _ = writeln!(
            text,
            "{a}.{b}.{c}.{d},{port},family {family},2026-01-{day:02} 00:00:00,{confidence}"
        );
    }
    text
}

type Lists = Vec<Result<Parsed, ParseFailure>>;

fn entry(id: u32, decision: Decision, network: &str) -> OperatorEntry {
    OperatorEntry {
        id,
        decision,
        action: Action::Drop,
        network: network.parse().unwrap(),
        protocol: None,
        ports: Vec::new(),
        feed: None,
        reason: "a partner".into(),
        owner: "desk".into(),
        since: now(),
        until: Some(now().after(Period::days(1))),
    }
}

fn now() -> Moment {
    Moment::nearest(1_768_000_000)
}

fn run(threads: usize, catalogue: &Catalogue, texts: &[String]) -> (Lists, Compiled, Seen) {
    let policy = Policy { max_ports_per_network: 3, ..shipped::policy().unwrap() };
    let never_block = shipped::never_block().unwrap();
    let entries = [
        entry(1, Decision::Allow, "20.1.0.0/16"),
        entry(2, Decision::Suppress, "21.1.0.0/16"),
        entry(3, Decision::Block, "22.1.1.0/24"),
    ];
    let decided = Decided { entries: &entries, ..Decided::default() };
    let feeds = &catalogue.feeds;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let read = |(spec, text): (&FeedSpec, &String)| {
            parse(spec.format, text.as_bytes(), &Limits::default())
        };
        let parsed: Lists = feeds.iter().zip(texts).map(read).collect();
        let inputs: Vec<_> = feeds
            .iter()
            .zip(&parsed)
            .map(|(spec, parsed)| FeedInput { spec, parsed: parsed.as_ref(), fetched_at: now() })
            .collect();
        let mut compiled = compile_decided(&inputs, &policy, &never_block, decided, now()).unwrap();
        let specs: Vec<_> = feeds.iter().map(|spec| (spec, true)).collect();
        let staged = stage(&mut compiled, &specs, &policy.rollout, &Seen::default(), now());
        (parsed, compiled, staged.seen)
    })
}

#[test]
fn one_thread_and_many_make_the_same_of_the_same_lists() {
    let catalogue = "feeds:
  - {name: a, source: x, format: plain, ports: keep, min_prefix_v4: 24}
  - {name: b, source: x, format: plain}
  - {name: c, source: x, format: csv, mapping: {value: ip, port: port, malware: malware, last_seen: last_seen, confidence: confidence}, ports: keep, min_confidence: 20, confidence: 60}
";
    let catalogue = Catalogue::from_yaml(catalogue, "feeds.yaml").unwrap();
    let mut rng = Rng::with_seed(20_260_801);
    let texts = [plain(&mut rng), plain(&mut rng), table(&mut rng)];
    let alone = run(1, &catalogue, &texts);
    let (parsed, compiled, _) = &alone;
    assert!(parsed.iter().all(Result::is_ok), "{parsed:?}");
    assert!(parsed[0].as_ref().unwrap().rejects.total() > MAX_SAMPLES as u64);
    assert!(compiled.feeds[0].refused > MAX_KEPT_PER_FEED);
    let (v4, v6) = compiled.table.len();
    assert!(v4 > LINES / 2 && v6 > 100, "{v4} {v6}");
    assert!(!compiled.found.is_empty());
    for threads in [2, 5] {
        assert!(run(threads, &catalogue, &texts) == alone, "{threads} threads differ");
    }
}
