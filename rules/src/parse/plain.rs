//! One address, network or address with port a line.
//!
//! A comment may follow (`#` anywhere, `;` or `//` after a blank), and so may one number after a
//! blank, which is a score and is not read (IPsum). Anything else behind the address may change
//! its meaning, as the end of a range does in DShield's list, and costs the line.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::{endpoint, host},
    lines::Line,
    pieces,
    reader::{Ending, Row},
};
use crate::indicator::{Indicator, Traffic};

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    pieces::read(text, limits, Ending::Open, row)
}

pub(super) fn row(line: Line<'_>) -> Result<Row, RejectReason> {
    // Nearly every line of a long list.
    if let Some(host) = host(line.text) {
        return Ok(Row::Indicator(Indicator::bare(
            IpNet::from(IpAddr::V4(host)),
            Traffic::ANY,
            line.number,
        )));
    }
    let (token, rest) = first_token(without_comment(line.text));
    if !rest.iter().all(u8::is_ascii_digit) {
        // The first word's own fault says more than that something follows it.
        endpoint(token)?;
        return Err(RejectReason::TrailingText);
    }
    let (network, traffic) = endpoint(token)?;
    Ok(Row::Indicator(Indicator::bare(network, traffic, line.number)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_a_host_alone_says_what_a_line_with_a_comment_says() {
        for text in ["198.18.0.1", "0.0.0.0", "255.255.255.255", "198.18.00.1", "198.18.0.256"] {
            let read = |text: &str| match row(Line { number: 1, text: text.as_bytes() }) {
                Ok(Row::Indicator(indicator)) => Ok(indicator),
                Err(reason) => Err(reason),
                Ok(_) => panic!("{text}"),
            };
            assert_eq!(read(text), read(&format!("{text} # a comment")), "{text}");
        }
    }
}
