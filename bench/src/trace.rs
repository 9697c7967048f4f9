//! Packets: a frame of 64 bytes, and the addresses that the tracer writes into it one by one.

use std::net::{Ipv4Addr, Ipv6Addr};

use sekisho_bench_prog::{ROWS, WORDS_V4, WORDS_V6};

/// What a frame looks like in front of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// IPv6, else IPv4.
    pub is_v6: bool,
    /// An 802.1ad service tag and an 802.1Q customer tag in front.
    pub is_qinq: bool,
}

impl Layout {
    /// IPv4 without tags.
    pub const PLAIN_V4: Self = Self { is_v6: false, is_qinq: false };

    /// The family, as names of benchmarks spell it.
    pub const fn family(self) -> &'static str {
        if self.is_v6 { "v6" } else { "v4" }
    }

    /// The encapsulation, as names of benchmarks spell it.
    pub const fn encapsulation(self) -> &'static str {
        if self.is_qinq { "qinq" } else { "untagged" }
    }

    /// Where the tracer writes a row.
    pub const fn row_at(self) -> u32 {
        let network = if self.is_qinq { 22 } else { 14 };
        network + if self.is_v6 { 16 } else { 8 }
    }

    /// A UDP frame of 64 bytes, tags apart, to this hardware address.
    pub fn frame(self, to: [u8; 6]) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend([0x02, 0, 0, 0, 0, 0x01]);
        if self.is_qinq {
            frame.extend([0x88, 0xa8, 0, 100, 0x81, 0, 0, 7]);
        }
        if self.is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, UDP, TTL]);
            frame.extend(SUBSCRIBER_V6.octets());
            frame.extend(Ipv6Addr::UNSPECIFIED.octets());
        } else {
            frame.extend([0x08, 0, 0x45, 0, 0, LENGTH_V4, 0, 0, 0, 0, TTL, UDP, 0, 0]);
            frame.extend([0; 8]);
        }
        // From port 40000 to port 443, no checksum.
        frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0]);
        frame.resize(frame.len().max(if self.is_qinq { 72 } else { 64 }), 0);
        frame
    }
}

const UDP: u8 = 17;
const TTL: u8 = 64;
/// What is left for IPv4 of 64 bytes.
const LENGTH_V4: u8 = 50;
/// The first of the subscribers: 100.64.0.0/10 is what providers number them from (RFC 6598).
const SUBSCRIBERS_V4: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const SUBSCRIBER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 0);

/// The addresses of a million packets, as the tracer's map holds them.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What goes into the map.
    pub words: Vec<u64>,
    /// Whether they are IPv6.
    pub is_v6: bool,
}

impl Trace {
    /// IPv4 packets to these destinations in turn, from so many subscribers in turn.
    pub fn v4(destinations: &[Ipv4Addr], subscribers: usize) -> Self {
        let mut words = Vec::with_capacity(ROWS * WORDS_V4);
        for (row, destination) in destinations.iter().cycle().take(ROWS).enumerate() {
            let source = Ipv4Addr::from(SUBSCRIBERS_V4 + (row % subscribers) as u32);
            let [sum_high, sum_low] = checksum(source, *destination).to_be_bytes();
            let [a, b, c, d] = source.octets();
            words.push(u64::from_ne_bytes([TTL, UDP, sum_high, sum_low, a, b, c, d]));
            words.push(u64::from(u32::from_ne_bytes(destination.octets())));
        }
        Self { words, is_v6: false }
    }

    /// IPv6 packets to these destinations in turn, from so many subscribers in turn.
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
fn checksum(source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let halves = |address: Ipv4Addr| (u32::from(address) >> 16) + (u32::from(address) & 0xffff);
    let mut sum = 0x4500
        + u32::from(LENGTH_V4)
        + u32::from(u16::from_be_bytes([TTL, UDP]))
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

    #[test]
    fn a_packet_has_a_valid_header_and_the_addresses_of_its_row() {
        for (is_qinq, network) in [(false, 14), (true, 22)] {
            let layout = Layout { is_v6: false, is_qinq };
            let frame = framed(layout, &Trace::v4(&[DESTINATION], 3), 2);
            let header = &frame[network..network + 20];
            let pairs = header.chunks_exact(2);
            let sum: u32 =
                pairs.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
            assert_eq!(usize::from(header[3]), frame.len() - network);
            assert_eq!(header[12..16], [100, 64, 0, 2]);
            assert_eq!(header[16..20], DESTINATION.octets());
        }
    }

    #[test]
    fn an_ipv6_packet_has_the_addresses_of_its_row() {
        let destination: Ipv6Addr = "2001:2:0:1::1".parse().unwrap();
        let layout = Layout { is_v6: true, is_qinq: false };
        let frame = framed(layout, &Trace::v6(&[destination], 3), 1);
        let source: Ipv6Addr = "2001:db8:0:7::2".parse().unwrap();
        assert_eq!(frame[22..38], source.octets());
        assert_eq!(frame[38..54], destination.octets());
    }
}
