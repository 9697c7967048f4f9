//! What most frames are, with no more read than tells them apart from others.

use sekisho_abi::encapsulation::Encapsulation;
use zerocopy::{FromBytes, transmute};

use super::{
    Ends, Link,
    link::{ETHERNET_BYTES, pppoe, tagged},
    network::{Ipv4Header, Ipv6Header},
    protocol,
};
use crate::frame::Frame;

/// As many VLAN tags as most frames have: the service tag, and the customer's.
const VLAN_TAGS: usize = 2;

/// Whether an Ethernet frame without tags carries IPv6, and where that begins. `None` if it carries neither
/// that nor IPv4.
#[inline(always)]
pub fn bare_link<F: Frame + ?Sized>(frame: &F) -> Option<(bool, usize)> {
    const IPV4: u16 = 0x0800_u16.to_be();
    const IPV6: u16 = 0x86dd_u16.to_be();
    match u16::from_ne_bytes(frame.read(12)?) {
        IPV4 => Some((false, ETHERNET_BYTES)),
        IPV6 => Some((true, ETHERNET_BYTES)),
        _ => None,
    }
}

/// What most other frames have in front of IP: two tags at most, and a PPPoE session if that is to be
/// unwrapped.
#[inline(always)]
pub fn usual_link<F: Frame + ?Sized>(
    frame: &F,
    unwrapped: impl FnOnce() -> Encapsulation,
) -> Option<Link> {
    let (mut link, ethertype) = tagged(frame, VLAN_TAGS).ok()?;
    match ethertype {
        0x0800 => {}
        0x86dd => link.is_ipv6 = true,
        0x8864 if unwrapped().has(Encapsulation::PPPOE) => link = pppoe(frame, link).ok()?,
        _ => return None,
    }
    Some(link)
}

/// A whole IPv4 packet without options, the first fragment if it has several, with TCP or UDP in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualIpv4 {
    /// Source address in network byte order.
    pub source: u32,
    /// Destination address in network byte order.
    pub destination: u32,
    /// IANA protocol number, TCP's or UDP's.
    pub protocol: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Where the transport header begins.
    payload: usize,
}

#[derive(FromBytes)]
#[repr(C)]
struct Ipv4AndPorts {
    ipv4: Ipv4Header,
    source_port: [u8; 2],
    destination_port: [u8; 2],
}

/// Reads an IPv4 packet at an offset, if it is a usual one.
#[inline(always)]
pub fn usual_ipv4<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<UsualIpv4> {
    let bytes: [u8; size_of::<Ipv4AndPorts>()] = frame.read(offset)?;
    let Ipv4AndPorts { ipv4, source_port, destination_port } = transmute!(bytes);
    let total = u64::from(u16::from_be_bytes(ipv4.total_length));
    let is_usual = ipv4.version_ihl == 0x45
        && total >= size_of::<Ipv4Header>() as u64
        && offset as u64 + total <= frame.length()
        && ipv4.is_first_fragment()
        && matches!(ipv4.protocol, protocol::TCP | protocol::UDP);
    is_usual.then(|| UsualIpv4 {
        source: u32::from_ne_bytes(ipv4.source),
        destination: u32::from_ne_bytes(ipv4.destination),
        protocol: ipv4.protocol,
        source_port: u16::from_be_bytes(source_port),
        destination_port: u16::from_be_bytes(destination_port),
        payload: offset + size_of::<Ipv4Header>(),
    })
}

impl UsualIpv4 {
    /// The flag byte of a TCP header, 0 of UDP. `None` if the frame ends before.
    #[inline(always)]
    pub fn tcp_flags<F: Frame + ?Sized>(&self, frame: &F) -> Option<u8> {
        if self.protocol != protocol::TCP {
            return Some(0);
        }
        let [flags] = frame.read(self.payload + 13)?;
        Some(flags)
    }
}

/// The addresses of an IPv6 packet at an offset, if it is whole, has no extension headers, and TCP or UDP
/// in it.
#[inline(always)]
pub fn usual_ipv6<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Ends> {
    let header = Ipv6Header::read(frame, offset).ok()?;
    let is_usual = matches!(header.next_header, protocol::TCP | protocol::UDP)
        && offset as u64 + header.total_length() <= frame.length();
    is_usual.then(|| header.ends())
}
