//! `sekisho feeds`: how the feeds are, what they share, and what they met.

use serde_json::Value;

use super::{Failure, columns::Columns, daemon, print, print_json};

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

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let days = args.days.to_string();
    let worth = args.daemon.get("feeds/worth", &[("days", &days)])?;
    if args.json { print_json(&worth) } else { print(&text(&worth)) }
}

fn text(worth: &Value) -> String {
    let head = [
        "FEED",
        "CONFIRMED",
        "NETWORKS>",
        "UNIQUE>",
        "MOST SHARED WITH",
        "DEMOTED>",
        "FLOWS>",
        "BEGUN>",
        "SUBSCRIBERS>",
        "STATE",
    ];
    let mut columns = Columns::new(&head);
    for feed in worth["feeds"].as_array().into_iter().flatten() {
        let number = |value: &Value| value.as_u64().unwrap_or(0).to_string();
        let overlap = &feed["overlap"];
        let shared = overlap["shared"].as_object().into_iter().flatten();
        let most = shared.max_by_key(|(_, count)| count.as_u64());
        let demoted = feed["demoted_by_reason"].as_object().into_iter().flatten();
        let demoted: u64 = demoted.filter_map(|(_, count)| count.as_u64()).sum();
        let plain = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let met = &feed["met"];
        columns.row([
            plain(&feed["name"]),
            feed["confirmed_at"].as_str().and_then(|at| at.get(..16)).unwrap_or("-").to_owned(),
            number(&overlap["networks"]),
            share(overlap),
            most.map_or_else(|| "-".to_owned(), |(name, count)| format!("{name} ({count})")),
            demoted.to_string(),
            number(&met["flows"]),
            number(&met["initiated"]),
            number(&met["subscribers"]),
            feed["trouble"]
                .as_str()
                .map_or_else(|| "ok".to_owned(), |why| format!("broken: {why}")),
        ]);
    }
    columns.render(0)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn feeds_are_told_with_what_they_share_and_met() {
        let worth = json!({"feeds": [{
            "name": "one", "confirmed_at": "2026-01-02T03:04:05Z", "trouble": null,
            "overlap": {"networks": 40, "unique": 30, "shared": {"two": 9, "three": 4}},
            "demoted_by_reason": {"new": 2, "sinkhole": 1},
            "met": {"flows": 9, "initiated": 8, "subscribers": 5},
        }]});
        let text = text(&worth);
        let row = text.lines().nth(1).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells.join(" "), "one 2026-01-02T03:04 40 75 % two (9) 3 9 8 5 ok");
    }
}
