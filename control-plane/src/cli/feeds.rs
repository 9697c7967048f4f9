//! `sekisho feeds`, `accept`, `reject`: how the feeds are, and lists that wait for somebody's word.

use std::fmt::Write as _;

use sekisho_rules::feed::FeedName;
use serde_json::{Value, json};

use super::{Failure, columns::Columns, daemon, plain, print, print_json};

/// Arguments of `sekisho feeds`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: daemon::Args,
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
    let answer = args.daemon.get("feeds", &[])?;
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
    let mut columns = Columns::new(&["FEED", "INDICATORS>", "CONTENT OF", "CONFIRMED", "STATE"]);
    for feed in feeds() {
        let state = match (&feed["trouble"]["reason"], &feed["held"]["reason"]) {
            (Value::Null, Value::Null) => "ok".to_owned(),
            (Value::Null, reason) => format!("held ({})", plain(reason)),
            (reason, Value::Null) => format!("broken ({})", plain(reason)),
            (trouble, held) => format!("broken ({}), held ({})", plain(trouble), plain(held)),
        };
        columns.row([
            plain(&feed["name"]),
            plain(&feed["indicators"]),
            plain(&feed["content_at"]),
            plain(&feed["confirmed_at"]),
            state,
        ]);
    }
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_told_with_its_figures() {
        let answer = json!({"feeds": [
            {"name": "one", "indicators": 5, "content_at": "2026-01-01T00:00:00Z",
             "confirmed_at": "2026-01-02T00:00:00Z", "trouble": null, "held": null},
            {"name": "two", "indicators": 900, "content_at": null, "confirmed_at": null,
             "trouble": {"reason": "html", "text": "a web page came"},
             "held": {"list": "0a0b0c0d", "reason": "shrinkage", "since": "2026-01-03T00:00:00Z",
                      "text": "it shrank from 900 to 1 entries (0 new, 899 gone), more than it may shrink"}},
        ]});
        let expected = "\
FEED  INDICATORS  CONTENT OF            CONFIRMED             STATE
one            5  2026-01-01T00:00:00Z  2026-01-02T00:00:00Z  ok
two          900  -                     -                     broken (html), held (shrinkage)

two: list 0a0b0c0d is held since 2026-01-03T00:00:00Z: it shrank from 900 to 1 entries (0 new, 899 gone), more than it may shrink.
  take it: sekisho accept two    drop it: sekisho reject two

two: a web page came
";
        assert_eq!(text(&answer), expected);
    }
}
