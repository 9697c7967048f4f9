//! Rules of Suricata and Snort that are about addresses and ports alone, as in ET botcc:
//! `alert tcp $HOME_NET any -> [198.18.0.1,198.18.0.2] [443,9000:9010] (msg:"..."; sid:1; rev:1;)`.
//!
//! A rule that looks into the payload is skipped: its address is bad only together with what it
//! looks for. So is one whose listed addresses are the source, since those attack us rather than
//! command a botnet. Rules behind a `#` are switched off by their publisher.

use ipnet::IpNet;

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::{network, port},
    lines::Lines,
    plain::first_token,
    reader::{Claim, Ending, Facts, Names, Reader, Row},
};
use crate::indicator::{Protocol, Traffic};

/// Groups of rules hold many addresses, and so are longer than the lines of other lists.
const LINE_FACTOR: usize = 64;
/// Most claims of one rule: addresses by ports.
const MAX_CLAIMS: usize = 65_536;
/// Options that add no condition on the payload.
const HARMLESS: [&[u8]; 18] = [
    b"classtype",
    b"detection_filter",
    b"flags",
    b"flow",
    b"flowbits",
    b"gid",
    b"metadata",
    b"msg",
    b"noalert",
    b"priority",
    b"reference",
    b"rev",
    b"sid",
    b"tag",
    b"target",
    b"threshold",
    b"xbits",
    b"rem",
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let max_line_bytes = limits.max_line_bytes.saturating_mul(LINE_FACTOR);
    let limits = &Limits { max_line_bytes, ..limits.clone() };
    let mut reader = Reader::new(text, limits);
    let mut names = Names::default();
    for line in Lines::new(text) {
        if let Some(comment) = line.comment() {
            reader.note(line, comment)?;
            continue;
        }
        reader.row(line, || rule(line.text, line.number, &mut names))?;
    }
    reader.finish(Ending::Open)
}

fn rule<'a>(text: &'a [u8], line: u32, names: &mut Names<'a>) -> Result<Row, RejectReason> {
    let open = text.iter().position(|&b| b == b'(').ok_or(RejectReason::BadRule)?;
    let options = text[open + 1..].strip_suffix(b")").ok_or(RejectReason::BadQuoting)?;
    let mut rest = &text[..open];
    let mut word = || {
        let (word, after) = first_word(rest);
        rest = after;
        word
    };
    let [action, protocol, source, source_ports, direction, target, ports] =
        std::array::from_fn(|_| word());
    if !matches!(action, b"alert" | b"drop" | b"reject" | b"block") || !rest.is_empty() {
        return Err(RejectReason::BadRule);
    }
    match direction {
        b"->" | b"<>" => {}
        _ => return Err(RejectReason::BadRule),
    }
    let (message, has_conditions) = read_options(options)?;
    let Some(protocol) = transport(protocol) else { return Ok(Row::Skip(SkipReason::Conditional)) };
    if has_conditions
        || source_ports != b"any"
        || [source, target, ports].iter().any(|word| is_negated(word))
    {
        return Ok(Row::Skip(SkipReason::Conditional));
    }
    if is_anywhere(target) {
        let is_inbound = !is_anywhere(source);
        let reason = if is_inbound { SkipReason::OtherThreat } else { SkipReason::OtherType };
        return Ok(Row::Skip(reason));
    }
    if !is_anywhere(source) {
        return Ok(Row::Skip(SkipReason::Conditional));
    }
    let ports = port_list(ports)?;
    let networks: Vec<IpNet> = members(target)?.map(network).collect::<Result<_, _>>()?;
    let malware = message.and_then(family).map(|name| names.get(name));
    let facts = Facts { malware, ..Facts::default() };
    claims(&networks, protocol, &ports, &facts, line)
}

/// A claim for each address and port.
fn claims(
    networks: &[IpNet],
    protocol: Option<Protocol>,
    ports: &[Option<u16>],
    facts: &Facts,
    line: u32,
) -> Result<Row, RejectReason> {
    if networks.len().saturating_mul(ports.len()) > MAX_CLAIMS {
        return Err(RejectReason::TooManyClaims);
    }
    let each = networks.iter().flat_map(|&network| {
        ports.iter().map(move |&port| {
            Claim::Indicator(facts.clone().on(network, Traffic { protocol, port }, line))
        })
    });
    Ok(Row::Several(each.collect()))
}

/// The next word of the rule's head; a list in brackets is one word, blanks in it or not.
fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii();
    if !text.starts_with(b"[") && !text.starts_with(b"![") {
        return first_token(text);
    }
    let mut depth = 0_u32;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && *byte == b']' {
            return (&text[..=at], text[at + 1..].trim_ascii_start());
        }
    }
    (text, &[])
}

/// The message, and whether some option looks further than address and port.
fn read_options(options: &[u8]) -> Result<(Option<&[u8]>, bool), RejectReason> {
    let mut message = None;
    let mut has_conditions = false;
    for option in Options(options) {
        let option = option?.trim_ascii();
        if option.is_empty() {
            continue;
        }
        let colon = option.iter().position(|&b| b == b':').unwrap_or(option.len());
        let (key, value) = option.split_at(colon);
        let key = key.trim_ascii();
        has_conditions |= !HARMLESS.contains(&key);
        if key == b"msg" {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            message = value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
        }
    }
    Ok((message, has_conditions))
}

/// What semicolons separate, outside quotes; a backslash takes the meaning off what follows it.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<&'a [u8], RejectReason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (mut is_quoted, mut is_escaped) = (false, false);
        let ends = |&byte: &u8| {
            let ends = byte == b';' && !is_quoted && !is_escaped;
            is_quoted ^= byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        };
        let Some(end) = self.0.iter().position(ends) else {
            let rest = std::mem::take(&mut self.0);
            return Some(if is_quoted { Err(RejectReason::BadQuoting) } else { Ok(rest) });
        };
        let (option, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        Some(Ok(option))
    }
}

/// The protocol that the rule restricts itself to; `None` if that can't be seen in a packet's
/// ports.
fn transport(word: &[u8]) -> Option<Option<Protocol>> {
    match word {
        b"ip" | b"pkthdr" => Some(None),
        b"tcp" | b"tcp-pkt" => Some(Some(Protocol::Tcp)),
        b"udp" => Some(Some(Protocol::Udp)),
        _ => None,
    }
}

fn is_anywhere(word: &[u8]) -> bool {
    word == b"any" || word.starts_with(b"$") || word.starts_with(b"[$")
}

fn is_negated(word: &[u8]) -> bool {
    word.contains(&b'!')
}

/// The members of a list in brackets, or the word itself.
fn members(word: &[u8]) -> Result<impl Iterator<Item = &[u8]>, RejectReason> {
    let inner = match word.strip_prefix(b"[") {
        Some(inner) => inner.strip_suffix(b"]").ok_or(RejectReason::BadRule)?,
        None => word,
    };
    Ok(inner.split(|&b| b == b',').map(<[u8]>::trim_ascii))
}

/// Every port of the list, ranges written out; `None` is any port.
fn port_list(word: &[u8]) -> Result<Vec<Option<u16>>, RejectReason> {
    if word == b"any" {
        return Ok(vec![None]);
    }
    let mut ports = Vec::new();
    for member in members(word)? {
        let (first, last) = match member.iter().position(|&b| b == b':') {
            Some(0) => (1, port(&member[1..])?),
            Some(at) if at + 1 == member.len() => (port(&member[..at])?, u16::MAX),
            Some(at) => (port(&member[..at])?, port(&member[at + 1..])?),
            None => (port(member)?, port(member)?),
        };
        if first > last {
            return Err(RejectReason::BadPort);
        }
        if ports.len() + usize::from(last - first) >= MAX_CLAIMS {
            return Err(RejectReason::TooManyClaims);
        }
        ports.extend((first..=last).map(Some));
    }
    Ok(ports)
}

/// `Feodo Tracker` of `ET CNC Feodo Tracker Reported CnC Server TCP group 1`; without a family, as
/// in `ET CNC Reported CnC Server Port 23 Group 1`, nothing.
fn family(message: &[u8]) -> Option<&[u8]> {
    const REPORTED: &[u8] = b"Reported CnC";
    let prefixes: [&[u8]; 2] = [b"ET CNC ", b"ET MALWARE "];
    let message =
        prefixes.iter().find_map(|prefix| message.strip_prefix(*prefix)).unwrap_or(message);
    let end = message.windows(REPORTED.len()).position(|part| part == REPORTED);
    let name = end.and_then(|end| message.get(..end)).unwrap_or(message).trim_ascii();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::indicator_text;

    fn read_rule(text: &str) -> Result<String, &'static str> {
        let row = rule(text.as_bytes(), 1, &mut Names::default()).map_err(RejectReason::as_str)?;
        Ok(match row {
            Row::Several(claims) => {
                let texts = claims.iter().map(|claim| match claim {
                    Claim::Indicator(found) => indicator_text(found.network, found.traffic),
                    Claim::Named(_) => "a name".to_owned(),
                });
                texts.collect::<Vec<_>>().join(" ")
            }
            Row::Skip(reason) => format!("({})", reason.as_str()),
            Row::Indicator(_) | Row::Named(_) => "one".to_owned(),
        })
    }

    fn with_head(head: &str) -> Result<String, &'static str> {
        read_rule(&format!("{head} (msg:\"a; b\"; flags:S; sid:1; rev:1;)"))
    }

    #[test]
    fn addresses_and_ports_of_the_destination_are_taken() {
        for (head, expected) in [
            ("alert tcp $HOME_NET any -> 198.18.0.1 6667", "198.18.0.1:6667/tcp"),
            ("alert ip $HOME_NET any -> [198.18.0.1, 2001:2::1] any", "198.18.0.1 2001:2::1"),
            ("drop udp any any -> [198.18.0.0/24] any", "198.18.0.0/24/udp"),
            (
                "alert tcp $HOME_NET any -> 198.18.0.1 [443,9000:9001]",
                "198.18.0.1:443/tcp 198.18.0.1:9000/tcp 198.18.0.1:9001/tcp",
            ),
        ] {
            assert_eq!(with_head(head).as_deref(), Ok(expected), "{head}");
        }
    }

    #[test]
    fn what_a_packet_filter_cannot_see_is_skipped() {
        for (head, expected) in [
            ("alert http $HOME_NET any -> 198.18.0.1 any", "(conditional)"),
            ("alert tcp $HOME_NET any -> !198.18.0.1 any", "(conditional)"),
            ("alert tcp $HOME_NET any -> [198.18.0.0/24,!198.18.0.1] any", "(conditional)"),
            ("alert tcp $HOME_NET any -> 198.18.0.1 !80", "(conditional)"),
            ("alert tcp $HOME_NET 53 -> 198.18.0.1 any", "(conditional)"),
            ("alert tcp !$HOME_NET any -> 198.18.0.1 any", "(conditional)"),
            ("alert tcp 198.18.7.7 any -> 198.18.0.1 any", "(conditional)"),
            ("alert tcp 198.18.0.1 any -> $HOME_NET any", "(other_threat)"),
            ("alert tcp $HOME_NET any -> $EXTERNAL_NET any", "(other_type)"),
        ] {
            assert_eq!(with_head(head).as_deref(), Ok(expected), "{head}");
        }
        let payload = "alert tcp any any -> 198.18.0.1 any (msg:\"x\"; content:\"y\"; sid:1;)";
        assert_eq!(read_rule(payload).as_deref(), Ok("(conditional)"));
    }

    #[test]
    fn what_is_no_rule_has_its_reason() {
        for (head, reason) in [
            ("alert tcp $HOME_NET any -> 198.18.0.1", "bad_port"),
            ("alert tcp $HOME_NET any 198.18.0.1 any", "bad_rule"),
            ("warn tcp $HOME_NET any -> 198.18.0.1 any", "bad_rule"),
            ("alert tcp $HOME_NET any -> [198.18.0.1 any", "bad_port"),
            ("alert tcp $HOME_NET any -> 198.18.0.999 any", "not_an_address"),
            ("alert tcp $HOME_NET any -> 198.18.0.1 0", "bad_port"),
            ("alert tcp $HOME_NET any -> 198.18.0.1 9:8", "bad_port"),
            ("alert tcp $HOME_NET any -> [198.18.0.1,198.18.0.2] 1:", "too_many_claims"),
            ("alert tcp $HOME_NET any -> 198.18.0.1 [1:,1:]", "too_many_claims"),
        ] {
            assert_eq!(with_head(head), Err(reason), "{head}");
        }
        assert_eq!(read_rule("198.18.0.1"), Err("bad_rule"));
        assert_eq!(
            read_rule("alert tcp any any -> 198.18.0.1 any (msg:\"x; sid:1;)"),
            Err("bad_quoting")
        );
        assert_eq!(read_rule("alert tcp any any -> 198.18.0.1 any (sid:1;"), Err("bad_quoting"));
    }
}
