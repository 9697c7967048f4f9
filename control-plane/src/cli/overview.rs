//! `sekisho overview`: what the hits of the last days come to.

use jiff::Timestamp;

use super::{Failure, columns::Columns, print, print_json, record::RecordArgs};
use crate::store::{self, Counts, Overview, Share};

/// Arguments of `sekisho overview`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    record: RecordArgs,
    /// How many days in UTC, today included
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=180))]
    days: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let state_dir = args.record.state_dir()?;
    let overview = store::read_overview(&state_dir, Timestamp::now(), args.days);
    let overview = overview.map_err(Failure::failed)?;
    if args.json { print_json(&overview) } else { print(&text(&overview)) }
}

/// The overview as tables.
fn text(overview: &Overview) -> String {
    if overview.total.flows == 0 {
        return "no hits\n".to_owned();
    }
    let mut days = counted("DAY");
    for day in overview.days.iter().filter(|day| day.counts.flows > 0) {
        row(&mut days, day.day.to_string(), day.counts);
    }
    row(&mut days, "all".to_owned(), overview.total);
    let mut outcomes = counted("ACTION, REASON");
    for outcome in &overview.outcomes {
        row(&mut outcomes, format!("{}, {}", outcome.action, outcome.reason), outcome.counts);
    }
    let tables = [
        days.render(0),
        shares("LIST", &overview.lists),
        outcomes.render(0),
        shares("BEGAN", &overview.classes),
        shares("DIRECTION", &overview.directions),
        remotes(overview),
        subscribers(overview),
    ];
    tables.join("\n")
}

fn counted(name: &str) -> Columns {
    Columns::new(&[name, "FLOWS>", "PACKETS>", "BYTES>", "SUBSCRIBERS>"])
}

fn row(columns: &mut Columns, name: String, counts: Counts) {
    let Counts { flows, packets, bytes, subscribers } = counts;
    let numbers = [flows, packets, bytes, subscribers].map(|number| number.to_string());
    columns.row([name].into_iter().chain(numbers));
}

fn shares(name: &str, shares: &[Share]) -> String {
    let mut columns = counted(name);
    for share in shares {
        // A hit whose ruleset the daemon no longer knew was recorded without its lists.
        let name = if share.name.is_empty() { "(unknown)" } else { &share.name };
        row(&mut columns, name.to_owned(), share.counts);
    }
    columns.render(0)
}

fn remotes(overview: &Overview) -> String {
    let mut columns = Columns::new(&["MOST MET", "FLOWS>", "PACKETS>"]);
    for met in &overview.remotes {
        columns.row([met.remote.clone(), met.flows.to_string(), met.packets.to_string()]);
    }
    columns.render(0)
}

fn subscribers(overview: &Overview) -> String {
    let mut columns = Columns::new(&["BUSIEST", "FLOWS>", "PACKETS>"]);
    for busy in &overview.subscribers {
        let who = match &*busy.tenant {
            "" => busy.subscriber.clone(),
            tenant => format!("{} ({tenant})", busy.subscriber),
        };
        columns.row([who, busy.flows.to_string(), busy.packets.to_string()]);
    }
    columns.render(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Busy, Day, OftenMet, Outcome};

    #[test]
    fn an_overview_is_a_page_of_tables() {
        let counts = Counts { flows: 3, packets: 9, bytes: 540, subscribers: 2 };
        let share = |name: &str| Share { name: name.to_owned(), counts };
        let day = |day: &str, counts| Day { day: day.parse().unwrap(), counts };
        let overview = Overview {
            total: counts,
            days: vec![day("2027-01-14", Counts::default()), day("2027-01-15", counts)],
            lists: vec![share("feodo"), share("")],
            outcomes: vec![Outcome { action: "drop", reason: "dropped".to_owned(), counts }],
            classes: vec![share("initiated")],
            directions: vec![share("outbound")],
            remotes: vec![OftenMet { remote: "198.18.0.7".to_owned(), flows: 3, packets: 9 }],
            subscribers: vec![Busy {
                subscriber: "C-1001".to_owned(),
                tenant: "north".to_owned(),
                flows: 2,
                packets: 5,
            }],
        };
        let expected = "\
DAY         FLOWS  PACKETS  BYTES  SUBSCRIBERS
2027-01-15      3        9    540            2
all             3        9    540            2

LIST       FLOWS  PACKETS  BYTES  SUBSCRIBERS
feodo          3        9    540            2
(unknown)      3        9    540            2

ACTION, REASON  FLOWS  PACKETS  BYTES  SUBSCRIBERS
drop, dropped       3        9    540            2

BEGAN      FLOWS  PACKETS  BYTES  SUBSCRIBERS
initiated      3        9    540            2

DIRECTION  FLOWS  PACKETS  BYTES  SUBSCRIBERS
outbound       3        9    540            2

MOST MET    FLOWS  PACKETS
198.18.0.7      3        9

BUSIEST         FLOWS  PACKETS
C-1001 (north)      2        5
";
        assert_eq!(text(&overview), expected);
    }
}
