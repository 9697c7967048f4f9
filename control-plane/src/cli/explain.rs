//! `sekisho explain`: what happens to traffic of an address, and why.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sekisho_rules::explain::{Query, explain};
use serde_json::Value;

use super::{Failure, daemon, folder, print, print_json};
use crate::{
    config::{Config, DataplaneConfig},
    rulebook::Rulebook,
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
    #[command(flatten)]
    daemon: daemon::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let answer = match (&args.lists, &args.config) {
        (Some(lists), _) => of_folder(lists, args.query)?,
        (None, Some(config)) => of_config(config, args.query)?,
        (None, None) => args.daemon.get("explain", &[("address", &query_text(args.query))])?,
    };
    if args.json { print_json(&answer) } else { print(&text(&answer)) }
}

fn of_folder(lists: &Path, query: Query) -> Result<Value, Failure> {
    let capacity = DataplaneConfig::default().image_capacity_bytes();
    let folder = folder::compile(lists, capacity, Timestamp::now())?;
    serde_json::to_value(explain(&folder.compiled, query)).map_err(Failure::failed)
}

fn of_config(path: &Path, query: Query) -> Result<Value, Failure> {
    let config = Config::read(path).map_err(Failure::usage)?;
    let rulebook = Rulebook::of_config(&config).map_err(Failure::usage)?;
    let now = Timestamp::now();
    let folder = folder::compile_last_good(&rulebook, &config, now)?;
    serde_json::to_value(explain(&folder.compiled, query)).map_err(Failure::failed)
}

fn text(answer: &Value) -> String {
    let verdict = answer["verdict"].as_str().unwrap_or("unknown");
    let mut text = format!("{verdict}\n");
    for because in answer["because"].as_array().into_iter().flatten() {
        if let Some(sentence) = because["text"].as_str() {
            let safe: String = sentence.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("  {safe}\n"));
        }
    }
    for interface in answer["live"]["interfaces"].as_array().into_iter().flatten() {
        if let Some(sentence) = interface["text"].as_str() {
            text.push_str(&format!("  {sentence}\n"));
        }
    }
    text
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
    }
}
