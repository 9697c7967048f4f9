//! abuse.ch Feodo Tracker, `ipblocklist.csv`: C&C servers of banking trojans, all TCP.

use super::{
    Limits, ParseFailure, Parsed,
    address::{network, port},
    csv_table::{self, Column, Table},
    date,
    reader::{Ending, Names, Row},
};
use crate::indicator::{Indicator, Protocol, Traffic};

const COLUMNS: &[Column<'_>] = &[
    Column { names: &["dst_ip", "dstip"], required: true },
    Column { names: &["dst_port", "dstport"], required: true },
    Column { names: &["first_seen_utc", "first_seen", "firstseen"], required: false },
    Column { names: &["last_online", "lastonline"], required: false },
    Column { names: &["malware"], required: false },
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut names = Names::default();
    let table = Table::with_commas(COLUMNS, Ending::CountIfBanner);
    csv_table::read(text, limits, &table, |fields, line| {
        let network = network(fields.need(0)?)?;
        let port = Some(port(fields.need(1)?)?);
        let mut claim =
            Indicator::bare(network, Traffic { protocol: Some(Protocol::Tcp), port }, line);
        claim.first_seen = fields.get(2).and_then(date::utc);
        claim.last_seen = fields.get(3).and_then(date::utc);
        claim.malware = fields.get(4).map(|name| names.get(name));
        Ok(Row::Indicator(claim))
    })
}
