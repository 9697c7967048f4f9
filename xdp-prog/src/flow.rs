//! What makes packets one flow, in the words of a place of the flow table.

use sekisho_abi::{
    flow::{ConversationKey, FlowSlot, IS_WIDE, LinkKey},
    record::{Direction, FlagClass},
};

use crate::{
    decide::Sighting,
    parse::{Link, Transport, protocol},
};

/// The other half of an IPv4 address as [`FlowSlot`] has it, which begins with it: `::ffff:a.b.c.d` has
/// ten bytes of zero, and two of all ones.
const MAPPED: u64 = 0xffff_0000;

/// What the packets of a flow are. Words, as bytes that were just written cannot be read back as words
/// without waiting for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// [`FlowSlot::subscriber_low`].
    pub subscriber_low: u64,
    /// [`FlowSlot::remote_low`].
    pub remote_low: u64,
    /// [`FlowSlot::link`].
    pub link: u64,
    /// [`FlowSlot::conversation`].
    pub conversation: u64,
    /// [`FlowSlot::subscriber_high`].
    pub subscriber_high: u64,
    /// [`FlowSlot::remote_high`].
    pub remote_high: u64,
}

impl Words {
    /// Those of a packet on the interface in this port slot.
    #[inline(always)]
    pub fn of(packet: &Sighting, port: u8) -> Self {
        let [subscriber_high, subscriber_low] = packet.subscriber.words();
        let [remote_high, remote_low] = packet.remote.words();
        let highs = subscriber_high | remote_high;
        // The highest bit of a number or of its opposite is set, unless it is 0.
        let is_wide = (highs | highs.wrapping_neg()) & IS_WIDE;
        Self {
            subscriber_low,
            remote_low,
            link: LinkKey { encapsulation: packet.encapsulation, ..link(&packet.link) }.word(),
            conversation: conversation(packet.direction, &packet.transport, port) | is_wide,
            subscriber_high,
            remote_high,
        }
    }

    /// The same of a packet between two IPv4 addresses in network byte order and in no tunnel.
    #[inline(always)]
    pub const fn of_v4(subscriber: u32, remote: u32, link: u64, conversation: u64) -> Self {
        Self {
            subscriber_low: MAPPED | (subscriber as u64) << 32,
            remote_low: MAPPED | (remote as u64) << 32,
            link,
            conversation,
            subscriber_high: 0,
            remote_high: 0,
        }
    }

    /// Spreads flows over buckets and places.
    #[inline(always)]
    pub fn hash(&self) -> u32 {
        hash(&[
            self.subscriber_low >> 32,
            self.remote_low >> 32,
            self.link,
            self.conversation,
            // Nothing of flows between IPv4 addresses.
            u64::from(self.subscriber_low as u32 ^ MAPPED as u32),
            u64::from(self.remote_low as u32 ^ MAPPED as u32),
            u64::from_be(self.subscriber_high),
            u64::from_be(self.remote_high),
        ])
    }

    /// Whether a place is theirs.
    #[inline(always)]
    pub fn are_of(&self, slot: &FlowSlot) -> bool {
        let differs =
            (self.subscriber_high ^ slot.subscriber_high) | (self.remote_high ^ slot.remote_high);
        self.are_of_v4(slot) && differs == 0
    }

    /// Whether a place is theirs, if they are of a flow between IPv4 addresses.
    #[inline(always)]
    pub fn are_of_v4(&self, slot: &FlowSlot) -> bool {
        let differs = (self.subscriber_low ^ slot.subscriber_low)
            | (self.remote_low ^ slot.remote_low)
            | (self.link ^ slot.link)
            | (self.conversation ^ slot.conversation);
        differs == 0
    }
}

/// What is in front of a packet's outer IP header.
#[inline(always)]
pub fn link(link: &Link) -> LinkKey {
    LinkKey {
        vlans: link.vlans,
        pppoe_session: link.pppoe_session,
        vlan_tags: link.tags,
        encapsulation: link.encapsulation,
    }
}

#[inline(always)]
fn conversation(direction: Direction, transport: &Transport, port: u8) -> u64 {
    let class = match transport.protocol {
        protocol::TCP => FlagClass::of_tcp(transport.flags_or_type),
        _ => FlagClass::Other,
    };
    ConversationKey {
        remote_port: match direction {
            Direction::Outbound => transport.destination_port,
            Direction::Inbound => transport.source_port,
        },
        protocol: transport.protocol,
        class: class as u8,
        direction: direction as u8,
        port,
    }
    .word()
}

/// A number that is the same for all packets of a conversation in one direction.
#[inline(always)]
pub fn hash_of(packet: &Sighting) -> u32 {
    let (_, subscriber) = packet.subscriber.halves();
    let (_, remote) = packet.remote.halves();
    let (subscriber_port, remote_port) = packet.ports();
    hash(&[subscriber, remote, u64::from(subscriber_port) << 16 | u64::from(remote_port)])
}

/// The words are multiplied side by side: one after the other, that would take as long as everything
/// else here. A product spreads what is in the lower half of a word. Words of zero count for nothing.
#[inline(always)]
fn hash<const N: usize>(words: &[u64; N]) -> u32 {
    const ODD: [u64; 8] = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0xff51_afd7_ed55_8ccd,
        0xc4ce_b9fe_1a85_ec53,
        0x87c3_7b91_1142_53d5,
        0xd6e8_feb8_6659_fd93,
        0xa076_1d64_78bd_642f,
    ];
    let sum = words
        .iter()
        .zip(ODD)
        .fold(0_u64, |sum, (word, odd)| sum.wrapping_add(word.wrapping_mul(odd)));
    (sum >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_that_call_neighbours_are_spread() {
        let mut all = HashSet::new();
        let mut buckets = [0_u32; 1 << 13];
        for subscriber in 0..256_u32 {
            for remote in 0..256_u32 {
                let address = |net: u32, host: u32| (net << 8 | host).to_be();
                let (from, to) = (address(0x64_40_07, subscriber), address(0xc6_12_00, remote));
                let hash = Words::of_v4(from, to, 0, 6 << 16 | 23).hash();
                all.insert(hash);
                buckets[hash as usize % buckets.len()] += 1;
            }
        }
        assert!(all.len() > 65_000, "{}", all.len());
        assert!(buckets.iter().all(|flows| *flows < 40), "{:?}", buckets.iter().max());
    }
}
