//! Counting: per packet by reason, per hit by rule and by flow. Nothing here can change a verdict.
//!
//! Hits of one flow are added up in a slot of a per-CPU cache. A flow that finds both its places taken
//! has a row in the shared table of the epoch; what that table cannot hold is counted as overflow of
//! its rule. So rows plus overflow are all hits, exactly.

use core::arch::asm;

use aya_ebpf::{btf_maps::HashMap, helpers::generated::bpf_ktime_get_coarse_ns};
use sekisho_abi::{
    reason::Reason,
    record::{
        EVENT_WINDOW_NS, EVENTS_PER_WINDOW, FLOW_CACHE_SLOTS, FlagClass, FlowKey, FlowSlot,
        FlowTotals,
    },
};
use sekisho_xdp::decide::Match;

use super::{
    constant,
    maps::{self, COUNTERS, EVENTS, FLOW_CACHE, FLOWS_0, FLOWS_1, RULE_TOTALS},
    verifier::opaque,
};

type Flows = HashMap<FlowKey, FlowTotals, 1>;

/// Insert only what is not there yet.
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = 17;

/// `CLOCK_MONOTONIC_COARSE`: a few milliseconds off, and a fraction of the exact clock's price.
#[derive(Clone, Copy)]
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
    let Some(counters) = COUNTERS.get_ptr_mut(constant::port()) else { return };
    // SAFETY: the pointer is to this CPU's value, which nobody else writes while we run.
    let counters = unsafe { &mut *counters };
    if let Some(count) = counters.by_reason.get_mut(opaque(reason as u64) as usize) {
        count.packets += 1;
        count.bytes += bytes;
    }
}

/// A [`FlowKey`] as words in registers: bytes that were just written cannot be read back as words
/// without waiting for them.
type KeyWords = [u64; 7];
/// [`FlowTotals`] in the same way.
type TotalsWords = [u64; 9];

/// Accounts a hit to its rule and its flow.
#[inline(always)]
pub(super) fn hit(found: &Match, reason: Reason, generation: u32, bytes: u64, now: Now) {
    if let Some(totals) = RULE_TOTALS.get_ptr_mut(found.rule.into()) {
        // SAFETY: as in `packet`.
        let totals = unsafe { &mut *totals };
        totals.hits.packets += 1;
        totals.hits.bytes += bytes;
    }
    let key = key_words(found, reason, generation);
    let epoch = maps::lease().map_or(0, |lease| lease.epoch & 1);
    let place = hash(&key) & (FLOW_CACHE_SLOTS - 1);
    // A flow has two places, so that two flows seldom meet.
    for index in [epoch * FLOW_CACHE_SLOTS + place, epoch * FLOW_CACHE_SLOTS + (place ^ 1)] {
        let Some(slot) = FLOW_CACHE.get_ptr_mut(index) else { return };
        // SAFETY: as in `packet`; the drain reads only the side that is not the epoch's.
        let slot = unsafe { &mut *slot };
        if slot.totals.packets == 0 {
            let key_words: &mut KeyWords = zerocopy::transmute_mut!(&mut slot.key);
            *key_words = key;
            let totals_words: &mut TotalsWords = zerocopy::transmute_mut!(&mut slot.totals);
            *totals_words = first(found, bytes, now);
            announce(slot, now);
            return;
        }
        if same(&slot.key, &key) {
            slot.totals.packets += 1;
            slot.totals.bytes += bytes;
            slot.totals.last_ns = now.0;
            return;
        }
    }
    let slot = FlowSlot {
        key: zerocopy::transmute!(key),
        totals: zerocopy::transmute!(first(found, bytes, now)),
    };
    share(&slot, epoch, now);
}

/// A flow's totals after one packet, in the layout of [`FlowTotals`] on a little-endian machine.
#[inline(always)]
fn first(found: &Match, bytes: u64, now: Now) -> TotalsWords {
    let (subscriber_port, _) = found.ports();
    let port_and_flags = u64::from(subscriber_port.to_be()) | u64::from(found.tcp_flags()) << 16;
    let [inner_high, inner_low] = found.inner_subscriber.words();
    let [outer_high, outer_low] = found.outer_remote.words();
    [1, bytes, now.0, now.0, port_and_flags, inner_high, inner_low, outer_high, outer_low]
}

/// The words of the key, in the layout of [`FlowKey`] on a little-endian machine.
#[inline(always)]
fn key_words(found: &Match, reason: Reason, generation: u32) -> KeyWords {
    let [subscriber_high, subscriber_low] = found.subscriber.words();
    let [remote_high, remote_low] = found.remote.words();
    let class = FlagClass::of_tcp(found.tcp_flags());
    let (_, remote_port) = found.ports();
    let link = &found.link;
    [
        subscriber_high,
        subscriber_low,
        remote_high,
        remote_low,
        u64::from(generation) | u64::from(link.vlans) << 32,
        u64::from(found.rule)
            | u64::from(remote_port.to_be()) << 16
            | u64::from(found.transport.protocol) << 32
            | (class as u64) << 40
            | (found.direction as u64) << 48
            | (reason as u64) << 56,
        u64::from(constant::port())
            | u64::from(link.tags) << 8
            | u64::from(found.encapsulation.0) << 16
            | u64::from(link.pppoe_session.to_be()) << 32,
    ]
}

/// A number that is the same for all packets of a flow in one direction.
#[inline(always)]
pub(super) fn flow_hash(found: &Match) -> u32 {
    let [_, subscriber] = found.subscriber.words();
    let [_, remote] = found.remote.words();
    let (subscriber_port, remote_port) = found.ports();
    let ports = u64::from(subscriber_port) << 16 | u64::from(remote_port);
    mix(mix(mix(0, subscriber), remote), ports) as u32
}

#[inline(always)]
fn same(key: &FlowKey, words: &KeyWords) -> bool {
    let key: &KeyWords = zerocopy::transmute_ref!(key);
    key.iter().zip(words).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

/// Spreads flows over the cache: the words of a key, multiplied.
#[inline(always)]
fn hash(key: &KeyWords) -> u32 {
    key.iter().fold(0_u64, |mixed, word| mix(mixed, *word)) as u32
}

#[inline(always)]
fn mix(mixed: u64, word: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (mixed ^ word).wrapping_mul(ODD);
    mixed ^ mixed >> 32
}

/// Counts a packet of a flow that found no place in the cache.
#[inline(always)]
fn share(slot: &FlowSlot, epoch: u32, now: Now) {
    if epoch == 0 { store(&FLOWS_0, slot, now) } else { store(&FLOWS_1, slot, now) }
}

#[inline(always)]
fn store(flows: &Flows, slot: &FlowSlot, now: Now) {
    if let Some(row) = flows.get_ptr_mut(&slot.key) {
        return merge(row, &slot.totals);
    }
    match flows.insert(&slot.key, &slot.totals, BPF_NOEXIST) {
        Ok(()) => announce(slot, now),
        // Another CPU was faster.
        Err(error) if error == -EEXIST => match flows.get_ptr_mut(&slot.key) {
            Some(row) => merge(row, &slot.totals),
            None => overflow(slot),
        },
        Err(_) => overflow(slot),
    }
}

/// Adds to a row that other CPUs may be adding to.
#[inline(always)]
fn merge(row: *mut FlowTotals, totals: &FlowTotals) {
    // SAFETY: the row is a live value of the flow table; the two sums are added atomically, and
    // for the time of the last packet any of the writers' values will do.
    unsafe {
        add(&raw mut (*row).packets, totals.packets);
        add(&raw mut (*row).bytes, totals.bytes);
        (*row).last_ns = totals.last_ns;
    }
}

/// Atomic addition; core has none for this target.
///
/// # Safety
///
/// `to` must point to an aligned `u64` of a map value.
#[inline(always)]
unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: BPF's atomic add to memory that the caller vouches for.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) value) };
}

/// Counts what no flow row can hold.
#[inline(always)]
fn overflow(slot: &FlowSlot) {
    if let Some(totals) = RULE_TOTALS.get_ptr_mut(slot.key.rule.into()) {
        // SAFETY: as in `packet`.
        let totals = unsafe { &mut *totals };
        totals.overflow.packets += slot.totals.packets;
        totals.overflow.bytes += slot.totals.bytes;
    }
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
