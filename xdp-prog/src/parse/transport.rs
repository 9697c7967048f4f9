//! Ports and flags.

use sekisho_abi::reason::Reason;

use super::{Ip, protocol};
use crate::frame::Frame;

/// What the transport layer shows. Flat, so that every part is defined whatever the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IANA protocol number.
    pub protocol: u8,
    /// Whether the packet shows ports.
    pub has_ports: bool,
    /// Source port, 0 without ports.
    pub source_port: u16,
    /// Destination port, 0 without ports.
    pub destination_port: u16,
    /// Flag byte of a TCP header, type of an ICMP or ICMPv6 message, else 0.
    pub flags_or_type: u8,
    /// Why a condition on ports does not match: they are others, there are none, or why they can't
    /// be seen.
    pub without_match: Reason,
}

impl Transport {
    /// Makes the verifier forget which way through [`transport`] led here.
    #[inline(always)]
    pub fn forget<F: Frame + ?Sized>(&mut self, frame: &F) {
        self.has_ports = frame.forget(self.has_ports.into()) & 1 != 0;
        self.source_port = frame.forget(self.source_port.into()) as u16;
        self.destination_port = frame.forget(self.destination_port.into()) as u16;
        self.flags_or_type = frame.forget(self.flags_or_type.into()) as u8;
        let reason = frame.forget(self.without_match as u64) as u8;
        self.without_match = Reason::from_u8(reason).unwrap_or(Reason::PortNotListed);
    }
}

/// The transport layer of a packet.
#[inline(always)]
pub fn transport<F: Frame + ?Sized>(frame: &F, ip: &Ip) -> Transport {
    let mut transport = Transport {
        protocol: ip.protocol,
        has_ports: false,
        source_port: 0,
        destination_port: 0,
        flags_or_type: 0,
        without_match: ip.hidden,
    };
    if ip.hidden != Reason::PortNotListed {
        return transport;
    }
    match ip.protocol {
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE => {}
        protocol::ICMP | protocol::ICMPV6 => {
            transport.flags_or_type = frame.read(ip.payload).map_or(0, |[kind]| kind);
            return transport;
        }
        _ => return transport,
    }
    let Some([source_high, source_low, destination_high, destination_low]) = frame.read(ip.payload)
    else {
        transport.without_match = Reason::TruncatedTransport;
        return transport;
    };
    transport.has_ports = true;
    transport.source_port = u16::from_be_bytes([source_high, source_low]);
    transport.destination_port = u16::from_be_bytes([destination_high, destination_low]);
    if ip.protocol == protocol::TCP {
        transport.flags_or_type = frame.read(ip.payload + 13).map_or(0, |[flags]| flags);
    }
    transport
}
