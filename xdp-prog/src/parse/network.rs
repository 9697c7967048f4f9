//! IPv4 and IPv6.

use sekisho_abi::{reason::Reason, record::Address};
use zerocopy::{FromBytes, transmute};

use crate::frame::Frame;

/// IPv6 extension headers that are walked. RFC 8200, 4.1 lets each occur once but one twice: seven.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// The two addresses of a packet, as halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source address.
    pub source: (u64, u64),
    /// Destination address.
    pub destination: (u64, u64),
}

impl Ends {
    /// Source and destination as records have them.
    #[inline(always)]
    pub fn addresses(&self) -> (Address, Address) {
        (
            Address::v6(self.source.0, self.source.1),
            Address::v6(self.destination.0, self.destination.1),
        )
    }
}

/// An IP packet. Flat, so that every part is defined whatever the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Where its header begins.
    pub offset: usize,
    /// Whether it is IPv6; else IPv4.
    pub is_ipv6: bool,
    /// Its addresses.
    pub ends: Ends,
    /// IANA protocol number of what follows header, options and extension headers.
    pub protocol: u8,
    /// Where that begins.
    pub payload: usize,
    /// [`Reason::PortNotListed`] if that can be read, else why it can't.
    pub hidden: Reason,
}

/// Reads the IP header at an offset, with options or extension headers.
#[inline(always)]
pub fn network<F: Frame + ?Sized>(frame: &F, offset: usize, is_ipv6: bool) -> Result<Ip, Reason> {
    let mut ip = if is_ipv6 { ipv6(frame, offset)? } else { ipv4(frame, offset)? };
    ip.payload = frame.forget_offset(ip.payload);
    ip.protocol = frame.forget(ip.protocol.into()) as u8;
    Ok(ip)
}

/// RFC 791, 3.1, without options.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Ipv4Header {
    pub(super) version_ihl: u8,
    _type_of_service: u8,
    pub(super) total_length: [u8; 2],
    _identification: [u8; 2],
    fragment: [u8; 2],
    _time_to_live: u8,
    pub(super) protocol: u8,
    _checksum: [u8; 2],
    pub(super) source: [u8; 4],
    pub(super) destination: [u8; 4],
}

impl Ipv4Header {
    /// Whether this is a packet's only fragment or its first.
    #[inline(always)]
    pub(super) fn is_first_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & 0x1fff == 0
    }
}

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Ip, Reason> {
    let bytes: [u8; 20] = frame.read(offset).ok_or(Reason::TruncatedIpv4)?;
    let header: Ipv4Header = transmute!(bytes);
    let length = usize::from(header.version_ihl & 0x0f) * 4;
    // 0 is left in packets that are longer than the field can say, until they are cut for the link.
    let total = usize::from(u16::from_be_bytes(header.total_length));
    if header.version_ihl >> 4 != 4 || length < 20 || (total != 0 && total < length) {
        return Err(Reason::MalformedIpv4);
    }
    let payload = offset + length;
    if length > 20 && frame.read::<1>(frame.forget_offset(payload - 1)).is_none() {
        return Err(Reason::TruncatedIpv4);
    }
    let mapped = |address: [u8; 4]| (0, 0xffff_0000_0000 | u64::from(u32::from_be_bytes(address)));
    let is_first = header.is_first_fragment();
    Ok(Ip {
        offset,
        is_ipv6: false,
        ends: Ends { source: mapped(header.source), destination: mapped(header.destination) },
        protocol: header.protocol,
        payload,
        hidden: if is_first { Reason::PortNotListed } else { Reason::LaterFragment },
    })
}

/// RFC 8200, 3.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Ipv6Header {
    version: u8,
    _class_and_label: [u8; 3],
    payload_length: [u8; 2],
    pub(super) next_header: u8,
    _hop_limit: u8,
    source: [[u8; 8]; 2],
    destination: [[u8; 8]; 2],
}

impl Ipv6Header {
    const BYTES: usize = 40;

    #[inline(always)]
    pub(super) fn read<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Self, Reason> {
        let bytes: [u8; Self::BYTES] = frame.read(offset).ok_or(Reason::TruncatedIpv6)?;
        let header: Self = transmute!(bytes);
        if header.version >> 4 == 6 { Ok(header) } else { Err(Reason::MalformedIpv6) }
    }

    #[inline(always)]
    pub(super) fn ends(&self) -> Ends {
        let halves =
            |[high, low]: [[u8; 8]; 2]| (u64::from_be_bytes(high), u64::from_be_bytes(low));
        Ends { source: halves(self.source), destination: halves(self.destination) }
    }

    /// Bytes of the whole packet, unless it is a jumbogram (RFC 2675).
    #[inline(always)]
    pub(super) fn total_length(&self) -> u64 {
        Self::BYTES as u64 + u64::from(u16::from_be_bytes(self.payload_length))
    }
}

#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Ip, Reason> {
    let header = Ipv6Header::read(frame, offset)?;
    let mut ip = Ip {
        offset,
        is_ipv6: true,
        ends: header.ends(),
        protocol: header.next_header,
        payload: offset + Ipv6Header::BYTES,
        hidden: Reason::PortNotListed,
    };
    walk_extensions(frame, &mut ip);
    Ok(ip)
}

/// RFC 8200, 4. What can't be walked is no error: the addresses are known.
#[inline(always)]
fn walk_extensions<F: Frame + ?Sized>(frame: &F, ip: &mut Ip) {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(ip.protocol) {
            return;
        }
        let Some([following, length, high, low]) = frame.read(ip.payload) else {
            ip.hidden = Reason::TruncatedTransport;
            return;
        };
        let is_fragment = ip.protocol == FRAGMENT;
        let length = match ip.protocol {
            FRAGMENT => 8,
            AUTHENTICATION => 8 + usize::from(length) * 4,
            _ => 8 + usize::from(length) * 8,
        };
        ip.protocol = following;
        if is_fragment && u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
            ip.hidden = Reason::LaterFragment;
            return;
        }
        ip.payload = frame.forget_offset(ip.payload + length);
    }
    if is_extension(ip.protocol) {
        ip.hidden = Reason::TooManyExtensionHeaders;
    }
}

const FRAGMENT: u8 = 44;
/// RFC 4302.
const AUTHENTICATION: u8 = 51;

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility (RFC 6275), HIP
/// (RFC 7401), shim6 (RFC 5533).
#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | FRAGMENT | AUTHENTICATION | 60 | 135 | 139 | 140)
}
