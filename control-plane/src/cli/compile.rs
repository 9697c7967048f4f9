//! `sekisho compile`: a folder of lists, and what became of every indicator.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    path::PathBuf,
};

use jiff::Timestamp;
use sekisho_rules::{
    compile::FeedReport,
    feed::{FeedName, FeedSpec, Source},
    parse::{Reject, RejectReason, SkipReason},
    refusal::{Refusal, RefusalReason},
};
use serde::Serialize;

use super::{
    Failure,
    columns::Columns,
    folder::{self, Folder, Missing},
    print, print_json,
};
use crate::{
    config::DataplaneConfig,
    rulebook::{ReadList, Rulebook},
};

/// Refusals shown in text.
const SHOWN_REFUSALS: usize = 20;
/// Of these, those of one feed with the same reason.
const SHOWN_ALIKE: usize = 3;

/// Arguments of `sekisho compile`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder with a feeds.yaml, and perhaps policy.yaml and never-block/*.yaml
    #[arg(long, value_name = "DIR")]
    lists: PathBuf,
    /// Room for the ruleset, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DataplaneConfig::default().image_capacity_mib)]
    capacity_mib: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let capacity =
        DataplaneConfig { image_capacity_mib: args.capacity_mib, ..DataplaneConfig::default() }
            .image_capacity_bytes();
    let rulebook = Rulebook::of_folder(&args.lists).map_err(Failure::usage)?;
    let folder = folder::compile(&rulebook, capacity, Timestamp::now())?;
    let report = Report::of(&folder);
    if args.json { print_json(&report) } else { print(&report.text()) }?;
    match unusable(&rulebook, &folder)[..] {
        [] => Ok(()),
        ref feeds => Err(Failure::failed(format!("not usable: {}", feeds.join(", ")))),
    }
}

/// The feeds whose list could not be read, or was refused as a whole. What comes over the network
/// nobody has looked for.
fn unusable(rulebook: &Rulebook, folder: &Folder) -> Vec<String> {
    let is_file = |name: &FeedName| {
        let mut feeds = rulebook.catalogue.feeds.iter();
        feeds.any(|spec| spec.name == *name && matches!(spec.source, Source::File(_)))
    };
    let missing = folder.missing.iter().map(|missing| &missing.feed).filter(|name| is_file(name));
    let refused = folder.compiled.feeds.iter().filter(|report| report.failure.is_some());
    refused.map(|report| &report.name).chain(missing).map(ToString::to_string).collect()
}

#[derive(Serialize)]
struct Report<'a> {
    entries: Entries,
    feeds: Vec<FeedRow<'a>>,
    refused: &'a [Refusal],
    refused_total: u64,
    refused_by_reason: &'a BTreeMap<RefusalReason, u64>,
    unreadable: &'a [Missing],
    image: ImageRow,
}

#[derive(Serialize)]
struct Entries {
    v4: usize,
    v6: usize,
}

#[derive(Serialize)]
struct FeedRow<'a> {
    #[serde(flatten)]
    report: &'a FeedReport,
    format: &'static str,
    rejected_by_reason: BTreeMap<RejectReason, u64>,
    rejects: &'a [Reject],
    skipped_by_reason: BTreeMap<SkipReason, u64>,
    failure_text: Option<String>,
}

#[derive(Serialize)]
struct ImageRow {
    bytes: u64,
    prefixes_v4: u32,
    prefixes_v6: u32,
    rules: u32,
    left_out: u64,
}

impl<'a> Report<'a> {
    fn of(folder: &'a Folder) -> Self {
        let (v4, v6) = folder.compiled.table.len();
        let header = folder.built.image.header();
        let feeds = folder.compiled.feeds.iter().zip(&folder.specs).zip(&folder.lists);
        Self {
            entries: Entries { v4, v6 },
            feeds: feeds.map(|((report, spec), list)| FeedRow::of(report, spec, list)).collect(),
            refused: &folder.compiled.refusals.kept,
            refused_total: folder.compiled.refusals.total(),
            refused_by_reason: &folder.compiled.refusals.by_reason,
            unreadable: &folder.missing,
            image: ImageRow {
                bytes: header.bytes,
                prefixes_v4: header.prefixes_v4,
                prefixes_v6: header.prefixes_v6,
                rules: header.rules,
                left_out: folder.built.left_out,
            },
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut columns = Columns::new(&[
            "FEED",
            "FORMAT",
            "INDICATORS>",
            "ACCEPTED>",
            "REFUSED>",
            "REJECTED>",
            "NAMES>",
            "SKIPPED>",
            "STATE",
        ]);
        for FeedRow { report, format, failure_text, .. } in &self.feeds {
            columns.row([
                report.name.to_string(),
                (*format).to_owned(),
                report.indicators.to_string(),
                report.accepted.to_string(),
                report.refused.to_string(),
                report.rejected.to_string(),
                report.named.to_string(),
                report.skipped.to_string(),
                failure_text.clone().map_or("ok".to_owned(), |why| format!("refused: {why}")),
            ]);
        }
        text.push_str(&columns.render(0));
        for Missing { feed, error } in self.unreadable {
            let _ = writeln!(text, "{feed}: not read: {error}");
        }
        let Entries { v4, v6 } = self.entries;
        let _ = writeln!(
            text,
            "\n{v4} IPv4 and {v6} IPv6 entries; the image takes {} KiB and {} rules",
            self.image.bytes.div_ceil(1024),
            self.image.rules
        );
        if self.image.left_out > 0 {
            let _ =
                writeln!(text, "{} IPv6 entries outside 2000::/3 left out", self.image.left_out);
        }
        self.rejects_text(&mut text);
        self.refusals_text(&mut text);
        text
    }

    fn rejects_text(&self, text: &mut String) {
        let mut counts: BTreeMap<RejectReason, u64> = BTreeMap::new();
        let mut first = Columns::new(&["FEED", "LINE>", "REASON", "TEXT"]);
        for FeedRow { report, rejects, rejected_by_reason, .. } in &self.feeds {
            for (reason, lines) in rejected_by_reason {
                *counts.entry(*reason).or_default() += lines;
            }
            let mut told = BTreeSet::new();
            for reject in rejects.iter().filter(|reject| told.insert(reject.reason)) {
                let (name, reason) = (report.name.to_string(), reject.reason.to_string());
                first.row([name, reject.line.to_string(), reason, reject.text.clone()]);
            }
        }
        if counts.is_empty() {
            return;
        }
        let mut columns = Columns::new(&["REASON", "LINES>", "MEANS"]);
        for (reason, lines) in counts {
            columns.row([reason.to_string(), lines.to_string(), reason.text().to_owned()]);
        }
        let _ = write!(
            text,
            "\nLines that could not be read:\n\n{}\nThe first of each feed and reason:\n\n{}",
            columns.render(2),
            first.render(2)
        );
    }

    fn refusals_text(&self, text: &mut String) {
        if self.refused_total == 0 {
            return;
        }
        let _ = writeln!(text, "\nRefused by the policy:\n");
        let mut columns = Columns::new(&["REASON", "INDICATORS>"]);
        for (reason, count) in self.refused_by_reason {
            columns.row([reason.to_string(), count.to_string()]);
        }
        text.push_str(&columns.render(2));
        text.push('\n');
        let mut shown: HashMap<_, usize> = HashMap::new();
        let few = self.refused.iter().filter(|refusal| {
            let alike = shown.entry((&refusal.feed, refusal.why.reason())).or_default();
            *alike += 1;
            *alike <= SHOWN_ALIKE
        });
        let few: Vec<_> = few.take(SHOWN_REFUSALS).collect();
        for refusal in &few {
            let _ = writeln!(text, "  {refusal}");
        }
        let more = self.refused_total.saturating_sub(few.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "  ... and {more} more (--json lists them)");
        }
    }
}

impl<'a> FeedRow<'a> {
    fn of(report: &'a FeedReport, spec: &FeedSpec, list: &'a ReadList) -> Self {
        let parsed = list.parsed.as_ref().ok();
        Self {
            report,
            format: spec.format.as_str(),
            rejected_by_reason: parsed
                .map(|parsed| parsed.rejects.by_reason.clone())
                .unwrap_or_default(),
            rejects: parsed.map(|parsed| &*parsed.rejects.samples).unwrap_or_default(),
            skipped_by_reason: parsed.map(|parsed| parsed.skipped.clone()).unwrap_or_default(),
            failure_text: list.parsed.as_ref().err().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn compiled(lists: &Path, capacity: usize) -> (Rulebook, Result<Folder, Failure>) {
        let rulebook = Rulebook::of_folder(lists).unwrap();
        let folder = folder::compile(&rulebook, capacity, Timestamp::now());
        (rulebook, folder)
    }

    /// What is printed of one plain list.
    fn text_of(list: &str) -> String {
        let feeds = "feeds:\n  - {name: a, source: a.txt, format: plain}\n";
        let dir = folder::holding(&[("feeds.yaml", feeds), ("a.txt", list)]);
        let (_, folder) = compiled(dir.path(), 64 << 20);
        Report::of(&folder.unwrap()).text()
    }

    #[test]
    fn lists_that_cannot_be_used_are_named_and_those_of_the_network_are_not() {
        let row = |name: &str, source: &str| {
            format!("  - {{name: {name}, source: {source}, format: plain}}\n")
        };
        let rows = [
            row("good", "good.txt"),
            row("page", "page.txt"),
            row("gone", "gone.txt"),
            row("far", "'https://lists.example.net/'"),
        ];
        let dir = folder::holding(&[
            ("feeds.yaml", &format!("feeds:\n{}", rows.concat())),
            ("good.txt", "198.18.0.1\n"),
            ("page.txt", "<!doctype html>"),
        ]);
        let (rulebook, folder) = compiled(dir.path(), 64 << 20);
        let folder = folder.unwrap();
        assert_eq!(unusable(&rulebook, &folder), ["page", "gone"]);
    }

    #[test]
    fn of_many_refusals_alike_the_others_are_shown_too() {
        let private = (1..=40).map(|host| format!("10.0.0.{host}\n")).collect::<String>();
        let text = text_of(&format!("{private}8.8.8.8\n198.18.0.0/24\n"));
        assert_eq!(text.matches("is refused: ").count(), 5, "{text}");
        assert!(
            text.contains("8.8.8.8 of feed") && text.contains("198.18.0.0/24 of feed"),
            "{text}"
        );
        assert!(text.contains("... and 37 more"), "{text}");
    }

    #[test]
    fn each_kind_of_line_that_cannot_be_read_is_counted_shown_and_said_in_words() {
        let text = text_of("198.18.0.1\nx\ny\nz\n8.8.8.8/24\n198.18.0.2:0\n");
        let rows: Vec<_> =
            text.lines().map(|line| Vec::from_iter(line.split_whitespace()).join(" ")).collect();
        for row in [
            "host_bits_set 1 a network with host bits may mean one host or all of it",
            "bad_port 1 the port is no number from 1 to 65535",
            "a 2 not_an_address x",
            "a 5 host_bits_set 8.8.8.8/24",
            "a 6 bad_port 198.18.0.2:0",
        ] {
            assert!(rows.iter().any(|found| found == row), "{row}: {text}");
        }
        assert!(
            rows.iter().any(|row| row.starts_with("not_an_address 3 no IPv4 or IPv6")),
            "{text}"
        );
        assert!(!rows.iter().any(|row| row.ends_with(" y")), "one of a kind: {text}");
    }

    #[test]
    fn what_does_not_fit_names_the_limit_the_largest_feed_and_what_to_do() {
        let row = |name: &str| format!("  - {{name: {name}, source: {name}.txt, format: plain}}\n");
        let dir = folder::holding(&[
            ("feeds.yaml", &format!("feeds:\n{}{}", row("few"), row("many"))),
            ("few.txt", "198.18.0.1\n"),
            ("many.txt", "198.18.0.2\n198.18.0.3\n"),
        ]);
        let (_, Err(failure)) = compiled(dir.path(), 1 << 20) else {
            panic!("a megabyte is enough");
        };
        let text = format!("{failure:?}");
        assert!(text.contains("bytes of the ruleset image"), "{text}");
        assert!(
            text.contains("feed 'many' with 2 indicators: give the ruleset more room"),
            "{text}"
        );
    }
}
