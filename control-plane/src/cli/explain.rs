//! `sekisho explain`: what happens to traffic of an address, and why.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sekisho_rules::{
    explain::{Explanation, Query, explain},
    public::public_answer,
    story::{Story, story},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Failure, daemon,
    folder::{self, Folder},
    print, print_json,
};
use crate::{
    config::{Config, DataplaneConfig},
    rulebook::{self, Rulebook},
};

/// Arguments of `sekisho explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// ADDRESS[:PORT[/tcp|udp]]; an IPv6 address with a port goes in brackets
    query: Query,
    /// Ask a folder of lists, as `sekisho compile` compiles it
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    lists: Option<PathBuf>,
    /// Ask the last good lists of the daemon with this configuration, whether or not it runs
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say only what may be told to anybody: no hits, and no feed that does not ask to be named
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    daemon: daemon::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Args { query, public, .. } = *args;
    let answer = match (&args.lists, &args.config) {
        (Some(lists), _) => of_folder(lists, query, public)?,
        (None, Some(config)) => of_config(config, query, public)?,
        (None, None) => {
            let (address, public) = (query_text(query), public.to_string());
            args.daemon.get("explain", &[("address", &address), ("public", &public)])?
        }
    };
    if args.json { print_json(&answer) } else { print(&text(&answer)) }
}

/// What the lists alone say.
#[derive(Serialize)]
struct FromLists {
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(flatten)]
    story: Story,
    /// Why lists of feeds were not asked.
    not_asked: Vec<String>,
}

fn of_folder(lists: &Path, query: Query, public: bool) -> Result<Value, Failure> {
    let capacity = DataplaneConfig::default().image_capacity_bytes();
    let now = Timestamp::now();
    let rulebook = Rulebook::of_folder(lists).map_err(Failure::usage)?;
    let folder = folder::compile(&rulebook, capacity, now)?;
    of_lists(&folder, &rulebook, query, public, now)
}

fn of_config(path: &Path, query: Query, public: bool) -> Result<Value, Failure> {
    let config = Config::read(path).map_err(Failure::usage)?;
    let (rulebook, _) = Rulebook::with_subscribers(&config).map_err(Failure::usage)?;
    let now = Timestamp::now();
    let folder = folder::compile_last_good(&rulebook, &config, now)?;
    of_lists(&folder, &rulebook, query, public, now)
}

fn of_lists(
    folder: &Folder,
    rulebook: &Rulebook,
    query: Query,
    public: bool,
    now: Timestamp,
) -> Result<Value, Failure> {
    let explanation = explain(&folder.compiled, query);
    if public {
        let specs: Vec<_> = folder.specs.iter().collect();
        let answer = public_answer(&explanation, query, &specs);
        return serde_json::to_value(answer).map_err(Failure::failed);
    }
    let pairs: Vec<_> = folder.specs.iter().zip(&folder.lists).collect();
    let inputs = rulebook::inputs(&pairs);
    let story = story(&inputs, &rulebook.policy, &folder.compiled, query.address, now.into());
    let not_asked = not_asked(folder);
    serde_json::to_value(FromLists { explanation, story, not_asked }).map_err(Failure::failed)
}

/// The lists that are not there, each in a sentence: what they say of an address nobody knows.
fn not_asked(folder: &Folder) -> Vec<String> {
    let missing = folder.missing.iter().map(|missing| (&missing.feed, missing.error.clone()));
    let refused = folder.compiled.feeds.iter();
    let refused =
        refused.filter_map(|report| Some((&report.name, report.failure.as_ref()?.to_string())));
    let all = missing.chain(refused);
    all.map(|(feed, why)| format!("Feed '{feed}' was not asked: {why}.")).collect()
}

fn text(answer: &Value) -> String {
    let mut text = format!("{}\n", answer["verdict"].as_str().unwrap_or("unknown"));
    let mut line = |indent: &str, sentence: &str| {
        let safe: String = sentence.chars().filter(|c| !c.is_control()).collect();
        text.push_str(&format!("{indent}{safe}\n"));
    };
    for because in each(&answer["because"]) {
        line("  ", because["text"].as_str().unwrap_or_default());
    }
    for sentence in each(&answer["text"]) {
        line("  ", sentence.as_str().unwrap_or_default());
    }
    for sentence in each(&answer["not_asked"]) {
        line("  ", sentence.as_str().unwrap_or_default());
    }
    for source in each(&answer["sources"]) {
        line("  Source: ", source.as_str().unwrap_or_default());
    }
    for told in each(&answer["indicators"]) {
        line("", &indicator_text(told));
        for stage in each(&told["stages"]) {
            let plain = |field: &str| stage[field].as_str().unwrap_or_default();
            let name = plain("stage").replace('_', " ");
            line("  ", &format!("{name:<13} {:<8} {}", plain("outcome"), plain("text")));
        }
    }
    if let Some(met) = met_text(answer) {
        line("", &met);
    }
    for interface in each(&answer["live"]["interfaces"]) {
        line("  ", interface["text"].as_str().unwrap_or_default());
    }
    text
}

fn each(several: &Value) -> impl Iterator<Item = &Value> {
    several.as_array().into_iter().flatten()
}

/// An indicator and who says so, with all that the feed tells of it.
fn indicator_text(told: &Value) -> String {
    let plain = |field: &str| match &told[field] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let name = plain("indicator").unwrap_or_default();
    let mut text = format!("{name}, feed '{}'", plain("feed").unwrap_or_default());
    for (field, word) in [
        ("line", "line"),
        ("malware", "as"),
        ("class", "class"),
        ("confidence", "confidence"),
        ("first_seen", "first seen"),
        ("last_seen", "last seen"),
        ("score", "score"),
        ("left", "comes to"),
    ] {
        if let Some(value) = plain(field) {
            text.push_str(&format!(", {word} {value}"));
        }
    }
    text
}

/// How often an address was met; nothing if the record was not asked.
fn met_text(answer: &Value) -> Option<String> {
    let met = answer.get("met")?;
    let (number, since) = (|field: &str| met[field].as_u64().unwrap_or(0), &answer["met_since"]);
    let since = since.as_str().and_then(|since| since.get(..10)).unwrap_or_default();
    if number("flows") == 0 {
        return Some(format!("Nobody met it since {since}."));
    }
    Some(format!(
        "Met since {since} by {} subscribers in {} flows ({} stopped, {} begun by the subscriber), last \
         at {}.",
        number("subscribers"),
        number("flows"),
        number("stopped"),
        number("initiated"),
        met["last"].as_str().unwrap_or_default()
    ))
}

/// A query in the notation that it is read from.
fn query_text(query: Query) -> String {
    let Query { address, port, protocol } = query;
    let mut text = match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    if let Some(protocol) = protocol {
        text.push('/');
        text.push_str(protocol.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_as_it_is_read() {
        for text in
            ["192.0.2.1", "192.0.2.1:80", "192.0.2.1:80/udp", "[2001:db8::1]:443/tcp", "::1"]
        {
            assert_eq!(query_text(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn lists_that_were_not_asked_are_told() {
        let row = |name: &str| format!("  - {{name: {name}, source: {name}.txt, format: plain}}\n");
        let feeds = format!("feeds:\n{}{}", row("gone"), row("page"));
        let dir = folder::holding(&[("feeds.yaml", &feeds), ("page.txt", "<!doctype html>")]);
        let answer = of_folder(dir.path(), "198.18.0.1".parse().unwrap(), false).unwrap();
        let text = text(&answer);
        assert!(text.contains("\n  Feed 'gone' was not asked: "), "{text}");
        assert!(text.contains("\n  Feed 'page' was not asked: a web page"), "{text}");
    }

    #[test]
    fn the_sentences_are_the_text() {
        let answer = serde_json::json!({
            "verdict": "drop",
            "because": [{"kind": "entry", "text": "Feed a lists it.\u{1b}[2J"}],
        });
        assert_eq!(text(&answer), "drop\n  Feed a lists it.[2J\n");
        let answer = serde_json::json!({
            "verdict": "drop",
            "because": [],
            "live": {"interfaces": [{"text": "On interface 'a' it is dropped now."}]},
        });
        assert_eq!(text(&answer), "drop\n  On interface 'a' it is dropped now.\n");
        let answer = serde_json::json!({
            "verdict": "observe",
            "indicators": [{
                "indicator": "198.18.0.1", "feed": "a", "line": 7, "malware": "Mirai",
                "class": "unknown", "confidence": null, "score": 60, "left": "observe",
                "stages": [{"stage": "refuse_list", "outcome": "passed", "text": "not ours"},
                           {"stage": "rollout", "outcome": "demoted", "text": "it is new"}],
            }],
            "met": {"flows": 3, "stopped": 1, "initiated": 2, "subscribers": 2,
                    "last": "2026-01-02T03:04:05Z"},
            "met_since": "2026-01-01T00:00:00Z",
        });
        assert_eq!(
            text(&answer),
            "observe\n\
             198.18.0.1, feed 'a', line 7, as Mirai, class unknown, score 60, comes to observe\n  \
               refuse list   passed   not ours\n  \
               rollout       demoted  it is new\n\
             Met since 2026-01-01 by 2 subscribers in 3 flows (1 stopped, 2 begun by the subscriber), \
             last at 2026-01-02T03:04:05Z.\n"
        );
    }
}
