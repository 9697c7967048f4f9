//! `sekisho feeds`, `accept`, `reject`: how the feeds are, what they share and met, and lists that wait
//! for somebody's word.

use std::fmt::Write as _;

use sekisho_rules::feed::FeedName;
use serde_json::{Value, json};

use super::{Failure, columns::Columns, daemon, plain, print, print_json};

/// Arguments of `sekisho feeds`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: daemon::Args,
    /// How many days of the record of hits to ask
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=180))]
    days: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `sekisho accept` and `sekisho reject`.
#[derive(Debug, clap::Args)]
pub(super) struct WordArgs {
    /// The feed
    feed: FeedName,
    /// The held list that is meant, as `sekisho feeds` names it; another one is left alone
    #[arg(long, value_name = "LIST")]
    list: Option<String>,
    #[command(flatten)]
    daemon: daemon::ChangeArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let days = args.days.to_string();
    let answer = args.daemon.get("feeds/worth", &[("days", &days)])?;
    if args.json { print_json(&answer) } else { print(&text(&answer)) }
}

pub(super) fn accept(args: &WordArgs) -> Result<(), Failure> {
    let done = word(args, "accept")?;
    print(&match done["detail"].as_str() {
        None => format!("accepted: in effect with generation {}\n", plain(&done["generation"])),
        Some(detail) => format!("accepted, and not in effect yet: {detail}\n"),
    })
}

pub(super) fn reject(args: &WordArgs) -> Result<(), Failure> {
    word(args, "reject")?;
    print("rejected: the list in force stays\n")
}

fn word(args: &WordArgs, word: &str) -> Result<Value, Failure> {
    args.daemon.post(&format!("feeds/{}/{word}", args.feed), &json!({"list": args.list}))
}

fn text(answer: &Value) -> String {
    let feeds = || answer["feeds"].as_array().into_iter().flatten();
    if feeds().next().is_none() {
        return "no feeds\n".to_owned();
    }
    let mut columns = Columns::new(&[
        "FEED",
        "CONFIRMED",
        "NETWORKS>",
        "UNIQUE>",
        "MOST SHARED WITH",
        "DEMOTED>",
        "WEIGHT>",
        "FLOWS>",
        "BEGUN>",
        "SUBSCRIBERS>",
        "STATE",
    ]);
    feeds().for_each(|feed| columns.row(row(feed)));
    let mut text = columns.render(0);
    for feed in feeds().filter(|feed| !feed["held"].is_null()) {
        let (name, held) = (plain(&feed["name"]), &feed["held"]);
        let _ = writeln!(
            text,
            "\n{name}: list {} is held since {}: {}.\n  take it: sekisho accept {name}    drop it: \
             sekisho reject {name}",
            plain(&held["list"]),
            plain(&held["since"]),
            plain(&held["text"]),
        );
    }
    for feed in feeds().filter(|feed| !feed["trouble"].is_null()) {
        let _ = writeln!(text, "\n{}: {}", plain(&feed["name"]), plain(&feed["trouble"]["text"]));
    }
    for feed in feeds() {
        let (trust, name) = (&feed["trust"], plain(&feed["name"]));
        let number = |field: &str| trust[field].as_u64().unwrap_or(0);
        let (found, given, weight) = (number("false_positives"), number("given"), number("weight"));
        if found > 0 {
            let _ =
                writeln!(text, "\n{name}: weight {weight} of {given}, false positives: {found}");
        }
    }
    for feed in feeds().filter(|feed| feed["stale"] == true) {
        let (name, from) = (plain(&feed["name"]), plain(&feed["content_from"]));
        let _ = writeln!(text, "\n{name}: its claims have not changed since {from}");
    }
    text
}

fn row(feed: &Value) -> [String; 11] {
    let number = |value: &Value| value.as_u64().unwrap_or(0).to_string();
    let (overlap, met) = (&feed["overlap"], &feed["met"]);
    let shared = overlap["shared"].as_object().into_iter().flatten();
    let most = shared.max_by_key(|(_, count)| count.as_u64());
    let demoted = feed["demoted_by_reason"].as_object().into_iter().flatten();
    let demoted: u64 = demoted.filter_map(|(_, count)| count.as_u64()).sum();
    [
        plain(&feed["name"]),
        feed["confirmed_at"].as_str().and_then(|at| at.get(..16)).unwrap_or("-").to_owned(),
        number(&overlap["networks"]),
        share(overlap),
        most.map_or_else(|| "-".to_owned(), |(name, count)| format!("{name} ({count})")),
        demoted.to_string(),
        feed["trust"]["weight"].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string()),
        number(&met["flows"]),
        number(&met["initiated"]),
        number(&met["subscribers"]),
        state(feed),
    ]
}

/// `ok`, or all that is not.
fn state(feed: &Value) -> String {
    let named = |word: &str, reason: &Value| {
        (!reason.is_null()).then(|| format!("{word} ({})", plain(reason)))
    };
    let wrong = [
        named("broken", &feed["trouble"]["reason"]),
        named("held", &feed["held"]["reason"]),
        (feed["stale"] == true).then(|| "stale".to_owned()),
    ];
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    if wrong.is_empty() { "ok".to_owned() } else { wrong.join(", ") }
}

/// The share of networks that no other feed lists.
fn share(overlap: &Value) -> String {
    let number = |field: &str| overlap[field].as_u64().unwrap_or(0);
    match number("networks") {
        0 => "-".to_owned(),
        networks => format!("{} %", number("unique").saturating_mul(100) / networks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_are_told_with_what_they_share_and_met_and_what_waits() {
        let answer = json!({"feeds": [
            {"name": "one", "confirmed_at": "2026-01-02T03:04:05Z", "trouble": null, "held": null,
             "stale": false, "overlap": {"networks": 40, "unique": 30, "shared": {"two": 9, "x": 4}},
             "demoted_by_reason": {"new": 2, "sinkhole": 1},
             "trust": {"given": 100, "weight": 83, "false_positives": 2},
             "met": {"flows": 9, "initiated": 8, "subscribers": 5}},
            {"name": "two", "confirmed_at": null, "content_from": "2025-01-01T00:00:00Z",
             "stale": true, "overlap": {}, "demoted_by_reason": {}, "met": {},
             "trouble": {"reason": "html", "text": "a web page came"},
             "held": {"list": "0a0b0c0d", "reason": "shrinkage", "since": "2026-01-03T00:00:00Z",
                      "text": "it shrank from 900 to 1 entries (0 new, 899 gone), more than it may shrink"}},
        ]});
        let text = text(&answer);
        let (table, below) = text.split_once("\n\n").unwrap();
        let rows: Vec<_> =
            table.lines().map(|line| Vec::from_iter(line.split_whitespace()).join(" ")).collect();
        assert_eq!(
            rows[1..],
            [
                "one 2026-01-02T03:04 40 75 % two (9) 3 83 9 8 5 ok",
                "two - 0 - - 0 - 0 0 0 broken (html), held (shrinkage), stale",
            ]
        );
        let expected = "\
two: list 0a0b0c0d is held since 2026-01-03T00:00:00Z: it shrank from 900 to 1 entries (0 new, 899 gone), more than it may shrink.
  take it: sekisho accept two    drop it: sekisho reject two

two: a web page came

one: weight 83 of 100, false positives: 2

two: its claims have not changed since 2025-01-01T00:00:00Z
";
        assert_eq!(below, expected);
    }
}
