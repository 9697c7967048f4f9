//! The entry point: one packet, one reason, one verdict.

mod account;
mod answer;
mod checksum;
mod constant;
mod images;
mod maps;
mod packet;
mod sinkhole;
mod verifier;

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    macros::xdp,
    programs::XdpContext,
};
use sekisho_abi::{
    encapsulation::Encapsulation,
    image::Bytes,
    opt_out::BlockKey,
    reason::{Reason, Verdict},
    record::{Address, Direction, Forwarding, Modes, Role},
};
use sekisho_xdp::{
    decide::{self, Known, Match, Matches},
    flow::Words,
    frame::Frame,
    site::{PrefixSet, Site},
};

use self::{
    account::{Counters, First, Flow, Now, Under},
    images::{LiveImage, OPT_OUTS, RULES},
    packet::{Packet, Whole},
    verifier::{before_what_follows, forget_memory, zeros},
};

/// Judges one packet. Whatever it cannot read, it passes.
///
/// Most packets need no more than this function. The others are called, and a call costs a third of
/// what most packets take, as kernels guard against speculation wherever a function ends. Each has the
/// processor's registers to itself, and the verifier follows each way only to the end of one of them.
#[xdp(frags)]
#[inline(always)]
fn sekisho(ctx: XdpContext) -> u32 {
    let done = match constant::role() {
        Role::Subscriber => in_short(&ctx, Direction::Outbound),
        Role::Uplink => in_short(&ctx, Direction::Inbound),
        Role::Both => None,
    };
    if let Some(done) = done {
        return done;
    }
    let done = find(ctx.ctx);
    if done & MATCHED == 0 { done } else { stop(ctx.ctx, done) }
}

#[inline(always)]
fn in_short(ctx: &XdpContext, direction: Direction) -> Option<u32> {
    let packet = Packet::new(ctx);
    let mut counters = Counters::here()?;
    let reason = match Live::find() {
        Ok(Live { modes, image }) => {
            let mut flows =
                LiveFlows { packet: &packet, counters: &mut counters, modes, image: &image };
            decide::shortcut(&packet, &image, &Here { modes }, direction, &mut flows)?
        }
        // Nothing was read, and so not even whether the whole packet is in the first buffer.
        Err(reason) => return Some(end(&Packet::new_whole(ctx), &mut counters, reason)),
    };
    Some(end(&packet, &mut counters, reason))
}

/// No verdict: a packet that matched is still to be stopped, or not. The other bits are a serial.
const MATCHED: u32 = 1 << 31;

/// Passes a packet unless it matches, which is noted in [`maps::matched`] under the serial that it gives.
#[inline(never)]
fn find(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    let packet = Packet::new_whole(&ctx);
    let Some(mut counters) = Counters::here() else { return forward(&packet) };
    let reason = match Live::find() {
        Ok(Live { modes, image }) => {
            let mut found = Found { image: &image, serial: MATCHED };
            match decide::whole_way(&Whole(&packet), &image, &Here { modes }, &mut found) {
                Some(reason) => reason,
                None => return found.serial,
            }
        }
        Err(reason) => reason,
    };
    end(&packet, &mut counters, reason)
}

/// Counts a packet that is passed or dropped.
#[inline(always)]
fn end(packet: &Packet<'_>, counters: &mut Counters, reason: Reason) -> u32 {
    counters.count(reason, packet.length());
    if reason.verdict() == Verdict::Pass { forward(packet) } else { XDP_DROP }
}

/// What packets are judged by.
struct Live {
    modes: &'static Modes,
    image: LiveImage,
}

impl Live {
    /// The reason of every packet, if there is nothing to judge them by.
    #[inline(always)]
    fn find() -> Result<Self, Reason> {
        let modes = maps::modes();
        if modes.is_bypassed(constant::port() as usize) {
            return Err(Reason::ModeBypass);
        }
        let image = images::live(&RULES).ok_or(Reason::NoRuleset)?;
        Ok(Self { modes, image })
    }
}

/// The flows between IPv4 addresses.
struct LiveFlows<'a> {
    packet: &'a Packet<'a>,
    counters: &'a mut Counters,
    modes: &'static Modes,
    image: &'a LiveImage,
}

impl decide::Flows for LiveFlows<'_> {
    #[inline(always)]
    fn port(&self) -> u8 {
        constant::port() as u8
    }

    #[inline(always)]
    fn are_expected(&self) -> bool {
        self.counters.expects_flows()
    }

    #[inline(always)]
    fn expect(&mut self, are_expected: bool) {
        self.counters.expect_flows(are_expected);
    }

    #[inline(always)]
    fn known(&mut self, flow: Words) -> Known {
        let now = self.counters.now();
        let mut flow = Flow::of(flow, maps::lease().side());
        flow.go_on(|| self.under(now), self.packet.length(), now)
    }

    #[inline(always)]
    fn begin(&mut self, first: &decide::First) -> Option<Reason> {
        // All of it anew: what is kept until then would be kept for every packet.
        forget_memory();
        let now = self.counters.now();
        let under = self.under(now);
        let mode = self.modes.of_port(constant::port() as usize);
        if !under.lease_holds || !decide::is_dropped(first.dropping, self.modes, mode) {
            return None;
        }
        let none = Address::of_words(zeros());
        let first = First {
            rule: first.rule,
            reason: Reason::Dropped,
            subscriber_port: first.subscriber_port,
            tcp_flags: first.tcp_flags,
            inner_subscriber: none,
            outer_remote: none,
        };
        account::begin(first, under, self.packet.length(), now)?;
        Some(Reason::Dropped)
    }
}

impl LiveFlows<'_> {
    #[inline(always)]
    fn under(&self, now: Now) -> Under {
        Under {
            generation: self.image.generation(),
            switches: version(self.modes),
            lease_holds: now.is_before(maps::lease().enforce_until_ns),
        }
    }
}

/// The number of the switch, read before the rest of it: what is decided under a switch that changes
/// meanwhile is kept under the number of the old one, and so only for this packet.
#[inline(always)]
fn version(modes: &Modes) -> u32 {
    before_what_follows(modes.version.into()) as u32
}

/// Notes a match for [`stop`].
struct Found<'a> {
    image: &'a LiveImage,
    serial: u32,
}

impl Matches for Found<'_> {
    #[inline(always)]
    fn take(&mut self, found: &Match) {
        if let Some(matched) = maps::matched() {
            let generation = self.image.generation();
            self.serial = matched.serial.wrapping_add(1) | MATCHED;
            matched.serial = self.serial;
            matched.note.write(Matched { found: *found, generation });
        }
    }
}

/// What [`find`] notes for [`stop`], and the serial of the packet that it is about: before kernel 6.3, a
/// test run may be interrupted by packets between the two.
struct Noted {
    serial: u32,
    note: MaybeUninit<Matched>,
}

struct Matched {
    found: Match,
    /// Of the ruleset that matched.
    generation: u32,
}

/// Does with a packet what the lists ask for that it matched.
#[inline(never)]
fn stop(ctx: *mut xdp_md, serial: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let packet = Packet::new_whole(&ctx);
    let Some(mut counters) = Counters::here() else { return forward(&packet) };
    let Some(matched) = maps::matched() else { return forward(&packet) };
    let modes = maps::modes();
    let switches = version(modes);
    let mode = modes.of_port(constant::port() as usize);
    if matched.serial != serial {
        return forward(&packet);
    }
    // SAFETY: the serial says that `find` has written it for this packet.
    let Matched { mut found, generation } = unsafe { matched.note.assume_init_read() };
    found.packet.ip.offset = packet.forget_offset(found.packet.ip.offset);
    found.packet.ip.payload = packet.forget_offset(found.packet.ip.payload);
    found.packet.link.offset = packet.forget_offset(found.packet.link.offset);
    let now = counters.now();
    let lease = maps::lease();
    let under = Under { generation, switches, lease_holds: now.is_before(lease.enforce_until_ns) };
    let length = packet.length();
    let reason = decide::decide(found.lists, modes, mode, || under.lease_holds);
    let reason = if found.is_canary() {
        decide::of_canary(reason)
    } else {
        feasible(reason, &packet, &found, now)
    };
    // What follows is followed once, not once for each reason.
    let reason = Reason::from_u8(packet.forget(reason as u64) as u8).unwrap_or(reason);
    if reason.is_hit() {
        let words = Words::of(&found.packet, constant::port() as u8);
        let (subscriber_port, _) = found.packet.ports();
        let first = First {
            rule: found.rule,
            reason,
            subscriber_port,
            tcp_flags: found.packet.tcp_flags(),
            inner_subscriber: found.inner_subscriber,
            outer_remote: found.outer_remote,
        };
        Flow::of(words, lease.side()).enter(first, under, length, now);
    }
    counters.count(reason, length);
    match reason.verdict() {
        Verdict::Pass => forward(&packet),
        Verdict::Drop => XDP_DROP,
        Verdict::Reject => answer::send(&packet, &found.packet),
        Verdict::Sinkhole => sinkhole::divert(&packet, &found.packet),
    }
}

/// The reason with what can be done to this packet.
#[inline(always)]
fn feasible(reason: Reason, packet: &Packet<'_>, found: &Match, now: Now) -> Reason {
    match reason {
        Reason::Rejected if !answer::is_due(packet, &found.packet, now) => Reason::RejectedSilently,
        Reason::Sinkholed if !sinkhole::takes(packet, &found.packet) => Reason::SinkholeUnfit,
        other => other,
    }
}

#[inline(always)]
fn forward(packet: &Packet<'_>) -> u32 {
    match constant::forwarding() {
        Forwarding::Kernel => XDP_PASS,
        _ if constant::is_bond() && is_slow_protocol(packet) => XDP_PASS,
        // Without its other end, a wire leaves the packet to the kernel.
        Forwarding::Wire => redirect(constant::peer(), XDP_PASS),
        Forwarding::Tap => XDP_DROP,
    }
}

/// Whether a frame is of the protocols by which links are aggregated (IEEE 802.3, 57A): they concern the
/// two ends of one cable, and a bond that does not hear them carries nothing.
#[inline(always)]
fn is_slow_protocol(packet: &Packet<'_>) -> bool {
    Whole(packet).read(12) == Some(0x8809_u16.to_be_bytes())
}

/// Sends the frame out of a device, or does `otherwise` if there is none.
#[inline(always)]
fn redirect(device: u32, otherwise: u32) -> u32 {
    maps::DEVICES.redirect(device, otherwise.into()).unwrap_or(otherwise)
}

/// The interface that this program is on.
struct Here {
    modes: &'static Modes,
}

impl Site for Here {
    #[inline(always)]
    fn role(&self) -> Role {
        constant::role()
    }

    #[inline(always)]
    fn unwrapped(&self) -> Encapsulation {
        constant::unwrapped()
    }

    #[inline(always)]
    fn embedding(&self) -> impl PrefixSet {
        constant::embedding()
    }

    #[inline(always)]
    fn infrastructure(&self) -> impl PrefixSet {
        constant::infrastructure()
    }

    #[inline(always)]
    fn opt_outs(&self) -> Option<impl Bytes> {
        if self.modes.opt_outs == 0 { None } else { images::live(&OPT_OUTS) }
    }

    #[inline(always)]
    fn opted_out_ports(&self, key: &BlockKey) -> u64 {
        maps::opted_out_ports(key)
    }
}
