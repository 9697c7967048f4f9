//! Hosts-file syntax: an address a line, names and comments behind it.
//!
//! A line that points names at this machine or at nowhere (`0.0.0.0 c2.example.net`) is about the
//! names, which are kept and never resolved. Any other address is an indicator.

use ipnet::IpNet;

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::endpoint,
    lines::Line,
    name::domain,
    pieces,
    plain::{first_token, without_comment},
    reader::{Claim, Ending, Facts, Row},
};
use crate::indicator::{Indicator, Subject};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    pieces::read(text, limits, Ending::Open, row)
}

pub(super) fn row(line: Line<'_>) -> Result<Row, RejectReason> {
    let (token, names) = first_token(without_comment(line.text));
    let (network, traffic) = endpoint(token)?;
    if !names.is_empty() && is_nowhere(network) {
        return Ok(named(names, line.number));
    }
    Ok(Row::Indicator(Indicator::bare(network, traffic, line.number)))
}

/// The names of the line; `localhost` and the like are none.
fn named(names: &[u8], line: u32) -> Row {
    let names = names.split(u8::is_ascii_whitespace).filter_map(domain);
    let named = names.map(|name| Facts::default().naming(Subject::Domain(name), line));
    let claims: Vec<_> = named.map(Claim::Named).collect();
    if claims.is_empty() { Row::Skip(SkipReason::Name) } else { Row::Several(claims) }
}

fn is_nowhere(network: IpNet) -> bool {
    let address = network.addr();
    let is_host = network.prefix_len() == network.max_prefix_len();
    is_host && (address.is_loopback() || address.is_unspecified())
}
