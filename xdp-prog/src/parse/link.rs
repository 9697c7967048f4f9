//! Ethernet, VLAN tags, PPPoE sessions, MPLS.

use sekisho_abi::{encapsulation::Encapsulation, reason::Reason};

use crate::frame::Frame;

/// VLAN tags that are walked: customer and service tag, and two more for carriers of carriers.
pub const MAX_VLAN_TAGS: usize = 4;

/// Bytes of an Ethernet header without tags.
pub(super) const ETHERNET_BYTES: usize = 14;

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
    /// Makes the verifier forget which way led here. All of it: that of kernel 6.1 tells a zero that
    /// was written from one that was read.
    #[inline(always)]
    pub fn forget<F: Frame + ?Sized>(&mut self, frame: &F) {
        self.offset = frame.forget_offset(self.offset);
        self.vlans = frame.forget(self.vlans.into()) as u32;
        self.tags = frame.forget(self.tags.into()) as u8;
        self.encapsulation = Encapsulation(frame.forget(self.encapsulation.0.into()) as u8);
        self.pppoe_session = frame.forget(self.pppoe_session.into()) as u16;
    }
}

/// Walks Ethernet (IEEE 802.3), VLAN tags (802.1Q, 802.1ad, and 0x9100 of older gear), then a PPPoE
/// session header or an MPLS label stack, as far as these are to be unwrapped.
#[inline(always)]
pub fn link<F: Frame + ?Sized>(frame: &F, unwrapped: Encapsulation) -> Result<Link, Reason> {
    let (mut link, ethertype) = tagged(frame, MAX_VLAN_TAGS)?;
    link.offset = frame.forget_offset(link.offset);
    match ethertype {
        0x0800 => {}
        0x86dd => link.is_ipv6 = true,
        0x8864 if unwrapped.has(Encapsulation::PPPOE) => link = pppoe(frame, link)?,
        0x8847 | 0x8848 if unwrapped.has(Encapsulation::MPLS) => link = mpls(frame, link)?,
        other if is_vlan(other) => return Err(Reason::TooManyVlans),
        _ => return Err(Reason::NotIp),
    }
    link.forget(frame);
    Ok(link)
}

/// Ethernet and so many VLAN tags, and the type of what comes behind them.
#[inline(always)]
pub(super) fn tagged<F: Frame + ?Sized>(frame: &F, most: usize) -> Result<(Link, u16), Reason> {
    let Some(field) = frame.read(12) else { return Err(Reason::TruncatedEthernet) };
    let mut ethertype = u16::from_be_bytes(field);
    let mut link = Link {
        offset: ETHERNET_BYTES,
        is_ipv6: false,
        vlans: 0,
        tags: 0,
        encapsulation: Encapsulation(0),
        pppoe_session: 0,
    };
    for tag in 0..most {
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
    Ok((link, ethertype))
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// RFC 2516, 4, and the protocol field of PPP behind it (RFC 1661, 2): two bytes, or one, which then
/// is odd, where both ends agreed to compress it. RFC 2516, 7 recommends against that and allows it.
#[inline(always)]
pub(super) fn pppoe<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<Link, Reason> {
    let Some(header) = frame.read::<8>(link.offset) else { return Err(Reason::TruncatedPppoe) };
    let [version_type, code, session_high, session_low, _, _, ppp_high, ppp_low] = header;
    if version_type != 0x11 || code != 0 {
        return Err(Reason::MalformedPppoe);
    }
    let is_compressed = ppp_high & 1 != 0;
    let protocol =
        if is_compressed { u16::from(ppp_high) } else { u16::from_be_bytes([ppp_high, ppp_low]) };
    let is_ipv6 = match protocol {
        0x0021 => false,
        0x0057 => true,
        _ => return Err(Reason::PppControl),
    };
    Ok(Link {
        offset: link.offset + if is_compressed { 7 } else { 8 },
        is_ipv6,
        encapsulation: Encapsulation::PPPOE,
        pppoe_session: u16::from_be_bytes([session_high, session_low]),
        ..link
    })
}

/// RFC 3032, 2.1. A label stack does not say what it carries: IP shows by its header, and anything
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
    if !(if is_ipv6 { looks_like_ipv6(frame, offset) } else { looks_like_ipv4(frame, offset) }) {
        return Err(Reason::MplsNotIp);
    }
    Ok(Link { offset, is_ipv6, encapsulation: Encapsulation::MPLS, ..link })
}

/// Whether what begins with a 4 is an IPv4 header: an Ethernet address may begin so too, behind the
/// labels of a pseudowire without control word (RFC 4448, 4.6). One that is cut is left to the
/// reader of such headers.
#[inline(always)]
fn looks_like_ipv4<F: Frame + ?Sized>(frame: &F, offset: usize) -> bool {
    /// 32-bit words of a header without options, and of the longest.
    const WORDS: (usize, usize) = (5, 15);
    let Some(header) = frame.read::<20>(offset) else { return true };
    let words = usize::from(header[0] & 0x0f);
    let total = u64::from(u16::from_be_bytes([header[2], header[3]]));
    if words < WORDS.0 || total < words as u64 * 4 || !reaches(frame, offset, total) {
        return false;
    }
    let mut sum = 0;
    for word in header.as_chunks().0 {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    sum = frame.forget(sum);
    for word in WORDS.0..WORDS.1 {
        if word >= words {
            break;
        }
        let Some(word) = frame.read(offset + word * 4) else { return false };
        sum = frame.forget(sum + u64::from(u32::from_be_bytes(word)));
    }
    // RFC 1071: halves are added with their carries, and with the checksum all bits are set.
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum == 0xffff
}

/// The same for a 6. There is no checksum: the packet has to fit the frame.
#[inline(always)]
fn looks_like_ipv6<F: Frame + ?Sized>(frame: &F, offset: usize) -> bool {
    let Some(header) = frame.read::<40>(offset) else { return true };
    let payload = u64::from(u16::from_be_bytes([header[4], header[5]]));
    reaches(frame, offset, 40 + payload)
}

/// Whether a frame has so many bytes from an offset on. What the verifier learns of the length, it
/// learns of a copy: the packets that come here would else be followed apart from all others.
#[inline(always)]
fn reaches<F: Frame + ?Sized>(frame: &F, offset: usize, bytes: u64) -> bool {
    offset as u64 + bytes <= frame.forget(frame.length())
}
