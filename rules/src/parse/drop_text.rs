//! Spamhaus DROP as text, `drop.txt` and `dropv6.txt`: `192.0.2.0/24 ; SBL100001`, at the end
//! `; EOF`.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::network,
    lines::Lines,
    plain::{first_token, without_comment},
    reader::{Ending, Reader, Row, indicator},
};
use crate::indicator::Traffic;

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let mut has_end = false;
    for line in Lines::new(text) {
        if let Some(comment) = line.comment() {
            has_end |= comment == b"EOF";
            reader.note(line, comment)?;
            continue;
        }
        reader.row(line, || {
            let (token, rest) = first_token(without_comment(line.text));
            let network = network(token)?;
            if !rest.is_empty() {
                return Err(RejectReason::TrailingText);
            }
            Ok(Row::Indicator(indicator(network, Traffic::ANY, line.number)))
        })?;
    }
    if !has_end {
        return Err(ParseFailure::Truncated { detail: "the last line '; EOF' is missing".into() });
    }
    reader.finish(Ending::Open)
}
