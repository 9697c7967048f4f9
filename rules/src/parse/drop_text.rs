//! Spamhaus DROP as text, `drop.txt` and `dropv6.txt`: `192.0.2.0/24 ; SBL100001`, at the end
//! `; EOF`.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::network,
    lines::Line,
    pieces,
    plain::{first_token, without_comment},
    reader::{Ending, Row},
};
use crate::indicator::{Indicator, Traffic};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    pieces::read(text, limits, Ending::Mark, row)
}

pub(super) fn row(line: Line<'_>) -> Result<Row, RejectReason> {
    let (token, rest) = first_token(without_comment(line.text));
    let network = network(token)?;
    if !rest.is_empty() {
        return Err(RejectReason::TrailingText);
    }
    Ok(Row::Indicator(Indicator::bare(network, Traffic::ANY, line.number)))
}
