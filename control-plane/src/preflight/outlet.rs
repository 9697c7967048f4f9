//! Checks of interfaces that frames are sent out of: the ends of wires, and the way to the sinkhole.

use super::{
    Row, Rows, Topic,
    facts::{Link, Port, Sends, Trial},
    link::ONE_BUFFER,
};

/// An end of a wire, which has a program itself.
pub(super) fn end(name: &str, link: &Link, rows: &mut Rows) {
    if link.attached.as_ref().is_some_and(|attached| !attached.native) {
        return rows.pass(
            Topic::Outlet,
            format!("what the generic hook redirects to '{name}' is sent as any other frame"),
        );
    }
    match link.redirected {
        Some(sends @ (Sends::OneBuffer | Sends::Everything)) => takes(name, link, sends, rows),
        // A veth end sends what the other end's program takes, once it has one.
        Some(Sends::Nothing) if link.kind.as_deref() == Some("veth") => rows.warn(
            Topic::Outlet,
            format!("'{name}' is a veth: what is sent out of it is lost while its other end has no XDP program"),
            format!("ip -details link show dev {name}"),
        ),
        Some(Sends::Nothing)
            if matches!(link.native, Trial::NotTried(_)) && link.attached.is_none() =>
        {
            rows.warn(
                Topic::Outlet,
                format!("'{name}' sends no redirected frames while it has no program, and none was tried"),
                format!("sekisho preflight {name}"),
            );
        }
        Some(Sends::Nothing) => loses(name, rows),
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
    match link.redirected {
        Some(Sends::Nothing) => loses(name, &mut rows),
        Some(sends) => takes(name, link, sends, &mut rows),
        None => is_unknown(name, &mut rows),
    }
    rows.rows
}

fn takes(name: &str, link: &Link, sends: Sends, rows: &mut Rows) {
    if sends == Sends::OneBuffer && link.mtu > ONE_BUFFER {
        return rows.fail(
            Topic::Outlet,
            format!(
                "packets of '{name}' ({} bytes) need several buffers, and redirected to it only \
                 frames of one are sent: longer ones are lost",
                link.mtu
            ),
            format!("ip link set dev {name} mtu {ONE_BUFFER}"),
        );
    }
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
