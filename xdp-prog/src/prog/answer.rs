//! Answers to a subscriber whose packet was rejected: TCP RST (RFC 9293, 3.10.7.1), or ICMP
//! "communication administratively prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1).
//!
//! The rejected frame itself turns around: its Ethernet addresses are swapped, its VLAN tags and
//! PPPoE header stay, and the answer takes the place of what it carried.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_TX};
use sekisho_abi::reason::Reason;
use sekisho_abi::{
    encapsulation::Encapsulation,
    record::{ANSWER_WINDOW_NS, ANSWERS_PER_WINDOW, Direction, Forwarding},
};
use sekisho_xdp::{
    decide::Sighting,
    frame::Frame,
    parse::{Ip, protocol},
};

use super::{
    account::Now,
    checksum::Sum,
    constant, maps,
    packet::{Packet, Part},
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const HOPS: u32 = 64;
const SHORTEST_FRAME: usize = 60;
const TCP_BYTES: usize = 20;
const ICMP_BYTES: usize = 8;
/// What is quoted behind the IP header.
const QUOTED: usize = 8;

/// Whether this packet is to be answered, within the limit.
///
/// Only the subscriber is answered, never an ICMP message or a reset, and nothing whose way back is
/// unknown: tunnels and label stacks lead one way.
#[inline(always)]
pub(super) fn is_due(packet: &Packet<'_>, found: &Sighting, now: Now) -> bool {
    let two_way = Encapsulation::PPPOE.with(Encapsulation::EMBEDDED);
    let ip = &found.ip;
    let behind = packet.in_first_buffer().saturating_sub(ip.payload as u64);
    let is_answerable = match ip.protocol {
        protocol::ICMP | protocol::ICMPV6 => false,
        protocol::TCP => found.tcp_flags() & RST == 0 && behind >= TCP_BYTES as u64,
        // What is quoted begins with the fixed header.
        _ => ip.payload == ip.offset + header_bytes(ip) && behind >= QUOTED as u64,
    };
    is_answerable
        && found.direction == Direction::Outbound
        && found.encapsulation.0 & !two_way.0 == 0
        && ip.hidden == Reason::PortNotListed
        && constant::forwarding() != Forwarding::Tap
        && is_within_limit(now)
}

#[inline(always)]
fn is_within_limit(now: Now) -> bool {
    let Some(counters) = maps::event_counters() else { return false };
    if now.is_past(counters.answer_window_ns, ANSWER_WINDOW_NS) {
        counters.answer_window_ns = now.ns();
        counters.answers_in_window = 0;
    }
    counters.answers_in_window += 1;
    counters.answers_in_window <= ANSWERS_PER_WINDOW
}

/// Turns the frame into its answer. A frame that can't be turned is dropped.
#[inline(always)]
pub(super) fn send(packet: &Packet<'_>, found: &Sighting) -> u32 {
    let done = if found.ip.protocol == protocol::TCP {
        reset(packet, &found.ip)
    } else {
        prohibit(packet, &found.ip)
    };
    let Some(length) = done else { return XDP_DROP };
    match turn(packet, found, length) {
        Some(()) => XDP_TX,
        None => XDP_DROP,
    }
}

#[inline(always)]
fn header_bytes(ip: &Ip) -> usize {
    if ip.is_ipv6 { 40 } else { 20 }
}

/// Swaps the Ethernet addresses, and tells a PPPoE header the answer's length.
#[inline(always)]
fn turn(packet: &Packet<'_>, found: &Sighting, length: u16) -> Option<()> {
    let ethernet = packet.part::<12>(0)?;
    // SAFETY: twelve bytes were asked for.
    unsafe {
        let (one, two, three): (u32, u32, u32) =
            (ethernet.get(0), ethernet.get(4), ethernet.get(8));
        ethernet.put(0, two >> 16 | three << 16);
        ethernet.put(4, three >> 16 | one << 16);
        ethernet.put(8, one >> 16 | two << 16);
    }
    if found.encapsulation.has(Encapsulation::PPPOE) {
        // Behind the length there is the PPP protocol, which the length counts too. Everything else
        // in front of the IP header has an even length, so that an odd one shows a single byte.
        let protocol_bytes = 2 - (found.ip.offset & 1);
        let field = found.ip.offset.wrapping_sub(2 + protocol_bytes);
        let field = packet.part::<2>(packet.forget_offset(field))?;
        // SAFETY: two bytes were asked for.
        unsafe { field.put(0, (length + protocol_bytes as u16).to_be()) };
    }
    Some(())
}

/// Makes the frame a TCP reset; gives the length of its IP packet.
#[inline(always)]
fn reset(packet: &Packet<'_>, ip: &Ip) -> Option<u16> {
    let header: [u8; TCP_BYTES] = packet.read(ip.payload)?;
    let [source_high, source_low, destination_high, destination_low, rest @ ..] = header;
    let [s0, s1, s2, s3, a0, a1, a2, a3, data_offset, flags, ..] = rest;
    let (sequence, acknowledged) =
        (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([a0, a1, a2, a3]));
    let end = ip.offset + total_length(packet, ip)?;
    let data = end.saturating_sub(ip.payload + usize::from(data_offset >> 4) * 4) as u32;
    let (sequence, acknowledgement, flags) = if flags & ACK != 0 {
        (acknowledged, 0, RST)
    } else {
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, sequence.wrapping_add(data).wrapping_add(controls), RST | ACK)
    };
    let ports = u32::from_be_bytes([destination_high, destination_low, source_high, source_low]);
    let offset_and_flags = 5 << 28 | u32::from(flags) << 16;
    let words = [ports, sequence, acknowledgement, offset_and_flags];
    let checksum = words
        .iter()
        .fold(pseudo_header(ip, protocol::TCP, TCP_BYTES as u32), |sum, word| sum.u32(*word))
        .checksum();

    let start = ip.offset + header_bytes(ip);
    let wanted = start + TCP_BYTES;
    let frame = if wanted < SHORTEST_FRAME { SHORTEST_FRAME } else { wanted };
    packet.move_tail(frame as i32 - packet.length() as i32)?;
    let length = put_ip(packet, ip, protocol::TCP, TCP_BYTES as u16)?;
    let tcp = packet.part::<TCP_BYTES>(packet.forget_offset(start))?;
    // SAFETY: twenty bytes were asked for.
    unsafe {
        tcp.put(0, ports.to_be());
        tcp.put(4, sequence.to_be());
        tcp.put(8, acknowledgement.to_be());
        tcp.put(12, offset_and_flags.to_be());
        tcp.put(16, (u32::from(checksum) << 16).to_be());
    }
    Some(length)
}

/// Makes the frame an ICMP error that quotes it; gives the length of its IP packet.
#[inline(always)]
fn prohibit(packet: &Packet<'_>, ip: &Ip) -> Option<u16> {
    let quoted = header_bytes(ip) + QUOTED;
    let kept = ip.offset + quoted;
    let surplus = packet.length() as i32 - kept as i32;
    if surplus < 0 {
        return None;
    }
    packet.move_tail(-surplus)?;
    let added = header_bytes(ip) + ICMP_BYTES;
    packet.move_head(-(added as i32))?;
    move_link(packet, ip.offset, added)?;

    let (protocol, kind_and_code) = if ip.is_ipv6 {
        (protocol::ICMPV6, 1 << 24 | 1 << 16)
    } else {
        (protocol::ICMP, 3 << 24 | 13 << 16)
    };
    let icmp_bytes = (ICMP_BYTES + quoted) as u16;
    let mut sum =
        if ip.is_ipv6 { pseudo_header(ip, protocol, icmp_bytes.into()) } else { Sum::default() };
    sum = sum.u32(kind_and_code);
    let quote = packet.forget_offset(ip.offset + added);
    sum = if ip.is_ipv6 {
        sum_of::<48>(packet.part::<48>(quote)?, sum)
    } else {
        sum_of::<28>(packet.part::<28>(quote)?, sum)
    };
    let length = put_ip(packet, ip, protocol, icmp_bytes)?;
    let icmp = packet.part::<ICMP_BYTES>(packet.forget_offset(ip.offset + header_bytes(ip)))?;
    // SAFETY: eight bytes were asked for.
    unsafe {
        icmp.put(0, (kind_and_code | u32::from(sum.checksum())).to_be());
        icmp.put(4, 0_u32);
    }
    Some(length)
}

/// Adds the words of a part.
#[inline(always)]
fn sum_of<const N: usize>(part: Part, mut sum: Sum) -> Sum {
    for at in 0..N / 4 {
        // SAFETY: the part has N bytes.
        sum = sum.u32(u32::from_be(unsafe { part.get(at * 4) }));
    }
    sum
}

/// Moves what is in front of the IP header to the new beginning of the frame.
#[inline(always)]
fn move_link(packet: &Packet<'_>, bytes: usize, by: usize) -> Option<()> {
    /// Ethernet, four tags, PPPoE.
    const LONGEST: usize = 14 + 4 * 4 + 8;
    for at in 0..LONGEST / 2 {
        if at * 2 >= bytes {
            break;
        }
        let from: [u8; 2] = packet.read(at * 2 + by)?;
        let to = packet.part::<2>(at * 2)?;
        // SAFETY: two bytes were asked for.
        unsafe { to.put(0, from) };
    }
    Some(())
}

/// Length of the packet, header included, as its header says.
#[inline(always)]
fn total_length(packet: &Packet<'_>, ip: &Ip) -> Option<usize> {
    let field = if ip.is_ipv6 { 4 } else { 2 };
    let length = usize::from(u16::from_be_bytes(packet.read(ip.offset + field)?));
    Some(if ip.is_ipv6 { length + 40 } else { length })
}

/// The pseudo-header of a packet in the other direction (RFC 9293, 3.1; RFC 8200, 8.1).
#[inline(always)]
fn pseudo_header(ip: &Ip, protocol: u8, length: u32) -> Sum {
    let sum = Sum::default().u32(protocol.into()).u32(length);
    let ((source_high, source_low), (destination_high, destination_low)) =
        (ip.ends.source, ip.ends.destination);
    if ip.is_ipv6 {
        sum.u64(source_high).u64(source_low).u64(destination_high).u64(destination_low)
    } else {
        sum.u32(source_low as u32).u32(destination_low as u32)
    }
}

/// Writes the IP header of a packet in the other direction; gives the packet's length.
#[inline(always)]
fn put_ip(packet: &Packet<'_>, ip: &Ip, protocol: u8, payload: u16) -> Option<u16> {
    let at = packet.forget_offset(ip.offset);
    if ip.is_ipv6 {
        let header = packet.part::<40>(at)?;
        // SAFETY: forty bytes were asked for.
        unsafe {
            header.put(0, (6_u32 << 28).to_be());
            let length_next_hops = u32::from(payload) << 16 | u32::from(protocol) << 8 | HOPS;
            header.put(4, length_next_hops.to_be());
            header.put(8, ip.ends.destination.0.to_be());
            header.put(16, ip.ends.destination.1.to_be());
            header.put(24, ip.ends.source.0.to_be());
            header.put(32, ip.ends.source.1.to_be());
        }
        return Some(payload + 40);
    }
    let header = packet.part::<20>(at)?;
    let length = payload + 20;
    let (source, destination) = (ip.ends.destination.1 as u32, ip.ends.source.1 as u32);
    put_ipv4(header, length, protocol, source, destination);
    Some(length)
}

/// Writes an IPv4 header without options into twenty bytes.
#[inline(always)]
pub(super) fn put_ipv4(header: Part, length: u16, protocol: u8, source: u32, destination: u32) {
    const DONT_FRAGMENT: u32 = 0x4000;
    let words = [
        0x4500 << 16 | u32::from(length),
        DONT_FRAGMENT,
        HOPS << 24 | u32::from(protocol) << 16,
        source,
        destination,
    ];
    let sum = words.iter().fold(Sum::default(), |sum, word| sum.u32(*word));
    // SAFETY: twenty bytes were asked for.
    unsafe {
        header.put(0, words[0].to_be());
        header.put(4, words[1].to_be());
        header.put(8, (words[2] | u32::from(sum.checksum())).to_be());
        header.put(12, words[3].to_be());
        header.put(16, words[4].to_be());
    }
}
