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
    record::{Forwarding, Mode, Modes, Role},
};
use sekisho_xdp::{
    decide::{self, Account, Match, Sighting},
    frame::Frame,
    site::{PrefixSet, Site},
};

use self::{
    account::{Flow, Now},
    images::{LiveImage, OPT_OUTS, RULES},
    packet::Packet,
    verifier::before_what_follows,
};

/// Judges one packet. Whatever it cannot read, it passes; accounting never decides.
#[xdp(frags)]
fn sekisho(ctx: XdpContext) -> u32 {
    let length = Packet::new(&ctx).length();
    // What is done to a packet that is neither passed nor dropped.
    let mut done = XDP_DROP;
    let mut reason = Reason::from_u8(in_short(ctx.ctx) as u8);
    if reason.is_none() {
        let judged = in_full(ctx.ctx);
        done = (judged >> 8) as u32;
        reason = Reason::from_u8(judged as u8);
    }
    let reason = reason.unwrap_or(Reason::NoRuleset);
    account::packet(reason, length);
    match reason.verdict() {
        Verdict::Pass => forward(),
        Verdict::Drop => XDP_DROP,
        Verdict::Reject | Verdict::Sinkhole => done,
    }
}

/// The reason of most packets, or [`LONGER`].
///
/// This and [`in_full`] are functions of their own: each has the processor's registers to itself, and
/// together they would need more stack than there is.
#[inline(never)]
fn in_short(ctx: *mut xdp_md) -> u64 {
    // There is none where either end may be the remote; the verifier need not find that out anew on
    // every way through the headers.
    if constant::role() == Role::Both {
        return LONGER;
    }
    let ctx = XdpContext::new(ctx);
    match judge::<true>(&Packet::new(&ctx), &mut 0) {
        Some(reason) => reason as u64,
        None => LONGER,
    }
}

/// No [`Reason`].
const LONGER: u64 = 0xff;

/// The reason of any packet, and above its eight bits what was done to it.
#[inline(never)]
fn in_full(ctx: *mut xdp_md) -> u64 {
    let ctx = XdpContext::new(ctx);
    let mut done = XDP_DROP;
    let reason = judge::<false>(&Packet::new(&ctx), &mut done);
    reason.unwrap_or(Reason::NoRuleset) as u64 | u64::from(done) << 8
}

#[inline(always)]
fn judge<const IN_SHORT: bool>(packet: &Packet<'_>, done: &mut u32) -> Option<Reason> {
    let Some(modes) = maps::modes() else { return Some(Reason::ModeBypass) };
    // Before the rest of it: what is decided under a switch that changes meanwhile is kept under the
    // number of the old one, and so only for this packet.
    let switches = before_what_follows(modes.version.into()) as u32;
    let mode = modes.of_port(constant::port() as usize);
    if mode == Mode::Bypass {
        return Some(Reason::ModeBypass);
    }
    let Some(image) = images::live(&RULES) else { return Some(Reason::NoRuleset) };
    let here = Here { modes };
    let mut ledger = Ledger {
        packet,
        modes,
        mode,
        switches,
        image: &image,
        generation: 0,
        now: Now::default(),
        lease_holds: false,
        flow: Flow::default(),
        done,
    };
    if IN_SHORT {
        decide::shortcut(packet, &image, &here, &mut ledger)
    } else {
        Some(decide::whole_way(packet, &image, &here, &mut ledger))
    }
}

/// Decides on packets from and to listed addresses, and keeps account of them.
struct Ledger<'a> {
    packet: &'a Packet<'a>,
    image: &'a LiveImage,
    modes: &'static Modes,
    mode: Mode,
    /// The version of the switch.
    switches: u32,
    generation: u32,
    now: Now,
    lease_holds: bool,
    flow: Flow,
    done: &'a mut u32,
}

impl Account for Ledger<'_> {
    #[inline(always)]
    fn known(&mut self, packet: &Sighting) -> Option<Reason> {
        let (until, side) =
            maps::lease().map_or((0, 0), |lease| (lease.enforce_until_ns, lease.side()));
        self.generation = self.image.generation();
        self.now = Now::read();
        self.lease_holds = self.now.is_before(until);
        self.flow = Flow::of(packet, side, self.switches);
        self.flow.go_on(self.generation, self.lease_holds, self.packet.length(), self.now)
    }

    #[inline(always)]
    fn matched(&mut self, found: &Match) -> Reason {
        let Self { packet, now, .. } = *self;
        let reason = decide::decide(found.lists, self.modes, self.mode, || self.lease_holds);
        if found.is_canary() {
            return decide::of_canary(reason);
        }
        let reason = feasible(reason, packet, found, now);
        // What follows is followed once, not once for each reason.
        let reason = Reason::from_u8(packet.forget(reason as u64) as u8).unwrap_or(reason);
        if reason.is_hit() {
            self.flow.enter(found, reason, self.generation, packet.length(), now);
        }
        match reason.verdict() {
            Verdict::Pass | Verdict::Drop => {}
            Verdict::Reject => *self.done = answer::send(packet, &found.packet),
            Verdict::Sinkhole => *self.done = sinkhole::divert(packet, &found.packet),
        }
        reason
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
fn forward() -> u32 {
    match constant::forwarding() {
        Forwarding::Kernel => XDP_PASS,
        // Without its other end, a wire leaves the packet to the kernel.
        Forwarding::Wire => redirect(constant::peer(), XDP_PASS),
        Forwarding::Tap => XDP_DROP,
    }
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
