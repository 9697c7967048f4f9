//! Wires and taps: what becomes of packets where the kernel does not forward them.

use std::process::Command;

use sekisho::dataplane::kernel::Guarded;
use sekisho_abi::{
    reason::Reason,
    record::{Forwarding, Mode, Role},
};
use sekisho_tests::packet::{Carrier, UDP, ethernet, ip, udp};

use crate::{
    corpus::tried,
    direction,
    lab::{Case, Lab, XDP_DROP, XDP_PASS, XDP_REDIRECT},
    layers, modes, opt_out, protected, reject, sinkhole,
    world::{CLEAN, LISTED, SUBSCRIBER, Setup},
};

/// Something of every subject.
fn cases() -> Vec<Case> {
    let all = [
        layers::cases(),
        direction::cases(),
        opt_out::cases(),
        protected::cases(),
        modes::cases(),
        reject::cases(),
        sinkhole::cases(),
    ];
    // Of thousands a few hundred are enough, spread over the subjects.
    all.into_iter().flat_map(|subject| subject.into_iter().step_by(7)).collect()
}

fn of_role(role: Role) -> Vec<Case> {
    tried(cases().into_iter().filter(|case| case.role == role).collect())
}

fn wire() -> Setup {
    let port = |interface: &str, role, peer: &str| Guarded {
        forwarding: Forwarding::Wire,
        peer: Some(peer.to_owned()),
        ..Guarded::routed(interface, role)
    };
    let ports = vec![port("lo", Role::Subscriber, "uplink"), port("uplink", Role::Uplink, "lo")];
    Setup { ports, ..Setup::everything() }
}

#[test]
fn a_wire_redirects_what_passes_and_answers_and_diverts_as_ever() {
    let lab = Lab::of("wire", &wire());
    lab.check_all(&of_role(Role::Subscriber));
    lab.check_all(&of_role(Role::Uplink));

    let frame = |remote: &str| {
        Carrier::Pppoe(1)
            .frame(&[(0x88a8, 1), (0x8100, 2)], &ip(SUBSCRIBER, remote, UDP, &udp(1, 2)))
    };
    let action = |frame: &[u8]| lab.dataplane.rewrite("lo", frame).expect("the program runs").0;
    lab.switch(Mode::Bypass);
    assert_eq!(action(&frame(LISTED)), XDP_REDIRECT, "in bypass everything crosses the wire");
    lab.switch(Mode::Observe);
    assert_eq!(action(&frame(LISTED)), XDP_REDIRECT, "in observation too");
    lab.switch(Mode::Enforce);
    assert_eq!(action(&frame(LISTED)), XDP_DROP);

    let removed = Command::new("ip").args(["link", "delete", "uplink"]).status();
    assert!(removed.expect("ip runs").success(), "the other end is pulled");
    for (name, frame) in
        [("a clean packet", frame(CLEAN)), ("what is not IP", ethernet(&[], 0x0806, &[0; 46]))]
    {
        assert_eq!(action(&frame), XDP_PASS, "the kernel gets {name} once the other end is gone");
    }
    assert_eq!(action(&frame(LISTED)), XDP_DROP, "and enforcement stays");
}

#[test]
fn a_tap_lets_nothing_through_answers_nothing_and_counts_alike() {
    let setup = Setup { ports: vec![Guarded::routed("lo", Role::Both)], ..Setup::everything() };
    let lab = Lab::of("tap", &setup.forwarded(Forwarding::Tap, None));
    let cases: Vec<Case> = of_role(Role::Both)
        .into_iter()
        .map(|case| {
            let reason = match case.reason {
                Reason::Rejected => Reason::RejectedSilently,
                Reason::Sinkholed => Reason::SinkholeUnfit,
                other => other,
            };
            Case { reason, becomes: None, ..case }
        })
        .collect();
    lab.check_all(&cases);
    lab.switch(Mode::Bypass);
    let frame = Carrier::Plain.frame(&[], &ip(SUBSCRIBER, CLEAN, UDP, &udp(1, 2)));
    let (action, left, reason) = lab.judge(Role::Both, &frame);
    assert_eq!((action, reason), (XDP_DROP, Reason::ModeBypass), "a copy ends here");
    assert_eq!(left, frame);
}
