//! IP in IP, GRE, and IPv4 addresses embedded in IPv6 ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use sekisho_abi::reason::Reason;
use sekisho_tests::packet::{
    Carrier, GRE, IPV4, IPV6, Ipv4, TCP, Tunnel, UDP, extension, flag, fragment, gre, gre_field,
    ip, tcp, udp,
};

use crate::{
    direction::{ROLES, reason_by_role},
    lab::Case,
    world::{
        ALLOWED, BY_PORT, CLEAN, CLEAN_V6, CONCENTRATOR, CONCENTRATOR_V6, EMBEDDING, LINE, LINE_V6,
        LISTED, LISTED_V6, OBSERVED, SUBSCRIBER, SUBSCRIBER_V6,
    },
};

/// IP in IP, and GRE with each combination of its optional fields.
pub(crate) fn tunnels() -> Vec<Tunnel> {
    let mut tunnels = vec![Tunnel::Ip];
    for checksum in [0, gre_field::CHECKSUM] {
        for key in [0, gre_field::KEY] {
            for sequence in [0, gre_field::SEQUENCE] {
                tunnels.push(Tunnel::Gre(checksum | key | sequence));
            }
        }
    }
    tunnels
}

/// The ends of a tunnel, by family.
pub(crate) const OUTER: [(&str, &str); 2] = [(LINE, CONCENTRATOR), (LINE_V6, CONCENTRATOR_V6)];

pub(crate) fn cases() -> Vec<Case> {
    [every_tunnel(), outer_ends(), fragments(), extensions(), gre_without_ip(), embedded()].concat()
}

/// Every tunnel on three kinds of link, in both directions, for each role.
fn every_tunnel() -> Vec<Case> {
    let links: [(Carrier, &[(u16, u16)]); 3] = [
        (Carrier::Plain, &[]),
        (Carrier::Pppoe(77), &[(0x88a8, 10), (0x8100, 20)]),
        (Carrier::Mpls { ethertype: 0x8847, labels: 2 }, &[(0x8100, 30)]),
    ];
    let ends = [
        (SUBSCRIBER, LISTED, true),
        (SUBSCRIBER, CLEAN, false),
        (SUBSCRIBER_V6, LISTED_V6, true),
        (SUBSCRIBER_V6, CLEAN_V6, false),
    ];
    let mut cases = Vec::new();
    for (carrier, tags) in links {
        for tunnel in tunnels() {
            for (line, concentrator) in OUTER {
                for (subscriber, remote, is_listed) in ends {
                    let payload = udp(40_000, 40_001);
                    let outbound = ip(subscriber, remote, UDP, &payload);
                    let outbound = tunnel.packet(line, concentrator, &outbound);
                    let inbound = ip(remote, subscriber, UDP, &payload);
                    let inbound = tunnel.packet(concentrator, line, &inbound);
                    for (packet, is_outbound) in [(outbound, true), (inbound, false)] {
                        for role in ROLES {
                            let sentence = format!(
                                "{remote} (outbound: {is_outbound}) in {tunnel:?} of {line} in \
                                 {carrier:?}"
                            );
                            let reason = reason_by_role(role, is_outbound, is_listed);
                            let frame = carrier.frame(tags, &packet);
                            cases.push(Case::new(role, sentence, frame, reason));
                        }
                    }
                }
            }
        }
    }
    cases
}

fn plain(packet: &[u8]) -> Vec<u8> {
    Carrier::Plain.frame(&[], packet)
}

/// What the outer addresses say, and tunnels in tunnels.
fn outer_ends() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |sentence: &str, packet: &[u8], reason| {
        cases.push(Case::outbound(sentence, plain(packet), reason));
    };
    let clean = ip(SUBSCRIBER, CLEAN, UDP, &udp(1, 2));
    let listed = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
    let of = |tunnel: Tunnel, inner: &[u8]| tunnel.packet(LINE_V6, CONCENTRATOR_V6, inner);
    for tunnel in [Tunnel::Ip, Tunnel::Gre(0)] {
        let name = format!("{tunnel:?}");
        let to_listed = tunnel.packet(LINE, LISTED, &clean);
        add(&format!("{name} to a listed end"), &to_listed, Reason::Dropped);
        let to_port = tunnel.packet(LINE, BY_PORT, &listed);
        add(
            &format!("{name} to an end that is listed for ports, which a tunnel has none of"),
            &to_port,
            Reason::Dropped,
        );
        let to_port = tunnel.packet(LINE, BY_PORT, &clean);
        add(&format!("{name} to such an end, clean inside"), &to_port, Reason::NotListed);
        let to_observed = tunnel.packet(LINE, OBSERVED, &listed);
        add(&format!("{name} to an observed end"), &to_observed, Reason::ListObserved);
        for inside in [Tunnel::Ip, Tunnel::Gre(gre_field::KEY)] {
            let nested = of(tunnel, &inside.packet(SUBSCRIBER, CLEAN, &listed));
            let sentence = format!("{inside:?} inside {name}");
            add(&sentence, &nested, Reason::NestedTunnel);
            let nested = of(tunnel, &inside.packet(SUBSCRIBER, LISTED, &clean));
            add(&format!("{sentence} to a listed end"), &nested, Reason::Dropped);
        }
        let by_port = ip(SUBSCRIBER, BY_PORT, TCP, &tcp(1, 23, flag::SYN));
        add(&format!("a listed port inside {name}"), &of(tunnel, &by_port), Reason::Dropped);
        let by_port = ip(SUBSCRIBER, BY_PORT, TCP, &tcp(1, 24, flag::SYN));
        let sentence = format!("another port inside {name}");
        add(&sentence, &of(tunnel, &by_port), Reason::PortNotListed);
        let allowed = ip(SUBSCRIBER, ALLOWED, TCP, &tcp(1, 23, flag::SYN));
        add(&format!("an allowed end inside {name}"), &of(tunnel, &allowed), Reason::NotListed);
        let mut short = listed.clone();
        short[0] = 0x41;
        add(&format!("a broken packet in {name}"), &of(tunnel, &short), Reason::MalformedIpv4);
    }
    let long = ip(SUBSCRIBER, LISTED, UDP, &[0; 40]);
    let mut lies = of(Tunnel::Ip, &long);
    lies[6] = IPV6;
    add("IPv4 where the outer header says IPv6", &lies, Reason::MalformedIpv6);
    cases
}

/// Outer fragments show the inner header once, inner ones are fragments like any other.
fn fragments() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |sentence: &str, packet: &[u8], reason| {
        cases.push(Case::outbound(sentence, plain(packet), reason));
    };
    let listed = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
    let clean = ip(SUBSCRIBER, CLEAN, UDP, &udp(1, 2));
    for (protocol, wrap) in
        [(IPV4, Vec::clone as fn(&Vec<u8>) -> Vec<u8>), (GRE, |inner| gre(0, inner))]
    {
        let outer = Ipv4::new(LINE, CONCENTRATOR, protocol);
        let first = Ipv4 { more: true, ..outer };
        let later = Ipv4 { fragment: 185, ..outer };
        let v6 = |header: Vec<u8>, inner: &Vec<u8>| {
            ip(LINE_V6, CONCENTRATOR_V6, 44, &[header, wrap(inner)].concat())
        };
        let name = format!("of a tunnel packet of protocol {protocol}");
        for (inner, reason) in [(&listed, Reason::Dropped), (&clean, Reason::NotListed)] {
            let sentence = format!("first fragment {name}, {reason:?}");
            add(&sentence, &first.bytes(&wrap(inner)), reason);
            let packet = v6(fragment(protocol, 0, true), inner);
            add(&format!("{sentence}, in IPv6"), &packet, reason);
        }
        let sentence = format!("later fragment {name}");
        add(&sentence, &later.bytes(&wrap(&listed)), Reason::LaterTunnelFragment);
        let packet = v6(fragment(protocol, 185, false), &listed);
        add(&format!("{sentence}, in IPv6"), &packet, Reason::LaterTunnelFragment);
        let to_listed = Ipv4 { destination: LISTED.parse().expect("an address"), ..later };
        add(&format!("{sentence} to a listed end"), &to_listed.bytes(&listed), Reason::Dropped);

        let later = |remote| Ipv4 { fragment: 64, ..Ipv4::new(SUBSCRIBER, remote, TCP) };
        for (remote, reason) in [
            (LISTED, Reason::Dropped),
            (BY_PORT, Reason::LaterFragment),
            (CLEAN, Reason::NotListed),
        ] {
            let inner = later(remote).bytes(&[0; 16]);
            let sentence = format!("later fragment to {remote} inside protocol {protocol}");
            add(&sentence, &outer.bytes(&wrap(&inner)), reason);
        }
    }
    cases
}

/// Extension headers in front of a tunnel, such as the encapsulation limit of RFC 2473, 4.1.1.
fn extensions() -> Vec<Case> {
    let listed = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
    let mut cases = Vec::new();
    let mut add = |sentence: &str, first: u8, headers: &[u8], inner: &[u8], reason| {
        let packet = ip(LINE_V6, CONCENTRATOR_V6, first, &[headers, inner].concat());
        cases.push(Case::outbound(sentence, plain(&packet), reason));
    };
    let limit = |next: u8| vec![next, 0, 4, 1, 4, 1, 1, 0];
    add("encapsulation limit", 60, &limit(IPV4), &listed, Reason::Dropped);
    let inner_v6 = ip(SUBSCRIBER_V6, LISTED_V6, UDP, &udp(1, 2));
    add("encapsulation limit, IPv6 inside", 60, &limit(IPV6), &inner_v6, Reason::Dropped);
    add("encapsulation limit and GRE", 60, &limit(GRE), &gre(0, &listed), Reason::Dropped);
    let clean = ip(SUBSCRIBER, CLEAN, UDP, &udp(1, 2));
    add("encapsulation limit, clean inside", 60, &limit(IPV4), &clean, Reason::NotListed);
    let chain = [extension(60, 0), limit(IPV4)].concat();
    add("hop-by-hop and encapsulation limit", 0, &chain, &listed, Reason::Dropped);
    let eight = [extension(60, 0).repeat(7), limit(IPV4)].concat();
    add("eight headers in front of a tunnel", 60, &eight, &listed, Reason::Dropped);
    let nine = [extension(60, 0).repeat(8), limit(IPV4)].concat();
    // Behind more headers than are walked nobody sees that there is a tunnel.
    add("nine headers in front of a tunnel", 60, &nine, &listed, Reason::NotListed);
    cases
}

/// GRE that carries no IP, or is of another version.
fn gre_without_ip() -> Vec<Case> {
    let listed = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
    let mut cases = Vec::new();
    let mut add = |sentence: &str, header: [u8; 4], reason| {
        let packet = ip(LINE, CONCENTRATOR, GRE, &[&header, &listed[..]].concat());
        cases.push(Case::outbound(sentence, plain(&packet), reason));
    };
    add("GRE with IPv4", [0, 0, 0x08, 0x00], Reason::Dropped);
    add("PPTP", [0x30, 0x81, 0x88, 0x0b], Reason::GreNotIp);
    add("GRE of version 1 with IPv4", [0, 1, 0x08, 0x00], Reason::GreNotIp);
    add("a source route", [0x40, 0, 0x08, 0x00], Reason::GreNotIp);
    add("Ethernet", [0, 0, 0x65, 0x58], Reason::GreNotIp);
    add("a keepalive", [0, 0, 0, 0], Reason::GreNotIp);
    add("MPLS", [0, 0, 0x88, 0x47], Reason::GreNotIp);
    cases
}

/// An address embedded as RFC 6052, 2.2 lays it out, byte by byte.
pub(crate) fn embed(prefix: &str, length: u8, v4: &str) -> String {
    let v4 = v4.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
    let mut bytes = prefix.parse::<Ipv6Addr>().expect("a prefix").octets();
    let mut at = usize::from(length / 8);
    for byte in v4 {
        // Bits 64 to 71 stay zero.
        if at == 8 {
            at += 1;
        }
        bytes[at] = byte;
        at += 1;
    }
    Ipv6Addr::from(bytes).to_string()
}

fn embedded() -> Vec<Case> {
    let mut cases = Vec::new();
    for (prefix, length) in EMBEDDING {
        for (v4, is_listed) in [(LISTED, true), (CLEAN, false), (ALLOWED, false)] {
            let remote = embed(prefix, length, v4);
            for is_outbound in [true, false] {
                let (source, destination) = if is_outbound {
                    (SUBSCRIBER_V6, remote.as_str())
                } else {
                    (remote.as_str(), SUBSCRIBER_V6)
                };
                let frame = plain(&ip(source, destination, UDP, &udp(1, 2)));
                for role in ROLES {
                    let sentence = format!("{v4} as {source} to {destination}");
                    let reason = reason_by_role(role, is_outbound, is_listed);
                    cases.push(Case::new(role, sentence, frame.clone(), reason));
                }
            }
        }
        let mut add = |sentence: &str, packet: &[u8], reason| {
            cases.push(Case::outbound(
                format!("{sentence} behind /{length}"),
                plain(packet),
                reason,
            ));
        };
        let by_port = embed(prefix, length, BY_PORT);
        for (port, reason) in [(23, Reason::Dropped), (24, Reason::PortNotListed)] {
            let packet = ip(SUBSCRIBER_V6, &by_port, TCP, &tcp(1, port, flag::SYN));
            add(&format!("port {port} of an embedded address"), &packet, reason);
        }
        let inner = ip(SUBSCRIBER_V6, &embed(prefix, length, LISTED), UDP, &udp(1, 2));
        let tunnelled = Tunnel::Ip.packet(LINE, CONCENTRATOR, &inner);
        add("an embedded address in 6in4", &tunnelled, Reason::Dropped);
    }
    let beside = ip(SUBSCRIBER_V6, &embed("64:ff9c::", 96, LISTED), UDP, &udp(1, 2));
    let sentence = "a listed address embedded in a prefix that nobody configured";
    cases.push(Case::outbound(sentence, plain(&beside), Reason::NotListed));
    cases
}
