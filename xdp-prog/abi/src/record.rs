//! Records that travel through maps.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{MAX_PORTS, reason::Reason};

/// An IPv4 or IPv6 address in network byte order; IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// Two words rather than sixteen bytes, so that the kernel writes and compares it in two steps.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Address([u64; 2]);

impl Address {
    /// From an IPv4 address in host byte order.
    #[inline(always)]
    pub const fn v4(bits: u32) -> Self {
        Self([0, (0xffff_0000_0000 | bits as u64).to_be()])
    }

    /// From the two halves of an IPv6 address in host byte order.
    #[inline(always)]
    pub const fn v6(high: u64, low: u64) -> Self {
        Self([high.to_be(), low.to_be()])
    }

    /// The two halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
    #[inline(always)]
    pub const fn halves(self) -> (u64, u64) {
        (u64::from_be(self.0[0]), u64::from_be(self.0[1]))
    }

    /// The address of two words, each in network byte order.
    pub const fn of_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    /// The words, each in network byte order.
    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        self.0
    }

    /// The address as the standard library knows it.
    pub const fn ip(self) -> core::net::IpAddr {
        let [high, low] = self.0;
        let bits = (u64::from_be(high) as u128) << 64 | u64::from_be(low) as u128;
        core::net::Ipv6Addr::from_bits(bits).to_canonical()
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(v4) => Self::v4(v4.to_bits()),
            core::net::IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self::v6((bits >> 64) as u64, bits as u64)
            }
        }
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(&self.ip(), f)
    }
}

/// Which end of a packet on this interface is the subscriber's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Role {
    /// Packets come from subscribers; the remote is the destination.
    Subscriber = 0,
    /// Packets come from the Internet; the remote is the source.
    Uplink = 1,
    /// One-armed: the destination is tried as the remote, then the source.
    Both = 2,
}

/// What becomes of packets that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Forwarding {
    /// The kernel routes or bridges them.
    Kernel = 0,
    /// A bump in the wire: they leave through the interface at the other end.
    Wire = 1,
    /// A copy of somebody's traffic: they are counted and end here.
    Tap = 2,
}

/// How packets reach the sinkhole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SinkholeKind {
    /// There is none: what should go there is dropped.
    None = 0,
    /// Its Ethernet address becomes the destination.
    NextHop = 1,
    /// They are wrapped in IPv4 or IPv6 like themselves (RFC 2003, RFC 2473).
    Tunnel = 2,
}

/// Where the sinkhole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sinkhole {
    /// Destination and source address of the Ethernet header: twelve bytes, as they stand in a frame.
    pub ethernet: [u32; 3],
    /// A [`SinkholeKind`].
    pub kind: u8,
    /// Low bits of `source_v4` and `source_v6` that differ from flow to flow, at most 32, so that
    /// the sinkhole can spread flows over its cores.
    pub flow_bits: u8,
    /// Longest packet that the way to the sinkhole takes, outer header included.
    pub mtu: u16,
    /// Outer source of IPv4 packets, host byte order.
    pub source_v4: u32,
    /// Outer destination of IPv4 packets, host byte order; 0 where there is none.
    pub destination_v4: u32,
    /// Outer source of IPv6 packets, halves in host byte order.
    pub source_v6: [u64; 2],
    /// Outer destination of IPv6 packets; 0 where there is none.
    pub destination_v6: [u64; 2],
}

/// Key of the sinkhole's interface in the device map.
pub const SINKHOLE_DEVICE: u32 = MAX_PORTS as u32;

/// Where a packet was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the subscriber to the remote.
    Outbound = 0,
    /// From the remote to the subscriber.
    Inbound = 1,
}

impl Direction {
    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// What a packet says about who started the conversation (RFC 9293, 3.5).
///
/// C&C servers scan too: a subscriber's answer to a scan is a response, not an infection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlagClass {
    /// Neither of the others: established TCP, UDP and everything else.
    Other = 0,
    /// TCP SYN without ACK.
    Initiated = 1,
    /// TCP SYN with ACK, or RST.
    Response = 2,
}

/// The [`FlagClass`] of each value that SYN, RST and ACK can have, as they lie in bits 0, 1 and 3: two
/// bits each.
const CLASSES: u32 = {
    const SYN: u32 = 1;
    const RST: u32 = 2;
    const ACK: u32 = 8;
    let mut classes = 0;
    let mut flags = 0;
    while flags < 16 {
        let class = if flags & RST != 0 || flags & (SYN | ACK) == SYN | ACK {
            FlagClass::Response
        } else if flags & SYN != 0 {
            FlagClass::Initiated
        } else {
            FlagClass::Other
        };
        classes |= (class as u32) << (2 * flags);
        flags += 1;
    }
    classes
};

impl FlagClass {
    /// The class of a TCP header's flag byte (RFC 9293, 3.1).
    #[inline(always)]
    pub const fn of_tcp(flags: u8) -> Self {
        match Self::number_of_tcp(flags) {
            1 => Self::Initiated,
            2 => Self::Response,
            _ => Self::Other,
        }
    }

    /// The discriminant of that class, by a table instead of branches.
    #[inline(always)]
    pub const fn number_of_tcp(flags: u8) -> u8 {
        (CLASSES >> (2 * (flags >> 1 & 0b1011)) & 3) as u8
    }

    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Initiated => "initiated",
            Self::Response => "response",
        }
    }
}

/// What the kill switch says, for everything or for one interface.
///
/// Zero is `Bypass`, so that a map nobody has written yet blocks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Look nothing up, account nothing but the packet.
    #[default]
    Bypass = 0,
    /// Account hits, drop nothing.
    Observe = 1,
    /// Do what the lists say.
    Enforce = 2,
}

impl Mode {
    /// The name used on the command line, in configuration and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }

    /// The mode with this discriminant; what nobody defined is `Bypass`.
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            2 => Self::Enforce,
            1 => Self::Observe,
            _ => Self::Bypass,
        }
    }
}

/// The kill switch. Written by the mode command with one map write, the daemon alive or dead.
///
/// A build of another layout takes it over and sets it, see [`Self::of_other_layout`]. So fields are only ever
/// appended, or take the place of reserved bytes; their zero means what was so before they were; and
/// there are as many ports and lists as there always were. This has held since layout 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Modes {
    /// Lists, as bits, that may not drop but still count.
    pub observed_lists: u64,
    /// Lists, as bits, that are ignored.
    pub bypassed_lists: u64,
    /// [`Mode`] by port slot; the stricter of this and `global` does not win, the milder does.
    pub ports: [u8; MAX_PORTS],
    /// [`Mode`] for everything.
    pub global: u8,
    /// 1 once somebody has set the switch; a map that was just made is all zero.
    pub written: u8,
    /// 1 while anybody is opted out. Written by the daemon.
    pub opt_outs: u8,
    /// Zero.
    pub reserved: u8,
    /// Another number after every change: what was decided under an older one is decided anew.
    pub version: u32,
}

impl Modes {
    /// Everything in one mode.
    pub const fn all(mode: Mode) -> Self {
        Self {
            observed_lists: 0,
            bypassed_lists: 0,
            ports: [Mode::Enforce as u8; MAX_PORTS],
            global: mode as u8,
            written: 1,
            opt_outs: 0,
            reserved: 0,
            version: 0,
        }
    }

    /// The switch as another layout has it in its map, as far as both have the same fields; `None` if
    /// nobody has written it. Who opted out is not taken over, so that [`Self::opt_outs`] is 0; modes
    /// that are not known here become `Bypass`.
    pub fn of_other_layout(value: &[u8]) -> Option<Self> {
        let mut modes: Self = zerocopy::FromZeros::new_zeroed();
        for (to, from) in modes.as_mut_bytes().iter_mut().zip(value) {
            *to = *from;
        }
        if modes.written == 0 {
            return None;
        }
        modes.opt_outs = 0;
        for mode in modes.ports.iter_mut().chain([&mut modes.global]) {
            *mode = Mode::from_u8(*mode) as u8;
        }
        Some(modes)
    }

    /// Sets the mode for everything in another layout's switch, and numbers the change.
    pub fn set_in_other_layout(value: &mut [u8], global: Mode) {
        let mut modes: Self = zerocopy::FromZeros::new_zeroed();
        for (to, from) in modes.as_mut_bytes().iter_mut().zip(&*value) {
            *to = *from;
        }
        (modes.global, modes.version) = (global as u8, modes.version.wrapping_add(1));
        for (to, from) in value.iter_mut().zip(modes.as_bytes()) {
            *to = *from;
        }
    }

    /// Whether nothing is looked up for packets on this port.
    #[inline(always)]
    pub fn is_bypassed(&self, port: usize) -> bool {
        let own = if port < MAX_PORTS { self.ports[port] } else { Mode::Bypass as u8 };
        own == Mode::Bypass as u8 || self.global == Mode::Bypass as u8
    }

    /// What applies to packets on this port: the milder of the global mode and the port's own.
    #[inline(always)]
    pub fn of_port(&self, port: usize) -> Mode {
        let own = if port < MAX_PORTS { self.ports[port] } else { Mode::Bypass as u8 };
        Mode::from_u8(if own < self.global { own } else { self.global })
    }
}

/// What the running daemon vouches for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Lease {
    /// `CLOCK_MONOTONIC` nanoseconds after which the ruleset only observes.
    pub enforce_until_ns: u64,
    /// How often the sides of the flow table were changed; the program writes the side of its last
    /// bit.
    pub epoch: u32,
    /// A number that tells this flow table from those of other times, never 0.
    pub ledger: u32,
}

impl Lease {
    /// Which side of the flow table the program writes, 0 or 1.
    #[inline(always)]
    pub const fn side(&self) -> u32 {
        self.epoch & 1
    }
}

/// Packets and bytes. Bytes are frame lengths as XDP sees them, without preamble and checksum.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Count {
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl core::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// What one interface saw on one CPU, by [`Reason`]; the sum over reasons is every packet seen.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortCounters {
    /// What the clock said when it was last read here.
    pub clock: Clock,
    /// 1 if the last usual IPv4 packet that was looked up was listed, as far as its address goes: then the
    /// next one may be of a flow that is known.
    pub expects_flows: u64,
    /// By the discriminant of [`Reason`].
    pub by_reason: [Count; Reason::COUNT],
}

/// A reading of `CLOCK_MONOTONIC_COARSE`, which holds until the next tick.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Clock {
    /// The tick of the reading, in jiffies.
    pub tick: u64,
    /// Nanoseconds.
    pub now_ns: u64,
}

/// What one CPU spends on first packets and answers, and what it held back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EventCounters {
    /// Events that found the ring full.
    pub lost: u64,
    /// Events held back by the rate limit.
    pub suppressed: u64,
    /// Coarse time at which the current window of the rate limit began.
    pub window_ns: u64,
    /// Events sent in the current window.
    pub sent_in_window: u64,
    /// Coarse time at which the current window of the limit for answers began.
    pub answer_window_ns: u64,
    /// Answers sent in that window.
    pub answers_in_window: u64,
}

/// Events a CPU may send in one [`EVENT_WINDOW_NS`].
pub const EVENTS_PER_WINDOW: u64 = 1000;

/// Length of a rate-limit window for events.
pub const EVENT_WINDOW_NS: u64 = 100_000_000;

/// Answers (RST, ICMP) a CPU may send in one [`ANSWER_WINDOW_NS`].
pub const ANSWERS_PER_WINDOW: u64 = 1000;

/// Length of a rate-limit window for answers.
pub const ANSWER_WINDOW_NS: u64 = 100_000_000;

const _: () = {
    assert!(size_of::<Sinkhole>() == 56);
    assert!(size_of::<Modes>() == 88);
    assert!(size_of::<Lease>() == 16);
};

#[cfg(feature = "aya")]
mod pod {
    use super::*;
    use crate::flow::{FlowBucket, FlowRegion};

    macro_rules! pod {
        ($($record:ty),+) => {
            $(
                // SAFETY: the record derives FromBytes and IntoBytes: every bit pattern is valid
                // and it has no padding.
                unsafe impl aya::Pod for $record {}
            )+
        };
    }

    pod!(Modes, Lease, Sinkhole, PortCounters, Count, EventCounters, FlowBucket, FlowRegion);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_its_mapped_form() {
        let ip: core::net::IpAddr = "198.18.7.9".parse().unwrap();
        assert_eq!(Address::from(ip).ip(), ip);
    }

    #[test]
    fn a_syn_initiates_a_syn_ack_and_a_reset_respond() {
        assert_eq!(FlagClass::of_tcp(0x02), FlagClass::Initiated);
        assert_eq!(FlagClass::of_tcp(0xc2), FlagClass::Initiated, "ECN set-up SYN");
        assert_eq!(FlagClass::of_tcp(0x12), FlagClass::Response);
        assert_eq!(FlagClass::of_tcp(0x14), FlagClass::Response);
        assert_eq!(FlagClass::of_tcp(0x18), FlagClass::Other);
    }

    fn switched() -> Modes {
        let mut modes = Modes { observed_lists: 5, bypassed_lists: 8, ..Modes::all(Mode::Observe) };
        modes.ports[3] = Mode::Bypass as u8;
        modes
    }

    #[test]
    fn the_switch_of_a_shorter_layout_is_taken_over() {
        // Layout 1 had the fields up to `written`.
        let end = core::mem::offset_of!(Modes, written) + 1;
        let taken = Modes::of_other_layout(&switched().as_bytes()[..end]);
        assert_eq!(taken, Some(switched()));
    }

    #[test]
    fn the_switch_of_a_longer_layout_is_taken_over_but_for_what_is_unknown_here() {
        let mut value = switched();
        (value.opt_outs, value.ports[4]) = (1, 77);
        let mut longer = value.as_bytes().to_vec();
        longer.extend([0xff; 24]);
        let mut expected = switched();
        expected.ports[4] = Mode::Bypass as u8;
        assert_eq!(Modes::of_other_layout(&longer), Some(expected));
    }

    #[test]
    fn the_mode_for_everything_is_set_in_another_layouts_switch_and_nothing_else() {
        let mut longer = switched().as_bytes().to_vec();
        longer.extend([0xff; 24]);
        Modes::set_in_other_layout(&mut longer, Mode::Bypass);
        let expected = Modes { global: Mode::Bypass as u8, version: 1, ..switched() };
        assert_eq!(longer, [expected.as_bytes(), &[0xff; 24]].concat());
        let mut shorter = switched().as_bytes()[..82].to_vec();
        Modes::set_in_other_layout(&mut shorter, Mode::Bypass);
        assert_eq!(shorter, expected.as_bytes()[..82]);
    }

    #[test]
    fn a_switch_that_nobody_wrote_is_none() {
        assert_eq!(Modes::of_other_layout(&[0; 88]), None);
        assert_eq!(Modes::of_other_layout(&switched().as_bytes()[..80]), None);
        assert_eq!(Modes::of_other_layout(&[]), None);
    }

    #[test]
    fn the_milder_of_two_modes_applies() {
        let mut modes = Modes::all(Mode::Enforce);
        modes.ports[3] = Mode::Observe as u8;
        assert_eq!(modes.of_port(0), Mode::Enforce);
        assert_eq!(modes.of_port(3), Mode::Observe);
        modes.global = Mode::Bypass as u8;
        assert_eq!(modes.of_port(3), Mode::Bypass);
    }
}
