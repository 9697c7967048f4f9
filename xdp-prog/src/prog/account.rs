//! Counting: per packet by reason, per hit by flow. What is known of a flow goes for its next packet.
//!
//! The flow table belongs to nobody else while we run: each CPU has a region of its own on each of
//! the two sides, so that nothing is shared and no operation is atomic. A flow has a bucket, in any
//! place of which it may be; what finds all of them taken by others is counted as overflow of its
//! rule. So rows plus overflow are all hits, exactly.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_coarse_ns,
};
use sekisho_abi::{
    flow::{Decision, FLOWS_PER_BUCKET, FlowBucket, FlowSlot, flow_region, part_of, steps, under},
    reason::Reason,
    record::{Address, EVENT_WINDOW_NS, EVENTS_PER_WINDOW, PortCounters},
};
use sekisho_xdp::{decide::Known, flow::Words};

use super::{
    constant,
    maps::{self, EVENTS, FLOW_REGIONS, FLOWS, OVERFLOW},
    verifier::{before_what_follows, opaque, zeros},
};

/// What this CPU has counted on this port.
pub(super) struct Counters(&'static mut PortCounters);

impl Counters {
    #[inline(always)]
    pub(super) fn here() -> Option<Self> {
        maps::counters().map(Self)
    }

    /// Counts a packet under its reason.
    #[inline(always)]
    pub(super) fn count(&mut self, reason: Reason, bytes: u64) {
        if let Some(count) = self.0.by_reason.get_mut(opaque(reason as u64) as usize) {
            count.packets += 1;
            count.bytes += bytes;
        }
    }

    #[inline(always)]
    pub(super) fn expects_flows(&self) -> bool {
        self.0.expects_flows != 0
    }

    #[inline(always)]
    pub(super) fn expect_flows(&mut self, expects: bool) {
        self.0.expects_flows = expects.into();
    }

    /// The coarse clock stands still between ticks, and asking what tick it is takes no call. What was
    /// read just before the clock moved on is a tick old until the next.
    #[inline(always)]
    pub(super) fn now(&mut self) -> Now {
        let clock = &mut self.0.clock;
        // SAFETY: the helper takes nothing and reads a counter.
        let tick = unsafe { bpf_jiffies64() };
        if clock.tick != tick {
            // In this order, so that a packet that comes in between believes nothing old.
            // SAFETY: the helper takes nothing and reads the clock.
            clock.now_ns = unsafe { bpf_ktime_get_coarse_ns() };
            clock.tick = before_what_follows(tick);
        }
        Now(clock.now_ns)
    }
}

/// `CLOCK_MONOTONIC_COARSE`: a few milliseconds off, and a fraction of the exact clock's price.
#[derive(Clone, Copy, Default)]
pub(super) struct Now(u64);

impl Now {
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
        self.0.saturating_sub(began_ns) >= window_ns
    }
}

/// Where the hits of a flow are counted.
pub(super) struct Flow {
    words: Words,
    /// The number of its bucket.
    at: u32,
    bucket: Option<&'static mut FlowBucket>,
    /// The first place of the bucket that is looked at.
    first: u32,
}

/// What a packet is judged under. What was decided under another ruleset or other switches is decided
/// anew.
#[derive(Clone, Copy)]
pub(super) struct Under {
    pub(super) generation: u32,
    /// [`Modes::version`](sekisho_abi::record::Modes::version).
    pub(super) switches: u32,
    pub(super) lease_holds: bool,
}

impl Under {
    #[inline(always)]
    fn word(self) -> u64 {
        under(self.generation, self.switches)
    }
}

impl Flow {
    #[inline(always)]
    pub(super) fn of(words: Words, side: u32) -> Self {
        // SAFETY: the helper takes nothing.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let region = flow_region(cpu, side);
        let buckets = constant::flow_buckets();
        let hash = words.hash();
        let at = region * buckets + (hash & (buckets - 1));
        // SAFETY: the bucket is in this CPU's region of the side that nobody reads while we run.
        let bucket = FLOWS.get_ptr_mut(at).map(|bucket| unsafe { &mut *bucket });
        Self { words, at, bucket, first: hash >> 24 }
    }

    /// Counts a packet between IPv4 addresses like those before it: the rule and the reason are theirs.
    #[inline(always)]
    pub(super) fn go_on(&mut self, under: impl Fn() -> Under, bytes: u64, now: Now) -> Known {
        let words = self.words;
        for probe in 0..FLOWS_PER_BUCKET {
            let Some(slot) = self.place(probe) else { return Known::Elsewhere };
            if slot.packets == 0 {
                return self.note(probe);
            }
            if !words.are_of_v4(slot) {
                continue;
            }
            let under = under();
            if slot.under != under.word() {
                if slot.decision().generation != under.generation {
                    continue;
                }
                return Known::Elsewhere;
            }
            let Some(reason) = still(slot.reason, under.lease_holds) else {
                return Known::Elsewhere;
            };
            add(slot, bytes, now);
            return Known::As(reason);
        }
        Known::Elsewhere
    }

    /// Notes that a place is free.
    #[inline(always)]
    fn note(&self, probe: u32) -> Known {
        let Some(free) = maps::free_place() else { return Known::Elsewhere };
        let place = self.first ^ probe;
        let Words { subscriber_low, remote_low, link, conversation, .. } = self.words;
        let words = [subscriber_low, remote_low, link, conversation];
        *free = FreePlace { words, bucket: self.at, place };
        Known::Not
    }

    /// Accounts a packet that was judged anew to this flow.
    #[inline(always)]
    pub(super) fn enter(&mut self, first: First, under: Under, bytes: u64, now: Now) {
        let decision = first.decision(under.generation);
        let (words, at) = (self.words, self.at);
        for probe in 0..FLOWS_PER_BUCKET {
            let Some(slot) = self.place(probe) else { break };
            if slot.packets == 0 {
                occupy(slot, at, row(words, first, under, bytes, now), now);
                return;
            }
            if slot.decision() == decision && words.are_of(slot) {
                add(slot, bytes, now);
                slot.under = under.word();
                return;
            }
        }
        overflow(first.rule, bytes);
    }

    /// One of its places.
    #[inline(always)]
    fn place(&mut self, probe: u32) -> Option<&mut FlowSlot> {
        let at = opaque((self.first ^ probe).into()) as usize % FLOWS_PER_BUCKET as usize;
        self.bucket.as_mut()?.0.get_mut(at)
    }
}

/// A free place that [`Flow::go_on`] came upon, and whose it may become.
///
/// It is noted in memory of this CPU's own: most packets need none of it, and what is kept for them on
/// the stack leaves less of that for the functions that are called.
pub(super) struct FreePlace {
    /// Those of a flow between IPv4 addresses that are not zero.
    words: [u64; 4],
    bucket: u32,
    place: u32,
}

/// Puts a flow's first packet into the place that was free for it.
#[inline(always)]
pub(super) fn begin(first: First, under: Under, bytes: u64, now: Now) -> Option<()> {
    let &mut FreePlace { words, bucket, place } = maps::free_place()?;
    let [subscriber_low, remote_low, link, conversation] = words;
    let [subscriber_high, remote_high] = zeros();
    let words =
        Words { subscriber_low, remote_low, link, conversation, subscriber_high, remote_high };
    // SAFETY: the bucket is in this CPU's region of the side that nobody reads while we run.
    let places = unsafe { &mut *FLOWS.get_ptr_mut(bucket)? };
    let slot = places.0.get_mut(opaque(place.into()) as usize % FLOWS_PER_BUCKET as usize)?;
    occupy(slot, bucket, row(words, first, under, bytes, now), now);
    Some(())
}

/// What a flow's row keeps of its first packet.
#[derive(Clone, Copy)]
pub(super) struct First {
    pub(super) rule: u16,
    pub(super) reason: Reason,
    pub(super) subscriber_port: u16,
    pub(super) tcp_flags: u8,
    pub(super) inner_subscriber: Address,
    pub(super) outer_remote: Address,
}

impl First {
    #[inline(always)]
    fn decision(&self, generation: u32) -> Decision {
        Decision { generation, rule: self.rule, reason: self.reason as u8 }
    }
}

/// The row of a flow after one packet.
#[inline(always)]
fn row(words: Words, first: First, under: Under, bytes: u64, now: Now) -> FlowSlot {
    FlowSlot {
        subscriber_low: words.subscriber_low,
        remote_low: words.remote_low,
        link: words.link,
        conversation: words.conversation,
        under: under.word(),
        packets: 1,
        bytes,
        latest: steps(now.0),
        rule: first.rule,
        reason: first.reason as u8,
        reserved: 0,
        subscriber_high: words.subscriber_high,
        remote_high: words.remote_high,
        first_ns: now.0,
        first_packet: u64::from(first.subscriber_port) | u64::from(first.tcp_flags) << 16,
        inner_subscriber: first.inner_subscriber,
        outer_remote: first.outer_remote,
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
    slot.packets += 1;
    slot.bytes += bytes;
    slot.latest = steps(now.0);
}

/// Writes a flow's first row into a free place, and tells the drain that there is one place more to read.
#[inline(always)]
fn occupy(slot: &mut FlowSlot, bucket: u32, row: FlowSlot, now: Now) {
    *slot = row;
    announce(slot, now);
    let buckets = constant::flow_buckets();
    let number = bucket.checked_div(buckets).unwrap_or(0);
    if let Some(region) = FLOW_REGIONS.get_ptr_mut(number) {
        // SAFETY: as with the bucket.
        let region = unsafe { &mut *region };
        region.taken += 1;
        region.parts |= 1 << (part_of(bucket & (buckets - 1), buckets) & 63);
    }
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
