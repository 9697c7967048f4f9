//! From bytes to addresses, protocol and ports.
//!
//! A packet is read only as far as its judgement needs: link and network layer for every packet,
//! extension headers and ports for those whose remote address is listed.

use sekisho_abi::reason::Reason;
use zerocopy::{FromBytes, transmute};

use crate::frame::Frame;

/// VLAN tags that are walked: customer and service tag, and two more for carriers of carriers.
pub const MAX_VLAN_TAGS: usize = 4;

/// IPv6 extension headers that are walked. RFC 8200, 4.1 lets each occur once but one twice: seven.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// IANA protocol numbers.
pub mod protocol {
    /// Transmission Control Protocol, RFC 9293.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol, RFC 768.
    pub const UDP: u8 = 17;
    /// Datagram Congestion Control Protocol, RFC 4340.
    pub const DCCP: u8 = 33;
    /// Stream Control Transmission Protocol, RFC 9260.
    pub const SCTP: u8 = 132;
    /// Lightweight User Datagram Protocol, RFC 3828.
    pub const UDP_LITE: u8 = 136;
}

/// What the packet carries behind Ethernet and VLAN tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the network header begins.
    pub offset: usize,
    /// Whether it is IPv6; else IPv4.
    pub is_ipv6: bool,
    /// VLAN identifiers, outermost in the upper half, second in the lower.
    pub vlans: u32,
    /// How many tags there are.
    pub tags: u8,
}

/// An IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address, host byte order.
    pub source: u32,
    /// Destination address, host byte order.
    pub destination: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// Whether this is a fragment behind the first, which has no transport header.
    pub later_fragment: bool,
    /// Where the transport header begins.
    pub payload: usize,
}

/// An IPv6 header. Addresses are two halves in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub source: (u64, u64),
    /// Destination address.
    pub destination: (u64, u64),
    /// IANA protocol number of the first header behind.
    pub next_header: u8,
    /// Where that header begins.
    pub payload: usize,
}

/// What the transport layer shows. Flat, so that every part is defined whatever the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IANA protocol number.
    pub protocol: u8,
    /// Whether the packet shows ports.
    pub has_ports: bool,
    /// Source port, 0 without ports.
    pub source_port: u16,
    /// Destination port, 0 without ports.
    pub destination_port: u16,
    /// Flag byte of a TCP header, else 0.
    pub tcp_flags: u8,
    /// Why a condition on ports does not match: they are others, there are none, or why they can't
    /// be seen.
    pub without_match: Reason,
}

/// Walks Ethernet (IEEE 802.3) and VLAN tags (802.1Q, 802.1ad, and 0x9100 of older gear).
#[inline(always)]
pub fn link<F: Frame + ?Sized>(frame: &F) -> Result<Link, Reason> {
    let Some(field) = frame.read(12) else { return Err(Reason::TruncatedEthernet) };
    let mut ethertype = u16::from_be_bytes(field);
    let mut link = Link { offset: 14, is_ipv6: false, vlans: 0, tags: 0 };
    for tag in 0..MAX_VLAN_TAGS {
        if !is_vlan(ethertype) {
            break;
        }
        let Some([high, low, type_high, type_low]) = frame.read(link.offset) else {
            return Err(Reason::TruncatedVlan);
        };
        let vlan = u32::from(u16::from_be_bytes([high & 0x0f, low]));
        match tag {
            0 => link.vlans = vlan << 16,
            1 => link.vlans |= vlan,
            _ => {}
        }
        ethertype = u16::from_be_bytes([type_high, type_low]);
        link.offset += 4;
        link.tags += 1;
    }
    match ethertype {
        0x0800 => Ok(link),
        0x86dd => Ok(Link { is_ipv6: true, ..link }),
        other if is_vlan(other) => Err(Reason::TooManyVlans),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// RFC 791, 3.1, without options.
#[derive(FromBytes)]
#[repr(C)]
struct Ipv4Header {
    version_ihl: u8,
    _type_of_service: u8,
    _total_length: [u8; 2],
    _identification: [u8; 2],
    fragment: [u8; 2],
    _time_to_live: u8,
    protocol: u8,
    _checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

/// Reads an IPv4 header, options skipped.
#[inline(always)]
pub fn ipv4<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Ipv4, Reason> {
    let bytes: [u8; 20] = frame.read(offset).ok_or(Reason::TruncatedIpv4)?;
    let header: Ipv4Header = transmute!(bytes);
    let length = usize::from(header.version_ihl & 0x0f) * 4;
    if header.version_ihl >> 4 != 4 || length < 20 {
        return Err(Reason::MalformedIpv4);
    }
    Ok(Ipv4 {
        source: u32::from_be_bytes(header.source),
        destination: u32::from_be_bytes(header.destination),
        protocol: header.protocol,
        later_fragment: u16::from_be_bytes(header.fragment) & 0x1fff != 0,
        payload: offset + length,
    })
}

/// RFC 8200, 3.
#[derive(FromBytes)]
#[repr(C)]
struct Ipv6Header {
    version: u8,
    _class_and_label: [u8; 3],
    _payload_length: [u8; 2],
    next_header: u8,
    _hop_limit: u8,
    source: [[u8; 8]; 2],
    destination: [[u8; 8]; 2],
}

/// Reads an IPv6 header.
#[inline(always)]
pub fn ipv6<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Ipv6, Reason> {
    let bytes: [u8; 40] = frame.read(offset).ok_or(Reason::TruncatedIpv6)?;
    let header: Ipv6Header = transmute!(bytes);
    if header.version >> 4 != 6 {
        return Err(Reason::MalformedIpv6);
    }
    let halves = |[high, low]: [[u8; 8]; 2]| (u64::from_be_bytes(high), u64::from_be_bytes(low));
    Ok(Ipv6 {
        source: halves(header.source),
        destination: halves(header.destination),
        next_header: header.next_header,
        payload: offset + 40,
    })
}

/// The transport layer of an IPv4 packet.
#[inline(always)]
pub fn transport_v4<F: Frame + ?Sized>(frame: &F, ip: &Ipv4) -> Transport {
    if ip.later_fragment {
        return without_ports(ip.protocol, Reason::LaterFragment);
    }
    transport(frame, ip.protocol, ip.payload)
}

/// The transport layer of an IPv6 packet, behind its extension headers (RFC 8200, 4).
#[inline(always)]
pub fn transport_v6<F: Frame + ?Sized>(frame: &F, ip: &Ipv6) -> Transport {
    let (mut next, mut offset) = (ip.next_header, ip.payload);
    for _ in 0..MAX_EXTENSION_HEADERS {
        let units = match next {
            // Hop-by-hop, routing, destination options, mobility (RFC 6275), HIP (RFC 7401), shim6.
            0 | 43 | 60 | 135 | 139 | 140 => 8,
            // Fragment.
            44 => 0,
            // Authentication (RFC 4302).
            51 => 4,
            _ => return transport(frame, next, offset),
        };
        let Some([following, length, high, low]) = frame.read(offset) else {
            return without_ports(next, Reason::TruncatedTransport);
        };
        if next == 44 && u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
            return without_ports(following, Reason::LaterFragment);
        }
        offset += match units {
            8 => 8 + usize::from(length) * 8,
            4 => 8 + usize::from(length) * 4,
            _ => 8,
        };
        next = following;
    }
    match next {
        0 | 43 | 44 | 51 | 60 | 135 | 139 | 140 => {
            without_ports(next, Reason::TooManyExtensionHeaders)
        }
        _ => transport(frame, next, offset),
    }
}

#[inline(always)]
fn transport<F: Frame + ?Sized>(frame: &F, protocol: u8, offset: usize) -> Transport {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE => {}
        _ => return without_ports(protocol, Reason::PortNotListed),
    }
    let Some([source_high, source_low, destination_high, destination_low]) = frame.read(offset)
    else {
        return without_ports(protocol, Reason::TruncatedTransport);
    };
    let flags = if protocol == protocol::TCP { frame.read(offset + 13) } else { None };
    Transport {
        protocol,
        has_ports: true,
        source_port: u16::from_be_bytes([source_high, source_low]),
        destination_port: u16::from_be_bytes([destination_high, destination_low]),
        tcp_flags: flags.map_or(0, |[flags]| flags),
        without_match: Reason::PortNotListed,
    }
}

#[inline(always)]
fn without_ports(protocol: u8, why: Reason) -> Transport {
    Transport {
        protocol,
        has_ports: false,
        source_port: 0,
        destination_port: 0,
        tcp_flags: 0,
        without_match: why,
    }
}
