//! Frames to anybody's address, for interfaces that forward or watch what is others', and with their
//! VLAN tags, where they are forwarded.
//!
//! The flag stays when the daemon goes, as the program does. A symbolic link beside the pins notes
//! that this project set it, so that whoever takes the program off takes it off as well.

use std::{io, os::unix::fs::symlink};

use futures_util::TryStreamExt as _;
use rtnetlink::{LinkUnspec, packet_route::link::LinkFlags};
use sekisho_abi::record::Forwarding;
use tracing::{error, info, warn};

use super::{Guarded, attach};
use crate::dataplane::{DataplaneError, netlink, pins::Pins, tags};

/// Whether an interface takes frames that are addressed to others.
const fn is_wanted(forwarding: Forwarding) -> bool {
    matches!(forwarding, Forwarding::Wire | Forwarding::Tap)
}

/// Has interfaces take frames to anybody that need to, and no others that this project made do so.
pub(super) fn settle(pins: &Pins, guarded: &[Guarded]) {
    if let Err(error) = forget(pins, guarded) {
        warn!(%error, "interfaces that need not be promiscuous any more may stay so");
    }
    let is_there = |port: &&Guarded| attach::interface_index(&port.interface).is_some();
    guarded.iter().filter(is_there).for_each(|port| ensure(pins, port));
}

/// Has an interface take frames to anybody, and whole, if its forwarding needs that. A failure is told: what it
/// takes without is better than nothing.
pub(super) fn ensure(pins: &Pins, port: &Guarded) {
    let interface = &port.interface;
    if !is_wanted(port.forwarding) {
        return;
    }
    if port.forwarding == Forwarding::Wire {
        tags::keep(interface);
    }
    match set(interface, true) {
        Ok(true) => {
            info!(interface, "takes frames to anybody's address from now on");
            note(pins, interface);
        }
        Ok(false) => {}
        Err(error) => error!(
            interface,
            command = format!("ip link set dev {interface} promisc on"),
            "takes frames to its own address only: {error}"
        ),
    }
}

fn note(pins: &Pins, interface: &str) {
    match symlink(interface, pins.promiscuous(interface)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            warn!(interface, %error, "stays promiscuous after `sekisho detach`");
        }
        _ => {}
    }
}

/// Has interfaces that this project made take frames to anybody, and that need not any more, take
/// their own only.
fn forget(pins: &Pins, guarded: &[Guarded]) -> Result<(), DataplaneError> {
    for interface in pins.all_promiscuous()? {
        let still = |port: &Guarded| port.interface == interface && is_wanted(port.forwarding);
        if !guarded.iter().any(still) {
            undo(&interface);
            Pins::remove(&pins.promiscuous(&interface))?;
        }
    }
    Ok(())
}

/// Has an interface, if it is still there, take frames to its own address only.
pub(super) fn undo(interface: &str) {
    if attach::interface_index(interface).is_none() {
        return;
    }
    match set(interface, false) {
        Ok(true) => info!(interface, "takes frames to its own address only again"),
        Ok(false) => {}
        Err(error) => warn!(
            interface,
            command = format!("ip link set dev {interface} promisc off"),
            "stays promiscuous: {error}"
        ),
    }
}

/// Whether anything had to be changed. Blocks.
fn set(interface: &str, on: bool) -> io::Result<bool> {
    let index = attach::interface_index(interface).ok_or(io::ErrorKind::NotFound)?;
    netlink::wait(async {
        let (netlink, _tasks) = netlink::interfaces()?;
        let mut links = netlink.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(io::Error::other)?;
        let link = link.ok_or(io::ErrorKind::NotFound)?;
        if link.header.flags.contains(LinkFlags::Promisc) == on {
            return Ok(false);
        }
        let change = LinkUnspec::new_with_index(index).promiscuous(on).build();
        netlink.link().set(change).execute().await.map_err(io::Error::other)?;
        Ok(true)
    })
}
