//! Counts packets at the outer ends of the cables, where no program of ours runs.
#![allow(
    unsafe_code,
    reason = "packet sockets are bound and asked by calls that no crate here has"
)]

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{LinkAddr, recvfrom, setsockopt, sockopt},
};
pub(super) use socket2::Socket;
use socket2::{Domain, Type};

use super::netns::Netns;

/// Which side of the edge a cable's outer end is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What leaves here is on its way from a subscriber.
    Subscribers,
    /// What leaves here is on its way from a remote.
    Internet,
}

/// What tells packets of one conversation and direction apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conversation {
    /// The subscriber's address.
    pub subscriber: IpAddr,
    /// The remote and its port; port 0 where the protocol has none.
    pub remote: SocketAddr,
    /// IANA protocol number.
    pub protocol: u8,
    /// Whether the packets are on their way to the subscriber.
    pub inbound: bool,
}

/// What was seen at one end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets that set out here.
    pub sent: BTreeMap<Conversation, u64>,
    /// Packets that arrived here.
    pub arrived: BTreeMap<Conversation, u64>,
    /// Every frame, whatever it carries, that set out here.
    pub frames_sent: u64,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    frames: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// A running count of everything that passes one end of a cable.
#[derive(Debug)]
pub struct Sniffer {
    socket: Arc<Socket>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Sniffer {
    /// Starts to count on an interface; when it returns, no packet is missed any more.
    pub fn start(namespace: &Netns, interface: &str, side: Side) -> anyhow::Result<Self> {
        let socket = namespace
            .inside(|| open(interface))
            .with_context(|| format!("cannot count packets on {interface}"))?;
        let (socket, shared) = (Arc::new(socket), Arc::new(Shared::default()));
        let (its_socket, its_shared) = (Arc::clone(&socket), Arc::clone(&shared));
        let thread = namespace.spawn(&format!("count-{interface}"), move || {
            let outcome = count(&its_socket, side, &its_shared);
            its_shared.failed.store(outcome.is_err(), Ordering::Release);
            outcome
        })?;
        Ok(Self { socket, shared, thread: Some(thread) })
    }

    /// How many frames were seen so far, in both directions.
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Acquire)
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was seen so far; an error if the kernel could not show us every packet.
    pub fn complete(&self) -> anyhow::Result<Seen> {
        if self.shared.failed.load(Ordering::Acquire) {
            bail!("the independent count broke off");
        }
        // The kernel sets its count of missed packets back to zero when it is read.
        let missed = missed(&self.socket).context("cannot ask for missed packets")?;
        if missed > 0 {
            bail!("the independent count missed {missed} packets: the machine is too busy");
        }
        Ok(self.seen())
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Room for about 40,000 small packets.
const RECEIVE_BUFFER: usize = 64 << 20;
const TICK: Duration = Duration::from_millis(20);
const LONGEST_FRAME: usize = 65_600;

fn open(interface: &str) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(TICK))?;
    bind(&socket, interface)?;
    Ok(socket)
}

/// Lets a packet socket, which was made for protocol 0 and so has received nothing yet, receive
/// everything on one interface.
pub(super) fn bind(socket: &Socket, interface: &str) -> anyhow::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: if_nametoindex(interface)?.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address and its length describe one valid sockaddr_ll that outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 {
        return Err(io::Error::last_os_error()).context("bind(AF_PACKET)");
    }
    Ok(())
}

fn count(socket: &Socket, side: Side, shared: &Shared) -> anyhow::Result<()> {
    let mut frame = vec![0; LONGEST_FRAME];
    loop {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok(received) => received,
            Err(Errno::EAGAIN) if shared.stop.load(Ordering::Acquire) => break,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("recvfrom(AF_PACKET)"),
        };
        let from = from.ok_or_else(|| anyhow!("a packet came without its link address"))?;
        let outgoing = from.pkttype() == libc::PACKET_OUTGOING;
        let frame = frame.get(..length).unwrap_or_default();
        {
            let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if outgoing {
                seen.frames_sent += 1;
            }
            if let Some(conversation) = conversation(frame, outgoing == (side == Side::Internet)) {
                let side = if outgoing { &mut seen.sent } else { &mut seen.arrived };
                *side.entry(conversation).or_default() += 1;
            }
        }
        shared.frames.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

/// Reads a frame as far as needed; `None` for what is not IP.
fn conversation(frame: &[u8], inbound: bool) -> Option<Conversation> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination, protocol) = match packet.net? {
        NetSlice::Ipv4(ip) => (
            IpAddr::from(ip.header().source_addr()),
            IpAddr::from(ip.header().destination_addr()),
            ip.payload_ip_number(),
        ),
        NetSlice::Ipv6(ip) => (
            IpAddr::from(ip.header().source_addr()),
            IpAddr::from(ip.header().destination_addr()),
            ip.payload().ip_number,
        ),
        _ => return None,
    };
    let (source_port, destination_port) = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        _ => (0, 0),
    };
    let (subscriber, remote) = if inbound {
        (destination, SocketAddr::new(source, source_port))
    } else {
        (source, SocketAddr::new(destination, destination_port))
    };
    Some(Conversation { subscriber, remote, protocol: protocol.0, inbound })
}

/// How many packets the kernel could not put into the socket's buffer.
fn missed(socket: &Socket) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: PACKET_STATISTICS of a TPACKET_V1 socket writes one tpacket_stats; pointer and
    // length describe one that outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &mut length,
        )
    };
    if result == 0 { Ok(statistics.tp_drops) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn frame(tagged: bool) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut bytes = Vec::new();
        let builder = if tagged {
            ethernet.single_vlan(200.try_into().unwrap()).ipv4([100, 64, 0, 1], [198, 18, 0, 9], 64)
        } else {
            ethernet.ipv4([100, 64, 0, 1], [198, 18, 0, 9], 64)
        };
        builder.udp(5000, 53).write(&mut bytes, b"x").unwrap();
        bytes
    }

    #[test]
    fn the_remote_of_an_outbound_packet_is_its_destination_with_or_without_a_tag() {
        let expected = Conversation {
            subscriber: "100.64.0.1".parse().unwrap(),
            remote: "198.18.0.9:53".parse().unwrap(),
            protocol: 17,
            inbound: false,
        };
        assert_eq!(conversation(&frame(false), false), Some(expected));
        assert_eq!(conversation(&frame(true), false), Some(expected));
    }

    #[test]
    fn the_remote_of_an_inbound_packet_is_its_source() {
        let seen = conversation(&frame(false), true).unwrap();
        assert_eq!(seen.remote, "100.64.0.1:5000".parse().unwrap());
        assert_eq!(seen.subscriber, "198.18.0.9".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_is_not_ip_is_no_conversation() {
        assert_eq!(conversation(&[0xff; 60], false), None);
    }
}
