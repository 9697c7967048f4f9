//! Hosts-file syntax: an address a line, names and comments behind it.
//!
//! A line that points a name at this machine or at nowhere (`0.0.0.0 c2.example`) is about the
//! name and is skipped, since names are never resolved. Any other address is an indicator.

use ipnet::IpNet;

use super::{
    Limits, ParseFailure, Parsed, SkipReason,
    address::endpoint,
    lines::Lines,
    plain::{first_token, without_comment},
    reader::{Ending, Reader, Row, indicator},
};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    for line in Lines::new(text) {
        if let Some(comment) = line.comment() {
            reader.note(line, comment)?;
            continue;
        }
        reader.row(line, || {
            let (token, names) = first_token(without_comment(line.text));
            let (network, traffic) = endpoint(token)?;
            if !names.is_empty() && is_nowhere(network) {
                return Ok(Row::Skip(SkipReason::Name));
            }
            Ok(Row::Indicator(indicator(network, traffic, line.number)))
        })?;
    }
    reader.finish(Ending::Open)
}

fn is_nowhere(network: IpNet) -> bool {
    let address = network.addr();
    let is_host = network.prefix_len() == network.max_prefix_len();
    is_host && (address.is_loopback() || address.is_unspecified())
}
