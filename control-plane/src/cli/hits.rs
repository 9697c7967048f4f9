//! `sekisho hits`: who called what.

use std::net::IpAddr;

use jiff::Timestamp;
use sekisho_rules::period::Period;

use super::{Failure, columns::Columns, print, print_json, record::RecordArgs};
use crate::store::{self, Filter, Page, StoredHit};

/// Arguments of `sekisho hits`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    record: RecordArgs,
    /// Only this subscriber
    #[arg(long, value_name = "ID")]
    subscriber: Option<String>,
    /// Only this address of a subscriber
    #[arg(long, value_name = "ADDRESS")]
    subscriber_address: Option<IpAddr>,
    /// Only this listed address
    #[arg(long, value_name = "ADDRESS")]
    remote: Option<IpAddr>,
    /// Only from this time on: 2026-01-31T23:59:59Z, or so long ago: 2h, 30d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only before this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Most hits to show, 1 to 10000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let state_dir = args.record.state_dir()?;
    let filter = Filter {
        subscriber: args.subscriber.clone(),
        subscriber_address: args.subscriber_address,
        remote: args.remote,
        since: args.since,
        until: args.until,
        limit: args.limit,
        after: None,
    };
    let page = store::read_hits(&state_dir, &filter).map_err(Failure::failed)?;
    if args.json { print_json(&page) } else { print(&text(&page)) }
}

/// A time, or a length of time that is counted back from now.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago: Period = text.parse().map_err(|_| {
        format!("'{text}' is no time: expected 2026-01-31T23:59:59Z, or 2h for two hours ago")
    })?;
    Timestamp::now().checked_sub(ago.signed()).map_err(|error| error.to_string())
}

/// Hits as a table.
pub(crate) fn text(page: &Page) -> String {
    if page.hits.is_empty() {
        return "no hits\n".to_owned();
    }
    let mut columns = Columns::new(&[
        "LAST SEEN",
        "SUBSCRIBER",
        "FROM",
        "TO",
        "PACKETS>",
        "ACTION",
        "BEGAN",
        "FEED",
        "MALWARE",
    ]);
    for hit in &page.hits {
        columns.row([
            hit.last_seen.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            who(hit),
            hit.subscriber_address.clone(),
            to(hit),
            hit.packets.to_string(),
            hit.action.to_owned(),
            hit.class.clone(),
            hit.feed.clone(),
            hit.malware.clone(),
        ]);
    }
    let more =
        if page.next.is_some() { "more hits match; raise --limit or narrow it down\n" } else { "" };
    columns.render(0) + more
}

fn who(hit: &StoredHit) -> String {
    match (hit.subscriber.is_empty(), hit.tenant.is_empty()) {
        (true, _) => format!("({})", hit.attribution),
        (false, true) => hit.subscriber.clone(),
        (false, false) => format!("{} ({})", hit.subscriber, hit.tenant),
    }
}

fn to(hit: &StoredHit) -> String {
    match (hit.remote_port, hit.remote.contains(':')) {
        (0, _) => format!("{}/{}", hit.remote, hit.protocol),
        (port, true) => format!("[{}]:{port}/{}", hit.remote, hit.protocol),
        (port, false) => format!("{}:{port}/{}", hit.remote, hit.protocol),
    }
}
