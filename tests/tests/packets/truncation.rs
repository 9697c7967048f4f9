//! Frames that end too early.

use sekisho_abi::{image::Bytes, reason::Reason, record::Role};
use sekisho_tests::{
    packet::{Carrier, IPV4, Ipv4, TCP, Tunnel, extension, flag, gre_field, ip, tcp},
    site::HostSite,
};

use crate::{
    lab::Case,
    layers::TAGS,
    world::{
        BY_PORT, BY_PORT_V6, CONCENTRATOR, CONCENTRATOR_V6, LINE, LINE_V6, LISTED, LISTED_V6,
        SUBSCRIBER, SUBSCRIBER_V6, ruleset,
    },
};

/// Cuts a frame to every length from Ethernet on: it ends in the first part whose end is beyond.
fn cut(sentence: &str, frame: &[u8], parts: &[(usize, Reason)]) -> Vec<Case> {
    let of_length = |length: usize| {
        let part = parts.iter().find(|(end, _)| length < *end);
        let reason = part.map_or(Reason::Dropped, |(_, reason)| *reason);
        Case::outbound(format!("{sentence}, cut to {length}"), frame[..length].to_vec(), reason)
    };
    (14..=frame.len()).map(of_length).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let payload = tcp(40_000, 23, flag::SYN);
    let v4 = |remote| Ipv4 { options: &[1; 8], ..Ipv4::new(SUBSCRIBER, remote, TCP) };
    let v6 = |remote| ip(SUBSCRIBER_V6, remote, 60, &[extension(TCP, 1), payload.clone()].concat());
    let mut cases = Vec::new();
    for tags in TAGS {
        let link = 14 + tags.len() * 4;
        for (carrier, header, truncated) in [
            (Carrier::Plain, 0, Reason::NotIp),
            (Carrier::Pppoe(9), 8, Reason::TruncatedPppoe),
            // The eighth byte is read in any case.
            (Carrier::PppoeCompressed(9), 8, Reason::TruncatedPppoe),
            // The first byte behind the labels tells what they carry.
            (Carrier::Mpls { ethertype: 0x8847, labels: 1 }, 5, Reason::TruncatedMpls),
            (Carrier::Mpls { ethertype: 0x8848, labels: 4 }, 17, Reason::TruncatedMpls),
        ] {
            let network = match carrier {
                Carrier::PppoeCompressed(_) => link + 7,
                _ => link + header / 4 * 4,
            };
            // Of an address that is listed for every packet, the ports don't matter.
            for (packet, header_bytes, in_network, ports_at) in [
                (v4(BY_PORT).bytes(&payload), 28, Reason::TruncatedIpv4, Some(28)),
                (v4(LISTED).bytes(&payload), 28, Reason::TruncatedIpv4, None),
                (v6(BY_PORT_V6), 40, Reason::TruncatedIpv6, Some(56)),
                (v6(LISTED_V6), 40, Reason::TruncatedIpv6, None),
            ] {
                let frame = carrier.frame(tags, &packet);
                // Behind labels only a whole packet is one.
                let behind_header = match (carrier, ports_at) {
                    (Carrier::Mpls { .. }, _) => (frame.len(), Reason::MplsNotIp),
                    (_, Some(at)) => (network + at + 4, Reason::TruncatedTransport),
                    (_, None) => (0, Reason::Dropped),
                };
                let whole_header = match carrier {
                    // The checksum is there to be asked once the fixed part is.
                    Carrier::Mpls { .. } if header_bytes == 28 => 20,
                    _ => header_bytes,
                };
                let parts = [
                    (link, Reason::TruncatedVlan),
                    (link + header, truncated),
                    (network + whole_header, in_network),
                    behind_header,
                ];
                let sentence = format!("{carrier:?} {tags:x?} IPv6 {}", header_bytes == 40);
                cases.extend(cut(&sentence, &frame, &parts));
            }
        }
    }
    cases.extend(in_tunnels());
    cases
}

fn in_tunnels() -> Vec<Case> {
    let payload = tcp(40_000, 23, flag::SYN);
    let v4 = ip(SUBSCRIBER, BY_PORT, TCP, &payload);
    let v6 = ip(SUBSCRIBER_V6, BY_PORT_V6, TCP, &payload);
    let fields = gre_field::CHECKSUM | gre_field::KEY | gre_field::SEQUENCE;
    let mut cases = Vec::new();
    for (line, concentrator, outer, in_outer) in [
        (LINE, CONCENTRATOR, 20, Reason::TruncatedIpv4),
        (LINE_V6, CONCENTRATOR_V6, 40, Reason::TruncatedIpv6),
    ] {
        for (inner, inner_bytes, in_inner) in
            [(&v4, 20, Reason::TruncatedIpv4), (&v6, 40, Reason::TruncatedIpv6)]
        {
            for (tunnel, fixed, optional) in
                [(Tunnel::Ip, 0, 0), (Tunnel::Gre(0), 4, 0), (Tunnel::Gre(fields), 4, 12)]
            {
                let packet = tunnel.packet(line, concentrator, inner);
                let network = 14 + outer + fixed + optional;
                let parts = [
                    (14 + outer, in_outer),
                    (14 + outer + fixed, Reason::TruncatedGre),
                    (network + inner_bytes, in_inner),
                    (network + inner_bytes + 4, Reason::TruncatedTransport),
                ];
                let sentence =
                    format!("{tunnel:?} between {line} and {concentrator}, inside {in_inner:?}");
                cases.extend(cut(&sentence, &Carrier::Plain.frame(&[], &packet), &parts));
            }
        }
    }
    // An extension header that ends early hides that there is a tunnel at all.
    let behind_options = ip(LINE_V6, CONCENTRATOR_V6, 60, &[extension(IPV4, 1), v4].concat());
    let parts = [
        (54, Reason::TruncatedIpv6),
        (58, Reason::NotListed),
        (54 + 16 + 20, Reason::TruncatedIpv4),
        (54 + 16 + 24, Reason::TruncatedTransport),
    ];
    let frame = Carrier::Plain.frame(&[], &behind_options);
    cases.extend(cut("IPv4 in IPv6 behind destination options", &frame, &parts));
    cases
}

/// The kernel's test run takes nothing shorter than an Ethernet header.
#[test]
fn what_is_shorter_than_an_ethernet_header_is_counted_as_such() {
    let image = ruleset(1);
    assert!(image.bytes().u64(0).is_some());
    for length in 0..14 {
        let (reason, _) = HostSite::new(Role::Both).judge(&vec![0; length], &image);
        assert_eq!(reason, Reason::TruncatedEthernet, "{length} bytes");
    }
}
