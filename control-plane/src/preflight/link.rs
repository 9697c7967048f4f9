//! Checks of one interface.

use super::{
    Row, Rows, Topic, bond,
    facts::{Host, Link, Port, Trial},
    offload,
};

/// Longest packet that a driver takes in one buffer of a 4 KiB page, beside headroom and tail.
pub(super) const ONE_BUFFER: u32 = 3_498;
/// The driver of ConnectX NICs.
const CONNECTX: &str = "mlx5_core";

pub(super) fn check(port: &Port, host: &Host, wired: bool) -> Vec<Row> {
    let mut rows = Rows::about(&port.name);
    let Some(link) = &port.link else {
        rows.fail(
            Topic::Interface,
            format!("there is no interface '{}' in this network namespace", port.name),
            "ip -brief link",
        );
        return rows.rows;
    };
    // What can't carry a program in its driver has nothing else worth a look.
    if !kind(&port.name, link, &mut rows) || !master(&port.name, link, &mut rows) {
        return rows.rows;
    }
    state(&port.name, link, &mut rows);
    if let Some(found) = &link.bond {
        bond::check(&port.name, found, wired, &mut rows);
    }
    program(&port.name, link, &mut rows);
    native(&port.name, link, &mut rows);
    mtu(&port.name, link, &mut rows);
    match &link.bond {
        None => on_hardware(&port.name, link, host, wired, &mut rows),
        Some(bond) => {
            for member in &bond.members {
                let Some(link) = &member.link else { continue };
                rows.rows.extend(bond::member(&member.name, link, host, wired));
            }
        }
    }
    rows.rows
}

/// What is up to the queues and offloads of a NIC, be it alone or in a bond.
pub(super) fn on_hardware(name: &str, link: &Link, host: &Host, wired: bool, rows: &mut Rows) {
    queues(name, link, host, rows);
    first_buffer(name, link, rows);
    offload::check(name, link, wired, rows);
}

/// Whether an interface of this kind can be guarded at all.
fn kind(name: &str, link: &Link, rows: &mut Rows) -> bool {
    let parent = link.parent.as_deref();
    let instead =
        |parent: Option<&str>| format!("sekisho preflight {}", parent.unwrap_or("INTERFACE"));
    if link.loopback {
        rows.fail(
            Topic::Interface,
            format!("'{name}' is the loopback, which no subscriber's traffic crosses"),
            "ip -brief link",
        );
        return false;
    }
    match (link.kind.as_deref(), parent) {
        (Some("vlan"), parent) => {
            rows.fail(
                Topic::Interface,
                format!(
                    "'{name}' is a VLAN sub-interface, which takes no program in a driver: attach \
                     to '{}', where the frames of all its VLANs pass",
                    parent.unwrap_or("its parent")
                ),
                instead(parent),
            );
            false
        }
        (Some(kind @ ("macvlan" | "macvtap" | "ipvlan" | "ipvtap")), parent) => {
            rows.fail(
                Topic::Interface,
                format!(
                    "'{name}' is a {kind} and sees only what is meant for itself: attach to '{}'",
                    parent.unwrap_or("its parent")
                ),
                instead(parent),
            );
            false
        }
        (Some(kind @ ("bridge" | "openvswitch" | "vrf")), _) => {
            rows.fail(
                Topic::Interface,
                format!(
                    "'{name}' is a {kind}, which frames between its ports don't pass: attach to \
                     the ports"
                ),
                format!("ip -brief link show master {name}"),
            );
            false
        }
        (kind, _) => {
            let what = match (kind, link.driver.as_deref()) {
                (Some(kind), _) => format!("of kind {kind}"),
                (None, Some(driver)) => format!("of driver {driver}"),
                (None, None) => "of a driver without a name".to_owned(),
            };
            rows.pass(Topic::Interface, format!("'{name}' is {what}"));
            true
        }
    }
}

/// Whether the interface is the right one to attach to, and not what it belongs to.
fn master(name: &str, link: &Link, rows: &mut Rows) -> bool {
    match &link.master {
        Some((master, kind)) if kind == "bond" => {
            rows.fail(
                Topic::Master,
                format!(
                    "'{name}' is a member of the bond '{master}': attach to the bond, which hands \
                     the program to all its members"
                ),
                format!("sekisho preflight {master}"),
            );
            false
        }
        Some((master, kind)) if kind == "team" => {
            rows.fail(
                Topic::Master,
                format!(
                    "'{name}' is a port of the team '{master}', which takes no program: use a bond"
                ),
                format!("ip link set dev {name} nomaster"),
            );
            false
        }
        Some((master, kind)) => {
            rows.pass(
                Topic::Master,
                format!("'{name}' is a port of the {kind} '{master}', which gets what passes"),
            );
            true
        }
        None => true,
    }
}

fn state(name: &str, link: &Link, rows: &mut Rows) {
    if !link.up {
        rows.warn(
            Topic::State,
            format!("'{name}' is set down"),
            format!("ip link set dev {name} up"),
        );
    } else if !link.carrier {
        rows.warn(
            Topic::State,
            format!("'{name}' has no carrier: nothing is at the other end of the cable"),
            format!("ip -details link show dev {name}"),
        );
    } else {
        rows.pass(Topic::State, format!("'{name}' is up and has a carrier"));
    }
}

fn program(name: &str, link: &Link, rows: &mut Rows) {
    let Some(attached) = &link.attached else {
        return rows.pass(Topic::XdpProgram, format!("no XDP program is on '{name}'"));
    };
    let program = &attached.program;
    if program.is_ours() {
        let text = format!("the program on '{name}' (id {}) is Sekisho's own", program.id);
        return rows.pass(Topic::XdpProgram, text);
    }
    let who = if program.name.is_empty() { "without a name" } else { &program.name };
    let text = format!(
        "another XDP program is on '{name}': {who}, id {}; an interface holds one, and whoever put \
         it there must take it off",
        program.id
    );
    let command = match program.link {
        Some(link) => format!("bpftool link detach id {link}"),
        None if attached.native => format!("ip link set dev {name} xdpdrv off"),
        None => format!("ip link set dev {name} xdpgeneric off"),
    };
    rows.fail(Topic::XdpProgram, text, command);
}

fn native(name: &str, link: &Link, rows: &mut Rows) {
    match &link.native {
        Trial::Taken => rows.pass(
            Topic::NativeXdp,
            format!("the driver of '{name}' took a program, which was taken off again"),
        ),
        _ if link.attached.as_ref().is_some_and(|attached| attached.native) => {
            rows.pass(Topic::NativeXdp, format!("a program sits in the driver of '{name}'"));
        }
        Trial::Refused(reason) => rows.fail(
            Topic::NativeXdp,
            format!(
                "the driver of '{name}' takes no program ({reason}); the generic hook \
                 (`dataplane.attach: generic`) takes it at several times the CPU"
            ),
            remedy(name, link),
        ),
        Trial::NotTried(reason) => rows.warn(
            Topic::NativeXdp,
            format!("whether the driver of '{name}' takes a program was not tried: {reason}"),
            format!("sekisho preflight {name}"),
        ),
    }
}

/// What most often stands in the way of a driver that knows XDP.
fn remedy(name: &str, link: &Link) -> String {
    let offloads = link.offloads.unwrap_or_default();
    if let Some(bond) = &link.bond {
        // What a bond's driver takes is up to its mode, then to its members.
        let member = || bond.members.first().map_or(name, |member| member.name.as_str());
        return bond::remedy(name, bond).unwrap_or_else(|| format!("ethtool -i {}", member()));
    }
    if link.mtu > ONE_BUFFER {
        format!("ip link set dev {name} mtu {ONE_BUFFER}")
    } else if offloads.lro || offloads.hardware_gro {
        format!("ethtool -K {name} lro off rx-gro-hw off")
    } else if link.most_queues.is_some_and(|most| most > 1 && link.queues == most) {
        // Drivers without queues to spare for sending what XDP redirects refuse.
        format!("ethtool -L {name} {} {}", link.queues_word, link.queues / 2)
    } else {
        format!("ethtool -i {name}")
    }
}

fn mtu(name: &str, link: &Link, rows: &mut Rows) {
    let mtu = link.mtu;
    let refused = matches!(link.native, Trial::Refused(_));
    if mtu <= ONE_BUFFER {
        rows.pass(Topic::Mtu, format!("packets of '{name}' ({mtu} bytes) fit one buffer"));
    } else if refused {
        rows.fail(
            Topic::Mtu,
            format!(
                "packets of '{name}' ({mtu} bytes) need several buffers, which many drivers can't \
                 hand to a program"
            ),
            format!("ip link set dev {name} mtu {ONE_BUFFER}"),
        );
    } else if link.native == Trial::Taken {
        rows.pass(
            Topic::Mtu,
            format!("the driver takes a program with packets of several buffers ({mtu} bytes)"),
        );
    } else {
        rows.warn(
            Topic::Mtu,
            format!("packets of '{name}' ({mtu} bytes) need several buffers, which was not tried"),
            format!("sekisho preflight {name}"),
        );
    }
}

/// A ConnectX with striding receive queues and packets longer than a page puts no byte of a frame
/// into its first buffer (mlx5e_skb_from_cqe_mpwrq_nonlinear): each header is fetched by a call.
fn first_buffer(name: &str, link: &Link, rows: &mut Rows) {
    if link.driver.as_deref() != Some(CONNECTX) || link.mtu <= ONE_BUFFER {
        return;
    }
    if link.striding_queues == Some(false) {
        let text = format!("the receive queues of '{name}' ({CONNECTX}) are not striding");
        return rows.pass(Topic::FirstBuffer, text);
    }
    rows.warn(
        Topic::FirstBuffer,
        format!(
            "'{name}' ({CONNECTX}) with packets of {} bytes leaves the first buffer of a frame empty \
             while its receive queues are striding: each takes a slower way, and none is answered",
            link.mtu
        ),
        format!("ethtool --set-priv-flags {name} rx_striding_rq off"),
    );
}

fn queues(name: &str, link: &Link, host: &Host, rows: &mut Rows) {
    let (queues, cpus, word) = (link.queues, host.cpus, link.queues_word);
    let of =
        |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let text = format!("'{name}' has {} for {}", of(queues, "receive queue"), of(cpus, "CPU"));
    match link.most_queues {
        _ if queues >= cpus => rows.pass(Topic::Queues, text),
        Some(most) if most > queues => rows.warn(
            Topic::Queues,
            format!("{text}: the other CPUs judge nothing"),
            format!("ethtool -L {name} {word} {}", most.min(cpus)),
        ),
        _ => rows.warn(
            Topic::Queues,
            format!("{text}, and its driver has no more: the other CPUs judge nothing"),
            format!("ethtool -l {name}"),
        ),
    }
}
