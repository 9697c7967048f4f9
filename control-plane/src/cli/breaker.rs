//! `sekisho breaker`: entries that implausibly many subscribers met.

use serde_json::{Value, json};

use super::{Failure, columns::Columns, daemon, print, print_json};

/// Arguments of `sekisho breaker`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what was demoted, and what was decided about it (the default)
    List(ListArgs),
    /// Enforce an entry again; the breaker leaves it alone from now on
    Release(DecideArgs),
    /// Go on observing an entry only, without an alarm
    Keep(DecideArgs),
    /// Forget an entry and what was decided: it is enforced, and counts anew
    Forget(DecideArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    daemon: daemon::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DecideArgs {
    /// Number of the entry, as `sekisho breaker list` shows it
    id: u64,
    #[command(flatten)]
    daemon: daemon::ChangeArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DecideArgs {
    fn path(&self) -> String {
        format!("breaker/{}", self.id)
    }

    fn decide(&self, decision: &str) -> Result<(), Failure> {
        self.tell(&self.daemon.post(&self.path(), &json!({ "decision": decision }))?)
    }

    fn tell(&self, answer: &Value) -> Result<(), Failure> {
        if self.json { print_json(answer) } else { print(&format!("{}\n", sentence(answer))) }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        None => list(&args.list),
        Some(Command::List(args)) => list(args),
        Some(Command::Release(args)) => args.decide("release"),
        Some(Command::Keep(args)) => args.decide("keep"),
        Some(Command::Forget(args)) => args.tell(&args.daemon.delete(&args.path())?),
    }
}

fn list(ListArgs { daemon, json }: &ListArgs) -> Result<(), Failure> {
    let listed = daemon.get("breaker", &[])?;
    if *json { print_json(&listed) } else { print(&table(&listed)) }
}

fn table(listed: &Value) -> String {
    let entries = listed["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return "nothing is demoted\n".to_owned();
    }
    let head = ["ID>", "ENTRY", "SINCE", "SUBSCRIBERS>", "LIMIT>", "FEEDS", "DECISION"];
    let mut columns = Columns::new(&head);
    for entry in entries {
        let plain = |field: &str| match &entry[field] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(several) => {
                several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        columns.row(
            ["id", "entry", "tripped_at", "subscribers", "limit", "feeds", "decision"].map(plain),
        );
    }
    columns.render(0)
}

fn sentence(entry: &Value) -> String {
    let name = entry["entry"].as_str().unwrap_or("?");
    match entry["decision"].as_str() {
        Some("release") => format!("{name} is enforced again, and the breaker leaves it alone"),
        Some("keep") => format!("{name} goes on being observed only"),
        _ => format!("{name} is forgotten: it is enforced, and counts anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_a_table_and_decisions_a_sentence() {
        let entry = json!({"id": 7, "entry": "198.18.0.1:443/tcp", "tripped_at": "2026-01-02T03:04:05Z",
                           "subscribers": 20, "limit": 20, "feeds": ["a", "b"], "decision": null});
        assert_eq!(
            table(&json!({ "entries": [entry] })),
            "ID  ENTRY               SINCE                 SUBSCRIBERS  LIMIT  FEEDS  DECISION\n \
             7  198.18.0.1:443/tcp  2026-01-02T03:04:05Z           20     20  a,b    -\n"
        );
        assert_eq!(table(&json!({ "entries": [] })), "nothing is demoted\n");
        let released = json!({"entry": "198.18.0.1", "decision": "release"});
        assert!(sentence(&released).starts_with("198.18.0.1 is enforced again"));
    }
}
