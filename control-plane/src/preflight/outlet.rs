//! Checks of interfaces that frames are sent out of: the ends of wires, and the way to the sinkhole.

use super::{
    Row, Rows, Topic,
    facts::{Link, Port, Trial},
};

/// An end of a wire, which has a program itself.
pub(super) fn end(name: &str, link: &Link, rows: &mut Rows) {
    match link.sends_redirected {
        Some(true) => takes(name, rows),
        // A veth end sends what the other end's program takes, once it has one.
        Some(false) if link.kind.as_deref() == Some("veth") => rows.warn(
            Topic::Outlet,
            format!("'{name}' is a veth: what is sent out of it is lost while its other end has no XDP program"),
            format!("ip -details link show dev {name}"),
        ),
        Some(false) if matches!(link.native, Trial::NotTried(_)) && link.attached.is_none() => rows
            .warn(
                Topic::Outlet,
                format!("'{name}' sends no redirected frames while it has no program, and none was tried"),
                format!("sekisho preflight {name}"),
            ),
        Some(false) => loses(name, rows),
        None => is_unknown(name, rows),
    }
}

/// The interface that leads to the sinkhole, which has no program.
pub(super) fn sinkhole(port: &Port) -> Vec<Row> {
    let mut rows = Rows::about(&port.name);
    let name = &port.name;
    let Some(link) = &port.link else {
        rows.fail(
            Topic::Interface,
            format!("there is no interface '{name}' in this network namespace"),
            "ip -brief link",
        );
        return rows.rows;
    };
    match link.sends_redirected {
        Some(true) => takes(name, &mut rows),
        Some(false) => loses(name, &mut rows),
        None => is_unknown(name, &mut rows),
    }
    rows.rows
}

fn takes(name: &str, rows: &mut Rows) {
    rows.pass(Topic::Outlet, format!("'{name}' sends frames that a program redirects to it"));
}

fn loses(name: &str, rows: &mut Rows) {
    rows.fail(
        Topic::Outlet,
        format!("'{name}' does not send frames that a program redirects to it: they are lost"),
        format!("ethtool -i {name}"),
    );
}

fn is_unknown(name: &str, rows: &mut Rows) {
    rows.warn(
        Topic::Outlet,
        format!("whether '{name}' sends frames that a program redirects to it, only kernel 6.3 and later tell"),
        format!("ethtool -i {name}"),
    );
}
