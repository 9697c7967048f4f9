//! The way to the sinkhole: a new Ethernet header, and an outer IP header where it is far.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use sekisho_abi::{
    encapsulation::Encapsulation,
    record::{Direction, Forwarding, SINKHOLE_DEVICE, Sinkhole, SinkholeKind},
};
use sekisho_xdp::{
    decide::Sighting,
    flow::hash_of,
    frame::Frame as _,
    parse::{Ip, protocol},
};

use super::{answer::put_ipv4, constant, maps, packet::Packet, redirect};

const ETHERNET_BYTES: usize = 14;
const HOPS: u32 = 64;

/// Whether the sinkhole takes this packet: from the subscriber, not in a tunnel, and not too long.
#[inline(always)]
pub(super) fn takes(packet: &Packet<'_>, found: &Sighting) -> bool {
    let Some(sinkhole) = maps::sinkhole() else { return false };
    let link_layer = Encapsulation::PPPOE.with(Encapsulation::MPLS).with(Encapsulation::EMBEDDED);
    let ip = &found.ip;
    let length = packet.length().saturating_sub(ip.offset as u64);
    let reaches = match (is_tunnel(sinkhole), ip.is_ipv6) {
        (false, _) => sinkhole.kind == SinkholeKind::NextHop as u8,
        (true, false) => sinkhole.destination_v4 != 0,
        (true, true) => sinkhole.destination_v6 != [0; 2],
    };
    reaches
        && found.direction == Direction::Outbound
        && found.encapsulation.0 & !link_layer.0 == 0
        && packet.in_first_buffer() >= ip.offset as u64
        && length + outer_bytes(sinkhole, ip) as u64 <= sinkhole.mtu.into()
        && constant::forwarding() != Forwarding::Tap
}

#[inline(always)]
fn is_tunnel(sinkhole: &Sinkhole) -> bool {
    sinkhole.kind == SinkholeKind::Tunnel as u8
}

/// Bytes of the outer header.
#[inline(always)]
fn outer_bytes(sinkhole: &Sinkhole, ip: &Ip) -> usize {
    match (is_tunnel(sinkhole), ip.is_ipv6) {
        (false, _) => 0,
        (true, false) => 20,
        (true, true) => 40,
    }
}

/// Sends the packet to the sinkhole. What can't be sent is dropped.
#[inline(always)]
pub(super) fn divert(packet: &Packet<'_>, found: &Sighting) -> u32 {
    match wrap(packet, found) {
        Some(()) => redirect(SINKHOLE_DEVICE, XDP_DROP),
        None => XDP_DROP,
    }
}

#[inline(always)]
fn wrap(packet: &Packet<'_>, found: &Sighting) -> Option<()> {
    let sinkhole = maps::sinkhole()?;
    let ip = &found.ip;
    let outer = outer_bytes(sinkhole, ip);
    packet.move_head(ip.offset as i32 - (ETHERNET_BYTES + outer) as i32)?;
    let ethernet = packet.part::<ETHERNET_BYTES>(0)?;
    let ethertype: u16 = if ip.is_ipv6 { 0x86dd } else { 0x0800 };
    // SAFETY: fourteen bytes were asked for.
    unsafe {
        ethernet.put(0, sinkhole.ethernet[0]);
        ethernet.put(4, sinkhole.ethernet[1]);
        ethernet.put(8, sinkhole.ethernet[2]);
        ethernet.put(12, ethertype.to_be());
    }
    if outer == 0 {
        return Some(());
    }
    let length = packet.length().saturating_sub(ip.offset as u64) as u16;
    // Only as many low bits of the source as the operator gave away.
    let bits = u32::from(sinkhole.flow_bits) & 63;
    let flow = hash_of(found) & ((1_u64 << bits) - 1) as u32;
    if ip.is_ipv6 {
        let header = packet.part::<40>(ETHERNET_BYTES)?;
        // SAFETY: forty bytes were asked for.
        unsafe {
            header.put(0, (6_u32 << 28).to_be());
            let length_next_hops = u32::from(length) << 16 | u32::from(protocol::IPV6) << 8 | HOPS;
            header.put(4, length_next_hops.to_be());
            header.put(8, sinkhole.source_v6[0].to_be());
            header.put(16, (sinkhole.source_v6[1] | u64::from(flow)).to_be());
            header.put(24, sinkhole.destination_v6[0].to_be());
            header.put(32, sinkhole.destination_v6[1].to_be());
        }
    } else {
        let header = packet.part::<20>(ETHERNET_BYTES)?;
        let source = sinkhole.source_v4 | flow;
        put_ipv4(header, length + 20, protocol::IPV4, source, sinkhole.destination_v4);
    }
    Some(())
}
