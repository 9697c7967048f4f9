//! abuse.ch SSL blacklist, `sslipblacklist.csv`: C&C servers with a known certificate, all TCP.
//!
//! Retired by its publisher on 2025-01-03: the list that is served since is empty and valid.

use super::{
    Limits, ParseFailure, Parsed,
    address::{network, port},
    csv_table::{self, Column, Table},
    date,
    reader::{Ending, Row},
};
use crate::indicator::{Indicator, Protocol, Traffic};

const COLUMNS: &[Column<'_>] = &[
    Column { names: &["dstip", "dst_ip"], required: true },
    Column { names: &["dstport", "dst_port"], required: true },
    Column { names: &["firstseen", "first_seen_utc"], required: false },
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let table = Table::with_commas(COLUMNS, Ending::Open);
    csv_table::read(text, limits, &table, |fields, line| {
        let network = network(fields.need(0)?)?;
        let port = Some(port(fields.need(1)?)?);
        let mut claim =
            Indicator::bare(network, Traffic { protocol: Some(Protocol::Tcp), port }, line);
        claim.first_seen = fields.get(2).and_then(date::utc);
        Ok(Row::Indicator(claim))
    })
}
