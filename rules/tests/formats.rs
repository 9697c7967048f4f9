//! Every format, read from a file in its documented shape.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use sekisho_rules::{
    feed::Format,
    indicator::Indicator,
    parse::{Limits, ParseFailure, Parsed, parse},
    refusal::indicator_text,
};

fn read(format: Format, bytes: &[u8]) -> Parsed {
    parse(format, bytes, &Limits::default()).unwrap_or_else(|failure| panic!("{format}: {failure}"))
}

fn failure(format: Format, text: &[u8]) -> &'static str {
    match parse(format, text, &Limits::default()) {
        Ok(parsed) => panic!("{format}: read {} indicators", parsed.indicators.len()),
        Err(failure) => failure.as_str(),
    }
}

/// Line, network and traffic, malware, first and last seen, confidence.
fn shown(indicator: &Indicator) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let day = |time: sekisho_rules::moment::Moment| time.to_string()[..10].to_owned();
    format!(
        "{} {} {} {} {} {}{}",
        indicator.line,
        indicator_text(indicator.network, indicator.traffic),
        or_dash(indicator.malware.as_deref().map(str::to_owned)),
        or_dash(indicator.first_seen.map(day)),
        or_dash(indicator.last_seen.map(day)),
        or_dash(indicator.confidence.map(|n| n.to_string())),
        if indicator.compromised { " compromised" } else { "" },
    )
}

fn assert_holds(parsed: &Parsed, indicators: &[&str], rejects: &[&str]) {
    let found: Vec<_> = parsed.indicators.iter().map(shown).collect();
    assert_eq!(found, indicators);
    let found: Vec<_> =
        parsed.rejects.samples.iter().map(|r| format!("{} {}", r.line, r.reason)).collect();
    assert_eq!(found, rejects);
    assert_eq!(parsed.rejects.total() as usize, rejects.len());
}

fn stamp(parsed: &Parsed) -> String {
    parsed.stamp.map_or("-".into(), |time| time.to_string())
}

#[test]
fn plain() {
    let parsed = read(Format::Plain, include_bytes!("feeds/plain.txt"));
    assert_holds(
        &parsed,
        &[
            "3 198.18.0.1 - - - -",
            "4 198.18.0.2 - - - -",
            "5 198.18.1.0/24 - - - -",
            "6 198.18.0.3:23 - - - -",
            "7 198.18.0.4:53/udp - - - -",
            "8 [2001:2::5]:443 - - - -",
            "9 2001:2::6 - - - -",
            "12 192.0.2.1 - - - -",
        ],
        &["10 bad_port", "11 bad_port"],
    );
    assert_eq!(stamp(&parsed), "2026-11-20T01:00:29Z");
}

#[test]
fn hosts_with_comments() {
    let parsed = read(Format::Hosts, include_bytes!("feeds/hosts.txt"));
    assert_holds(
        &parsed,
        &[
            "4 198.18.0.20 - - - -",
            "5 198.18.0.21 - - - -",
            "6 198.18.0.22 - - - -",
            "7 2001:2::23 - - - -",
        ],
        &["8 zone_id"],
    );
    assert_eq!(parsed.skipped_total(), 2);
}

#[test]
fn feodo_tracker_csv() {
    let parsed = read(Format::FeodoCsv, include_bytes!("feeds/feodo.csv"));
    assert_holds(
        &parsed,
        &[
            "9 198.18.0.30:443/tcp Dridex 2026-01-17 2026-11-18 -",
            "10 198.18.0.31:4643/tcp Emotet 2026-02-17 2026-11-20 -",
            "11 198.18.0.32:2222/tcp QakBot - - -",
        ],
        &["12 bad_port"],
    );
    assert_eq!(stamp(&parsed), "2026-11-20T01:00:04Z");
}

#[test]
fn feodo_tracker_json() {
    let parsed = read(Format::FeodoJson, include_bytes!("feeds/feodo.json"));
    assert_holds(
        &parsed,
        &[
            "1 198.18.0.30:443/tcp Dridex 2026-01-17 2026-11-18 -",
            "2 198.18.0.31:4643/tcp Emotet - 2026-11-20 -",
        ],
        &["3 bad_port", "4 bad_json"],
    );
}

#[test]
fn threatfox_csv() {
    let parsed = read(Format::ThreatfoxCsv, include_bytes!("feeds/threatfox.csv"));
    assert_holds(
        &parsed,
        &[
            "9 198.18.0.40:5638 Mirai 2026-11-19 - 100",
            "10 [2001:2::40]:443 Bashlite 2026-11-19 2026-11-19 75 compromised",
        ],
        &["13 bad_port"],
    );
    let skipped: Vec<_> = parsed.skipped.iter().map(|(why, n)| (why.as_str(), *n)).collect();
    assert_eq!(skipped, [("other_type", 1), ("other_threat", 1)]);
}

#[test]
fn ssl_blacklist_csv() {
    let parsed = read(Format::SslblCsv, include_bytes!("feeds/sslbl.csv"));
    assert_holds(
        &parsed,
        &["9 198.18.0.50:5200/tcp - 2026-11-19 - -", "10 198.18.0.51:3468/tcp - 2026-11-19 - -"],
        &[],
    );
    let retired = read(Format::SslblCsv, include_bytes!("feeds/sslbl-retired.csv"));
    assert_holds(&retired, &[], &[]);
}

#[test]
fn spamhaus_drop_json() {
    let parsed = read(Format::SpamhausDropJson, include_bytes!("feeds/drop_v4.json"));
    assert_holds(
        &parsed,
        &["1 198.18.4.0/24 - - - -", "2 198.18.8.0/22 - - - -", "3 198.18.4.0/24 - - - -"],
        &["4 host_bits_set"],
    );
    assert_eq!(stamp(&parsed), "2025-11-20T00:53:20Z");
}

#[test]
fn spamhaus_drop_text() {
    let parsed = read(Format::SpamhausDropText, include_bytes!("feeds/drop.txt"));
    assert_holds(&parsed, &["4 198.18.4.0/24 - - - -", "5 2001:2::/48 - - - -"], &[]);
    assert_eq!(stamp(&parsed), "2026-11-20T09:20:42Z");
}

#[test]
fn the_end_of_a_line_makes_no_difference() {
    for (format, bytes) in samples() {
        let unix = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\u{feff}', "");
        let expected = read(format, unix.as_bytes());
        for end in ["\r\n", "\r"] {
            assert_eq!(
                read(format, unix.replace('\n', end).as_bytes()),
                expected,
                "{format} {end:?}"
            );
        }
        let marked = format!("\u{feff}{unix}");
        assert_eq!(read(format, marked.as_bytes()), expected, "{format} with BOM");
    }
}

#[test]
fn a_list_that_is_cut_off_is_refused() {
    let cut = |format, bytes: &[u8], end: &str| {
        let text = String::from_utf8_lossy(bytes);
        let at = text.find(end).unwrap();
        assert_eq!(failure(format, &text.as_bytes()[..at]), "truncated", "{format} before {end}");
    };
    cut(Format::FeodoCsv, include_bytes!("feeds/feodo.csv"), "# END");
    cut(Format::FeodoCsv, include_bytes!("feeds/feodo.csv"), "0.32");
    cut(Format::FeodoJson, include_bytes!("feeds/feodo.json"), "0.31");
    cut(Format::ThreatfoxCsv, include_bytes!("feeds/threatfox.csv"), "0.42");
    cut(Format::SpamhausDropJson, include_bytes!("feeds/drop_v4.json"), "{\"type\"");
    cut(Format::SpamhausDropJson, include_bytes!("feeds/drop_v4.json"), "00003");
    cut(Format::SpamhausDropText, include_bytes!("feeds/drop.txt"), "; EOF");
    let fewer = |format, bytes: &[u8], row: &str| {
        let text = String::from_utf8_lossy(bytes);
        let text: String = text.split_inclusive('\n').filter(|line| !line.contains(row)).collect();
        assert_eq!(failure(format, text.as_bytes()), "truncated", "{format} without {row}");
    };
    fewer(Format::FeodoCsv, include_bytes!("feeds/feodo.csv"), "\"2026-02-17");
    fewer(Format::ThreatfoxCsv, include_bytes!("feeds/threatfox.csv"), "\"2026-11-19 15:58");
    fewer(Format::SslblCsv, include_bytes!("feeds/sslbl.csv"), "2026-11-19 21");
    fewer(Format::SpamhausDropJson, include_bytes!("feeds/drop_v4.json"), "{\"cidr\":\"198.18.8");
}

#[test]
fn something_else_than_the_list_is_refused_by_every_format() {
    for format in Format::ALL {
        assert_eq!(failure(format, b""), "empty");
        assert_eq!(failure(format, b"\xef\xbb\xbf\r\n \t\r\n"), "empty");
        assert_eq!(failure(format, b"<!DOCTYPE html><p>198.18.0.1</p>"), "html");
        assert_eq!(failure(format, b"\xff\xfe1\x009\x008\0"), "utf16");
        assert_eq!(failure(format, b"\x1f\x8b\x08\x00abc"), "binary");
        assert_eq!(failure(format, b"<?php exit();"), "php");
        let error = failure(format, br#"{"query_status":"unknown_auth_key","data":"x"}"#);
        assert!(["too_many_rejects", "missing_column", "bad_json", "truncated"].contains(&error));
    }
}

#[test]
fn a_list_of_garbage_is_refused_and_every_line_is_counted() {
    let text = "Too many requests, try again later\n".repeat(300);
    let refused = parse(Format::Plain, text.as_bytes(), &Limits::default());
    let Err(ParseFailure::TooManyRejects { rejects, rows }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((rejects.total(), rows, rejects.samples.len()), (300, 300, 100));
}

#[test]
fn a_few_bad_lines_among_good_ones_are_rejected_one_by_one() {
    let mut text = b"198.18.0.1\n".to_vec();
    text.extend([b'x'; 300]);
    text.extend(b"\n198.18.0.2 # caf\xe9\n198.18.0.\xe9\n");
    text.extend(vec![b'1'; 5_000]);
    text.extend(b"\n198.18.0.3-198.18.0.9\n198.18.0.4\t198.18.0.255\t24\n10.0.0.0/8 x y\n");
    let parsed = read(Format::Plain, &text);
    assert_holds(
        &parsed,
        &["1 198.18.0.1 - - - -", "3 198.18.0.2 - - - -"],
        &[
            "2 not_an_address",
            "4 not_an_address",
            "5 line_too_long",
            "6 not_an_address",
            "7 trailing_text",
            "8 trailing_text",
        ],
    );
    assert!(parsed.rejects.samples.iter().all(|reject| reject.text.len() <= 80));
    assert_eq!(parsed.rejects.samples[1].text, r"198.18.0.\xe9");
}

#[test]
fn columns_are_found_by_name_wherever_they_are() {
    let text = b"# \"malware\",\"NEW\",\"dst_port\",\"dst_ip\"\n\"Mir\xe1i\",\"x\",\"23\",\"198.18.0.1\"\n";
    let parsed = read(Format::FeodoCsv, text);
    assert_holds(&parsed, &["2 198.18.0.1:23/tcp Mir\u{fffd}i - - -"], &[]);
    let lacks = |format, text: &[u8]| match parse(format, text, &Limits::default()) {
        Err(ParseFailure::MissingColumn { column }) => column,
        other => panic!("{other:?}"),
    };
    assert_eq!(lacks(Format::FeodoCsv, b"dst_ip,malware\n198.18.0.1,Mirai\n"), "dst_port");
    assert_eq!(lacks(Format::FeodoCsv, b"198.18.0.1,23\n"), "dst_ip");
    assert_eq!(lacks(Format::ThreatfoxCsv, b"# only a comment\n"), "ioc_value");
}

#[test]
fn a_key_twice_never_decides_a_network() {
    let text = br#"{"cidr":"198.18.4.0/24","cidr":"0.0.0.0/0"}
{"cidr":"198.18.8.0/24"}
{"type":"metadata","timestamp":1,"records":2}"#;
    let parsed = read(Format::SpamhausDropJson, text);
    assert_holds(&parsed, &["2 198.18.8.0/24 - - - -"], &["1 bad_json"]);
}

#[test]
fn limits_on_bytes_and_lines_hold() {
    let limits = Limits { max_bytes: 100, max_lines: 5, ..Limits::default() };
    for format in Format::ALL {
        let long = parse(format, &[b'1'; 101], &limits);
        assert!(matches!(long, Err(ParseFailure::TooLarge { limit: 100 })), "{format}");
    }
    let many = parse(Format::Plain, b"#\n#\n#\n#\n#\n198.18.0.1\n", &limits);
    assert!(matches!(many, Err(ParseFailure::TooManyLines { limit: 5 })));
}

fn samples() -> [(Format, &'static [u8]); 8] {
    [
        (Format::Plain, include_bytes!("feeds/plain.txt")),
        (Format::Hosts, include_bytes!("feeds/hosts.txt")),
        (Format::FeodoCsv, include_bytes!("feeds/feodo.csv")),
        (Format::FeodoJson, include_bytes!("feeds/feodo.json")),
        (Format::ThreatfoxCsv, include_bytes!("feeds/threatfox.csv")),
        (Format::SslblCsv, include_bytes!("feeds/sslbl.csv")),
        (Format::SpamhausDropJson, include_bytes!("feeds/drop_v4.json")),
        (Format::SpamhausDropText, include_bytes!("feeds/drop.txt")),
    ]
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_give_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            for format in Format::ALL {
                check(format, &bytes);
            }
        }

        #[test]
        fn a_damaged_list_gives_a_result(
            sample in 0..8_usize,
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..20),
        ) {
            let (format, bytes) = samples()[sample];
            let mut bytes = bytes.to_vec();
            for (at, byte, kind) in edits {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            check(format, &bytes);
        }
    }

    /// What holds of every list: nothing is lost, and no indicator is out of its bounds.
    fn check(format: Format, bytes: &[u8]) {
        let Ok(parsed) = parse(format, bytes, &Limits::default()) else { return };
        let rows = parsed.indicators.len() as u64 + parsed.rejects.total() + parsed.skipped_total();
        let most = 1 + bytes.iter().filter(|b| matches!(b, b'\n' | b'\r' | b',')).count() as u64;
        assert!(rows <= most, "{rows} rows of at most {most} lines");
        for indicator in &parsed.indicators {
            assert_eq!(indicator.network, indicator.network.trunc());
            assert_ne!(indicator.traffic.port, Some(0));
            assert!(indicator.confidence.is_none_or(|n| n <= 100));
        }
    }
}
