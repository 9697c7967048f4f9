//! Ethernet, VLAN tags, PPPoE sessions, MPLS.

use sekisho_abi::{encapsulation::Encapsulation, reason::Reason};

use crate::frame::Frame;

/// VLAN tags that are walked: customer and service tag, and two more for carriers of carriers.
pub const MAX_VLAN_TAGS: usize = 4;

/// MPLS labels that are walked.
pub const MAX_LABELS: usize = 4;

/// What a frame carries, and behind what.
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
    /// PPPoE and MPLS, if there.
    pub encapsulation: Encapsulation,
    /// The PPPoE session, 0 without one.
    pub pppoe_session: u16,
}

impl Link {
    /// Nothing but an Ethernet header in front of IPv4.
    pub const PLAIN: Self = Self {
        offset: 14,
        is_ipv6: false,
        vlans: 0,
        tags: 0,
        encapsulation: Encapsulation(0),
        pppoe_session: 0,
    };
}

/// Walks Ethernet (IEEE 802.3), VLAN tags (802.1Q, 802.1ad, and 0x9100 of older gear), then a PPPoE
/// session header or an MPLS label stack, as far as these are to be unwrapped.
#[inline(always)]
pub fn link<F: Frame + ?Sized>(frame: &F, unwrapped: Encapsulation) -> Result<Link, Reason> {
    let Some(field) = frame.read(12) else { return Err(Reason::TruncatedEthernet) };
    let mut ethertype = u16::from_be_bytes(field);
    let mut link = Link {
        offset: 14,
        is_ipv6: false,
        vlans: 0,
        tags: 0,
        encapsulation: Encapsulation::default(),
        pppoe_session: 0,
    };
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
    link.offset = frame.forget_offset(link.offset);
    match ethertype {
        0x0800 => {}
        0x86dd => link.is_ipv6 = true,
        0x8864 if unwrapped.has(Encapsulation::PPPOE) => link = pppoe(frame, link)?,
        0x8847 | 0x8848 if unwrapped.has(Encapsulation::MPLS) => link = mpls(frame, link)?,
        other if is_vlan(other) => return Err(Reason::TooManyVlans),
        _ => return Err(Reason::NotIp),
    }
    link.offset = frame.forget_offset(link.offset);
    // All of it: the verifier of kernel 6.1 tells a zero that was written from one that was read.
    link.vlans = frame.forget(link.vlans.into()) as u32;
    link.tags = frame.forget(link.tags.into()) as u8;
    link.encapsulation = Encapsulation(frame.forget(link.encapsulation.0.into()) as u8);
    link.pppoe_session = frame.forget(link.pppoe_session.into()) as u16;
    Ok(link)
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// RFC 2516, 4, and the protocol field of PPP behind it (RFC 1661, 2).
#[inline(always)]
fn pppoe<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<Link, Reason> {
    let Some(header) = frame.read::<8>(link.offset) else { return Err(Reason::TruncatedPppoe) };
    let [version_type, code, session_high, session_low, _, _, ppp_high, ppp_low] = header;
    if version_type != 0x11 || code != 0 {
        return Err(Reason::MalformedPppoe);
    }
    let is_ipv6 = match u16::from_be_bytes([ppp_high, ppp_low]) {
        0x0021 => false,
        0x0057 => true,
        _ => return Err(Reason::PppControl),
    };
    Ok(Link {
        offset: link.offset + 8,
        is_ipv6,
        encapsulation: Encapsulation::PPPOE,
        pppoe_session: u16::from_be_bytes([session_high, session_low]),
        ..link
    })
}

/// RFC 3032, 2.1. A label stack does not say what it carries: IP shows by its version, and anything
/// else, such as a pseudowire's control word (RFC 4385), begins with another number.
#[inline(always)]
fn mpls<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<Link, Reason> {
    let mut offset = link.offset;
    let mut bottom = false;
    for _ in 0..MAX_LABELS {
        let Some([_, _, third, _]) = frame.read(offset) else { return Err(Reason::TruncatedMpls) };
        offset += 4;
        bottom = third & 1 != 0;
        if bottom {
            break;
        }
    }
    if !bottom {
        return Err(Reason::TooManyLabels);
    }
    let offset = frame.forget_offset(offset);
    let Some([first]) = frame.read(offset) else { return Err(Reason::TruncatedMpls) };
    let is_ipv6 = match first >> 4 {
        4 => false,
        6 => true,
        _ => return Err(Reason::MplsNotIp),
    };
    Ok(Link { offset, is_ipv6, encapsulation: Encapsulation::MPLS, ..link })
}
