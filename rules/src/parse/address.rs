//! Addresses, networks and ports, in their one usual notation.
//!
//! A notation with two readings is refused, since a wrong guess blocks a stranger: octets with
//! leading zeros, integers, ranges, netmasks, networks with host bits, zones, defanged text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::RejectReason;
use crate::indicator::{Protocol, Traffic};

/// A network, or an address with a port: `198.18.0.1`, `198.18.0.0/24`, `198.18.0.1:23`,
/// `[2001:2::1]:23`, `198.18.0.1:53/udp`.
pub(super) fn endpoint(token: &[u8]) -> Result<(IpNet, Traffic), RejectReason> {
    let (host, port) = match token {
        [b'[', inner @ ..] => {
            let end = inner.iter().position(|&b| b == b']').ok_or(RejectReason::NotAnAddress)?;
            match &inner[end + 1..] {
                [] => (&inner[..end], None),
                [b':', port @ ..] => (&inner[..end], Some(port)),
                _ => return Err(RejectReason::TrailingText),
            }
        }
        _ => {
            let mut colons = token.iter().enumerate().filter(|&(_, &b)| b == b':');
            match (colons.next(), colons.next()) {
                (Some((at, _)), None) => (&token[..at], Some(&token[at + 1..])),
                _ => (token, None),
            }
        }
    };
    let Some(port) = port else { return Ok((network(host)?, Traffic::ANY)) };
    let address = address(host)?;
    let (port, protocol) = match port.iter().position(|&b| b == b'/') {
        Some(at) => (&port[..at], Some(protocol(&port[at + 1..])?)),
        None => (port, None),
    };
    Ok((IpNet::from(address), Traffic { protocol, port: Some(self::port(port)?) }))
}

/// An IPv4 address and nothing else; what it is not sure of is left to [`endpoint`].
pub(super) fn host(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut rest = text;
    for (at, octet) in octets.iter_mut().enumerate() {
        let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        let value = rest[..digits].iter().fold(0_u16, |sum, b| sum * 10 + u16::from(b - b'0'));
        if digits == 0 || (digits > 1 && rest[0] == b'0') {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
        rest = match (&rest[digits..], at) {
            ([], 3) => return Some(octets.into()),
            ([b'.', rest @ ..], 0..3) => rest,
            _ => return None,
        };
    }
    None
}

/// An address, or a network in CIDR notation.
pub(super) fn network(token: &[u8]) -> Result<IpNet, RejectReason> {
    let Some(slash) = token.iter().position(|&b| b == b'/') else {
        return address(token).map(IpNet::from);
    };
    let (host, length) = (&token[..slash], &token[slash + 1..]);
    let length =
        number(length, 3).and_then(|n| u8::try_from(n).ok()).ok_or(RejectReason::BadPrefixLength);
    let network = match raw_address(host)? {
        IpAddr::V4(v4) => Ipv4Net::new(v4, length?).map(IpNet::from),
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), length?) {
            (Some(v4), length @ 96..) => Ipv4Net::new(v4, length - 96).map(IpNet::from),
            (_, length) => Ipv6Net::new(v6, length).map(IpNet::from),
        },
    };
    let network = network.map_err(|_| RejectReason::BadPrefixLength)?;
    if network.trunc() == network { Ok(network) } else { Err(RejectReason::HostBitsSet) }
}

/// A single address; an IPv4-mapped IPv6 address is the IPv4 address.
pub(super) fn address(token: &[u8]) -> Result<IpAddr, RejectReason> {
    raw_address(token).map(|address| address.to_canonical())
}

fn raw_address(token: &[u8]) -> Result<IpAddr, RejectReason> {
    let text = std::str::from_utf8(token).map_err(|_| RejectReason::NotAnAddress)?;
    if !text.contains(':') {
        return text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| RejectReason::NotAnAddress);
    }
    text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| match text.split_once('%') {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_ok() => RejectReason::ZoneId,
        _ => RejectReason::NotAnAddress,
    })
}

/// A port from 1 to 65535, in digits without leading zero.
pub(super) fn port(token: &[u8]) -> Result<u16, RejectReason> {
    number(token, 5)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|&port| port != 0)
        .ok_or(RejectReason::BadPort)
}

fn protocol(token: &[u8]) -> Result<Protocol, RejectReason> {
    match token {
        b"tcp" => Ok(Protocol::Tcp),
        b"udp" => Ok(Protocol::Udp),
        _ => Err(RejectReason::TrailingText),
    }
}

/// A number of at most so many digits, without sign and leading zeros.
pub(super) fn number(token: &[u8], most_digits: usize) -> Option<u32> {
    let fits = (1..=most_digits).contains(&token.len()) && (token.len() == 1 || token[0] != b'0');
    if !fits {
        return None;
    }
    token.iter().try_fold(0_u32, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, &'static str> {
        let (network, traffic) = endpoint(text.as_bytes()).map_err(RejectReason::as_str)?;
        Ok(crate::refusal::indicator_text(network, traffic))
    }

    #[test]
    fn each_usual_notation_is_read() {
        for (text, expected) in [
            ("198.18.0.1", "198.18.0.1"),
            ("198.18.0.0/24", "198.18.0.0/24"),
            ("198.18.0.1/32", "198.18.0.1"),
            ("198.18.0.1:23", "198.18.0.1:23"),
            ("198.18.0.1:53/udp", "198.18.0.1:53/udp"),
            ("2001:2::1", "2001:2::1"),
            ("2001:2:0:0:0:0:0:1", "2001:2::1"),
            ("2001:2::/48", "2001:2::/48"),
            ("[2001:2::1]", "2001:2::1"),
            ("[2001:2::1]:443/tcp", "[2001:2::1]:443/tcp"),
            ("::ffff:198.18.0.8", "198.18.0.8"),
            ("::ffff:198.18.0.0/120", "198.18.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_host_alone_is_what_the_standard_library_reads() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "198.18.0.1",
            "1.2.3.4",
            "256.1.1.1",
            "1.1.1.01",
            "1.1.1",
            "1.1.1.1.1",
            "1.1.1.",
            ".1.1.1",
            "1..1.1",
            "1.1.1.1/32",
            "1.1.1.1 ",
            "1.1.1.1:5",
            "",
            "1.1.1.1111",
            "::1",
            "+1.1.1.1",
            "1.1.1.1.",
        ] {
            assert_eq!(host(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn each_doubtful_notation_has_its_reason() {
        for (text, reason) in [
            ("198.18.0.010", "not_an_address"),
            ("3323068417", "not_an_address"),
            ("0xC6120001", "not_an_address"),
            ("198.18.1", "not_an_address"),
            ("198.18.0.256", "not_an_address"),
            ("198.18.0.1.", "not_an_address"),
            ("198.18.0.7-198.18.0.9", "not_an_address"),
            ("198[.]18[.]0[.]1", "not_an_address"),
            ("http://198.18.0.1/", "not_an_address"),
            ("\u{ff11}98.18.0.9", "not_an_address"),
            ("c2.example", "not_an_address"),
            ("2001:2::4::5", "not_an_address"),
            ("2001:2::1%eth0", "zone_id"),
            ("198.18.0.3/33", "bad_prefix_length"),
            ("198.18.0.4/-1", "bad_prefix_length"),
            ("198.18.0.4/+8", "bad_prefix_length"),
            ("198.18.0.4/08", "bad_prefix_length"),
            ("198.18.0.4/", "bad_prefix_length"),
            ("198.18.0.0/255.255.255.0", "bad_prefix_length"),
            ("2001:2::/129", "bad_prefix_length"),
            ("198.18.0.77/24", "host_bits_set"),
            ("2001:2::77/64", "host_bits_set"),
            ("198.18.0.1:0", "bad_port"),
            ("198.18.0.1:70000", "bad_port"),
            ("198.18.0.1:65536", "bad_port"),
            ("198.18.0.1:", "bad_port"),
            ("198.18.0.1:+23", "bad_port"),
            ("198.18.0.1:023", "bad_port"),
            ("[2001:2::1]:0", "bad_port"),
            ("[2001:2::1]x", "trailing_text"),
            ("198.18.0.1:23/icmp", "trailing_text"),
            ("[2001:2::1", "not_an_address"),
        ] {
            assert_eq!(read(text), Err(reason), "{text}");
        }
    }
}
