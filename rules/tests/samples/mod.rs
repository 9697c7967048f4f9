//! A sample of each format, for tests that go over all of them.

use sekisho_rules::{feed::Format, indicator::Subject, parse::Parsed};

/// Format and content; generic ones fit the mapping that names a column or key `ip`.
pub(crate) const SAMPLES: [(Format, &[u8]); 22] = [
    (Format::Plain, include_bytes!("../feeds/plain.txt")),
    (Format::Hosts, include_bytes!("../feeds/hosts.txt")),
    (Format::FeodoCsv, include_bytes!("../feeds/feodo.csv")),
    (Format::FeodoJson, include_bytes!("../feeds/feodo.json")),
    (Format::ThreatfoxCsv, include_bytes!("../feeds/threatfox.csv")),
    (Format::SslblCsv, include_bytes!("../feeds/sslbl.csv")),
    (Format::SpamhausDropJson, include_bytes!("../feeds/drop_v4.json")),
    (Format::SpamhausDropJson, include_bytes!("../feeds/asndrop.json")),
    (Format::SpamhausDropText, include_bytes!("../feeds/drop.txt")),
    (Format::ThreatfoxJson, include_bytes!("../feeds/threatfox.json")),
    (Format::ThreatfoxJson, include_bytes!("../feeds/threatfox-api.json")),
    (Format::UrlhausCsv, include_bytes!("../feeds/urlhaus.csv")),
    (Format::FireholNetset, include_bytes!("../feeds/firehol.netset")),
    (Format::SuricataRules, include_bytes!("../feeds/botcc.rules")),
    (Format::C2intelCsv, include_bytes!("../feeds/c2intel.csv")),
    (Format::ShadowserverCsv, include_bytes!("../feeds/shadowserver.csv")),
    (Format::Misp, include_bytes!("../feeds/misp.json")),
    (Format::Stix, include_bytes!("../feeds/stix.json")),
    (Format::Crowdsec, include_bytes!("../feeds/crowdsec.json")),
    (Format::Csv, b"ip,port\n198.18.0.1,23\n\"2001:2::1\", \"443\"\nc2.example.net,\n"),
    (Format::Json, br#"[{"ip":"198.18.0.1"},{"ip":"c2.example.net","x":[1,{"y":null}]}]"#),
    (Format::JsonLines, include_bytes!("../feeds/generic.jsonl")),
];

/// What holds of every list, however hostile: no more is claimed than the text has room for, and no
/// claim is out of its bounds.
pub(crate) fn assert_sound(format: Format, bytes: &[u8], parsed: &Parsed, most: usize) {
    let claims = parsed.indicators.len() + parsed.named.len();
    let rows = parsed.rejects.total() + parsed.skipped_total();
    let marks = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r' | b',' | b'{' | b'[')).count();
    assert!(rows <= marks as u64 + 1, "{format}: {rows} rows in {marks} marks");
    assert!(claims <= most, "{format}: {claims} claims");
    for indicator in &parsed.indicators {
        assert_eq!(indicator.network, indicator.network.trunc());
        assert_ne!(indicator.traffic.port, Some(0));
        assert!(indicator.confidence.is_none_or(|n| n <= 100));
        assert!(indicator.malware.as_ref().is_none_or(|name| name.chars().count() <= 64));
    }
    for named in &parsed.named {
        match &named.subject {
            Subject::Domain(name) => {
                assert!(name.len() <= 253 && name.contains('.'), "{name}");
                assert!(name.parse::<std::net::IpAddr>().is_err(), "{name}");
                assert_eq!(**name, name.to_ascii_lowercase());
            }
            Subject::Url(url) => assert!(url.len() <= 2_048 && url.contains("://"), "{url}"),
            Subject::Asn(_) => {}
        }
    }
}
