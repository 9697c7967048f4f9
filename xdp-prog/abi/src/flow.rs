//! The flow table: what hits amount to, by flow.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{encapsulation::Encapsulation, record::Address};

/// What makes hits one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The subscriber's address; in a tunnel the outer one, which is the line's.
    pub subscriber: Address,
    /// The listed address.
    pub remote: Address,
    /// What is in front of the outer IP header.
    pub link: LinkKey,
    /// What the packets are to the transport layer, and where they were seen.
    pub conversation: ConversationKey,
    /// What was decided on them.
    pub decision: Decision,
}

/// What is in front of the outer IP header of a flow's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey {
    /// VLAN identifiers, outermost in the upper half, second in the lower; 0 where there is none.
    pub vlans: u32,
    /// PPPoE session; 0 where there is none.
    pub pppoe_session: u16,
    /// How many VLAN tags the packets carried.
    pub vlan_tags: u8,
    /// What else they were wrapped in.
    pub encapsulation: Encapsulation,
}

/// What the packets of a flow are to the transport layer, and where they were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationKey {
    /// The remote's port; 0 where the protocol has none.
    pub remote_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// A [`FlagClass`](crate::record::FlagClass).
    pub class: u8,
    /// A [`Direction`](crate::record::Direction).
    pub direction: u8,
    /// Port slot of the interface.
    pub port: u8,
}

/// What was decided on the packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decision {
    /// Generation of the ruleset that matched.
    pub generation: u32,
    /// The rule that matched, within that generation.
    pub rule: u16,
    /// The [`Reason`](crate::reason::Reason): what became of the packets.
    pub reason: u8,
}

/// What one flow amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTotals {
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
    /// `CLOCK_MONOTONIC_COARSE` of the first packet, nanoseconds.
    pub first_ns: u64,
    /// The same of the last packet, to the [`STEP_NS`] but never before the first.
    pub last_ns: u64,
    /// The subscriber's port in the first packet (RFC 6302 wants it kept).
    pub subscriber_port: u16,
    /// Flag byte of the first packet's TCP header, else 0.
    pub tcp_flags: u8,
    /// Of the first packet, in a tunnel: the inner address at the subscriber's end. Else zero.
    pub inner_subscriber: Address,
    /// Of the first packet, in a tunnel or where the listed address is embedded in another: the
    /// outer address at the remote end. Else zero.
    pub outer_remote: Address,
}

/// To how many nanoseconds the time of a last packet is kept: a little more than a millisecond, the
/// shortest tick that kernels have.
pub const STEP_NS: u64 = 1 << STEP_SHIFT;
const STEP_SHIFT: u32 = 20;

/// A place of the flow table, free while `packets` is 0.
///
/// Its first half is a cache line, and all that a packet of a known flow between two IPv4 addresses
/// takes. What has fields of its own in [`FlowKey`] is one word here, which the program writes and
/// compares in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowSlot {
    /// Lower half of the subscriber's address, network byte order.
    pub subscriber_low: u64,
    /// Lower half of the remote's address, network byte order.
    pub remote_low: u64,
    /// [`LinkKey::word`].
    pub link: u64,
    /// [`ConversationKey::word`], and [`IS_WIDE`] unless both upper halves are zero.
    pub conversation: u64,
    /// [`under`].
    pub under: u64,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
    /// When the last packet came: [`steps`].
    pub latest: u32,
    /// [`Decision::rule`].
    pub rule: u16,
    /// [`Decision::reason`].
    pub reason: u8,
    /// Zero.
    pub reserved: u8,
    /// Upper half of the subscriber's address, network byte order.
    pub subscriber_high: u64,
    /// Upper half of the remote's address, network byte order.
    pub remote_high: u64,
    /// [`FlowTotals::first_ns`].
    pub first_ns: u64,
    /// [`FlowTotals::subscriber_port`] in the lowest two bytes, [`FlowTotals::tcp_flags`] in the next.
    pub first_packet: u64,
    /// [`FlowTotals::inner_subscriber`].
    pub inner_subscriber: Address,
    /// [`FlowTotals::outer_remote`].
    pub outer_remote: Address,
}

/// Places next to each other, in any of which a flow may be.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowBucket(pub [FlowSlot; FLOWS_PER_BUCKET as usize]);

/// How many flows a [`FlowBucket`] holds.
pub const FLOWS_PER_BUCKET: u32 = 8;

/// The bit of [`FlowSlot::conversation`] that says that the upper halves of the addresses matter.
pub const IS_WIDE: u64 = 1 << 63;

/// A CPU's part of one side of the flow table.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowRegion {
    /// How many of its places are taken.
    pub taken: u64,
    /// In which of its 64 parts there are such, as bits; see [`part_of`].
    pub parts: u64,
    /// A cache line for each CPU.
    reserved: [u64; 6],
}

/// The part of a region of so many buckets that one of them is in.
#[inline(always)]
pub const fn part_of(bucket: u32, buckets: u32) -> u32 {
    match (bucket as u64 * 64).checked_div(buckets as u64) {
        Some(part) => part as u32,
        None => 0,
    }
}

/// The buckets of a part of a region of so many.
pub fn buckets_of(part: u32, buckets: u32) -> core::ops::Range<u32> {
    let first = |part: u64| (part * u64::from(buckets)).div_ceil(64) as u32;
    first(part.into())..first(u64::from(part) + 1)
}

/// The number of a CPU's region on a side of the flow table. Its buckets are the `buckets` behind
/// `region * buckets`.
#[inline(always)]
pub const fn flow_region(cpu: u32, side: u32) -> u32 {
    cpu * 2 + side
}

impl LinkKey {
    /// All of it in one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.vlans as u64
            | (self.pppoe_session as u64) << 32
            | (self.vlan_tags as u64) << 48
            | (self.encapsulation.0 as u64) << 56
    }

    const fn of(word: u64) -> Self {
        Self {
            vlans: word as u32,
            pppoe_session: (word >> 32) as u16,
            vlan_tags: (word >> 48) as u8,
            encapsulation: Encapsulation((word >> 56) as u8),
        }
    }
}

impl ConversationKey {
    /// All of it in one word, the port in network byte order.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.remote_port.to_be() as u64
            | (self.protocol as u64) << 16
            | (self.class as u64) << 24
            | (self.direction as u64) << 32
            | (self.port as u64) << 40
    }

    const fn of(word: u64) -> Self {
        Self {
            remote_port: u16::from_be(word as u16),
            protocol: (word >> 16) as u8,
            class: (word >> 24) as u8,
            direction: (word >> 32) as u8,
            port: (word >> 40) as u8,
        }
    }
}

/// What a packet is judged under: the generation of the ruleset, and in the upper half the
/// [`Modes::version`](crate::record::Modes::version).
#[inline(always)]
pub const fn under(generation: u32, switches: u32) -> u64 {
    generation as u64 | (switches as u64) << 32
}

/// A time in steps of [`STEP_NS`], the lower half of their number.
#[inline(always)]
pub const fn steps(ns: u64) -> u32 {
    (ns >> STEP_SHIFT) as u32
}

impl FlowSlot {
    /// What was decided on the packets.
    #[inline(always)]
    pub const fn decision(&self) -> Decision {
        Decision { generation: self.under as u32, rule: self.rule, reason: self.reason }
    }

    /// Whose totals these are.
    pub const fn key(&self) -> FlowKey {
        FlowKey {
            subscriber: Address::of_words([self.subscriber_high, self.subscriber_low]),
            remote: Address::of_words([self.remote_high, self.remote_low]),
            link: LinkKey::of(self.link),
            conversation: ConversationKey::of(self.conversation),
            decision: self.decision(),
        }
    }

    /// Counted since the place was taken.
    pub fn totals(&self) -> FlowTotals {
        // Steps are counted in 31 bits, which hold 26 days: less than that since the first packet.
        let first = self.first_ns >> STEP_SHIFT;
        // Readings of the clock on two interfaces may be a tick apart, so that it may seem to go back.
        let steps = self.latest.wrapping_sub(steps(self.first_ns)).cast_signed().max(0);
        let last_ns = (first + u64::from(steps.cast_unsigned())) << STEP_SHIFT;
        FlowTotals {
            packets: self.packets,
            bytes: self.bytes,
            first_ns: self.first_ns,
            last_ns: last_ns.max(self.first_ns),
            subscriber_port: self.first_packet as u16,
            tcp_flags: (self.first_packet >> 16) as u8,
            inner_subscriber: self.inner_subscriber,
            outer_remote: self.outer_remote,
        }
    }
}

const _: () = {
    assert!(size_of::<FlowSlot>() == 128);
    assert!(core::mem::offset_of!(FlowSlot, subscriber_high) == 64);
    assert!(size_of::<FlowRegion>() == 64);
    assert!(FLOWS_PER_BUCKET.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    fn slot() -> FlowSlot {
        FlowSlot::new_zeroed()
    }

    #[test]
    fn a_key_comes_back_from_its_words() {
        let link = LinkKey {
            vlans: 0x0fff_0123,
            pppoe_session: 0xfedc,
            vlan_tags: 2,
            encapsulation: Encapsulation::ALL,
        };
        let conversation =
            ConversationKey { remote_port: 0xfffe, protocol: 17, class: 2, direction: 1, port: 63 };
        let decision = Decision { generation: u32::MAX, rule: 4095, reason: 33 };
        let key = FlowSlot {
            subscriber_low: 1,
            remote_low: 2,
            subscriber_high: 3,
            remote_high: 4,
            link: link.word(),
            conversation: conversation.word() | IS_WIDE,
            under: under(decision.generation, 9),
            rule: decision.rule,
            reason: decision.reason,
            ..slot()
        }
        .key();
        assert_eq!(key.subscriber.words(), [3, 1]);
        assert_eq!(key.remote.words(), [4, 2]);
        assert_eq!((key.link, key.conversation, key.decision), (link, conversation, decision));
    }

    #[test]
    fn each_bucket_is_in_the_part_that_has_it() {
        for buckets in [1, 2, 8, 64, 128, 4096] {
            for bucket in 0..buckets {
                let part = part_of(bucket, buckets);
                assert!(part < 64 && buckets_of(part, buckets).contains(&bucket), "{bucket}");
            }
            let all: u32 = (0..64).map(|part| buckets_of(part, buckets).len() as u32).sum();
            assert_eq!(all, buckets);
        }
    }

    #[test]
    fn a_last_packet_that_seems_to_come_before_the_first_came_with_it() {
        let first_ns = 9 * STEP_NS;
        let totals = FlowSlot { first_ns, latest: steps(8 * STEP_NS), ..slot() }.totals();
        assert_eq!(totals.last_ns, first_ns);
    }

    #[test]
    fn the_last_packet_is_at_most_a_step_off_and_never_before_the_first() {
        for first_ns in [1, 5 * STEP_NS - 1, (u64::from(u32::MAX) << STEP_SHIFT) + 7] {
            for age_ns in [0, 1, STEP_NS, 1_000 * STEP_NS + 3, 20 * 86_400_000_000_000] {
                let last_ns = first_ns + age_ns;
                let totals = FlowSlot { first_ns, latest: steps(last_ns), ..slot() }.totals();
                assert!(totals.last_ns >= first_ns, "{first_ns} {age_ns}");
                assert!(totals.last_ns.abs_diff(last_ns) < STEP_NS, "{first_ns} {age_ns}");
            }
        }
    }
}
