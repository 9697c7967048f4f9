//! The formats of the first release.

use super::*;

#[test]
fn plain() {
    let parsed = read(Format::Plain, include_bytes!("../feeds/plain.txt"));
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
    let parsed = read(Format::Hosts, include_bytes!("../feeds/hosts.txt"));
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
    assert_names(&parsed, &["3 c2.example -", "3 sink.example -"]);
    assert_skips(&parsed, &[("name", 1)]);
}

#[test]
fn feodo_tracker_csv() {
    let parsed = read(Format::FeodoCsv, include_bytes!("../feeds/feodo.csv"));
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
    let parsed = read(Format::FeodoJson, include_bytes!("../feeds/feodo.json"));
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
    let parsed = read(Format::ThreatfoxCsv, include_bytes!("../feeds/threatfox.csv"));
    assert_holds(
        &parsed,
        &[
            "9 198.18.0.40:5638 Mirai 2026-11-19 - 100",
            "10 [2001:2::40]:443 Bashlite 2026-11-19 2026-11-19 75 compromised",
        ],
        &["13 bad_port"],
    );
    assert_names(&parsed, &["11 c2.example.net Cobalt Strike"]);
    assert_skips(&parsed, &[("other_threat", 1)]);
}

#[test]
fn ssl_blacklist_csv() {
    let parsed = read(Format::SslblCsv, include_bytes!("../feeds/sslbl.csv"));
    assert_holds(
        &parsed,
        &["9 198.18.0.50:5200/tcp - 2026-11-19 - -", "10 198.18.0.51:3468/tcp - 2026-11-19 - -"],
        &[],
    );
    let retired = read(Format::SslblCsv, include_bytes!("../feeds/sslbl-retired.csv"));
    assert_holds(&retired, &[], &[]);
}

#[test]
fn spamhaus_drop_json() {
    let parsed = read(Format::SpamhausDropJson, include_bytes!("../feeds/drop_v4.json"));
    assert_holds(
        &parsed,
        &["1 198.18.4.0/24 - - - -", "2 198.18.8.0/22 - - - -", "3 198.18.4.0/24 - - - -"],
        &["4 host_bits_set"],
    );
    assert_eq!(stamp(&parsed), "2025-11-20T00:53:20Z");
}

#[test]
fn spamhaus_drop_text() {
    let parsed = read(Format::SpamhausDropText, include_bytes!("../feeds/drop.txt"));
    assert_holds(&parsed, &["4 198.18.4.0/24 - - - -", "5 2001:2::/48 - - - -"], &[]);
    assert_eq!(stamp(&parsed), "2026-11-20T09:20:42Z");
}
