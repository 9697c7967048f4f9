//! What is switched off is not done, and with everything switched on there is room to spare.

use sekisho_abi::{
    encapsulation::Encapsulation,
    prefix::{MAX_PREFIXES, Prefix, Prefixes},
    reason::Reason,
    record::Role,
};
use sekisho_tests::packet::{Carrier, Tunnel, UDP, gre_field, ip, udp};

use crate::{
    lab::{Case, Lab, report},
    tunnels::{OUTER, embed},
    world::{EMBEDDING, LISTED, LISTED_V6, OPTED_OUT, SUBSCRIBER, SUBSCRIBER_V6, Setup},
};

/// A listed packet in each kind of wrapping, as the switches say.
fn wrapped(unwrapped: Encapsulation) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind: Encapsulation, sentence: String, frame, otherwise| {
        let reason = if unwrapped.has(kind) { Reason::Dropped } else { otherwise };
        cases.push(Case::outbound(sentence, frame, reason));
    };
    let v4 = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
    let v6 = ip(SUBSCRIBER_V6, LISTED_V6, UDP, &udp(1, 2));
    let [(line, concentrator), (line_v6, concentrator_v6)] = OUTER;
    for (family, packet) in [("IPv4", &v4), ("IPv6", &v6)] {
        let session = Carrier::Pppoe(1).frame(&[], packet);
        add(Encapsulation::PPPOE, format!("{family} in PPPoE"), session, Reason::NotIp);
        let labels = Carrier::Mpls { ethertype: 0x8847, labels: 1 }.frame(&[], packet);
        add(Encapsulation::MPLS, format!("{family} behind a label"), labels, Reason::NotIp);
        for fields in [0, gre_field::KEY] {
            for (line, concentrator) in OUTER {
                let packet = Tunnel::Gre(fields).packet(line, concentrator, packet);
                let sentence = format!("{family} in GRE {fields:x} of {line}");
                let frame = Carrier::Plain.frame(&[], &packet);
                add(Encapsulation::GRE, sentence, frame, Reason::NotListed);
            }
        }
    }
    for (kind, packet) in [
        (Encapsulation::IPIP, Tunnel::Ip.packet(line, concentrator, &v4)),
        (Encapsulation::IPV6_IN_IPV4, Tunnel::Ip.packet(line, concentrator, &v6)),
        (Encapsulation::IPV4_IN_IPV6, Tunnel::Ip.packet(line_v6, concentrator_v6, &v4)),
        (Encapsulation::IP6IP6, Tunnel::Ip.packet(line_v6, concentrator_v6, &v6)),
    ] {
        let frame = Carrier::Plain.frame(&[(0x8100, 1)], &packet);
        add(kind, format!("{:?}", kind.names().collect::<Vec<_>>()), frame, Reason::NotListed);
    }
    cases
}

#[test]
fn nothing_is_unwrapped_embedded_or_opted_out_where_all_is_off() {
    let lab = Lab::of("all-off", &Setup::nothing());
    let mut cases = wrapped(Encapsulation::default());
    for (prefix, length) in EMBEDDING {
        let packet = ip(SUBSCRIBER_V6, &embed(prefix, length, LISTED), UDP, &udp(1, 2));
        let frame = Carrier::Plain.frame(&[], &packet);
        cases.push(Case::outbound(format!("embedded in {prefix}"), frame, Reason::NotListed));
    }
    let opted_out = Carrier::Plain.frame(&[], &ip(OPTED_OUT, LISTED, UDP, &udp(1, 2)));
    cases.push(Case::outbound("who would have opted out", opted_out, Reason::Dropped));
    lab.check_all(&cases);
}

#[test]
fn each_kind_has_a_switch_of_its_own() {
    let one_half = Encapsulation::PPPOE.with(Encapsulation::IPV4_IN_IPV6).with(Encapsulation::IPIP);
    let other_half = Encapsulation(Encapsulation::ALL.0 & !one_half.0);
    for (name, unwrapped) in [("one-half", one_half), ("other-half", other_half)] {
        let setup = Setup { unwrapped, ..Setup::everything() };
        Lab::of(name, &setup).check_all(&wrapped(unwrapped));
    }
}

/// The verifier of a newer kernel may follow more ways than that of this one, and the program may
/// grow: there is to be room for both.
const MOST_INSTRUCTIONS: u32 = 600_000;

#[test]
fn the_verifier_has_room_with_everything_switched_on() {
    let full = |high: u64, length| {
        let prefixes: Vec<Prefix> =
            (0..MAX_PREFIXES as u64).map(|at| Prefix::new(high | at << 32, 0, length)).collect();
        Prefixes::of(&prefixes).expect("as many as there may be")
    };
    let setup = Setup {
        embedding: full(0x3fff_0000_0000_0000, 96),
        infrastructure: full(0x2001_0db8_0000_0000, 64),
        ..Setup::all_roles()
    };
    let lab = Lab::of("verifier", &setup);
    for role in [Role::Subscriber, Role::Uplink, Role::Both] {
        let (_, port) = lab.port(role);
        let instructions = lab
            .dataplane
            .verified_instructions(&port.interface)
            .expect("the program can be inspected")
            .expect("the kernel counts what its verifier follows");
        report(&format!("instructions verified ({role:?})").to_lowercase(), instructions);
        assert!(instructions < MOST_INSTRUCTIONS, "{role:?}: {instructions} instructions");
    }
}
