//! The parsers over a folder of large real lists, which may not be part of the repository.
//!
//! `SEKISHO_FEEDS_DIR` names the folder; without it, `shared/feeds` beside the checkout is looked
//! for.

use std::path::PathBuf;

use sekisho_rules::{
    feed::Format,
    mapping::Mapping,
    parse::{Limits, ManifestEvent, parse_mapped, read_misp_manifest},
    policy::NeverBlock,
    yaml::from_yaml,
};

/// What a file holds: indicators, names, skipped and rejected rows; or why it is refused.
type Expected = Result<(usize, usize, u64, u64), &'static str>;

const FILES: &[(&str, Format, Expected)] = &[
    ("stamparm-ipsum/ipsum.txt", Format::Plain, Ok((120_430, 0, 0, 0))),
    ("abusech/threatfox/ips-2025-05-01-after-expiry.txt", Format::Plain, Ok((27_167, 0, 0, 0))),
    ("abusech/threatfox/ips-history-base-2025-10-01.txt", Format::Plain, Ok((29_163, 0, 0, 0))),
    ("abusech/feodo/ipblocklist-2024-04-04.csv", Format::FeodoCsv, Ok((28, 0, 0, 0))),
    ("abusech/sslbl/sslipblacklist-2015-10-15.csv", Format::SslblCsv, Ok((83, 0, 0, 0))),
    ("abusech/sslbl/sslipblacklist-2020-08-10.csv", Format::SslblCsv, Ok((114, 0, 0, 0))),
    (
        "abusech/urlhaus/filter-blocked-ips-online-2025-07-19.txt",
        Format::Plain,
        Ok((2_234, 0, 0, 0)),
    ),
    ("abusech/urlhaus/text_online-2022-07.txt", Format::Plain, Err("too_many_rejects")),
    ("spamhaus/drop-2026-08-22.txt", Format::SpamhausDropText, Ok((1_699, 0, 0, 0))),
    ("spamhaus/dropv6-2026-08-22.txt", Format::SpamhausDropText, Ok((91, 0, 0, 0))),
    ("spamhaus/drop_v4-2025-04-15.json", Format::SpamhausDropJson, Ok((1_406, 0, 0, 0))),
    ("spamhaus/drop_v4-2026-07-23.json", Format::SpamhausDropJson, Ok((1_670, 0, 0, 0))),
    (
        "spamhaus/drop_v4-history-base-2025-03-03.json",
        Format::SpamhausDropJson,
        Ok((1_360, 0, 0, 0)),
    ),
    ("spamhaus/asndrop-2024-02-27.json", Format::SpamhausDropJson, Ok((0, 201, 0, 0))),
    ("synthetic/feodo-ipblocklist.csv", Format::FeodoCsv, Ok((3, 0, 0, 0))),
    ("synthetic/feodo-ipblocklist-empty.csv", Format::FeodoCsv, Ok((0, 0, 0, 0))),
    ("synthetic/feodo-ipblocklist.json", Format::FeodoJson, Ok((2, 0, 0, 0))),
    ("synthetic/feodo-ipblocklist_recommended.txt", Format::Plain, Ok((2, 0, 0, 0))),
    ("synthetic/threatfox-recent.csv", Format::ThreatfoxCsv, Ok((2, 1, 2, 0))),
    ("synthetic/sslbl-sslipblacklist-deprecated.csv", Format::SslblCsv, Ok((0, 0, 0, 0))),
    ("synthetic/spamhaus-drop.txt", Format::SpamhausDropText, Ok((2, 0, 0, 0))),
    ("synthetic/spamhaus-edrop-merged.txt", Format::SpamhausDropText, Ok((0, 0, 0, 0))),
    ("synthetic/spamhaus-drop_v4.json", Format::SpamhausDropJson, Ok((3, 0, 0, 0))),
    ("synthetic/spamhaus-drop_v6.json", Format::SpamhausDropJson, Ok((2, 0, 0, 0))),
    ("synthetic/ipsum.txt", Format::Plain, Ok((2, 0, 0, 0))),
    ("synthetic/urlhaus-hostfile.txt", Format::Hosts, Ok((0, 2, 0, 0))),
    ("synthetic/blocklistde-all.txt", Format::Plain, Ok((2, 0, 0, 0))),
    ("synthetic/firehol.netset", Format::Plain, Ok((2, 0, 0, 1))),
    ("synthetic/dshield-block.txt", Format::Plain, Err("too_many_rejects")),
    ("abusech/urlhaus/csv_online-2025-04-21.csv", Format::UrlhausCsv, Ok((0, 11_125, 0, 0))),
    (
        "abusech/urlhaus/filter-suricata-online-2025-07-19.head300.rules",
        Format::SuricataRules,
        Ok((0, 0, 294, 0)),
    ),
    ("abusech/urlhaus/filter-hosts-online-2025-07-19.txt", Format::Hosts, Ok((0, 619, 0, 0))),
    (
        "emerging-threats/emerging-botcc-2022-12-09.rules",
        Format::SuricataRules,
        Ok((1_540, 0, 0, 0)),
    ),
    ("emerging-threats/emerging-botcc-2021.rules", Format::SuricataRules, Ok((822, 0, 0, 0))),
    ("emerging-threats/botcc.portgrouped-2020-04.rules", Format::SuricataRules, Ok((54, 0, 0, 0))),
    ("stix/indicators-for-C2-with-COA.json", Format::Stix, Ok((1, 0, 7, 0))),
    ("stix/infrastructure.json", Format::Stix, Ok((0, 0, 10, 0))),
    ("stix/taxii-medallion-default_data.json", Format::Stix, Err("missing_column")),
    ("tweetfeed/stix/week.json", Format::Stix, Ok((162, 1_258, 118, 0))),
    ("tweetfeed/stix/taxii/pages/2026-08-21.0.json", Format::Stix, Ok((23, 120, 18, 0))),
    ("tweetfeed/misp/19adaa87-fd20-5e4f-bc1a-c17cc27c756a.json", Format::Misp, Ok((33, 605, 8, 0))),
    ("tweetfeed/blocklists/hosts.txt", Format::Hosts, Ok((0, 4_873, 2, 0))),
    ("tweetfeed/blocklists/ips.txt", Format::Plain, Ok((730, 0, 0, 0))),
    ("synthetic/et-botcc.rules", Format::SuricataRules, Ok((3, 0, 0, 0))),
    ("synthetic/et-botcc.portgrouped.rules", Format::SuricataRules, Ok((27, 0, 0, 0))),
    ("synthetic/et-emerging-Block-IPs.txt", Format::Plain, Ok((3, 0, 0, 0))),
    ("synthetic/c2intel-IPC2s.csv", Format::C2intelCsv, Ok((2, 0, 0, 0))),
    ("synthetic/c2intel-domainC2swithURLwithIP.csv", Format::C2intelCsv, Ok((0, 1, 0, 0))),
    ("synthetic/threatfox-export-ip-port-recent.json", Format::ThreatfoxJson, Ok((1, 0, 0, 0))),
    ("synthetic/threatfox-api-get_iocs.json", Format::ThreatfoxJson, Ok((1, 0, 0, 0))),
    ("synthetic/threatfox-api-no_result.json", Format::ThreatfoxJson, Ok((0, 0, 0, 0))),
    ("synthetic/threatfox-api-unauthorized.json", Format::ThreatfoxJson, Err("bad_json")),
    ("synthetic/urlhaus-csv_online.csv", Format::UrlhausCsv, Ok((0, 3, 0, 0))),
    ("synthetic/spamhaus-asndrop.json", Format::SpamhausDropJson, Ok((0, 2, 0, 0))),
    (
        "synthetic/misp-feed/11111111-1111-4111-8111-111111111111.json",
        Format::Misp,
        Ok((6, 6, 5, 0)),
    ),
    ("synthetic/misp-feed/manifest.json", Format::Misp, Err("missing_column")),
    ("synthetic/hostile/misp-manifest-404.json", Format::Misp, Err("missing_column")),
    ("synthetic/stix-bundle.json", Format::Stix, Ok((11, 1, 5, 1))),
    ("synthetic/taxii-envelope-page1.json", Format::Stix, Ok((9, 1, 0, 0))),
    ("synthetic/firehol.netset", Format::FireholNetset, Ok((2, 0, 0, 1))),
    ("synthetic/hostile/bom-utf8-comment.txt", Format::Plain, Ok((1, 0, 0, 0))),
    ("synthetic/hostile/cr-only.txt", Format::Plain, Ok((2, 0, 0, 0))),
    ("synthetic/hostile/mixed-eol.txt", Format::Plain, Ok((4, 0, 0, 0))),
    ("synthetic/hostile/csv-columns-changed.csv", Format::ThreatfoxCsv, Ok((1, 0, 0, 0))),
    ("synthetic/hostile/defanged.txt", Format::Plain, Err("too_many_rejects")),
    ("synthetic/hostile/drop-escaped-slash.json", Format::SpamhausDropJson, Ok((2, 0, 0, 0))),
    ("synthetic/hostile/drop-older-timestamp.json", Format::SpamhausDropJson, Ok((3, 0, 0, 0))),
    ("synthetic/hostile/drop-truncated.json", Format::SpamhausDropJson, Err("truncated")),
    ("synthetic/hostile/gzip-bomb-30MB.txt.gz", Format::Plain, Err("binary")),
    ("synthetic/hostile/host-bits-set.txt", Format::Plain, Err("too_many_rejects")),
    ("synthetic/hostile/html-login-200.csv", Format::FeodoCsv, Err("html")),
    ("synthetic/hostile/json-duplicate-keys.json", Format::SpamhausDropJson, Err("truncated")),
    ("synthetic/hostile/long-line.txt", Format::Plain, Ok((2, 0, 0, 1))),
    ("synthetic/hostile/odd-ip-notation.txt", Format::Plain, Ok((4, 0, 0, 14))),
    ("synthetic/hostile/php-leak.txt", Format::Plain, Err("php")),
    ("synthetic/hostile/too-wide.txt", Format::Plain, Ok((15, 0, 0, 0))),
    ("synthetic/hostile/utf16le.txt", Format::Plain, Err("utf16")),
    ("synthetic/hostile/zip-path-traversal.zip", Format::Plain, Err("binary")),
];

/// Generic lists with their mapping.
const MAPPED: &[(&str, Format, &str, Expected)] = &[
    (
        "tweetfeed/week.csv",
        Format::Csv,
        "{value: 4, first_seen: 1, malware: 5, only: [{field: 3, is: [ip, domain, url]}]}",
        Ok((167, 1_291, 116, 0)),
    ),
    (
        "derived/iot-c2-ipport.csv",
        Format::Csv,
        "{value: 1, port: 2, malware: 3}",
        Ok((43_929, 0, 0, 0)),
    ),
    ("derived/iot-c2-domains.csv", Format::Csv, "{value: 1, malware: 2}", Ok((0, 4_930, 0, 0))),
    (
        "spamhaus-ripe-consolidated/spamhaus_ripe.json",
        Format::Json,
        "{rows: '*', value: .}",
        Ok((5_797, 0, 0, 0)),
    ),
    (
        "synthetic/bambenek-c2-ipmasterlist.txt",
        Format::Csv,
        "{value: 1, malware: 2, last_seen: 3}",
        Ok((1, 0, 0, 0)),
    ),
    (
        "synthetic/viriback-dump.csv",
        Format::Csv,
        "{value: IP, malware: Family, first_seen: FirstSeen, date_format: '%d-%m-%Y'}",
        Ok((2, 0, 0, 0)),
    ),
    (
        "synthetic/dshield-block.txt",
        Format::Csv,
        "{value: 1, prefix: 3, delimiter: \"\\t\"}",
        Ok((3, 0, 0, 0)),
    ),
    (
        "synthetic/generic-semicolon.csv",
        Format::Csv,
        "{value: ip, port: port, first_seen: date, delimiter: ';', date_format: '%d.%m.%Y %H:%M'}",
        Ok((1, 0, 0, 0)),
    ),
    (
        "abusech/urlhaus/text_online-2022-07.txt",
        Format::Csv,
        "{value: 1, delimiter: \"\\t\"}",
        Ok((0, 12_193, 0, 0)),
    ),
    ("synthetic/hostile/bad-domains.txt", Format::Csv, "{value: 1}", Ok((1, 4, 0, 11))),
];

/// The folder of real lists, if there is one.
fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/feeds");
    let folder =
        PathBuf::from(std::env::var("SEKISHO_FEEDS_DIR").unwrap_or_else(|_| beside.into()));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("NOT RUN: the folder of real lists, {}, is absent", folder.display());
    None
}

#[test]
fn every_warninglist_of_networks_is_a_never_block_list_and_no_other_is() {
    let Some(folder) = folder() else { return };
    let mut networks = 0;
    for entry in std::fs::read_dir(folder.join("misp-warninglists")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let Some(entries) = json["list"].as_array() else { continue };
        let list = NeverBlock::from_warninglist(&text, &path.display().to_string());
        if json["type"] == "cidr" {
            assert_eq!(list.unwrap().networks.len(), entries.len(), "{}", path.display());
            networks += entries.len();
        } else {
            assert!(list.unwrap_err().message.contains("holds no networks"), "{}", path.display());
        }
    }
    assert!(networks > 90_000, "{networks}");
}

#[test]
fn a_manifest_names_events_that_are_there_and_others() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("tweetfeed/misp");
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let events = read_misp_manifest(&manifest, &Limits::default()).unwrap();
    let is_there = |event: &&ManifestEvent| folder.join(format!("{}.json", event.uuid)).exists();
    assert_eq!((events.len(), events.iter().filter(is_there).count()), (365, 12));
    assert!(events.iter().all(|event| event.timestamp.is_some()));
}

#[test]
fn every_list_holds_what_its_file_holds() {
    let Some(folder) = folder() else { return };
    let mut wrong = Vec::new();
    let plain = FILES.iter().map(|(file, format, expected)| (file, format, None, expected));
    let mapped =
        MAPPED.iter().map(|(file, format, map, expected)| (file, format, Some(*map), expected));
    for (file, format, mapping, expected) in plain.chain(mapped) {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let mapping = mapping.map_or_else(Mapping::default, |text| from_yaml(text, file).unwrap());
        let found = match parse_mapped(*format, &mapping, &bytes, &Limits::default()) {
            Ok(parsed) => Ok((
                parsed.indicators.len(),
                parsed.named.len(),
                parsed.skipped_total(),
                parsed.rejects.total(),
            )),
            Err(failure) => Err(failure.as_str()),
        };
        if found != *expected {
            wrong.push(format!("{file}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
