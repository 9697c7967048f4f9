//! Traffic that a network cannot live without: it passes whatever a list says.

use sekisho_abi::reason::Reason;

use crate::{
    frame::Frame,
    parse::{Transport, protocol},
    site::PrefixSet,
};

/// Whether a packet is of routing, neighbour discovery, an ICMP error or the like; or of a service
/// that routers and access servers talk: BGP, LDP, BFD, DHCP, RADIUS.
///
/// Such services are known by their port alone, and a bot may use that port too. Once the network's
/// infrastructure is known, only what comes from there or goes there counts. Its later fragments, which
/// show no ports, all do: without the first, which is judged by its ports, they come to nothing.
#[inline(always)]
pub fn is_protected<F: Frame + ?Sized>(
    frame: &F,
    transport: &Transport,
    [subscriber, remote]: [(u64, u64); 2],
    infrastructure: &impl PrefixSet,
) -> bool {
    if is_network_control(transport) {
        return true;
    }
    let Transport { protocol, source_port, destination_port, .. } = *transport;
    let is_service = is_service(frame, protocol, source_port, destination_port);
    if infrastructure.count() == 0 {
        return is_service;
    }
    let is_later_fragment = transport.without_match == Reason::LaterFragment;
    (is_service || is_later_fragment)
        && (infrastructure.find(subscriber).is_some() || infrastructure.find(remote).is_some())
}

#[inline(always)]
fn is_network_control(transport: &Transport) -> bool {
    match transport.protocol {
        protocol::IGMP | protocol::RSVP | protocol::OSPF | protocol::PIM | protocol::VRRP => true,
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122,
        // 3.2.2).
        protocol::ICMP => matches!(transport.flags_or_type, 3..=5 | 11 | 12),
        // Errors (RFC 4443), multicast listeners (RFC 2710, RFC 3810), neighbour discovery (RFC 4861).
        protocol::ICMPV6 => matches!(transport.flags_or_type, 1..=4 | 130..=137 | 143),
        _ => false,
    }
}

/// Whether a packet may come from or go to a port of such a service: over TCP or UDP, that is left open.
#[inline(always)]
pub fn may_be_service<F: Frame + ?Sized>(
    frame: &F,
    source_port: u16,
    destination_port: u16,
) -> bool {
    transports(frame, source_port, destination_port) != 0
}

/// Whether a TCP or UDP packet comes from or goes to a port of such a service.
#[inline(always)]
fn is_service<F: Frame + ?Sized>(
    frame: &F,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
) -> bool {
    let of_it = match protocol {
        protocol::TCP => OVER_TCP,
        protocol::UDP => OVER_UDP,
        _ => return false,
    };
    transports(frame, source_port, destination_port) & of_it != 0
}

/// Over what either port is a service.
#[inline(always)]
fn transports<F: Frame + ?Sized>(frame: &F, source_port: u16, destination_port: u16) -> u8 {
    // Masked, as the verifier of kernel 6.1 forgets that what lies on the stack has two bytes only.
    let of = |port: u16| SERVICES[frame.opaque(port.to_be().into()) as usize % SERVICES.len()];
    of(source_port) | of(destination_port)
}

const OVER_TCP: u8 = 1;
const OVER_UDP: u8 = 2;

const BGP: u16 = 179;
const LDP: u16 = 646;

const TCP_SERVICES: &[u16] = &[BGP, LDP];

const UDP_SERVICES: &[u16] = &[
    // DHCP (RFC 2131), DHCPv6 (RFC 8415), LDP (RFC 5036).
    67, 68, 546, 547, LDP,
    // RADIUS and its older ports (RFC 2865, RFC 2866), dynamic authorisation (RFC 5176).
    1812, 1813, 1645, 1646, 3799,
    // BFD: single hop (RFC 5881), multihop (RFC 5883), LAG (RFC 7130), seamless (RFC 7881).
    3784, 3785, 4784, 6784, 7784,
];

/// Over what a port in network byte order is a service: one look instead of a comparison with each.
static SERVICES: [u8; 1 << 16] = {
    let mut services = [0; 1 << 16];
    let mut at = 0;
    while at < TCP_SERVICES.len() {
        services[TCP_SERVICES[at].to_be() as usize] |= OVER_TCP;
        at += 1;
    }
    at = 0;
    while at < UDP_SERVICES.len() {
        services[UDP_SERVICES[at].to_be() as usize] |= OVER_UDP;
        at += 1;
    }
    services
};
