//! Packets: a frame of 64 bytes, and the addresses that the tracer writes into it one by one.

use std::net::{Ipv4Addr, Ipv6Addr};

use sekisho_bench_prog::{ROWS, WORDS_V4, WORDS_V6};

/// What a frame carries in front of the packet whose addresses count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// Nothing.
    Untagged,
    /// An 802.1ad service tag and an 802.1Q customer tag.
    Qinq,
    /// A PPPoE session in such tags.
    PppoeQinq,
    /// IPv6 from a subscriber's router to the provider's (RFC 6333); the packet inside is IPv4.
    DsLite,
}

impl Wrap {
    /// As names of benchmarks spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untagged => "untagged",
            Self::Qinq => "qinq",
            Self::PppoeQinq => "pppoe-qinq",
            Self::DsLite => "ds-lite",
        }
    }
}

/// The transport layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// The first segment of a connection.
    TcpSyn,
}

impl Transport {
    /// IANA protocol number.
    const fn protocol(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::TcpSyn => 6,
        }
    }

    /// A packet of so many bytes or more, from port 40000 to port 443; no checksum, which nobody on
    /// the way looks at.
    fn packet(self, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0x9c, 0x40, 0x01, 0xbb];
        match self {
            Self::Udp => packet.extend([0, bytes as u8, 0, 0]),
            Self::TcpSyn => {
                packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
            }
        }
        packet.resize(packet.len().max(bytes), 0);
        packet
    }
}

/// What a frame looks like around its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// IPv6, else IPv4: the packet whose addresses count, the inner one of a tunnel.
    pub is_v6: bool,
    /// What is in front of it.
    pub wrap: Wrap,
    /// What it carries.
    pub transport: Transport,
}

impl Layout {
    /// An IPv4 datagram without tags.
    pub const PLAIN_V4: Self =
        Self { is_v6: false, wrap: Wrap::Untagged, transport: Transport::Udp };

    /// Datagrams in every wrapping that a family has.
    pub const ALL: [Self; 7] = [
        Self::udp(false, Wrap::Untagged),
        Self::udp(false, Wrap::Qinq),
        Self::udp(false, Wrap::PppoeQinq),
        Self::udp(false, Wrap::DsLite),
        Self::udp(true, Wrap::Untagged),
        Self::udp(true, Wrap::Qinq),
        Self::udp(true, Wrap::PppoeQinq),
    ];

    const fn udp(is_v6: bool, wrap: Wrap) -> Self {
        Self { is_v6, wrap, transport: Transport::Udp }
    }

    /// The family, as names of benchmarks spell it.
    pub const fn family(self) -> &'static str {
        if self.is_v6 { "v6" } else { "v4" }
    }

    /// Where the tracer writes a row.
    pub fn row_at(self) -> u32 {
        self.envelope().len() as u32 + 12 + if self.is_v6 { 16 } else { 8 }
    }

    /// A frame of 64 bytes, tags, session and tunnel apart, to this hardware address.
    pub fn frame(self, to: [u8; 6]) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend([0x02, 0, 0, 0, 0, 0x01]);
        frame.extend(self.envelope());
        let header = if self.is_v6 { 40 } else { 20 };
        let payload = self.transport.packet(PACKET - header);
        let protocol = self.transport.protocol();
        if self.is_v6 {
            frame.extend([0x60, 0, 0, 0, 0, payload.len() as u8, protocol, TTL]);
            frame.extend(SUBSCRIBER_V6.octets());
            frame.extend(Ipv6Addr::UNSPECIFIED.octets());
        } else {
            frame.extend([0x45, 0, 0, PACKET as u8, 0, 0, 0, 0, TTL, protocol, 0, 0]);
            frame.extend([0; 8]);
        }
        frame.extend(payload);
        frame
    }

    /// From the first EtherType up to the packet whose addresses count.
    fn envelope(self) -> Vec<u8> {
        const TAGS: [u8; 8] = [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7];
        let [high, low] = if self.is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let mut bytes = Vec::new();
        match self.wrap {
            Wrap::Untagged => bytes.extend([high, low]),
            Wrap::Qinq => {
                bytes.extend(TAGS);
                bytes.extend([high, low]);
            }
            Wrap::PppoeQinq => {
                bytes.extend(TAGS);
                bytes.extend([0x88, 0x64, 0x11, 0, 0, 0x77, 0, PACKET as u8 + 2]);
                bytes.extend([0, if self.is_v6 { 0x57 } else { 0x21 }]);
            }
            Wrap::DsLite => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, PACKET as u8, IPV4_IN_IP, TTL]);
                bytes.extend(SUBSCRIBER_V6.octets());
                bytes.extend(AFTR.octets());
            }
        }
        bytes
    }
}

const TTL: u8 = 64;
/// What is left for IP of 64 bytes.
const PACKET: usize = 50;
/// IANA protocol number.
const IPV4_IN_IP: u8 = 4;
/// The first of the subscribers: 100.64.0.0/10 is what providers number them from (RFC 6598).
const SUBSCRIBERS_V4: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const SUBSCRIBER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 0);
/// The provider's end of DS-Lite tunnels.
const AFTR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);

/// The IPv4 address of a subscriber: of every two addresses the even one, whose neighbour
/// [`opted_out`] is.
fn subscriber(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(SUBSCRIBERS_V4 + 2 * number as u32)
}

/// IPv4 addresses of so many subscribers.
pub fn subscribers(count: usize) -> impl Iterator<Item = Ipv4Addr> + Clone {
    (0..count).map(subscriber)
}

/// IPv4 addresses of so many lines that send nothing in any trace but those made of them, each
/// beside a subscriber's.
pub fn opted_out(count: usize) -> impl Iterator<Item = Ipv4Addr> + Clone {
    (0..count).map(|number| Ipv4Addr::from(u32::from(subscriber(number)) + 1))
}

/// The addresses of a million packets, as the tracer's map holds them.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What goes into the map.
    pub words: Vec<u64>,
    /// Whether they are IPv6.
    pub is_v6: bool,
}

impl Trace {
    /// IPv4 datagrams to these destinations in turn, from so many subscribers in turn.
    pub fn v4(destinations: &[Ipv4Addr], subscribers: usize) -> Self {
        Self::v4_of(Transport::Udp, destinations, self::subscribers(subscribers))
    }

    /// IPv4 packets to these destinations in turn, from these sources in turn.
    pub fn v4_of(
        transport: Transport,
        destinations: &[Ipv4Addr],
        sources: impl Iterator<Item = Ipv4Addr> + Clone,
    ) -> Self {
        let protocol = transport.protocol();
        let mut words = Vec::with_capacity(ROWS * WORDS_V4);
        for (source, destination) in sources.cycle().zip(destinations.iter().cycle()).take(ROWS) {
            let [sum_high, sum_low] = checksum(protocol, source, *destination).to_be_bytes();
            let [a, b, c, d] = source.octets();
            words.push(u64::from_ne_bytes([TTL, protocol, sum_high, sum_low, a, b, c, d]));
            words.push(u64::from(u32::from_ne_bytes(destination.octets())));
        }
        Self { words, is_v6: false }
    }

    /// Where the packets of an IPv4 trace go.
    pub fn destinations_v4(&self) -> Vec<Ipv4Addr> {
        let second = self.words.iter().skip(1).step_by(WORDS_V4);
        second.map(|word| Ipv4Addr::from((*word as u32).to_ne_bytes())).collect()
    }

    /// IPv6 datagrams to these destinations in turn, from so many subscribers in turn.
    pub fn v6(destinations: &[Ipv6Addr], subscribers: usize) -> Self {
        let mut words = Vec::with_capacity(ROWS * WORDS_V6);
        for (row, destination) in destinations.iter().cycle().take(ROWS).enumerate() {
            words.push(((row % subscribers) as u64 + 1).to_be());
            let destination = u128::from(*destination);
            words.push(((destination >> 64) as u64).to_be());
            words.push((destination as u64).to_be());
        }
        Self { words, is_v6: true }
    }
}

/// The checksum of an IPv4 header as [`Layout::frame`] makes it (RFC 791, 3.1).
fn checksum(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let halves = |address: Ipv4Addr| (u32::from(address) >> 16) + (u32::from(address) & 0xffff);
    let mut sum = 0x4500
        + PACKET as u32
        + u32::from(u16::from_be_bytes([TTL, protocol]))
        + halves(source)
        + halves(destination);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESTINATION: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

    /// A frame with the addresses of a trace's row, as the tracer makes it.
    fn framed(layout: Layout, trace: &Trace, row: usize) -> Vec<u8> {
        let mut frame = layout.frame([2; 6]);
        let at = layout.row_at() as usize;
        let (words, bytes) = if trace.is_v6 { (WORDS_V6, 24) } else { (WORDS_V4, 12) };
        let words = &trace.words[row * words..][..words];
        let row: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        frame[at..at + bytes].copy_from_slice(&row[..bytes]);
        frame
    }

    /// Where the packet whose addresses count begins.
    fn packet_at(layout: Layout) -> usize {
        match layout.wrap {
            Wrap::Untagged => 14,
            Wrap::Qinq => 22,
            Wrap::PppoeQinq => 30,
            Wrap::DsLite => 54,
        }
    }

    #[test]
    fn a_packet_has_a_valid_header_and_the_addresses_of_its_row() {
        for transport in [Transport::Udp, Transport::TcpSyn] {
            for layout in Layout::ALL.into_iter().filter(|layout| !layout.is_v6) {
                let layout = Layout { transport, ..layout };
                let sources = (0..3).map(subscriber);
                let frame = framed(layout, &Trace::v4_of(transport, &[DESTINATION], sources), 2);
                let header = &frame[packet_at(layout)..][..20];
                let pairs = header.chunks_exact(2);
                let sum: u32 =
                    pairs.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
                assert_eq!(usize::from(header[3]), frame.len() - packet_at(layout));
                assert_eq!(header[9], transport.protocol());
                assert_eq!(header[12..16], [100, 64, 0, 4]);
                assert_eq!(header[16..20], DESTINATION.octets());
            }
        }
    }

    #[test]
    fn a_trace_knows_where_its_packets_go() {
        let trace = Trace::v4(&[DESTINATION, Ipv4Addr::LOCALHOST], 3);
        assert_eq!(trace.destinations_v4()[..3], [DESTINATION, Ipv4Addr::LOCALHOST, DESTINATION]);
    }

    #[test]
    fn an_ipv6_packet_has_the_addresses_of_its_row() {
        let destination: Ipv6Addr = "2001:2:0:1::1".parse().unwrap();
        for layout in Layout::ALL.into_iter().filter(|layout| layout.is_v6) {
            let frame = framed(layout, &Trace::v6(&[destination], 3), 1);
            let header = &frame[packet_at(layout)..][..40];
            let source: Ipv6Addr = "2001:db8:0:7::2".parse().unwrap();
            assert_eq!(usize::from(header[5]), frame.len() - packet_at(layout) - 40);
            assert_eq!(header[8..24], source.octets());
            assert_eq!(header[24..40], destination.octets());
        }
    }

    #[test]
    fn those_who_opted_out_are_the_neighbours_of_those_who_did_not() {
        let others: Vec<Ipv4Addr> = opted_out(1_000).collect();
        assert!((0..1_000).all(|number| !others.contains(&subscriber(number))));
        let networks = |addresses: &mut dyn Iterator<Item = Ipv4Addr>| {
            addresses
                .map(|address| u32::from(address) >> 8)
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(networks(&mut others.into_iter()), networks(&mut (0..1_000).map(subscriber)));
    }
}
