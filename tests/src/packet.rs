//! Frames, built byte by byte: the tests' own idea of the headers, apart from the parser's.

#![allow(clippy::expect_used, reason = "a frame that cannot be built is a mistake in the test")]
use std::net::{Ipv4Addr, Ipv6Addr};

/// IANA protocol numbers.
pub const TCP: u8 = 6;
/// IANA protocol numbers.
pub const UDP: u8 = 17;
/// IANA protocol numbers.
pub const ICMP: u8 = 1;

/// TCP flags, RFC 9293, 3.1.
pub mod flag {
    /// Finish.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Acknowledge.
    pub const ACK: u8 = 0x10;
}

/// An Ethernet frame with VLAN tags (TPID and VLAN identifier each, outermost first).
pub fn ethernet(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0x0a, 0x02, 0, 0, 0, 0, 0x0b];
    for (tpid, vlan) in tags {
        frame.extend(tpid.to_be_bytes());
        // Priority 5 in the upper bits, so that forgetting to mask them shows.
        frame.extend((0xa000 | vlan).to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// IANA protocol number.
    pub protocol: u8,
    /// Options, a multiple of four bytes.
    pub options: &'a [u8],
    /// Fragment offset in units of eight bytes.
    pub fragment: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl<'a> Ipv4<'a> {
    /// A packet without options that is no fragment.
    pub fn new(source: &str, destination: &str, protocol: u8) -> Self {
        Self {
            source: source.parse().expect("an IPv4 address"),
            destination: destination.parse().expect("an IPv4 address"),
            protocol,
            options: &[],
            fragment: 0,
            more: false,
        }
    }

    /// The packet's bytes.
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = (header + payload.len()) as u16;
        let mut bytes = vec![0x40 | (header / 4) as u8, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 7]);
        bytes.extend((u16::from(self.more) << 13 | self.fragment).to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(self.options);
        bytes.extend(payload);
        bytes
    }

    /// The packet in an Ethernet frame.
    pub fn frame(&self, tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
        ethernet(tags, 0x0800, &self.bytes(payload))
    }
}

/// An IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6 {
    /// Source.
    pub source: Ipv6Addr,
    /// Destination.
    pub destination: Ipv6Addr,
    /// IANA protocol number of what follows.
    pub next_header: u8,
}

impl Ipv6 {
    /// A packet.
    pub fn new(source: &str, destination: &str, next_header: u8) -> Self {
        Self {
            source: source.parse().expect("an IPv6 address"),
            destination: destination.parse().expect("an IPv6 address"),
            next_header,
        }
    }

    /// The packet in an Ethernet frame.
    pub fn frame(&self, tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([self.next_header, 64]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(payload);
        ethernet(tags, 0x86dd, &bytes)
    }
}

/// A TCP header without options, and four bytes of data.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(b"data");
    bytes
}

/// A UDP header and four bytes of data.
pub fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend([0, 12, 0, 0]);
    bytes.extend(b"data");
    bytes
}

/// An IPv6 extension header of the common shape, `units` times eight bytes beyond the first eight.
pub fn extension(next: u8, units: u8) -> Vec<u8> {
    let mut bytes = vec![next, units];
    bytes.resize(8 + usize::from(units) * 8, 0);
    bytes
}

/// An IPv6 fragment header; the offset counts units of eight bytes.
pub fn fragment(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![next, 0, high, low, 0, 0, 0, 9]
}
