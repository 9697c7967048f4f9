//! `sekisho preview`: what lists did to the traffic of the last days, and what one would have done.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use sekisho_rules::{
    catalogue::Catalogue,
    feed::{FeedSpec, Format},
};
use serde_json::Value;

use super::{
    Failure,
    columns::Columns,
    daemon,
    folder::{compile_last_good, read},
    print, print_json,
};
use crate::{
    config::Config,
    dataplane::tables::Slots,
    feeds::last_good::LastGood,
    hits::{Generation, Generations},
    preview::{Candidate, Preview, names, preview},
    rulebook::{ReadList, Rulebook, read_list_file},
    store,
};

/// Arguments of `sekisho preview`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A feed of the catalogue, enabled or not, or the file of a list; without one, the lists that
    /// are in force are reported
    candidate: Option<String>,
    /// Format of the file
    #[arg(long, value_name = "FORMAT", default_value = "plain", value_parser = format)]
    format: Format,
    /// Configuration file of the daemon: asks its files, whether or not it runs. A file, and a feed
    /// that is not in force, need this
    #[arg(short, long, value_name = "FILE", env = "SEKISHO_CONFIG")]
    config: Option<PathBuf>,
    /// How many days of the record of hits to ask
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=180))]
    days: i64,
    #[command(flatten)]
    daemon: daemon::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let answer = match (&args.candidate, &args.config) {
        (Some(candidate), Some(config)) => {
            serde_json::to_value(of_config(args, candidate, config)?).map_err(Failure::failed)?
        }
        (candidate, _) => {
            let days = args.days.to_string();
            let feed = candidate.as_deref().map(|feed| ("feed", feed));
            let query: Vec<_> = [("days", days.as_str())].into_iter().chain(feed).collect();
            args.daemon.get("preview", &query)?
        }
    };
    if args.json {
        return print_json(&answer);
    }
    print(&if args.candidate.is_some() { preview_text(&answer) } else { report_text(&answer) })
}

fn format(text: &str) -> Result<Format, String> {
    let known = || Format::ALL.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(", ");
    let found = Format::ALL.into_iter().find(|format| format.as_str() == text);
    found
        .filter(|format| !format.needs_mapping())
        .ok_or_else(|| format!("expected one of {}, without a mapping", known()))
}

/// Compiles the candidate alone, and holds it against the record.
fn of_config(args: &Args, candidate: &str, config: &Path) -> Result<Preview, Failure> {
    let config = Config::read(config).map_err(Failure::usage)?;
    let (rulebook, _) = Rulebook::with_subscribers(&config).map_err(Failure::usage)?;
    let now = Timestamp::now();
    let (spec, list) = candidate_list(candidate, args.format, &rulebook, &config, now)?;
    if let Err(fault) = &list.parsed {
        return Err(Failure::failed(format!("'{candidate}' is refused: {fault}")));
    }
    let alone = rulebook.compile(&[(&spec, &list)], now).map_err(Failure::failed)?;
    let live = compile_last_good(&rulebook, &config, now)?;
    let mut generations = Generations::default();
    generations.push(Arc::new(Generation::new(0, Slots::default(), Arc::new(alone))));
    let days = SignedDuration::from_hours(24 * args.days);
    let since = now.checked_sub(days).map_err(Failure::failed)?;
    let record = config.state_dir.join(store::FILE);
    let candidate = Candidate { name: candidate, generations: &generations, feed: 0 };
    let is_listed = |entry| names(&live.compiled.table, entry);
    preview(&record, since, candidate, is_listed).map_err(Failure::failed)
}

/// A feed of the catalogue with the list that is there of it, or a file.
fn candidate_list(
    name: &str,
    format: Format,
    rulebook: &Rulebook,
    config: &Config,
    now: Timestamp,
) -> Result<(FeedSpec, ReadList), Failure> {
    if let Some(spec) = rulebook.catalogue.feeds.iter().find(|spec| *spec.name == *name) {
        let kept = LastGood::new(&config.state_dir).load(&spec.name).map_err(Failure::failed)?;
        let list = match kept {
            Some((bytes, meta)) => ReadList::new(spec, &bytes, meta.confirmed_at),
            None => read(spec, now).map_err(|why| {
                Failure::failed(format!(
                    "no list of feed '{name}' is kept in {}, and {why}: fetch it into a file, and \
                     preview that",
                    config.state_dir.display()
                ))
            })?,
        };
        return Ok((spec.clone(), list));
    }
    let path = Path::new(name);
    if fs::metadata(path).is_err() {
        let wrong = format!("'{name}' is neither a feed of the catalogue nor a file");
        return Err(Failure::usage(wrong));
    }
    let row = format!("feeds: [{{name: candidate, source: candidate, format: {format}}}]");
    let mut catalogue = Catalogue::from_yaml(&row, "candidate").map_err(Failure::failed)?;
    let spec = catalogue.feeds.remove(0);
    let bytes = read_list_file(&spec, path)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let list = ReadList::new(&spec, &bytes, now);
    Ok((spec, list))
}

fn count(of: &Value, field: &str) -> String {
    of[field].as_u64().unwrap_or(0).to_string()
}

/// Flows, those begun by subscribers, packets and subscribers of one side of a report.
fn side(of: &Value) -> [String; 4] {
    ["subscribers", "flows", "initiated", "packets"].map(|field| count(of, field))
}

const SIDES: [(&str, &str); 2] =
    [("stopped", "stopped"), ("would_have_stopped", "observed: would have been stopped")];

fn preview_text(answer: &Value) -> String {
    let plain = |field: &str| answer[field].as_str().unwrap_or_default();
    let mut text = format!(
        "{} since {}: {} entries, {} of them in no ruleset now\n\n",
        plain("candidate"),
        plain("since"),
        count(answer, "entries"),
        count(answer, "unrecorded")
    );
    let head = ["TRAFFIC", "SUBSCRIBERS>", "FLOWS>", "BEGUN>", "PACKETS>"];
    let mut columns = Columns::new(&head);
    for (field, name) in SIDES {
        columns.row([name.to_owned()].into_iter().chain(side(&answer[field])));
    }
    text.push_str(&columns.render(0));
    let met = answer["entries_met"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !met.is_empty() {
        let head = ["ENTRY", "SUBSCRIBERS STOPPED>", "OBSERVED>", "FLOWS STOPPED>", "OBSERVED>"];
        let mut columns = Columns::new(&head);
        for entry in met {
            let name = entry["entry"].as_str().unwrap_or_default().to_owned();
            let both = |field| SIDES.map(|(side, _)| count(&entry[side], field));
            let cells = both("subscribers").into_iter().chain(both("flows"));
            columns.row([name].into_iter().chain(cells));
        }
        text.push_str(&format!("\n{}", columns.render(0)));
    }
    format!("{text}\nThis covers {}.\n", plain("covers"))
}

fn report_text(answer: &Value) -> String {
    let plain = |field: &str| answer[field].as_str().unwrap_or_default();
    let head = [
        "FEED",
        "SUBSCRIBERS STOPPED>",
        "WOULD HAVE>",
        "FLOWS STOPPED>",
        "WOULD HAVE>",
        "PACKETS STOPPED>",
        "WOULD HAVE>",
    ];
    let mut columns = Columns::new(&head);
    let mut row = |name: &str, report: &Value| {
        let both = |field| SIDES.map(|(side, _)| count(&report[side], field));
        let cells = ["subscribers", "flows", "packets"].into_iter().flat_map(both);
        columns.row([name.to_owned()].into_iter().chain(cells));
    };
    for (feed, report) in answer["feeds"].as_object().into_iter().flatten() {
        row(feed, report);
    }
    row("(all)", &answer["total"]);
    format!("since {}\n\n{}\nThis covers {}.\n", plain("since"), columns.render(0), plain("covers"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_names_what_it_covers() {
        let side = json!({"subscribers": 3, "flows": 9, "initiated": 8, "packets": 70});
        let list = json!({"stopped": side, "would_have_stopped": side});
        let report = json!({"since": "2026-01-01T00:00:00Z", "covers": "the record",
                            "feeds": {"one": list}, "total": list});
        let text = report_text(&report);
        assert!(text.contains("one                      3           3              9"), "{text}");
        assert!(text.ends_with("This covers the record.\n"), "{text}");
        let mut preview = list.clone();
        preview["candidate"] = json!("one");
        preview["entries"] = json!(4);
        preview["unrecorded"] = json!(1);
        preview["covers"] = json!("the record");
        preview["entries_met"] = json!([{"entry": "198.18.0.1", "stopped": side,
                                         "would_have_stopped": side}]);
        let text = preview_text(&preview);
        assert!(text.starts_with("one since : 4 entries, 1 of them in no ruleset now\n"), "{text}");
        assert!(text.contains("198.18.0.1"), "{text}");
    }
}
