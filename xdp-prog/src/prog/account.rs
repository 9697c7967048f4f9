//! Counting: per packet by reason, per hit by flow. Nothing here can change a verdict.
//!
//! The flow table belongs to nobody else while we run: each CPU has a region of its own on each of
//! the two sides, so that nothing is shared and no operation is atomic. A flow has a few places next
//! to each other; what finds all of them taken by others is counted as overflow of its rule. So rows
//! plus overflow are all hits, exactly.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns};
use sekisho_abi::{
    reason::Reason,
    record::{EVENT_WINDOW_NS, EVENTS_PER_WINDOW, FLOW_PROBES, FlagClass, FlowSlot, flow_region},
};
use sekisho_xdp::decide::{Match, Sighting};

use super::{
    constant,
    maps::{self, EVENTS, FLOW_REGIONS, FLOWS, OVERFLOW},
    verifier::opaque,
};

/// `CLOCK_MONOTONIC_COARSE`: a few milliseconds off, and a fraction of the exact clock's price.
#[derive(Clone, Copy, Default)]
pub(super) struct Now(u64);

impl Now {
    #[inline(always)]
    pub(super) fn read() -> Self {
        // SAFETY: the helper takes nothing and reads the clock.
        Self(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[inline(always)]
    pub(super) fn ns(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(super) fn is_before(self, deadline_ns: u64) -> bool {
        self.0 < deadline_ns
    }

    /// Whether a window that began then is over.
    #[inline(always)]
    pub(super) fn is_past(self, began_ns: u64, window_ns: u64) -> bool {
        self.0 - began_ns >= window_ns
    }
}

/// Counts a packet under its reason.
#[inline(always)]
pub(super) fn packet(reason: Reason, bytes: u64) {
    let Some(counters) = maps::counters() else { return };
    if let Some(count) = counters.by_reason.get_mut(opaque(reason as u64) as usize) {
        count.packets += 1;
        count.bytes += bytes;
    }
}

/// A [`FlowKey`](sekisho_abi::record::FlowKey) as words in registers: bytes that were just written cannot be read back as words
/// without waiting for them.
type KeyWords = [u64; 7];
/// [`FlowTotals`](sekisho_abi::record::FlowTotals) in the same way.
type TotalsWords = [u64; 9];
/// The word of the key that says what was decided; those before it say what the packets are.
const DECISION: usize = 6;

/// Where the hits of a flow are counted.
#[derive(Default)]
pub(super) struct Flow {
    /// The key, without the decision.
    words: [u64; DECISION],
    region: u32,
    /// The first of its places.
    first: u32,
    /// [`Modes::version`](sekisho_abi::record::Modes::version) as this packet found it.
    switches: u32,
}

impl Flow {
    #[inline(always)]
    pub(super) fn of(packet: &Sighting, side: u32, switches: u32) -> Self {
        let words = words_of(packet);
        // SAFETY: the helper takes nothing.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let region = flow_region(cpu, side);
        let places = constant::flow_places();
        let first = region * places + (hash(&words) & (places - 1));
        Self { words, region, first, switches }
    }

    /// Counts a packet like those before it: the rule and the reason are theirs. `None` if there were
    /// none, or if they were judged by another ruleset or under other switches.
    #[inline(always)]
    pub(super) fn go_on(
        &self,
        generation: u32,
        lease_holds: bool,
        bytes: u64,
        now: Now,
    ) -> Option<Reason> {
        for probe in 0..FLOW_PROBES {
            let slot = self.place(probe)?;
            if slot.totals.packets == 0 {
                return None;
            }
            let is_like_this = self.is_of(slot)
                && slot.key.generation == generation
                && slot.totals.switches == self.switches;
            if is_like_this {
                let reason = still(slot.key.reason, lease_holds)?;
                add(slot, bytes, now);
                return Some(reason);
            }
        }
        None
    }

    /// Accounts a packet that was judged anew to this flow.
    #[inline(always)]
    pub(super) fn enter(
        &self,
        found: &Match,
        reason: Reason,
        generation: u32,
        bytes: u64,
        now: Now,
    ) {
        let decision = u64::from(generation) | u64::from(found.rule) << 32 | (reason as u64) << 48;
        for probe in 0..FLOW_PROBES {
            let Some(slot) = self.place(probe) else { break };
            if slot.totals.packets == 0 {
                let key: &mut KeyWords = zerocopy::transmute_mut!(&mut slot.key);
                let [w0, w1, w2, w3, w4, w5] = self.words;
                *key = [w0, w1, w2, w3, w4, w5, decision];
                let totals: &mut TotalsWords = zerocopy::transmute_mut!(&mut slot.totals);
                *totals = self.first_packet(found, bytes, now);
                self.take_place();
                announce(slot, now);
                return;
            }
            let key: &KeyWords = zerocopy::transmute_ref!(&slot.key);
            if key[DECISION] == decision && self.is_of(slot) {
                slot.totals.switches = self.switches;
                add(slot, bytes, now);
                return;
            }
        }
        overflow(found.rule, bytes);
    }

    /// One of its places.
    #[inline(always)]
    fn place(&self, probe: u32) -> Option<&'static mut FlowSlot> {
        let slot = FLOWS.get_ptr_mut(self.first ^ probe)?;
        // SAFETY: the place is in this CPU's region of the side that nobody reads while we run.
        Some(unsafe { &mut *slot })
    }

    #[inline(always)]
    fn is_of(&self, slot: &FlowSlot) -> bool {
        let key: &KeyWords = zerocopy::transmute_ref!(&slot.key);
        key.iter().zip(&self.words).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }

    /// The totals after one packet, in the layout of [`FlowTotals`] on a little-endian machine.
    #[inline(always)]
    fn first_packet(&self, found: &Match, bytes: u64, now: Now) -> TotalsWords {
        let (subscriber_port, _) = found.packet.ports();
        let about_it = u64::from(subscriber_port.to_be())
            | u64::from(found.packet.tcp_flags()) << 16
            | u64::from(self.switches) << 32;
        let [inner_high, inner_low] = found.inner_subscriber.words();
        let [outer_high, outer_low] = found.outer_remote.words();
        [1, bytes, now.0, now.0, about_it, inner_high, inner_low, outer_high, outer_low]
    }

    /// Tells the drain that there is one place more to read.
    #[inline(always)]
    fn take_place(&self) {
        if let Some(region) = FLOW_REGIONS.get_ptr_mut(self.region) {
            // SAFETY: as in `place`.
            unsafe { (*region).taken += 1 };
        }
    }
}

/// The reason of earlier packets if it holds as long as rules and switches do, and needs nothing
/// done to the packet.
#[inline(always)]
fn still(reason: u8, lease_holds: bool) -> Option<Reason> {
    const DROPPED: u8 = Reason::Dropped as u8;
    const LIST_OBSERVED: u8 = Reason::ListObserved as u8;
    const MODE_OBSERVED: u8 = Reason::ModeObserved as u8;
    match reason {
        DROPPED if lease_holds => Some(Reason::Dropped),
        LIST_OBSERVED => Some(Reason::ListObserved),
        MODE_OBSERVED => Some(Reason::ModeObserved),
        _ => None,
    }
}

#[inline(always)]
fn add(slot: &mut FlowSlot, bytes: u64, now: Now) {
    slot.totals.packets += 1;
    slot.totals.bytes += bytes;
    slot.totals.last_ns = now.0;
}

/// Counts what no place of the flow table can hold.
#[inline(always)]
fn overflow(rule: u16, bytes: u64) {
    if let Some(count) = OVERFLOW.get_ptr_mut(rule.into()) {
        // SAFETY: the pointer is to this CPU's value, which nobody else writes while we run.
        let count = unsafe { &mut *count };
        count.packets += 1;
        count.bytes += bytes;
    }
}

/// What the packets of a flow are, in the layout of [`FlowKey`] on a little-endian machine.
#[inline(always)]
fn words_of(packet: &Sighting) -> [u64; DECISION] {
    let [subscriber_high, subscriber_low] = packet.subscriber.words();
    let [remote_high, remote_low] = packet.remote.words();
    let class = FlagClass::of_tcp(packet.tcp_flags());
    let (_, remote_port) = packet.ports();
    let link = &packet.link;
    [
        subscriber_high,
        subscriber_low,
        remote_high,
        remote_low,
        u64::from(link.vlans)
            | u64::from(link.pppoe_session.to_be()) << 32
            | u64::from(link.tags) << 48
            | u64::from(packet.encapsulation.0) << 56,
        u64::from(remote_port.to_be())
            | u64::from(packet.transport.protocol) << 16
            | (class as u64) << 24
            | (packet.direction as u64) << 32
            | u64::from(constant::port()) << 40,
    ]
}

/// A number that is the same for all packets of a flow in one direction.
#[inline(always)]
pub(super) fn flow_hash(packet: &Sighting) -> u32 {
    let [_, subscriber] = packet.subscriber.words();
    let [_, remote] = packet.remote.words();
    let (subscriber_port, remote_port) = packet.ports();
    let ports = u64::from(subscriber_port) << 16 | u64::from(remote_port);
    hash(&[subscriber, remote, ports])
}

/// Spreads flows over places. The words are multiplied side by side: one after the other, that would
/// take as long as everything else here.
#[inline(always)]
fn hash<const N: usize>(words: &[u64; N]) -> u32 {
    const ODD: [u64; DECISION] = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0xff51_afd7_ed55_8ccd,
        0xc4ce_b9fe_1a85_ec53,
        0x87c3_7b91_1142_53d5,
    ];
    let sum = words
        .iter()
        .zip(ODD)
        .fold(0_u64, |sum, (word, odd)| sum.wrapping_add(word.wrapping_mul(odd)));
    (sum >> 40 ^ sum >> 20) as u32
}

/// Sends a flow's first packet to whoever watches, within the rate limit.
#[inline(always)]
fn announce(slot: &FlowSlot, now: Now) {
    let Some(counters) = maps::event_counters() else { return };
    if now.is_past(counters.window_ns, EVENT_WINDOW_NS) {
        counters.window_ns = now.0;
        counters.sent_in_window = 0;
    }
    if counters.sent_in_window >= EVENTS_PER_WINDOW {
        counters.suppressed += 1;
        return;
    }
    counters.sent_in_window += 1;
    if EVENTS.output(slot, 0).is_err() {
        counters.lost += 1;
    }
}
