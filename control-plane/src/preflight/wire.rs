//! Checks of two interfaces as the ends of a wire.

use super::{
    Row, Rows, Topic,
    facts::{Facts, Link},
    outlet,
};

pub(super) fn check(facts: &Facts, a: &str, b: &str) -> Vec<Row> {
    let mut rows = Rows::about(format!("{a}={b}"));
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
    if first.mtu == second.mtu {
        return rows.pass(Topic::Mtu, format!("both ends take packets of {} bytes", first.mtu));
    }
    let (smaller, larger) = if first.mtu < second.mtu { (a, second.mtu) } else { (b, first.mtu) };
    rows.fail(
        Topic::Mtu,
        format!(
            "'{a}' takes packets of {} bytes and '{b}' of {}: longer ones are lost on the way",
            first.mtu, second.mtu
        ),
        format!("ip link set dev {smaller} mtu {larger}"),
    );
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
