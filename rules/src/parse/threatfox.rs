//! What the rows of ThreatFox mean, whichever way they are written.

use super::{
    RejectReason, SkipReason,
    address::endpoint,
    name::{domain, url},
    reader::{Facts, Row},
};
use crate::indicator::Subject;

/// Takes `ip:port`, domains and URLs of botnet C&C servers. The transport protocol is not said and
/// so not restricted.
pub(super) fn row(
    value: &[u8],
    kind: &[u8],
    threat: &[u8],
    facts: Facts,
    line: u32,
) -> Result<Row, RejectReason> {
    if !matches!(kind, b"ip:port" | b"domain" | b"url") {
        return Ok(Row::Skip(SkipReason::OtherType));
    }
    if threat != b"botnet_cc" {
        return Ok(Row::Skip(SkipReason::OtherThreat));
    }
    let subject = match kind {
        b"domain" => Subject::Domain(domain(value).ok_or(RejectReason::NotAName)?),
        b"url" => Subject::Url(url(value).ok_or(RejectReason::NotAName)?),
        _ => {
            let (network, traffic) = endpoint(value)?;
            if traffic.port.is_none() {
                return Err(RejectReason::BadPort);
            }
            return Ok(Row::Indicator(facts.on(network, traffic, line)));
        }
    };
    Ok(Row::Named(facts.naming(subject, line)))
}

/// Whether a flag is set.
pub(super) fn is_yes(flag: &[u8]) -> bool {
    flag.eq_ignore_ascii_case(b"true") || flag == b"1"
}
