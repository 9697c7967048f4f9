//! `sekisho history`, `diff`, `rollback`, `resume`: the rulesets that were live.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Failure, columns::Columns, daemon, plain, print, print_json};
use crate::history::Cause;

/// Causes of a version that are shown; the rest is counted.
const SHOWN_CAUSES: usize = 3;

/// Arguments of `sekisho history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: daemon::Args,
    /// Most versions to show
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `sekisho diff`.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// The earlier version
    from: u32,
    /// The later version
    to: u32,
    #[command(flatten)]
    daemon: daemon::Args,
    /// Most changes to show, up to 10000
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `sekisho rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The version, as `sekisho history` numbers it
    number: u32,
    #[command(flatten)]
    daemon: daemon::ChangeArgs,
}

/// Arguments of `sekisho resume`.
#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    daemon: daemon::ChangeArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let limit = args.limit.to_string();
    let answer = args.daemon.get("history", &[("limit", &limit)])?;
    if args.json { print_json(&answer) } else { print(&table(&answer)) }
}

pub(super) fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let [from, to, limit] = [args.from, args.to, args.limit].map(|number| number.to_string());
    let query = [("from", from.as_str()), ("to", to.as_str()), ("limit", limit.as_str())];
    let answer = args.daemon.get("history/diff", &query)?;
    if args.json { print_json(&answer) } else { print(&changes(&answer)) }
}

pub(super) fn rollback(args: &RollbackArgs) -> Result<(), Failure> {
    let version = args.number;
    let done = args.daemon.post(&format!("history/{version}/rollback"), &json!({}))?;
    print(&format!(
        "back at version {version}, live as {}; new lists wait for `sekisho resume`\n",
        plain(&done["generation"])
    ))
}

pub(super) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let done = args.daemon.post("history/resume", &json!({}))?;
    print(&match done["detail"].as_str() {
        None => format!("the lists of now are live as {}\n", plain(&done["generation"])),
        Some(detail) => format!("new lists go live again, and not yet: {detail}\n"),
    })
}

fn table(answer: &Value) -> String {
    let versions: Vec<&Value> = answer["versions"].as_array().into_iter().flatten().collect();
    if versions.is_empty() {
        return "no versions\n".to_owned();
    }
    let mut columns = Columns::new(&["VERSION>", "MADE", "IPV4>", "IPV6>", "CHECKSUM", "WHY"]);
    for version in versions {
        columns.row([
            plain(&version["number"]),
            plain(&version["made_at"]),
            plain(&version["entries_v4"]),
            plain(&version["entries_v6"]),
            format!("{:08x}", version["checksum"].as_u64().unwrap_or(0)),
            why(version),
        ]);
    }
    columns.render(0)
}

fn why(version: &Value) -> String {
    let causes = version["causes"].as_array().into_iter().flatten();
    let causes: Vec<String> = causes
        .filter_map(|cause| serde_json::from_value::<Cause>(cause.clone()).ok())
        .map(|cause| cause.to_string().chars().filter(|c| !c.is_control()).collect())
        .collect();
    let mut text = causes.iter().take(SHOWN_CAUSES).cloned().collect::<Vec<_>>().join(", ");
    if causes.len() > SHOWN_CAUSES {
        let _ = write!(text, " and {} more", causes.len() - SHOWN_CAUSES);
    }
    if let Some(pinned_to) = version["pinned_to"].as_u64() {
        let _ = write!(text, " (pinned to {pinned_to})");
    }
    text
}

fn changes(answer: &Value) -> String {
    let counts = ["added", "removed", "changed"].map(|count| plain(&answer[count]));
    let [added, removed, changed] = &counts;
    let mut text = format!("{added} added, {removed} removed, {changed} changed\n");
    let rows: Vec<&Value> = answer["changes"].as_array().into_iter().flatten().collect();
    if rows.is_empty() {
        return text;
    }
    let mut columns = Columns::new(&["", "INDICATOR", "BEFORE", "AFTER"]);
    for row in &rows {
        let sign = match (&row["before"], &row["after"]) {
            (Value::Null, _) => "+",
            (_, Value::Null) => "-",
            _ => "~",
        };
        columns.row([
            sign.to_owned(),
            plain(&row["indicator"]),
            listed(&row["before"]),
            listed(&row["after"]),
        ]);
    }
    text = format!("{text}\n{}", columns.render(0));
    let all: u64 = ["added", "removed", "changed"].iter().filter_map(|c| answer[*c].as_u64()).sum();
    let more = all.saturating_sub(rows.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "... and {more} more (--limit shows up to 10000)");
    }
    text
}

fn listed(listed: &Value) -> String {
    let feeds = listed["feeds"].as_array().into_iter().flatten().map(plain);
    match listed["action"].as_str() {
        None => "-".to_owned(),
        Some(action) => format!("{action} ({})", feeds.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_with_their_causes() {
        let answer = json!({"versions": [{
            "number": 12, "made_at": "2026-01-02T03:04:05Z", "entries_v4": 5, "entries_v6": 0,
            "checksum": 3735928559_u32, "pinned_to": 7,
            "causes": [{"kind": "rollback", "to": 7, "by": "alice (desk)"},
                       {"kind": "feed", "feed": "one", "by": "daemon"},
                       {"kind": "lapse", "by": "daemon"}, {"kind": "reload", "by": "daemon"}],
        }]});
        let expected = "\
VERSION  MADE                  IPV4  IPV6  CHECKSUM  WHY
     12  2026-01-02T03:04:05Z     5     0  deadbeef  rollback to 7 by alice (desk), list of feed 'one', lapse and 1 more (pinned to 7)
";
        assert_eq!(table(&answer), expected);
    }

    #[test]
    fn changes_are_told_with_both_sides_and_the_rest_is_counted() {
        let answer = json!({"added": 1, "removed": 1, "changed": 7, "changes": [
            {"indicator": "198.18.0.1", "before": null,
             "after": {"feeds": ["a", "b"], "action": "drop"}},
            {"indicator": "198.18.0.2:443/tcp", "before": {"feeds": ["a"], "action": "observe"},
             "after": null},
        ]});
        let expected = "\
1 added, 1 removed, 7 changed

   INDICATOR           BEFORE       AFTER
+  198.18.0.1          -            drop (a, b)
-  198.18.0.2:443/tcp  observe (a)  -
... and 7 more (--limit shows up to 10000)
";
        assert_eq!(changes(&answer), expected);
    }
}
