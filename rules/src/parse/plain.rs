//! One address, network or address with port a line.
//!
//! A comment may follow (`#` anywhere, `;` or `//` after a blank), and so may one number after a
//! blank, which is a score and is not read (IPsum). Anything else behind the address may change
//! its meaning, as the end of a range does in DShield's list, and costs the line.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::endpoint,
    lines::Lines,
    reader::{Ending, Reader, Row, indicator},
};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    read_lines(text, limits, Ending::Open)
}

pub(super) fn read_lines(
    text: &[u8],
    limits: &Limits,
    ending: Ending,
) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    for line in Lines::new(text) {
        if let Some(comment) = line.comment() {
            reader.note(line, comment)?;
            continue;
        }
        reader.row(line, || {
            let (token, rest) = first_token(without_comment(line.text));
            if !rest.iter().all(u8::is_ascii_digit) {
                // The first word's own fault says more than that something follows it.
                endpoint(token)?;
                return Err(RejectReason::TrailingText);
            }
            let (network, traffic) = endpoint(token)?;
            Ok(Row::Indicator(indicator(network, traffic, line.number)))
        })?;
    }
    reader.finish(ending)
}

/// The line up to its comment.
pub(super) fn without_comment(line: &[u8]) -> &[u8] {
    let starts = |at: usize| match line[at] {
        b'#' => true,
        b';' => at > 0 && line[at - 1].is_ascii_whitespace(),
        b'/' => at > 0 && line[at - 1].is_ascii_whitespace() && line.get(at + 1) == Some(&b'/'),
        _ => false,
    };
    let end = (0..line.len()).find(|&at| starts(at)).unwrap_or(line.len());
    line[..end].trim_ascii_end()
}

/// The text up to the first blank, and what follows the blanks.
pub(super) fn first_token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}
