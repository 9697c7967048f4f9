//! STIX 2.1 patterns, as far as a packet filter can act on them.
//!
//! A pattern is usable if it says of single observations that an address, a name or a URL is this
//! or one of these, or that traffic goes to an address and perhaps a port of it. Everything else,
//! `AND` between observations, negation, order in time, matching, other objects, is not, and is
//! never guessed at: the address in `[ipv4-addr:value != '198.18.0.1']` is a good one.

use ipnet::IpNet;

use super::{
    RejectReason,
    address::{network, port},
    mapped::protocol,
    name::{domain, url},
};
use crate::indicator::{Protocol, Subject, Traffic};

/// Most things that one pattern may list.
const MAX_MEANT: usize = 4_096;

/// What a pattern is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Network(IpNet, Traffic),
    Named(Subject),
}

/// What the pattern is about; `None` if it is not usable.
pub(super) fn read(pattern: &str) -> Result<Option<Vec<Meant>>, RejectReason> {
    let mut tokens = Tokens(pattern);
    let mut meant = Vec::new();
    loop {
        if tokens.next() != Some(Token::Open) {
            return Ok(None);
        }
        match observation(&mut tokens, &mut meant) {
            Ok(()) => {}
            Err(Fault::Unusable) => return Ok(None),
            Err(Fault::Wrong(reason)) => return Err(reason),
        }
        match tokens.next() {
            None if tokens.0.is_empty() => return Ok(Some(meant)),
            Some(Token::Word("OR")) => {}
            _ => return Ok(None),
        }
    }
}

enum Fault {
    Unusable,
    Wrong(RejectReason),
}

impl From<RejectReason> for Fault {
    fn from(reason: RejectReason) -> Self {
        Self::Wrong(reason)
    }
}

/// Alternatives up to the closing bracket, each of comparisons that hold together.
fn observation(tokens: &mut Tokens<'_>, meant: &mut Vec<Meant>) -> Result<(), Fault> {
    loop {
        let mut comparisons = vec![comparison(tokens)?];
        loop {
            match tokens.next() {
                Some(Token::Word("AND")) => comparisons.push(comparison(tokens)?),
                Some(Token::Word("OR")) => break together(&comparisons, meant)?,
                Some(Token::Close) => return together(&comparisons, meant),
                _ => return Err(Fault::Unusable),
            }
        }
    }
}

/// `object:path OPERATOR value`.
struct Comparison<'a> {
    path: &'a str,
    is_subset: bool,
    values: Vec<String>,
}

fn comparison<'a>(tokens: &mut Tokens<'a>) -> Result<Comparison<'a>, Fault> {
    let Some(Token::Word(path)) = tokens.next() else { return Err(Fault::Unusable) };
    let (is_subset, is_set) = match tokens.next() {
        Some(Token::Equal) => (false, false),
        Some(Token::Word("IN")) => (false, true),
        Some(Token::Word("ISSUBSET")) => (true, false),
        _ => return Err(Fault::Unusable),
    };
    if is_set && tokens.next() != Some(Token::OpenSet) {
        return Err(Fault::Unusable);
    }
    let mut values = Vec::new();
    loop {
        match tokens.next() {
            Some(Token::Text(text)) => values.push(text),
            Some(Token::Word(number)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                values.push(number.to_owned());
            }
            _ => return Err(Fault::Unusable),
        }
        if values.len() > MAX_MEANT {
            return Err(Fault::Wrong(RejectReason::TooManyClaims));
        }
        if !is_set {
            break;
        }
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::CloseSet) => break,
            _ => return Err(Fault::Unusable),
        }
    }
    Ok(Comparison { path, is_subset, values })
}

/// What comparisons that hold together are about.
fn together(comparisons: &[Comparison<'_>], meant: &mut Vec<Meant>) -> Result<(), Fault> {
    let mut subject: Option<&Comparison<'_>> = None;
    let mut ports: Option<Vec<u16>> = None;
    let mut transport: Option<Protocol> = None;
    for comparison in comparisons {
        let set_once = |is_new: bool| if is_new { Ok(()) } else { Err(Fault::Unusable) };
        match comparison.path {
            "network-traffic:dst_port" if !comparison.is_subset => {
                set_once(ports.is_none())?;
                let each = comparison.values.iter().map(|text| port(text.as_bytes()));
                ports = Some(each.collect::<Result<_, _>>()?);
            }
            "network-traffic:protocols[*]" | "network-traffic:protocols[0]" => {
                let [name] = &comparison.values[..] else { return Err(Fault::Unusable) };
                match name.to_ascii_lowercase().as_str() {
                    // The layer below says nothing beyond the address.
                    "ipv4" | "ipv6" => {}
                    name => {
                        set_once(transport.is_none())?;
                        transport = Some(protocol(name.as_bytes()).ok_or(Fault::Unusable)?);
                    }
                }
            }
            "network-traffic:dst_ref.type" => {
                let is_kind = |kind: &String| {
                    matches!(kind.as_str(), "ipv4-addr" | "ipv6-addr" | "domain-name")
                };
                set_once(comparison.values.iter().all(is_kind))?;
            }
            _ => {
                set_once(subject.is_none())?;
                subject = Some(comparison);
            }
        }
    }
    let comparison = subject.ok_or(Fault::Unusable)?;
    let has_traffic = ports.is_some() || transport.is_some();
    let is_traffic = comparison.path == "network-traffic:dst_ref.value";
    if has_traffic && !is_traffic {
        return Err(Fault::Unusable);
    }
    let ports = ports.map_or_else(|| vec![None], |ports| ports.into_iter().map(Some).collect());
    for text in &comparison.values {
        add(comparison, text.as_bytes(), transport, &ports, meant)?;
    }
    Ok(())
}

fn add(
    comparison: &Comparison<'_>,
    text: &[u8],
    protocol: Option<Protocol>,
    ports: &[Option<u16>],
    meant: &mut Vec<Meant>,
) -> Result<(), Fault> {
    if meant.len() + ports.len() > MAX_MEANT {
        return Err(Fault::Wrong(RejectReason::TooManyClaims));
    }
    let name = match (comparison.path, comparison.is_subset) {
        ("domain-name:value", false) => domain(text).map(Subject::Domain),
        ("url:value", false) => url(text).map(Subject::Url),
        ("network-traffic:dst_ref.value", false) if domain(text).is_some() => {
            return Err(Fault::Unusable);
        }
        ("ipv4-addr:value" | "ipv6-addr:value" | "network-traffic:dst_ref.value", _) => {
            let network = network(text)?;
            let each =
                ports.iter().map(|&port| Meant::Network(network, Traffic { protocol, port }));
            meant.extend(each);
            return Ok(());
        }
        _ => return Err(Fault::Unusable),
    };
    meant.push(Meant::Named(name.ok_or(RejectReason::NotAName)?));
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    Equal,
    /// A keyword, a number or an object path.
    Word(&'a str),
    /// What stands in quotes, escapes undone.
    Text(String),
    /// Anything else.
    Other,
}

/// What is left of the pattern.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.0 = self.0.trim_start();
        let first = self.0.chars().next()?;
        let token = match first {
            '[' => Token::Open,
            ']' => Token::Close,
            '(' => Token::OpenSet,
            ')' => Token::CloseSet,
            ',' => Token::Comma,
            '=' => Token::Equal,
            '\'' => return Some(self.text()),
            c if c.is_ascii_alphanumeric() => return Some(self.word()),
            _ => Token::Other,
        };
        self.0 = self.0.get(first.len_utf8()..).unwrap_or_default();
        Some(token)
    }
}

impl<'a> Tokens<'a> {
    /// An index, `[*]`, belongs to the path that it stands in.
    fn word(&mut self) -> Token<'a> {
        let goes_on = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.');
        let mut end = 0;
        loop {
            end += self.0.as_bytes().iter().skip(end).take_while(|b| goes_on(b)).count();
            match self.0.get(end..end + 3) {
                Some("[*]" | "[0]") => end += 3,
                _ => break,
            }
        }
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Token::Word(word)
    }

    /// Up to the closing quote; `\'` and `\\` stand for themselves.
    fn text(&mut self) -> Token<'a> {
        let mut text = String::new();
        let mut chars = self.0.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.0 = self.0.get(at + 1..).unwrap_or_default();
                    return Token::Text(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\'' | '\\'))) => text.push(c),
                    _ => break,
                },
                c => text.push(c),
            }
        }
        self.0 = "";
        Token::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::indicator_text;

    fn shown(pattern: &str) -> Result<String, &'static str> {
        let meant = read(pattern).map_err(RejectReason::as_str)?;
        let text = |meant: &Meant| match meant {
            Meant::Network(network, traffic) => indicator_text(*network, *traffic),
            Meant::Named(subject) => subject.to_string(),
        };
        Ok(meant.map_or("unusable".to_owned(), |meant| {
            meant.iter().map(text).collect::<Vec<_>>().join(" ")
        }))
    }

    #[test]
    fn addresses_names_and_traffic_are_read() {
        for (pattern, expected) in [
            ("[ipv4-addr:value = '198.18.0.1']", "198.18.0.1"),
            ("[ipv4-addr:value='198.18.0.0/24']", "198.18.0.0/24"),
            ("[ ipv6-addr:value = '2001:2::1' ]", "2001:2::1"),
            ("[ipv4-addr:value ISSUBSET '198.18.0.0/26']", "198.18.0.0/26"),
            (
                "[ipv4-addr:value = '198.18.0.1' OR ipv4-addr:value = '198.18.0.2']",
                "198.18.0.1 198.18.0.2",
            ),
            ("[ipv4-addr:value IN ('198.18.0.1', '198.18.0.2')]", "198.18.0.1 198.18.0.2"),
            (
                "[ipv4-addr:value = '198.18.0.1'] OR [domain-name:value = 'C2.example.net']",
                "198.18.0.1 c2.example.net",
            ),
            ("[url:value = 'http://c2.example.net/it\\'s']", "http://c2.example.net/it's"),
            (
                "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '198.18.0.1/32' \
                 AND network-traffic:dst_port = 443 AND network-traffic:protocols[*] = 'tcp']",
                "198.18.0.1:443/tcp",
            ),
            (
                "[network-traffic:dst_ref.value = '198.18.0.1' AND network-traffic:dst_port IN (1, 2)]",
                "198.18.0.1:1 198.18.0.1:2",
            ),
        ] {
            assert_eq!(shown(pattern).as_deref(), Ok(expected), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_with_further_conditions_is_never_guessed_at() {
        for pattern in [
            "",
            "198.18.0.1",
            "[ipv4-addr:value != '198.18.0.1']",
            "[NOT ipv4-addr:value = '198.18.0.1']",
            "[ipv4-addr:value NOT = '198.18.0.1']",
            "[ipv4-addr:value LIKE '198.18.0.%']",
            "[ipv4-addr:value MATCHES '198.18.0.1']",
            "[ipv4-addr:value > '198.18.0.1']",
            "[ipv4-addr:value = '198.18.0.1' AND file:name = 'x']",
            "[ipv4-addr:value = '198.18.0.1' AND ipv4-addr:value = '198.18.0.2']",
            "[ipv4-addr:value = '198.18.0.1' AND network-traffic:dst_port = 1]",
            "[ipv4-addr:value = '198.18.0.1'] AND [file:name = 'x']",
            "[ipv4-addr:value = '198.18.0.1'] FOLLOWEDBY [file:name = 'x']",
            "[ipv4-addr:value = '198.18.0.1'] REPEATS 5 TIMES WITHIN 1800 SECONDS",
            "[ipv4-addr:value = '198.18.0.1'] WITHIN 5 SECONDS",
            "([ipv4-addr:value = '198.18.0.1'])",
            "[(ipv4-addr:value = '198.18.0.1')]",
            "[ipv4-addr:value = '198.18.0.1'",
            "[ipv4-addr:value = '198.18.0.1",
            "[ipv4-addr:value = '198.18.0.1\\",
            "[ipv4-addr:value = '198.18.0.1'] x",
            "[ipv4-addr:value = '198.18.0.1'] OR",
            "[network-traffic:src_ref.value = '198.18.0.1']",
            "[network-traffic:dst_port = 443]",
            "[network-traffic:dst_ref.value = 'c2.example.net']",
            "[network-traffic:dst_ref.value = '198.18.0.1' AND network-traffic:protocols[*] = 'icmp']",
            "[file:hashes.'SHA-256' = '198.18.0.1']",
            "[ipv4-addr:value = h'c6120001']",
            "[domain-name:value = 'c2.example.net' AND domain-name:resolves_to_refs[*].value = '198.18.0.1']",
        ] {
            assert_eq!(shown(pattern).as_deref(), Ok("unusable"), "{pattern}");
        }
    }

    #[test]
    fn a_usable_pattern_with_a_wrong_value_has_its_reason() {
        for (pattern, reason) in [
            ("[ipv4-addr:value = '198.18.0.999']", "not_an_address"),
            ("[ipv4-addr:value = '198.18.0.1/24']", "host_bits_set"),
            ("[domain-name:value = 'com']", "not_a_name"),
            (
                "[network-traffic:dst_ref.value = '198.18.0.1' AND network-traffic:dst_port = 0]",
                "bad_port",
            ),
        ] {
            assert_eq!(shown(pattern), Err(reason), "{pattern}");
        }
    }
}
