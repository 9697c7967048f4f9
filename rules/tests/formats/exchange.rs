//! The formats that platforms exchange: MISP, STIX, CrowdSec.

use super::*;

#[test]
fn misp_events() {
    let parsed = read(Format::Misp, include_bytes!("../feeds/misp.json"));
    assert_holds(
        &parsed,
        &[
            "1 198.18.0.140 Mirai - 2025-11-20 -",
            "2 198.18.0.141:23 - - 2025-11-20 -",
            "3 [2001:2::141]:443 - 2026-11-18 2026-11-19 -",
            "4 198.18.4.0/24 - - - -",
            "7 198.18.0.143 - - - -",
            "16 198.18.0.150:4321 - - - -",
            "19 198.18.0.160 - - - -",
        ],
        &["14 missing_column", "15 not_an_address"],
    );
    assert_names(
        &parsed,
        &[
            "6 c2.example.net -",
            "7 c2.example.org -",
            "8 bot.c2.example.net -",
            "9 http://198.18.0.144:8080/x -",
            "10 AS64496 -",
        ],
    );
    assert_skips(&parsed, &[("other_type", 3), ("other_threat", 1), ("withdrawn", 2)]);
}

#[test]
fn misp_events_in_an_array_or_an_answer() {
    let event = r#"{"Event":{"Attribute":[{"type":"ip-dst","to_ids":true,"value":"198.18.0.1"}]}}"#;
    for text in [
        format!("[{event},{event}]"),
        format!(r#"{{"response":[{event},{event}]}}"#),
        format!("{event}\n{event}\n"),
    ] {
        assert_eq!(read(Format::Misp, text.as_bytes()).indicators.len(), 2, "{text}");
    }
    assert!(read(Format::Misp, b"[]").is_empty());
    assert!(read(Format::Misp, br#"{"Event":{"info":"nothing in it"}}"#).is_empty());
}

#[test]
fn what_is_no_misp_event_is_refused() {
    let missing = br#"{"saved":false,"name":"Not Found","message":"Not Found"}"#;
    assert_eq!(failure(Format::Misp, missing), "missing_column");
    assert_eq!(failure(Format::Misp, br#"{"Event":{"Attribute":[{"type":"ip-dst","#), "truncated");
    assert_eq!(failure(Format::Misp, br#"{"Event":{"Attribute":{}}}"#), "bad_json");
    let crowd = r#"{"type":"port","value":"1"},"#.repeat(300);
    let crowd = format!(r#"{{"Event":{{"Object":[{{"Attribute":[{crowd}{{}}]}}]}}}}"#);
    assert_eq!(failure(Format::Misp, crowd.as_bytes()), "bad_json");
}

#[test]
fn stix_bundles() {
    let parsed = read(Format::Stix, include_bytes!("../feeds/stix.json"));
    assert_holds(
        &parsed,
        &[
            "2 198.18.0.170 Mirai 2026-11-01 - 90",
            "3 198.18.4.0/24 - 2026-11-02 - - until 2026-12-02",
            "3 198.18.0.171 - 2026-11-02 - - until 2026-12-02",
            "4 198.18.0.172:443/tcp - - - - compromised",
            "9 198.18.0.176 - - - -",
        ],
        &["12 not_an_address", "13 missing_column"],
    );
    assert_names(&parsed, &["5 c2.example.net -"]);
    assert_skips(
        &parsed,
        &[("other_type", 1), ("other_threat", 1), ("withdrawn", 2), ("conditional", 2)],
    );
}

#[test]
fn a_bundle_without_objects_is_no_bundle_and_an_empty_one_is() {
    assert!(read(Format::Stix, br#"{"type":"bundle","objects":[]}"#).is_empty());
    assert_eq!(failure(Format::Stix, br#"{"title":"Unauthorized"}"#), "missing_column");
}

#[test]
fn decisions_of_crowdsec() {
    let parsed = read(Format::Crowdsec, include_bytes!("../feeds/crowdsec.json"));
    assert_holds(
        &parsed,
        &[
            "1 198.18.0.180 crowdsecurity/ssh-bf - - - until 2026-12-01",
            "2 2001:2::180 crowdsecurity/http-probing - - - until 2026-12-02",
            "3 198.18.4.0/24 a list - - - until 2026-12-03",
            "7 198.18.0.180 manual - - - until 2026-12-09",
        ],
        &["5 host_bits_set", "6 not_an_address"],
    );
    assert_skips(&parsed, &[("other_type", 1)]);
    assert!(read(Format::Crowdsec, br#"{"decisions":[]}"#).is_empty());
    assert_eq!(failure(Format::Crowdsec, br#"{"message":"access forbidden"}"#), "missing_column");
}
