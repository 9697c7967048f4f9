use super::{
    facts::{Attached, Bond, Host, Link, Offloads, Port, Sends, Trial},
    *,
};
use crate::dataplane::trial::Loaded;

fn host() -> Host {
    Host {
        kernel: "6.1.0-21-amd64".to_owned(),
        cpus: 4,
        privileged: true,
        bpffs: true,
        jit: Some(1),
        memlock: Some(8 << 20),
        program: Trial::Taken,
        verified: Some(480_000),
    }
}

fn nic() -> Link {
    Link {
        index: 2,
        kind: None,
        loopback: false,
        driver: Some("ixgbe".to_owned()),
        parent: None,
        master: None,
        bond: None,
        mtu: 1528,
        up: true,
        carrier: true,
        promiscuous: true,
        queues: 4,
        most_queues: Some(8),
        queues_word: "combined",
        striding_queues: None,
        offloads: Some(Offloads::default()),
        attached: None,
        native: Trial::Taken,
        redirected: Some(Sends::Everything),
    }
}

fn port(name: &str, link: Link) -> Port {
    Port { name: name.to_owned(), link: Some(link) }
}

fn facts(ports: Vec<Port>) -> Facts {
    Facts { host: host(), ports, wires: Vec::new(), sinkhole: None }
}

/// What is not a pass: outcome, check and command.
fn complaints(facts: &Facts) -> Vec<(Outcome, Topic, String)> {
    let rows = check(facts).into_iter().filter(|row| row.outcome != Outcome::Pass);
    rows.map(|row| (row.outcome, row.check, row.command.expect("each names a command"))).collect()
}

/// The one thing that is wrong with a link.
fn complaint(link: Link) -> (Outcome, Topic, String) {
    let mut all = complaints(&facts(vec![port("eth0", link)]));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn expected(outcome: Outcome, topic: Topic, command: &str) -> (Outcome, Topic, String) {
    (outcome, topic, command.to_owned())
}

#[test]
fn a_fit_machine_and_nic_pass_every_check() {
    let rows = check(&facts(vec![port("eth0", nic())]));
    assert!(is_fit(&rows));
    assert!(rows.iter().all(|row| row.outcome == Outcome::Pass && row.command.is_none()));
    let topics: Vec<&str> = rows.iter().map(|row| row.check.as_str()).collect();
    let wanted = [
        "rights",
        "kernel",
        "jit",
        "bpffs",
        "memlock",
        "program",
        "interface",
        "state",
        "xdp-program",
        "native-xdp",
        "mtu",
        "queues",
        "vlan-offload",
        "lro",
    ];
    assert_eq!(topics, wanted);
}

#[test]
fn a_check_is_called_the_same_in_text_and_json() {
    for row in check(&facts(vec![port("eth0", nic())])) {
        assert_eq!(serde_json::to_value(row.check).unwrap(), row.check.as_str());
        assert_eq!(serde_json::to_value(row.outcome).unwrap(), row.outcome.as_str());
    }
}

#[test]
fn a_missing_interface_is_the_only_row_about_it() {
    let gone = Port { name: "eth9".to_owned(), link: None };
    let complaint = expected(Outcome::Fail, Topic::Interface, "ip -brief link");
    assert_eq!(complaints(&facts(vec![gone])), [complaint]);
}

#[test]
fn what_sits_on_another_interface_sends_the_operator_there() {
    for kind in ["vlan", "macvlan", "ipvlan"] {
        let link = Link {
            kind: Some(kind.to_owned()),
            parent: Some("bond0".to_owned()),
            native: Trial::Refused("no".to_owned()),
            ..nic()
        };
        let wanted = expected(Outcome::Fail, Topic::Interface, "sekisho preflight bond0");
        assert_eq!(complaint(link), wanted, "{kind}");
    }
    let bridge = Link { kind: Some("bridge".to_owned()), ..nic() };
    let wanted = expected(Outcome::Fail, Topic::Interface, "ip -brief link show master eth0");
    assert_eq!(complaint(bridge), wanted);
    let loopback = Link { loopback: true, ..nic() };
    assert_eq!(complaint(loopback).1, Topic::Interface);
}

#[test]
fn a_member_is_guarded_through_its_bond_and_a_bridge_port_by_itself() {
    let of = |kind: &str| Link { master: Some(("up0".to_owned(), kind.to_owned())), ..nic() };
    let wanted = expected(Outcome::Fail, Topic::Master, "sekisho preflight up0");
    assert_eq!(complaint(of("bond")), wanted);
    let wanted = expected(Outcome::Fail, Topic::Master, "ip link set dev eth0 nomaster");
    assert_eq!(complaint(of("team")), wanted);
    assert_eq!(complaints(&facts(vec![port("eth0", of("bridge"))])), []);
}

#[test]
fn a_bond_needs_a_mode_and_a_policy_that_take_programs() {
    let of = |mode: &str, hashes_vlan_and_mac| Link {
        kind: Some("bond".to_owned()),
        bond: Some(Bond {
            mode: mode.to_owned(),
            hashes_vlan_and_mac,
            members: vec![port("eth1", nic())],
        }),
        ..nic()
    };
    for mode in ["802.3ad", "active-backup", "balance-xor", "balance-rr"] {
        assert_eq!(complaints(&facts(vec![port("eth0", of(mode, false))])), [], "{mode}");
    }
    for mode in ["balance-tlb", "balance-alb", "broadcast"] {
        assert_eq!(complaint(of(mode, false)).1, Topic::Bond, "{mode}");
    }
    let wanted = expected(
        Outcome::Fail,
        Topic::Bond,
        "ip link set dev eth0 type bond xmit_hash_policy layer3+4",
    );
    assert_eq!(complaint(of("802.3ad", true)), wanted);
    assert_eq!(complaints(&facts(vec![port("eth0", of("active-backup", true))])), []);
    let refused = |mode| Link {
        native: Trial::Refused("no".to_owned()),
        offloads: Some(Offloads { lro: true, ..Offloads::default() }),
        ..of(mode, false)
    };
    let told = complaints(&facts(vec![port("eth0", refused("balance-tlb"))]));
    let command = "ip link set dev eth0 down && ip link set dev eth0 type bond mode 802.3ad";
    let wanted = [Topic::Bond, Topic::NativeXdp];
    assert_eq!(told, wanted.map(|topic| expected(Outcome::Fail, topic, command)));
    let told = complaint(refused("802.3ad"));
    assert_eq!(told, expected(Outcome::Fail, Topic::NativeXdp, "ethtool -i eth1"));
}

#[test]
fn a_wire_on_a_standby_member_is_warned_of() {
    let bond = |mode: &str| Link {
        kind: Some("bond".to_owned()),
        bond: Some(Bond {
            mode: mode.to_owned(),
            hashes_vlan_and_mac: false,
            members: vec![port("eth2", nic())],
        }),
        ..nic()
    };
    let wired = |mode| Facts {
        wires: vec![("eth0".to_owned(), "eth1".to_owned())],
        ..facts(vec![port("eth0", bond(mode)), port("eth1", nic())])
    };
    let command = "ip link set dev eth0 down && ip link set dev eth0 type bond mode 802.3ad";
    let wanted = expected(Outcome::Warn, Topic::Bond, command);
    assert_eq!(complaints(&wired("active-backup")), [wanted]);
    assert_eq!(complaints(&wired("802.3ad")), []);
}

#[test]
fn each_member_of_a_bond_is_looked_at() {
    let merging = Offloads { lro: true, ..Offloads::default() };
    let members = vec![
        port("eth1", nic()),
        port("eth2", Link { offloads: Some(merging), queues: 1, ..nic() }),
    ];
    let bond = Bond { mode: "802.3ad".to_owned(), hashes_vlan_and_mac: false, members };
    let bond = Link { kind: Some("bond".to_owned()), bond: Some(bond), ..nic() };
    let wanted = [
        expected(Outcome::Warn, Topic::Queues, "ethtool -L eth2 combined 4"),
        expected(Outcome::Fail, Topic::Lro, "ethtool -K eth2 lro off"),
    ];
    assert_eq!(complaints(&facts(vec![port("bond0", bond)])), wanted);
}

#[test]
fn stripped_tags_are_a_warning_and_on_a_wire_a_failure() {
    let strips = Offloads { strips_vlan: true, ..Offloads::default() };
    let link = || Link { offloads: Some(strips), ..nic() };
    let wanted = expected(Outcome::Warn, Topic::VlanOffload, "ethtool -K eth0 rxvlan off");
    assert_eq!(complaint(link()), wanted);
    let wired = Facts {
        wires: vec![("eth0".to_owned(), "eth1".to_owned())],
        sinkhole: None,
        ..facts(vec![port("eth0", link()), port("eth1", nic())])
    };
    let wanted = expected(Outcome::Fail, Topic::VlanOffload, "ethtool -K eth0 rxvlan off");
    assert_eq!(complaints(&wired), [wanted]);
    let both = Offloads { strips_service_vlan: true, ..strips };
    let wanted = "ethtool -K eth0 rxvlan off rx-vlan-stag-hw-parse off";
    assert_eq!(complaint(Link { offloads: Some(both), ..nic() }).2, wanted);
}

#[test]
fn the_ends_of_a_wire_agree_in_length_and_take_frames_of_others() {
    let wire = |a: Link, b: Link| Facts {
        wires: vec![("eth0".to_owned(), "eth1".to_owned())],
        sinkhole: None,
        ..facts(vec![port("eth0", a), port("eth1", b)])
    };
    assert_eq!(complaints(&wire(nic(), nic())), []);
    let wanted = expected(Outcome::Fail, Topic::Mtu, "ip link set dev eth0 mtu 2000");
    assert_eq!(complaints(&wire(nic(), Link { mtu: 2000, ..nic() })), [wanted]);
    let wanted = expected(
        Outcome::Fail,
        Topic::Mtu,
        "ip link set dev eth0 mtu 1528 && ip link set dev eth1 mtu 1528",
    );
    let (short, shorter) = (Link { mtu: 1504, ..nic() }, Link { mtu: 1500, ..nic() });
    assert_eq!(complaints(&wire(short, shorter)), [wanted]);
    let wanted = expected(Outcome::Fail, Topic::Wire, "ip link set dev eth1 promisc on");
    assert_eq!(complaints(&wire(nic(), Link { promiscuous: false, ..nic() })), [wanted]);
    let one = Facts {
        wires: vec![("eth0".to_owned(), "eth0".to_owned())],
        sinkhole: None,
        ..facts(vec![port("eth0", nic())])
    };
    assert_eq!(complaints(&one)[0].1, Topic::Wire);
}

#[test]
fn a_wire_has_room_for_more_than_one_tag() {
    let wire = |mtu| Facts {
        wires: vec![("eth0".to_owned(), "eth1".to_owned())],
        ..facts(["eth0", "eth1"].map(|name| port(name, Link { mtu, ..nic() })).to_vec())
    };
    let command = "ip link set dev eth0 mtu 1528 && ip link set dev eth1 mtu 1528";
    for mtu in [1500, 1504, 1527] {
        let wanted = expected(Outcome::Warn, Topic::Mtu, command);
        assert_eq!(complaints(&wire(mtu)), [wanted], "{mtu}");
    }
    for mtu in [1528, 3498, 9000] {
        assert_eq!(complaints(&wire(mtu)), [], "{mtu}");
    }
    let apart = facts(vec![port("eth0", Link { mtu: 1500, ..nic() })]);
    assert_eq!(complaints(&apart), [], "no wire, no tags that count");
}

#[test]
fn jumbo_frames_of_a_connectx_are_warned_of() {
    let of = |driver: &str, mtu| Link { driver: Some(driver.to_owned()), mtu, ..nic() };
    let command = "ethtool --set-priv-flags eth0 rx_striding_rq off";
    let wanted = expected(Outcome::Warn, Topic::FirstBuffer, command);
    for striding_queues in [None, Some(true)] {
        assert_eq!(complaint(Link { striding_queues, ..of("mlx5_core", 9000) }), wanted);
    }
    let mended = Link { striding_queues: Some(false), ..of("mlx5_core", 9000) };
    for link in [mended, of("mlx5_core", 3498), of("ice", 9000)] {
        assert_eq!(complaints(&facts(vec![port("eth0", link)])), []);
    }
    let members = vec![port("eth0", of("mlx5_core", 9000))];
    let bond = Bond { mode: "802.3ad".to_owned(), hashes_vlan_and_mac: false, members };
    let bond = Link { kind: Some("bond".to_owned()), bond: Some(bond), mtu: 9000, ..nic() };
    assert_eq!(complaints(&facts(vec![port("bond0", bond)])), [wanted]);
}

#[test]
fn a_start_tells_what_fails_and_what_is_lost_or_slow() {
    let told = |facts: &Facts| {
        let rows = faults(facts).into_iter().map(|row| (row.outcome, row.check));
        rows.collect::<Vec<_>>()
    };
    let wire = |link: Link| Facts {
        wires: vec![("eth0".to_owned(), "eth1".to_owned())],
        ..facts(vec![port("eth0", link.clone()), port("eth1", link)])
    };
    assert_eq!(told(&wire(nic())), []);
    assert_eq!(told(&wire(Link { mtu: 1500, ..nic() })), [(Outcome::Warn, Topic::Mtu)]);
    let untried = Trial::NotTried("as asked".to_owned());
    let jumbo = Link { mtu: 9000, native: untried, queues: 1, ..nic() };
    assert_eq!(told(&wire(jumbo.clone())), [], "what could not be tried is no fault");
    let slow = Link { driver: Some("mlx5_core".to_owned()), ..jumbo };
    let wanted = (Outcome::Warn, Topic::FirstBuffer);
    assert_eq!(told(&wire(slow)), [wanted, wanted]);
    let merging = Offloads { lro: true, ..Offloads::default() };
    let merging = facts(vec![port("eth0", Link { offloads: Some(merging), ..nic() })]);
    assert_eq!(told(&merging), [(Outcome::Fail, Topic::Lro)]);
}

#[test]
fn a_program_of_others_is_named_with_the_way_to_take_it_off() {
    let with = |name: &str, link, native| Link {
        attached: Some(Attached {
            program: Loaded { id: 17, name: name.to_owned(), link },
            native,
        }),
        native: Trial::NotTried("program 17 is on it".to_owned()),
        ..nic()
    };
    let cases = [
        (Some(3), true, "bpftool link detach id 3"),
        (None, true, "ip link set dev eth0 xdpdrv off"),
    ];
    for (link, native, command) in cases {
        let wanted = expected(Outcome::Fail, Topic::XdpProgram, command);
        assert_eq!(complaint(with("xdp_filter", link, native)), wanted);
    }
    let generic = complaints(&facts(vec![port("eth0", with("x", None, false))]));
    assert_eq!(generic[0].2, "ip link set dev eth0 xdpgeneric off");
    assert_eq!(generic[1].1, Topic::NativeXdp, "the driver was not tried");
    assert_eq!(complaints(&facts(vec![port("eth0", with("sekisho", Some(3), true))])), []);
    let rows = check(&facts(vec![port("eth0", with("xdp_filter", Some(3), true))]));
    let told = rows.iter().find(|row| row.check == Topic::XdpProgram).unwrap();
    assert!(told.text.contains("xdp_filter, id 17"), "{}", told.text);
}

#[test]
fn a_driver_that_refuses_is_mended_where_that_is_known() {
    let refusing = Link { native: Trial::Refused("Invalid argument".to_owned()), ..nic() };
    let wanted = expected(Outcome::Fail, Topic::NativeXdp, "ethtool -i eth0");
    assert_eq!(complaint(refusing.clone()), wanted);
    let jumbo = complaints(&facts(vec![port("eth0", Link { mtu: 9000, ..refusing.clone() })]));
    let command = "ip link set dev eth0 mtu 3498";
    assert_eq!(jumbo[0], expected(Outcome::Fail, Topic::NativeXdp, command));
    assert_eq!(jumbo[1], expected(Outcome::Fail, Topic::Mtu, command));
    let spent = Link { queues: 8, ..refusing };
    assert_eq!(complaint(spent).2, "ethtool -L eth0 combined 4");
    assert_eq!(complaints(&facts(vec![port("eth0", Link { mtu: 9000, ..nic() })])), []);
}

#[test]
fn fewer_queues_than_cpus_are_a_warning() {
    let wanted = expected(Outcome::Warn, Topic::Queues, "ethtool -L eth0 combined 4");
    assert_eq!(complaint(Link { queues: 1, ..nic() }), wanted);
    let wanted = expected(Outcome::Warn, Topic::Queues, "ethtool -l eth0");
    assert_eq!(complaint(Link { queues: 1, most_queues: None, ..nic() }), wanted);
}

#[test]
fn a_link_that_is_down_is_a_warning() {
    let wanted = expected(Outcome::Warn, Topic::State, "ip link set dev eth0 up");
    assert_eq!(complaint(Link { up: false, carrier: false, ..nic() }), wanted);
    assert_eq!(complaint(Link { carrier: false, ..nic() }).1, Topic::State);
}

#[test]
fn a_machine_that_is_not_fit_is_told_what_is_missing() {
    let of =
        |host| complaints(&Facts { host, ports: Vec::new(), wires: Vec::new(), sinkhole: None });
    let cases = [
        (Host { kernel: "5.15.0-1-amd64".to_owned(), ..host() }, Outcome::Warn, Topic::Kernel),
        (
            Host { kernel: "5.10.0".to_owned(), memlock: None, ..host() },
            Outcome::Fail,
            Topic::Kernel,
        ),
        (Host { kernel: "what".to_owned(), memlock: None, ..host() }, Outcome::Fail, Topic::Kernel),
        (Host { jit: Some(0), ..host() }, Outcome::Fail, Topic::Jit),
        (Host { bpffs: false, ..host() }, Outcome::Warn, Topic::Bpffs),
        (Host { privileged: false, ..host() }, Outcome::Fail, Topic::Rights),
        (
            Host { program: Trial::Refused("no".to_owned()), ..host() },
            Outcome::Fail,
            Topic::Program,
        ),
    ];
    for (host, outcome, topic) in cases {
        let all = of(host);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].0, all[0].1), (outcome, topic));
    }
    let old = of(Host { kernel: "5.10.0".to_owned(), ..host() });
    assert_eq!(old[1], expected(Outcome::Fail, Topic::Memlock, "ulimit -l unlimited"));
    assert_eq!(of(Host { jit: None, ..host() }), [], "a JIT that is always on");
}

#[test]
fn what_is_sent_out_of_an_interface_that_sends_nothing_is_lost() {
    let facts = |ends: Link, sinkhole: Link| Facts {
        host: host(),
        ports: vec![port("eth0", ends.clone()), port("eth1", ends)],
        wires: vec![("eth0".to_owned(), "eth1".to_owned())],
        sinkhole: Some(port("eth2", sinkhole)),
    };
    let outlets = |facts: &Facts| -> Vec<Outcome> {
        let rows = check(facts).into_iter().filter(|row| row.check == Topic::Outlet);
        rows.map(|row| row.outcome).collect()
    };
    let of = |redirected| Link { redirected, ..nic() };
    let nothing = of(Some(Sends::Nothing));
    let untried = Link { native: Trial::NotTried("as asked".to_owned()), ..nothing.clone() };
    let veth = Link { kind: Some("veth".to_owned()), ..nothing.clone() };
    let ours = Loaded { id: 17, name: "sekisho".to_owned(), link: Some(3) };
    let generic = Link {
        attached: Some(Attached { program: ours, native: false }),
        native: Trial::NotTried("program 17 is on it".to_owned()),
        ..nothing.clone()
    };
    let jumbo = |sends| Link { mtu: 9000, ..of(Some(sends)) };
    let longest = Link { mtu: 3498, ..of(Some(Sends::OneBuffer)) };
    for (link, end, sinkhole) in [
        (of(Some(Sends::Everything)), Outcome::Pass, Outcome::Pass),
        (of(Some(Sends::OneBuffer)), Outcome::Pass, Outcome::Pass),
        (longest, Outcome::Pass, Outcome::Pass),
        (jumbo(Sends::Everything), Outcome::Pass, Outcome::Pass),
        (jumbo(Sends::OneBuffer), Outcome::Fail, Outcome::Fail),
        (nothing.clone(), Outcome::Fail, Outcome::Fail),
        (generic, Outcome::Pass, Outcome::Fail),
        (of(None), Outcome::Warn, Outcome::Warn),
        (untried, Outcome::Warn, Outcome::Fail),
        (veth, Outcome::Warn, Outcome::Fail),
    ] {
        assert_eq!(outlets(&facts(link.clone(), link)), [end, end, sinkhole]);
    }
}
