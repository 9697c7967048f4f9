//! Host names and URLs, which are kept as they are and never resolved.

use super::{
    RejectReason,
    address::endpoint,
    reader::{Claim, Facts},
};
use crate::indicator::Subject;

/// Longest host name (RFC 1035, 2.3.4, as text).
const MAX_DOMAIN: usize = 253;
/// Longest label of a host name (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
/// Longest URL that is kept.
const MAX_URL: usize = 2_048;

/// A claim on whatever the token is: an address, a network, an address with port, a URL, a name.
pub(super) fn claim(token: &[u8], facts: Facts, line: u32) -> Result<Claim, RejectReason> {
    match endpoint(token) {
        Ok((network, traffic)) => Ok(Claim::Indicator(facts.on(network, traffic, line))),
        Err(fault) => {
            let subject = subject(token).ok_or(fault)?;
            Ok(Claim::Named(facts.naming(subject, line)))
        }
    }
}

/// The URL or host name that the token is.
pub(super) fn subject(token: &[u8]) -> Option<Subject> {
    url(token).map(Subject::Url).or_else(|| domain(token).map(Subject::Domain))
}

/// A host name of two labels or more in lower case, if it is one that DNS can hold and that can't
/// be taken for an address. A single label would stand for a whole top-level domain.
pub(super) fn domain(token: &[u8]) -> Option<Box<str>> {
    let name = token.strip_suffix(b".").unwrap_or(token);
    let labels = name.split(|&b| b == b'.');
    let last = name.rsplit(|&b| b == b'.').next()?;
    let fits = name.len() <= MAX_DOMAIN
        && name.contains(&b'.')
        && labels.into_iter().all(is_label)
        && !last.iter().all(u8::is_ascii_digit);
    let text = fits.then(|| std::str::from_utf8(name).ok()).flatten()?;
    Some(text.to_ascii_lowercase().into())
}

/// An absolute URL with a host, in visible ASCII.
pub(super) fn url(token: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(token).ok()?;
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let plain = |b: u8| b.is_ascii_graphic();
    let fits = text.len() <= MAX_URL
        && matches!(scheme, "http" | "https" | "ftp" | "tcp" | "ws" | "wss")
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[' || c == '_')
        && text.bytes().all(plain);
    fits.then(|| text.into())
}

fn is_label(label: &[u8]) -> bool {
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=MAX_LABEL).contains(&label.len())
        && label.iter().all(inner)
        && !label.starts_with(b"-")
        && !label.ends_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_in_one_spelling() {
        for (text, expected) in [
            ("c2.example.net", "c2.example.net"),
            ("C2.Example.NET.", "c2.example.net"),
            ("_dmarc.example.net", "_dmarc.example.net"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("198.18.0.example", "198.18.0.example"),
        ] {
            assert_eq!(domain(text.as_bytes()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_dns_cannot_hold_or_an_address_could_be_is_no_name() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "a.".repeat(124));
        for text in [
            "",
            ".",
            "com",
            "localhost",
            "198.18.0.1",
            "198.18.0.256",
            "1.2",
            ".example.net",
            "*.example.net",
            "example..net",
            "-bad.example",
            "bad-.example",
            "b\u{fc}cher.example",
            "exa mple.net",
            "c2[.]example.net",
            &long_label,
            &long_name,
        ] {
            assert_eq!(domain(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn urls_are_kept_as_they_are() {
        for text in [
            "http://198.18.0.1:8080/Bin.sh",
            "https://c2.example.net",
            "http://[2001:2::1]:80/a?b=c",
            "ftp://user:x@c2.example.net/",
        ] {
            assert_eq!(url(text.as_bytes()).as_deref(), Some(text));
        }
        for text in
            ["http://", "http:///x", "hxxp://c2.example.net/", "javascript://x", "http://a b/"]
        {
            assert_eq!(url(text.as_bytes()), None, "{text}");
        }
    }
}
