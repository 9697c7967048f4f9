//! The block lists that came later.

use super::*;

#[test]
fn threatfox_json_as_export_and_as_answer_of_the_api() {
    let parsed = read(Format::ThreatfoxJson, include_bytes!("../feeds/threatfox.json"));
    assert_holds(
        &parsed,
        &[
            "1 198.18.0.40:5638 Mirai 2026-11-19 - 100",
            "2 [2001:2::40]:443 Bashlite 2026-11-19 2026-11-19 75 compromised",
        ],
        &["6 bad_port"],
    );
    assert_names(&parsed, &["3 c2.example.net Cobalt Strike"]);
    assert_skips(&parsed, &[("other_type", 1), ("other_threat", 1)]);
    let answer = read(Format::ThreatfoxJson, include_bytes!("../feeds/threatfox-api.json"));
    assert_holds(&answer, &["1 198.18.0.40:5638 Mirai 2026-11-19 - 100"], &[]);
    assert_names(&answer, &["2 https://c2.example.net/gate Amadey"]);
}

#[test]
fn an_api_without_results_is_empty_and_one_that_refuses_is_no_list() {
    let none = br#"{"query_status":"no_result","data":"Your search did not yield any results"}"#;
    assert!(read(Format::ThreatfoxJson, none).is_empty());
    assert!(read(Format::ThreatfoxJson, b"{}").is_empty());
    let refused = br#"{"query_status":"unknown_auth_key","data":"Unknown Auth-Key"}"#;
    assert_eq!(failure(Format::ThreatfoxJson, refused), "bad_json");
}

#[test]
fn urlhaus_urls_are_kept_and_none_of_their_hosts_is_an_address_to_block() {
    let parsed = read(Format::UrlhausCsv, include_bytes!("../feeds/urlhaus.csv"));
    assert_holds(&parsed, &[], &["12 not_a_name"]);
    assert_names(
        &parsed,
        &[
            "9 http://198.18.0.60:60905/bin.sh -",
            "10 http://Files.example.com/a/b?x=1,2 -",
            "11 http://[2001:2::60]:8080/mirai.arm7 -",
        ],
    );
    assert_eq!(stamp(&parsed), "2026-11-20T12:00:05Z");
}

#[test]
fn firehol_netset() {
    let sample = include_bytes!("../feeds/firehol.netset");
    let parsed = read(Format::FireholNetset, sample);
    assert_holds(
        &parsed,
        &["17 10.0.0.0/8 - - - -", "18 198.18.0.70 - - - -", "19 198.18.4.0/23 - - - -"],
        &["20 host_bits_set"],
    );
    assert_eq!(stamp(&parsed), "2026-11-20T07:00:48Z");
    let text = String::from_utf8_lossy(sample);
    let without_count: String =
        text.split_inclusive('\n').filter(|line| !line.contains("Entries")).collect();
    assert_eq!(failure(Format::FireholNetset, without_count.as_bytes()), "truncated");
}

#[test]
fn emerging_threats_rules() {
    let parsed = read(Format::SuricataRules, include_bytes!("../feeds/botcc.rules"));
    assert_holds(
        &parsed,
        &[
            "3 198.18.0.80/tcp Feodo Tracker - - -",
            "3 198.18.0.81/tcp Feodo Tracker - - -",
            "4 198.18.0.80/udp Feodo Tracker - - -",
            "4 198.18.0.81/udp Feodo Tracker - - -",
            "6 198.18.0.82:6667/tcp - - - -",
            "7 198.18.0.83:443/tcp group - - -",
            "7 198.18.0.83:9000/tcp group - - -",
            "7 198.18.0.83:9001/tcp group - - -",
            "7 [2001:2::83]:443/tcp group - - -",
            "7 [2001:2::83]:9000/tcp group - - -",
            "7 [2001:2::83]:9001/tcp group - - -",
        ],
        &["11 not_an_address"],
    );
    assert_skips(&parsed, &[("other_threat", 1), ("conditional", 2)]);
}

#[test]
fn emerging_threats_block_list_is_plain() {
    let parsed = read(Format::Plain, include_bytes!("../feeds/block-ips.txt"));
    assert_holds(
        &parsed,
        &["2 198.18.4.0/24 - - - -", "5 198.18.8.0/24 - - - -", "8 198.18.0.87 - - - -"],
        &[],
    );
}

#[test]
fn c2intelfeeds() {
    let parsed = read(Format::C2intelCsv, include_bytes!("../feeds/c2intel.csv"));
    assert_holds(
        &parsed,
        &["2 198.18.0.90 Cobaltstrike - - -", "3 198.18.0.91 Powershell Empire - - -"],
        &["4 not_an_address"],
    );
    let names = read(Format::C2intelCsv, include_bytes!("../feeds/c2intel-domains.csv"));
    assert_holds(&names, &[], &["3 not_a_name"]);
    assert_names(&names, &["2 c2.example.net Cobalt Strike"]);
}

#[test]
fn numbers_of_autonomous_systems_are_kept_and_block_nothing() {
    let parsed = read(Format::SpamhausDropJson, include_bytes!("../feeds/asndrop.json"));
    assert_holds(&parsed, &[], &["3 bad_json"]);
    assert_names(&parsed, &["1 AS64496 -", "2 AS4200000001 -"]);
}

#[test]
fn shadowserver_reports_list_the_servers_and_never_the_victims() {
    let sample = include_bytes!("../feeds/shadowserver.csv");
    let parsed = read(Format::ShadowserverCsv, sample);
    assert_holds(
        &parsed,
        &[
            "2 198.18.0.100:8080/tcp mirai 2026-11-20 2026-11-20 -",
            "3 [2001:2::100]:53/udp - 2026-11-20 2026-11-20 -",
        ],
        &["5 bad_port"],
    );
    assert_skips(&parsed, &[("other_type", 1)]);
    let victims = b"timestamp,src_ip,ip\n2026-11-20 00:01:02,198.19.0.1,198.19.0.1\n";
    assert_eq!(failure(Format::ShadowserverCsv, victims), "missing_column");
    let plain = b"timestamp,ip,port\n2026-11-20 00:01:02,198.18.0.1,23\n";
    let parsed = read(Format::ShadowserverCsv, plain);
    assert_holds(&parsed, &["2 198.18.0.1:23 - 2026-11-20 2026-11-20 -"], &[]);
}
