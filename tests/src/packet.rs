//! Frames, built byte by byte: the tests' own idea of the headers, apart from the parser's.

#![allow(clippy::expect_used, reason = "a frame that cannot be built is a mistake in the test")]
use std::net::{Ipv4Addr, Ipv6Addr};

/// IANA protocol numbers.
pub const TCP: u8 = 6;
/// IANA protocol numbers.
pub const UDP: u8 = 17;
/// IANA protocol numbers.
pub const ICMP: u8 = 1;
/// IANA protocol numbers.
pub const ICMPV6: u8 = 58;
/// IANA protocol numbers: IPv4 in IP.
pub const IPV4: u8 = 4;
/// IANA protocol numbers: IPv6 in IP.
pub const IPV6: u8 = 41;
/// IANA protocol numbers.
pub const GRE: u8 = 47;

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
        let checksum = header_checksum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The packet in an Ethernet frame.
    pub fn frame(&self, tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
        ethernet(tags, 0x0800, &self.bytes(payload))
    }
}

/// The checksum of an IPv4 header that has none yet, RFC 1071.
fn header_checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
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

    /// The packet's bytes.
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([self.next_header, 64]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(payload);
        bytes
    }

    /// The packet in an Ethernet frame.
    pub fn frame(&self, tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
        ethernet(tags, 0x86dd, &self.bytes(payload))
    }
}

/// A plain packet of the family that its addresses are of.
pub fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    if source.contains(':') {
        Ipv6::new(source, destination, protocol).bytes(payload)
    } else {
        Ipv4::new(source, destination, protocol).bytes(payload)
    }
}

/// Whether an IP packet is IPv6.
pub fn is_ipv6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}

/// What an IP packet travels in on an Ethernet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Nothing but Ethernet.
    Plain,
    /// A PPPoE session of this number, RFC 2516.
    Pppoe(u16),
    /// The same with the protocol number of PPP in one byte (RFC 1661, 6.5).
    PppoeCompressed(u16),
    /// An MPLS label stack, RFC 3032.
    Mpls {
        /// 0x8847, or 0x8848 where the label was assigned upstream (RFC 5332).
        ethertype: u16,
        /// How many labels.
        labels: u8,
    },
}

impl Carrier {
    /// An IP packet in an Ethernet frame with VLAN tags.
    pub fn frame(self, tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => ethernet(tags, if is_ipv6(packet) { 0x86dd } else { 0x0800 }, packet),
            Self::Pppoe(session) => ethernet(tags, 0x8864, &pppoe(session, packet)),
            Self::PppoeCompressed(session) => {
                let mut bytes = pppoe(session, packet);
                bytes.remove(6);
                bytes[4..6].copy_from_slice(&(packet.len() as u16 + 1).to_be_bytes());
                ethernet(tags, 0x8864, &bytes)
            }
            Self::Mpls { ethertype, labels } => {
                ethernet(tags, ethertype, &[&label_stack(labels), packet].concat())
            }
        }
    }
}

/// A PPPoE session header, the protocol number of PPP, and an IP packet.
pub fn pppoe(session: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x11, 0];
    bytes.extend(session.to_be_bytes());
    bytes.extend((packet.len() as u16 + 2).to_be_bytes());
    bytes.extend(if is_ipv6(packet) { [0x00, 0x57] } else { [0x00, 0x21] });
    bytes.extend(packet);
    bytes
}

/// An MPLS label stack: labels from 1000 on, traffic class 5, the bottom marked.
pub fn label_stack(labels: u8) -> Vec<u8> {
    (0..labels)
        .flat_map(|at| {
            let bottom = u32::from(at + 1 == labels);
            ((1000 + u32::from(at)) << 12 | 5 << 9 | bottom << 8 | 64).to_be_bytes()
        })
        .collect()
}

/// The optional fields of a GRE header (RFC 2784, RFC 2890), as the bits of its first byte.
pub mod gre_field {
    /// Checksum, and the two reserved bytes behind it.
    pub const CHECKSUM: u8 = 0x80;
    /// Key.
    pub const KEY: u8 = 0x20;
    /// Sequence number.
    pub const SEQUENCE: u8 = 0x10;
}

/// A GRE header with these optional fields, each filled with ones, and an IP packet.
pub fn gre(fields: u8, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![fields, 0];
    bytes.extend(if is_ipv6(packet) { [0x86, 0xdd] } else { [0x08, 0x00] });
    bytes.resize(4 + 4 * fields.count_ones() as usize, 0xff);
    bytes.extend(packet);
    bytes
}

/// What an IP packet is wrapped in between two ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Another IP header: IPv4-in-IPv6, 6in4, IPIP, IP6IP6.
    Ip,
    /// Another IP header and GRE with these optional fields.
    Gre(u8),
}

impl Tunnel {
    /// The packet of the tunnel between two addresses that carries this one.
    pub fn packet(self, source: &str, destination: &str, inner: &[u8]) -> Vec<u8> {
        match self {
            Self::Ip => ip(source, destination, if is_ipv6(inner) { IPV6 } else { IPV4 }, inner),
            Self::Gre(fields) => ip(source, destination, GRE, &gre(fields, inner)),
        }
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// See [`flag`].
    pub flags: u8,
    /// Options, a multiple of four bytes.
    pub options: &'a [u8],
    /// What it carries.
    pub data: &'a [u8],
}

impl Tcp<'_> {
    /// The segment's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags]);
        bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(self.options);
        bytes.extend(self.data);
        bytes
    }
}

/// A TCP header without options, and four bytes of data.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let (sequence, acknowledgement) = (1, 2);
    Tcp { source, destination, sequence, acknowledgement, flags, options: &[], data: b"data" }
        .bytes()
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
