//! IP in IP, and GRE.

use sekisho_abi::{encapsulation::Encapsulation, reason::Reason};

use super::{Ip, protocol};
use crate::frame::Frame;

/// The packet inside a tunnel packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where its header begins.
    pub offset: usize,
    /// Whether it is IPv6; else IPv4.
    pub is_ipv6: bool,
    /// The kind of tunnel.
    pub encapsulation: Encapsulation,
}

/// What a packet carries if it is of a tunnel that is to be unwrapped. [`Reason::NotListed`] is the
/// word for every other packet: nobody gets here with an address that is listed for it.
#[inline(always)]
pub fn tunnel<F: Frame + ?Sized>(
    frame: &F,
    outer: &Ip,
    unwrapped: Encapsulation,
) -> Result<Inner, Reason> {
    let kind = kind(outer);
    if kind == Encapsulation::default() || !unwrapped.has(kind) {
        return Err(Reason::NotListed);
    }
    match outer.hidden {
        Reason::PortNotListed => {}
        Reason::LaterFragment => return Err(Reason::LaterTunnelFragment),
        other => return Err(other),
    }
    if kind == Encapsulation::GRE {
        return gre(frame, outer.payload);
    }
    let is_ipv6 = outer.protocol == protocol::IPV6;
    Ok(Inner { offset: outer.payload, is_ipv6, encapsulation: kind })
}

/// The kind of tunnel that a packet belongs to, empty if to none.
#[inline(always)]
pub fn kind(ip: &Ip) -> Encapsulation {
    match (ip.protocol, ip.is_ipv6) {
        (protocol::IPV4, false) => Encapsulation::IPIP,
        (protocol::IPV4, true) => Encapsulation::IPV4_IN_IPV6,
        (protocol::IPV6, false) => Encapsulation::IPV6_IN_IPV4,
        (protocol::IPV6, true) => Encapsulation::IP6IP6,
        (protocol::GRE, _) => Encapsulation::GRE,
        _ => Encapsulation::default(),
    }
}

/// RFC 2784 with the key and sequence number of RFC 2890. Source routes (RFC 1701) and version 1
/// (PPTP, RFC 2637) carry no IP that could be found here.
#[inline(always)]
fn gre<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Inner, Reason> {
    const CHECKSUM: u8 = 0x80;
    const ROUTING: u8 = 0x40;
    const KEY: u8 = 0x20;
    const SEQUENCE: u8 = 0x10;
    let Some([flags, version, type_high, type_low]) = frame.read(offset) else {
        return Err(Reason::TruncatedGre);
    };
    if version & 7 != 0 || flags & ROUTING != 0 {
        return Err(Reason::GreNotIp);
    }
    let is_ipv6 = match u16::from_be_bytes([type_high, type_low]) {
        0x0800 => false,
        0x86dd => true,
        _ => return Err(Reason::GreNotIp),
    };
    let field = |flag: u8| if flags & flag == 0 { 0 } else { 4 };
    let offset = frame.forget_offset(offset + 4 + field(CHECKSUM) + field(KEY) + field(SEQUENCE));
    Ok(Inner { offset, is_ipv6, encapsulation: Encapsulation::GRE })
}
