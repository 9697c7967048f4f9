//! Checks of two interfaces as the ends of a wire.

use sekisho_xdp::parse::{MAX_LABELS, MAX_VLAN_TAGS};

use super::{
    Row, Rows, Topic,
    facts::{Facts, Link},
    outlet,
};

/// Longest packet of most networks (RFC 894).
const FULL_PACKET: u32 = 1_500;
/// Bytes of a VLAN tag, and of an MPLS label (RFC 3032).
const TAG: u32 = 4;
const LABEL: u32 = 4;
/// The tags that the program walks, but for one: a kernel redirects what is no longer than the
/// outgoing interface's MTU, an Ethernet header and one tag (xdp_ok_fwd_dev of net/core/filter.c).
const FURTHER_TAGS: u32 = (MAX_VLAN_TAGS as u32 - 1) * TAG;
/// The labels that the program walks; PPPoE takes less (eight bytes, RFC 2516).
const LABELS: u32 = MAX_LABELS as u32 * LABEL;
/// Shortest MTU with which all of that crosses a wire.
pub(super) const ROOMY: u32 = FULL_PACKET + FURTHER_TAGS + LABELS;

/// What a wire is called.
pub(super) fn name(a: &str, b: &str) -> String {
    format!("{a}={b}")
}

pub(super) fn check(facts: &Facts, a: &str, b: &str) -> Vec<Row> {
    let mut rows = Rows::about(name(a, b));
    if a == b {
        rows.fail(Topic::Wire, format!("'{a}' can't be both ends of a wire"), "ip -brief link");
        return rows.rows;
    }
    let link = |name: &str| facts.ports.iter().find(|port| port.name == name)?.link.as_ref();
    let (Some(first), Some(second)) = (link(a), link(b)) else { return rows.rows };
    mtu((a, first), (b, second), &mut rows);
    for (name, link) in [(a, first), (b, second)] {
        promiscuous(name, link, &mut rows);
        outlet::end(name, link, &mut rows);
    }
    rows.rows
}

fn mtu((a, first): (&str, &Link), (b, second): (&str, &Link), rows: &mut Rows) {
    let enough = first.mtu.max(second.mtu).max(ROOMY);
    let short = [(a, first), (b, second)].into_iter().filter(|(_, link)| link.mtu < enough);
    let commands = short.map(|(name, _)| format!("ip link set dev {name} mtu {enough}"));
    let command = commands.collect::<Vec<_>>().join(" && ");
    if first.mtu != second.mtu {
        rows.fail(
            Topic::Mtu,
            format!(
                "'{a}' takes packets of {} bytes and '{b}' of {}: longer ones are lost on the way",
                first.mtu, second.mtu
            ),
            command,
        );
    } else if first.mtu < ROOMY {
        rows.warn(
            Topic::Mtu,
            format!(
                "both ends take packets of {} bytes and one VLAN tag: of longer frames, as full \
                 packets in two tags are, the kernel sends none, and small ones cross; {ROOMY} \
                 leaves room for {MAX_VLAN_TAGS} tags and {MAX_LABELS} MPLS labels or PPPoE",
                first.mtu
            ),
            command,
        );
    } else {
        rows.pass(
            Topic::Mtu,
            format!("both ends take packets of {} bytes, tags and labels included", first.mtu),
        );
    }
}

/// Frames on a wire are addressed to others.
fn promiscuous(name: &str, link: &Link, rows: &mut Rows) {
    if link.promiscuous {
        rows.pass(Topic::Wire, format!("'{name}' takes frames to anybody's address"));
    } else {
        rows.fail(
            Topic::Wire,
            format!("'{name}' takes frames to its own address only, and a wire carries others'"),
            format!("ip link set dev {name} promisc on"),
        );
    }
}
