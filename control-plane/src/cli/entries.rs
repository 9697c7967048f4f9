//! `sekisho block`, `allow`, `suppress`, `entries`: the operator's own entries.

use jiff::Timestamp;
use sekisho_rules::{feed::FeedName, indicator::Protocol, operator::Decision, period::Period};
use serde_json::{Value, json};

use super::{Failure, columns::Columns, daemon, plain, print, print_json};

/// What all entries have in common.
#[derive(Debug, clap::Args)]
struct Entry {
    /// An address, or a network without host bits
    network: String,
    /// Only these ports of it, with commas between
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    /// Only this protocol: tcp or udp
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Why; it is told by `sekisho explain`
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who answers for it, if not you
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// How long it lasts: 12h, 7d
    #[arg(long = "for", value_name = "PERIOD", conflicts_with = "until")]
    lasts: Option<Period>,
    /// Until when it lasts: 2026-01-31T23:59:59Z
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    #[command(flatten)]
    daemon: daemon::ChangeArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `sekisho block`.
#[derive(Debug, clap::Args)]
pub(super) struct BlockArgs {
    #[command(flatten)]
    entry: Entry,
    /// What happens to its packets: drop, reject, sinkhole or observe
    #[arg(long, default_value = "drop", value_parser = ["drop", "reject", "sinkhole", "observe"])]
    action: String,
}

/// Arguments of `sekisho allow`.
#[derive(Debug, clap::Args)]
pub(super) struct AllowArgs {
    #[command(flatten)]
    entry: Entry,
}

/// Arguments of `sekisho suppress`.
#[derive(Debug, clap::Args)]
pub(super) struct SuppressArgs {
    #[command(flatten)]
    entry: Entry,
    /// Only the claims of this feed
    #[arg(long, value_name = "NAME")]
    feed: Option<FeedName>,
}

/// Arguments of `sekisho entries`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct EntriesArgs {
    #[command(subcommand)]
    command: Option<EntriesCommand>,
    #[command(flatten)]
    daemon: daemon::Args,
    /// Those that ended as well
    #[arg(long)]
    ended: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum EntriesCommand {
    /// End an entry
    Remove {
        /// Its number
        id: u32,
        #[command(flatten)]
        daemon: daemon::ChangeArgs,
    },
}

pub(super) fn block(args: &BlockArgs) -> Result<(), Failure> {
    make(Decision::Block, &args.entry, &[("action", json!(args.action))])
}

pub(super) fn allow(args: &AllowArgs) -> Result<(), Failure> {
    make(Decision::Allow, &args.entry, &[])
}

pub(super) fn suppress(args: &SuppressArgs) -> Result<(), Failure> {
    make(Decision::Suppress, &args.entry, &[("feed", json!(args.feed))])
}

fn make(decision: Decision, entry: &Entry, further: &[(&str, Value)]) -> Result<(), Failure> {
    let mut body = json!({
        "decision": decision,
        "network": entry.network,
        "protocol": entry.protocol,
        "ports": entry.port,
        "reason": entry.reason,
        "owner": entry.owner,
        "until": entry.until,
        "lasts": entry.lasts,
    });
    for (key, value) in further {
        body[*key] = value.clone();
    }
    let made = entry.daemon.post("entries", &body)?;
    tell(&made, entry.json)
}

pub(super) fn entries(args: &EntriesArgs) -> Result<(), Failure> {
    if let Some(EntriesCommand::Remove { id, daemon }) = &args.command {
        return tell(&daemon.delete(&format!("entries/{id}"))?, false);
    }
    let ended = if args.ended { "true" } else { "false" };
    let answer = args.daemon.get("entries", &[("ended", ended)])?;
    if args.json { print_json(&answer) } else { print(&table(&answer)) }
}

fn tell(made: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json(made);
    }
    let id = plain(&made["entry"]["id"]);
    print(&match made["detail"].as_str() {
        None => format!("entry {id}: in effect with generation {}\n", plain(&made["generation"])),
        Some(detail) => format!("entry {id} is kept, and not in effect yet: {detail}\n"),
    })
}

fn table(answer: &Value) -> String {
    let rows: Vec<&Value> = answer["entries"].as_array().into_iter().flatten().collect();
    if rows.is_empty() {
        return "no entries\n".to_owned();
    }
    let mut columns =
        Columns::new(&["ENTRY>", "DECISION", "NETWORK", "TRAFFIC", "UNTIL", "OWNER", "REASON"]);
    for row in rows {
        let decision = match row["decision"].as_str() {
            Some("block") => format!("block ({})", plain(&row["action"])),
            _ => plain(&row["decision"]),
        };
        let until = match &row["ended_at"] {
            Value::Null => plain(&row["until"]),
            ended => format!("ended {} by {}", plain(ended), plain(&row["ended_by"])),
        };
        columns.row([
            plain(&row["id"]),
            decision,
            plain(&row["network"]),
            traffic(row),
            until,
            plain(&row["owner"]),
            plain(&row["reason"]),
        ]);
    }
    columns.render(0)
}

fn traffic(row: &Value) -> String {
    let ports = row["ports"].as_array().into_iter().flatten().map(plain).collect::<Vec<_>>();
    let feed = row["feed"].as_str().map(|feed| format!("of feed {feed}"));
    let protocol = row["protocol"].as_str().map(str::to_owned);
    let ports = (!ports.is_empty()).then(|| ports.join(","));
    let told: Vec<String> = [protocol, ports, feed].into_iter().flatten().collect();
    if told.is_empty() { "all".to_owned() } else { told.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_in_a_table() {
        let answer = json!({"entries": [
            {"id": 3, "decision": "block", "action": "drop", "network": "198.18.0.7/32",
             "protocol": "tcp", "ports": [23, 2323], "feed": null, "until": "2026-12-01T00:00:00Z",
             "owner": "alice", "reason": "ticket 7", "ended_at": null, "ended_by": null},
            {"id": 4, "decision": "suppress", "action": "drop", "network": "198.18.0.8/32",
             "protocol": null, "ports": [], "feed": "one", "until": null, "owner": "bob",
             "reason": "wrong", "ended_at": "2026-11-23T00:00:00Z", "ended_by": "carol"},
        ]});
        let expected = "\
ENTRY  DECISION      NETWORK        TRAFFIC      UNTIL                                OWNER  REASON
    3  block (drop)  198.18.0.7/32  tcp 23,2323  2026-12-01T00:00:00Z                 alice  ticket 7
    4  suppress      198.18.0.8/32  of feed one  ended 2026-11-23T00:00:00Z by carol  bob    wrong
";
        assert_eq!(table(&answer), expected);
        assert_eq!(table(&json!({"entries": []})), "no entries\n");
    }
}
