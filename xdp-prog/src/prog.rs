//! The entry point: one packet, one reason, one verdict.

mod account;
mod lookup;
mod maps;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
use sekisho_abi::{
    reason::{Reason, Verdict},
    record::{Mode, Role},
};
use sekisho_xdp::decide;

use self::{lookup::Packet, maps::constant};

/// Judges one packet. Whatever it cannot read, it passes; accounting never decides.
#[xdp(frags)]
fn sekisho(ctx: XdpContext) -> u32 {
    let packet = Packet::new(&ctx);
    let bytes = packet.length();
    let reason = judge(&packet, bytes);
    account::packet(reason, bytes);
    match reason.verdict() {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
    }
}

#[inline(always)]
fn judge(packet: &Packet<'_>, bytes: u64) -> Reason {
    let Some(modes) = maps::modes() else { return Reason::ModeBypass };
    let mode = modes.of_port(constant::port() as usize);
    if mode == Mode::Bypass {
        return Reason::ModeBypass;
    }
    let Some(image) = lookup::live_image() else { return Reason::NoRuleset };
    let role = match constant::role() {
        0 => Role::Subscriber,
        1 => Role::Uplink,
        _ => Role::Both,
    };
    decide::judge(packet, &image, role, |found| {
        let now = account::Now::read();
        let lease_holds = || now.is_before(maps::enforce_until());
        let reason = decide::decide(found.lists, modes, mode, lease_holds);
        if reason.is_hit() {
            account::hit(found, reason, image.generation(), bytes, now);
        }
        reason
    })
}
