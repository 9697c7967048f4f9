//! The parsers over a folder of large real lists, which may not be part of the repository.
//!
//! `SEKISHO_FEEDS_DIR` names the folder; without it, `shared/feeds` beside the checkout is looked
//! for.

use std::path::PathBuf;

use sekisho_rules::{
    feed::Format,
    parse::{Limits, parse},
};

/// File, format, and what it holds: indicators, skipped and rejected rows; or why it is refused.
type Expected = Result<(usize, u64, u64), &'static str>;

const FILES: &[(&str, Format, Expected)] = &[
    ("stamparm-ipsum/ipsum.txt", Format::Plain, Ok((120_430, 0, 0))),
    ("abusech/threatfox/ips-2025-05-01-after-expiry.txt", Format::Plain, Ok((27_167, 0, 0))),
    ("abusech/threatfox/ips-history-base-2025-10-01.txt", Format::Plain, Ok((29_163, 0, 0))),
    ("abusech/feodo/ipblocklist-2024-04-04.csv", Format::FeodoCsv, Ok((28, 0, 0))),
    ("abusech/sslbl/sslipblacklist-2015-10-15.csv", Format::SslblCsv, Ok((83, 0, 0))),
    ("abusech/sslbl/sslipblacklist-2020-08-10.csv", Format::SslblCsv, Ok((114, 0, 0))),
    ("abusech/urlhaus/filter-blocked-ips-online-2025-07-19.txt", Format::Plain, Ok((2_234, 0, 0))),
    ("abusech/urlhaus/text_online-2022-07.txt", Format::Plain, Err("too_many_rejects")),
    ("spamhaus/drop-2026-08-22.txt", Format::SpamhausDropText, Ok((1_699, 0, 0))),
    ("spamhaus/dropv6-2026-08-22.txt", Format::SpamhausDropText, Ok((91, 0, 0))),
    ("spamhaus/drop_v4-2025-04-15.json", Format::SpamhausDropJson, Ok((1_406, 0, 0))),
    ("spamhaus/drop_v4-2026-07-23.json", Format::SpamhausDropJson, Ok((1_670, 0, 0))),
    ("spamhaus/drop_v4-history-base-2025-03-03.json", Format::SpamhausDropJson, Ok((1_360, 0, 0))),
    ("spamhaus/asndrop-2024-02-27.json", Format::SpamhausDropJson, Ok((0, 201, 0))),
    ("synthetic/feodo-ipblocklist.csv", Format::FeodoCsv, Ok((3, 0, 0))),
    ("synthetic/feodo-ipblocklist-empty.csv", Format::FeodoCsv, Ok((0, 0, 0))),
    ("synthetic/feodo-ipblocklist.json", Format::FeodoJson, Ok((2, 0, 0))),
    ("synthetic/feodo-ipblocklist_recommended.txt", Format::Plain, Ok((2, 0, 0))),
    ("synthetic/threatfox-recent.csv", Format::ThreatfoxCsv, Ok((2, 3, 0))),
    ("synthetic/sslbl-sslipblacklist-deprecated.csv", Format::SslblCsv, Ok((0, 0, 0))),
    ("synthetic/spamhaus-drop.txt", Format::SpamhausDropText, Ok((2, 0, 0))),
    ("synthetic/spamhaus-edrop-merged.txt", Format::SpamhausDropText, Ok((0, 0, 0))),
    ("synthetic/spamhaus-drop_v4.json", Format::SpamhausDropJson, Ok((3, 0, 0))),
    ("synthetic/spamhaus-drop_v6.json", Format::SpamhausDropJson, Ok((2, 0, 0))),
    ("synthetic/ipsum.txt", Format::Plain, Ok((2, 0, 0))),
    ("synthetic/urlhaus-hostfile.txt", Format::Hosts, Ok((0, 2, 0))),
    ("synthetic/blocklistde-all.txt", Format::Plain, Ok((2, 0, 0))),
    ("synthetic/firehol.netset", Format::Plain, Ok((2, 0, 1))),
    ("synthetic/dshield-block.txt", Format::Plain, Err("too_many_rejects")),
    ("synthetic/hostile/bom-utf8-comment.txt", Format::Plain, Ok((1, 0, 0))),
    ("synthetic/hostile/cr-only.txt", Format::Plain, Ok((2, 0, 0))),
    ("synthetic/hostile/mixed-eol.txt", Format::Plain, Ok((4, 0, 0))),
    ("synthetic/hostile/csv-columns-changed.csv", Format::ThreatfoxCsv, Ok((1, 0, 0))),
    ("synthetic/hostile/defanged.txt", Format::Plain, Err("too_many_rejects")),
    ("synthetic/hostile/drop-escaped-slash.json", Format::SpamhausDropJson, Ok((2, 0, 0))),
    ("synthetic/hostile/drop-older-timestamp.json", Format::SpamhausDropJson, Ok((3, 0, 0))),
    ("synthetic/hostile/drop-truncated.json", Format::SpamhausDropJson, Err("truncated")),
    ("synthetic/hostile/gzip-bomb-30MB.txt.gz", Format::Plain, Err("binary")),
    ("synthetic/hostile/host-bits-set.txt", Format::Plain, Err("too_many_rejects")),
    ("synthetic/hostile/html-login-200.csv", Format::FeodoCsv, Err("html")),
    ("synthetic/hostile/json-duplicate-keys.json", Format::SpamhausDropJson, Err("truncated")),
    ("synthetic/hostile/long-line.txt", Format::Plain, Ok((2, 0, 1))),
    ("synthetic/hostile/odd-ip-notation.txt", Format::Plain, Ok((4, 0, 14))),
    ("synthetic/hostile/php-leak.txt", Format::Plain, Err("php")),
    ("synthetic/hostile/too-wide.txt", Format::Plain, Ok((15, 0, 0))),
    ("synthetic/hostile/utf16le.txt", Format::Plain, Err("utf16")),
    ("synthetic/hostile/zip-path-traversal.zip", Format::Plain, Err("binary")),
];

#[test]
fn every_list_holds_what_its_file_holds() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/feeds");
    let folder =
        PathBuf::from(std::env::var("SEKISHO_FEEDS_DIR").unwrap_or_else(|_| beside.into()));
    if !folder.is_dir() {
        eprintln!("NOT RUN: the folder of real lists, {}, is absent", folder.display());
        return;
    }
    let mut wrong = Vec::new();
    for (file, format, expected) in FILES {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let found = match parse(*format, &bytes, &Limits::default()) {
            Ok(parsed) => {
                Ok((parsed.indicators.len(), parsed.skipped_total(), parsed.rejects.total()))
            }
            Err(failure) => Err(failure.as_str()),
        };
        if found != *expected {
            wrong.push(format!("{file}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
