//! What answers and wrapped packets ought to be: built by another implementation than ours.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, NetHeaders, PacketBuilder, PacketBuilderStep,
    PacketHeaders, TransportHeader, icmpv4::DestUnreachableHeader, icmpv6::DestUnreachableCode,
};
use sekisho_tests::packet::{Carrier, IPV4, IPV6, is_ipv6};

/// A header without options from one address to another, 64 hops to go.
fn between(source: &str, destination: &str) -> PacketBuilderStep<IpHeaders> {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    match (parse(source), parse(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}

/// A TCP reset between two ends; with an acknowledgement number where that has a meaning.
pub(crate) fn reset(
    (source, source_port): (&str, u16),
    (destination, destination_port): (&str, u16),
    sequence: u32,
    acknowledgement: Option<u32>,
) -> Vec<u8> {
    let builder = between(source, destination);
    let builder = builder.tcp(source_port, destination_port, sequence, 0).rst();
    let builder = match acknowledgement {
        Some(number) => builder.ack(number),
        None => builder,
    };
    let mut packet = Vec::new();
    builder.write(&mut packet, &[]).expect("a reset is short");
    packet
}

/// "Communication administratively prohibited", with the header of a packet and eight more bytes.
pub(crate) fn prohibited(source: &str, destination: &str, refused: &[u8]) -> Vec<u8> {
    let builder = between(source, destination);
    let mut packet = Vec::new();
    let written = if is_ipv6(refused) {
        let kind = Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Prohibited);
        builder.icmpv6(kind).write(&mut packet, &refused[..48])
    } else {
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FilterProhibited);
        builder.icmpv4(kind).write(&mut packet, &refused[..28])
    };
    written.expect("an error is short");
    packet
}

/// A packet in another header of its family.
pub(crate) fn wrapped(source: &str, destination: &str, inner: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let protocol = if is_ipv6(inner) { IPV6 } else { IPV4 };
    between(source, destination)
        .write(&mut packet, IpNumber(protocol), inner)
        .expect("the packet is not too long");
    packet
}

/// A frame that goes back where `refused` came from; short ones keep what was there as padding.
pub(crate) fn turned(
    carrier: Carrier,
    tags: &[(u16, u16)],
    packet: &[u8],
    refused: &[u8],
) -> Vec<u8> {
    let mut frame = carrier.frame(tags, packet);
    let (destination, rest) = frame.split_at_mut(6);
    destination.swap_with_slice(&mut rest[..6]);
    for at in frame.len()..60 {
        frame.push(refused.get(at).copied().unwrap_or(0));
    }
    frame
}

/// Checks an answer's lengths and checksums and that it goes back to who sent `refused`; gives its
/// length.
pub(crate) fn assert_valid(answer: &[u8], refused: &[u8]) -> usize {
    let headers = PacketHeaders::from_ip_slice(answer).expect("an answer can be read");
    let payload = headers.payload.slice();
    let transport = headers.transport.expect("an answer is TCP or ICMP");
    match headers.net.expect("an answer is IP") {
        NetHeaders::Ipv4(header, _) => {
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(header.source, refused[16..20]);
            assert_eq!(header.destination, refused[12..16]);
            match transport {
                TransportHeader::Tcp(tcp) => {
                    assert_eq!(Ok(tcp.checksum), tcp.calc_checksum_ipv4(&header, payload));
                    assert!(tcp.rst && payload.is_empty());
                }
                TransportHeader::Icmpv4(icmp) => {
                    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload));
                    assert_eq!(payload, &refused[..28]);
                }
                other => panic!("answered with {other:?}"),
            }
            usize::from(header.total_len)
        }
        NetHeaders::Ipv6(header, _) => {
            assert_eq!(header.source, refused[24..40]);
            assert_eq!(header.destination, refused[8..24]);
            match transport {
                TransportHeader::Tcp(tcp) => {
                    assert_eq!(Ok(tcp.checksum), tcp.calc_checksum_ipv6(&header, payload));
                    assert!(tcp.rst && payload.is_empty());
                }
                TransportHeader::Icmpv6(icmp) => {
                    let (source, destination) = (header.source, header.destination);
                    let sum = icmp.icmp_type.calc_checksum(source, destination, payload);
                    assert_eq!(Ok(icmp.checksum), sum);
                    assert_eq!(payload, &refused[..48]);
                }
                other => panic!("answered with {other:?}"),
            }
            40 + usize::from(header.payload_length)
        }
        other => panic!("answered with {other:?}"),
    }
}
