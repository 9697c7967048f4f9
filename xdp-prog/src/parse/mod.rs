//! From bytes to addresses, protocol and ports.
//!
//! A packet is read only as far as its judgement needs: link and network layer for every packet,
//! what a tunnel carries if the outer addresses are not listed, ports for those that are.

mod link;
mod network;
mod transport;
mod tunnel;
mod usual;

pub use link::{Link, MAX_LABELS, MAX_VLAN_TAGS, link};
pub use network::{Ends, Ip, MAX_EXTENSION_HEADERS, network};
pub use transport::{Transport, transport};
pub use tunnel::{Inner, kind, tunnel};
pub use usual::{UsualIpv4, bare_link, usual_ipv4, usual_ipv6, usual_link};

/// IANA protocol numbers.
pub mod protocol {
    /// Internet Control Message Protocol, RFC 792.
    pub const ICMP: u8 = 1;
    /// Internet Group Management Protocol, RFC 3376.
    pub const IGMP: u8 = 2;
    /// IPv4 in IP, RFC 2003.
    pub const IPV4: u8 = 4;
    /// Transmission Control Protocol, RFC 9293.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol, RFC 768.
    pub const UDP: u8 = 17;
    /// Datagram Congestion Control Protocol, RFC 4340.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP, RFC 2473 and RFC 4213.
    pub const IPV6: u8 = 41;
    /// Resource Reservation Protocol, RFC 2205.
    pub const RSVP: u8 = 46;
    /// Generic Routing Encapsulation, RFC 2784.
    pub const GRE: u8 = 47;
    /// Internet Control Message Protocol for IPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Open Shortest Path First, RFC 2328 and RFC 5340.
    pub const OSPF: u8 = 89;
    /// Protocol Independent Multicast, RFC 7761.
    pub const PIM: u8 = 103;
    /// Virtual Router Redundancy Protocol, RFC 9568.
    pub const VRRP: u8 = 112;
    /// Stream Control Transmission Protocol, RFC 9260.
    pub const SCTP: u8 = 132;
    /// Lightweight User Datagram Protocol, RFC 3828.
    pub const UDP_LITE: u8 = 136;
}
