//! Places in which only some formats carry an address.

use super::*;

/// What becomes of a list whose shape is its own.
fn stands(format: Format, extra: &str, text: &str) -> Vec<String> {
    let yaml = format!("feeds: [{{name: a, source: x, format: {format}, {WIDE}{extra}}}]");
    let spec = Catalogue::from_yaml(&yaml, "feeds.yaml").unwrap().feeds.remove(0);
    let parsed = parse_feed(&spec, text.as_bytes(), &Limits::default())
        .unwrap_or_else(|failure| panic!("{format}: {failure} in {text}"));
    let compiled = compiled(&spec, &parsed, &[]);
    assert_harmless(&compiled, text);
    assert_explained(&parsed, &compiled, text);
    networks(&compiled).iter().map(ToString::to_string).collect()
}

const HARMLESS: &str = "198.18.0.1/32";

#[test]
fn rules_that_mean_everybody_block_nobody() {
    let mut text = String::new();
    for remote in [
        "any",
        "[any]",
        "$EXTERNAL_NET",
        "!$HOME_NET",
        "!198.18.9.9",
        "[!198.18.9.9,198.18.9.8]",
        "0.0.0.0/0",
        "[0.0.0.0/1,128.0.0.0/1]",
        "[8.8.8.8,1.1.1.1]",
        "[[8.8.8.8]]",
        "8.8.8.8-8.8.8.9",
        "::/0",
    ] {
        text += &format!("alert ip $HOME_NET any -> {remote} any (msg:\"x\"; sid:1; rev:1;)\n");
        text += &format!("alert tcp any any <> {remote} 443 (msg:\"x\"; sid:2; rev:1;)\n");
    }
    text += "alert tcp $HOME_NET any -> [198.18.0.1] any (msg:\"x\"; sid:3; rev:1;)\n";
    assert_eq!(stands(Format::SuricataRules, "", &text), [HARMLESS]);
}

#[test]
fn patterns_that_mean_more_than_an_address_block_nothing() {
    let patterns = [
        "[ipv4-addr:value ISSUBSET '0.0.0.0/0']",
        "[ipv4-addr:value ISSUBSET '8.8.8.0/24']",
        "[ipv4-addr:value != '198.18.9.9']",
        "[NOT ipv4-addr:value = '198.18.9.9']",
        "[ipv4-addr:value LIKE '8.8.%']",
        "[ipv4-addr:value MATCHES '.*']",
        "[ipv4-addr:value IN ('8.8.8.8', '1.1.1.1')]",
        "[ipv4-addr:value = '8.8.8.8' OR ipv4-addr:value = '10.0.0.1']",
        "[ipv6-addr:value = '::ffff:8.8.8.8']",
        "[network-traffic:dst_ref.value = '8.8.8.8' AND network-traffic:dst_port = 53]",
        "[network-traffic:src_ref.value = '198.18.9.9']",
        "[ipv4-addr:value = '8.8.8.8/24']",
        "[ipv4-addr:value = '198.18.0.1']",
    ];
    let object = |(at, pattern): (usize, &&str)| {
        serde_json::json!({"type": "indicator", "id": format!("indicator--{at}"), "pattern": pattern,
                           "pattern_type": "stix"})
    };
    let objects: Vec<_> = patterns.iter().enumerate().map(object).collect();
    let bundle = serde_json::json!({"type": "bundle", "id": "bundle--1", "objects": objects});
    assert_eq!(stands(Format::Stix, "", &bundle.to_string()), [HARMLESS]);
}

#[test]
fn halves_of_misp_attributes_are_judged_like_whole_ones() {
    let attributes = [
        ("ip-dst|port", "8.8.8.8|443"),
        ("ip-dst|port", "2606:4700:4700::1111|443"),
        ("domain|ip", "c2.example.net|1.1.1.1"),
        ("ip-dst", "8.8.8.8\r\n"),
        ("ip-dst", "0.0.0.0/0"),
        ("ip-dst", "104.16.0.0/13"),
        ("ip-src", "198.18.9.9"),
        ("url", "http://9.9.9.9/"),
        ("ip-dst|port", "104.16.1.1|0"),
        ("ip-dst", "198.18.0.1"),
    ];
    let row = |(kind, value): &(&str, &str)| serde_json::json!({"type": kind, "to_ids": true, "value": value});
    let attributes: Vec<_> = attributes.iter().map(row).collect();
    let event = serde_json::json!({"Event": {"uuid": "1", "Attribute": attributes}});
    assert_eq!(stands(Format::Misp, "", &event.to_string()), [HARMLESS]);
}

#[test]
fn a_prefix_in_a_column_of_its_own_opens_no_door() {
    let csv = "net,len,port\n8.8.8.0,24,\n8.8.8.8,0,\n0.0.0.0,0,\n10.0.0.0,8,\n8.8.8.8,32,443\n8.8.8.8,-1,\n\
               8.8.8.8,33,\n104.16.0.0,13,443\n198.19.64.0,20,\n198.18.0.1,32,\n";
    let mapping = ", mapping: {value: net, prefix: len, port: port}";
    assert_eq!(stands(Format::Csv, mapping, csv), [HARMLESS]);
    let json = "[{\"net\": \"8.8.8.0\", \"len\": 24}, {\"net\": \"0.0.0.0\", \"len\": 0}, {\"net\": 134744072}, \
                {\"net\": [\"8.8.8.8\"]}, {\"net\": {\"ip\": \"8.8.8.8\"}}, {\"net\": \"8.8.8.8\", \"port\": [443]}, \
                {\"net\": \"198.18.0.1\", \"net\": \"8.8.8.8\"}, {\"net\": \"198.18.0.1\"}]";
    assert_eq!(stands(Format::Json, mapping, json), [HARMLESS]);
}

#[test]
fn bans_of_a_scope_that_is_no_address_ban_nobody() {
    let scopes = [
        ("range", "0.0.0.0/0"),
        ("Range", "8.8.8.0/24"),
        ("ip", "8.8.8.8"),
        ("ip", "::ffff:1.1.1.1"),
        ("Country", "JP"),
        ("AS", "15169"),
        ("username", "8.8.8.8"),
        ("range", "198.19.64.0/20"),
        ("ip", "198.18.0.1"),
    ];
    let row = |(scope, value): &(&str, &str)| {
        serde_json::json!({"origin": "cscli", "type": "ban", "scope": scope, "value": value,
                           "scenario": "x", "until": "2026-12-01T10:00:00Z"})
    };
    let rows: Vec<_> = scopes.iter().map(row).collect();
    let text = serde_json::json!({"decisions": rows}).to_string();
    assert_eq!(stands(Format::Crowdsec, "", &text), [HARMLESS]);
}

#[test]
fn the_subscribers_in_a_report_are_never_listed() {
    let text = "timestamp,protocol,src_ip,src_port,dst_ip,dst_port\n\
                2026-11-20 00:01:02,tcp,198.19.64.9,51234,198.18.0.1,443\n\
                2026-11-20 00:01:02,tcp,198.18.7.7,51234,198.19.64.9,443\n";
    assert_eq!(stands(Format::ShadowserverCsv, "", text), [HARMLESS]);
}
