//! Programs into interfaces: loading, port slots, links.

use std::{collections::BTreeMap, io, path::Path};

use aya::{
    EbpfLoader,
    programs::{
        Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
    util::nr_cpus,
};
use sekisho_abi::{
    MAX_PORTS,
    names::{self, globals},
};

use super::{Attach, Guarded, Settings, chain, flow_table, rejected, values::Object};
use crate::dataplane::{
    Attachment, DataplaneError, PortStatus, opt_outs,
    pins::{LinkPin, Pins, system},
    sys,
};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sekisho-xdp"));

/// A port slot for each guarded interface: the one it has, or the lowest that no link holds. Until
/// the start is done, interfaces that are no longer guarded go on, and so does what leads to them.
pub(super) fn allocate_ports(
    pinned: &[LinkPin],
    guarded: &[Guarded],
) -> Result<Vec<u8>, DataplaneError> {
    if guarded.len() > MAX_PORTS {
        return Err(DataplaneError::TooManyInterfaces { configured: guarded.len() });
    }
    let mut taken: BTreeMap<u8, &str> = BTreeMap::new();
    for link in pinned {
        taken.insert(link.slot, &link.interface);
    }
    let mut slots = Vec::new();
    for port in guarded {
        let kept = taken.iter().find(|(_, name)| **name == port.interface).map(|(slot, _)| *slot);
        let free = || (0..MAX_PORTS as u8).find(|slot| !taken.contains_key(slot));
        // Where all are held, one whose interface is no longer guarded has to do.
        let given_up = || {
            let is_guarded = |name: &str| guarded.iter().any(|port| port.interface == name);
            taken.iter().find(|(_, name)| !is_guarded(name)).map(|(slot, _)| *slot)
        };
        let slot = kept
            .or_else(free)
            .or_else(given_up)
            .ok_or(DataplaneError::TooManyInterfaces { configured: guarded.len() })?;
        taken.insert(slot, &port.interface);
        slots.push(slot);
    }
    Ok(slots)
}

/// What a program is told of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its port slot.
    pub(super) slot: u8,
    /// That of the other end of its wire.
    pub(super) peer: u8,
    /// Whether its interface is a bond.
    pub(super) is_bond: bool,
    /// Buckets of the flow table for a CPU on a side.
    pub(super) flow_buckets: u32,
}

/// A program that this process loaded for an interface.
pub(super) struct Loaded {
    pub(super) ebpf: aya::Ebpf,
    place: Place,
}

impl Loaded {
    pub(super) fn new(
        pins: &Pins,
        settings: &Settings,
        guarded: &Guarded,
        place: Place,
    ) -> Result<Self, DataplaneError> {
        Ok(Self { ebpf: load(pins, settings, guarded, place)?, place })
    }

    /// Loads it anew if it is of another kind of interface than the one that has the name now: one that
    /// was absent, or another one, when it was loaded.
    pub(super) fn adapt(
        &mut self,
        pins: &Pins,
        settings: &Settings,
        guarded: &Guarded,
    ) -> Result<(), DataplaneError> {
        let is_bond = is_bond(&guarded.interface);
        if self.place.is_bond != is_bond {
            *self = Self::new(pins, settings, guarded, Place { is_bond, ..self.place })?;
        }
        Ok(())
    }
}

pub(super) fn load(
    pins: &Pins,
    settings: &Settings,
    guarded: &Guarded,
    place: Place,
) -> Result<aya::Ebpf, DataplaneError> {
    let image_bytes = settings.image_capacity as u64;
    let opt_out_bytes = opt_outs::CAPACITY as u64;
    let (port, peer) = (u32::from(place.slot), u32::from(place.peer));
    let cpus = nr_cpus().map_err(|(call, error)| system(call, error))?;
    let regions = flow_table::regions_of(u32::try_from(cpus).unwrap_or(u32::MAX));
    let (role, forwarding) = (guarded.role as u32, guarded.forwarding as u32);
    let unwrapped = u32::from(settings.unwrapped.0);
    let bond = u32::from(place.is_bond);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(globals::IMAGE_BYTES, &image_bytes, true)
        .override_global(globals::OPT_OUT_BYTES, &opt_out_bytes, true)
        .override_global(globals::PORT, &port, true)
        .override_global(globals::PEER, &peer, true)
        .override_global(globals::ROLE, &role, true)
        .override_global(globals::FORWARDING, &forwarding, true)
        .override_global(globals::BOND, &bond, true)
        .override_global(globals::UNWRAPPED, &unwrapped, true)
        .override_global(globals::EMBEDDING, &settings.embedding, true)
        .override_global(globals::INFRASTRUCTURE, &settings.infrastructure, true)
        .override_global(globals::FLOW_BUCKETS, &place.flow_buckets, true)
        .map_max_entries(names::FLOWS, regions * place.flow_buckets)
        .map_max_entries(names::FLOW_REGIONS, regions)
        .map_max_entries(names::OPT_OUT_BLOCKS, settings.opt_out_rows)
        .map_pin_path(names::RULESET, pins.ruleset(settings.image_capacity))
        .map_pin_path(names::OPT_OUT, pins.map(names::OPT_OUT));
    for name in names::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    let object = Object::with_pinned(pins, OBJECT)?;
    let mut ebpf = loader.load(&object.bytes).map_err(|error| rejected(&error))?;
    xdp(&mut ebpf)?.load().map_err(|error| rejected(&error))?;
    Ok(ebpf)
}

/// Whether an interface of this network namespace is a bond.
pub(super) fn is_bond(interface: &str) -> bool {
    Path::new("/proc/thread-self/net/bonding").join(interface).exists()
}

pub(super) fn xdp(ebpf: &mut aya::Ebpf) -> Result<&mut Xdp, DataplaneError> {
    ebpf.program_mut(names::PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| DataplaneError::Rejected("the object holds no XDP program".to_owned()))
}

/// The kernel's number of the program.
pub(super) fn program_id(ebpf: &mut aya::Ebpf) -> Result<u32, DataplaneError> {
    xdp(ebpf)?.info().map(|info| info.id()).map_err(|error| rejected(&error))
}

/// Puts the program into the interface's pinned link, or into a new one.
pub(super) fn attach(
    pins: &Pins,
    attach: Attach,
    port: &Guarded,
    slot: u8,
    ebpf: &mut aya::Ebpf,
) -> Result<(), DataplaneError> {
    let program = xdp(ebpf)?;
    for link in pins.links()?.into_iter().filter(|link| link.interface == port.interface) {
        let path = pins.link(&link);
        if is_on(&path, &port.interface) {
            return replace_program(program, &path)
                .map_err(|reason| DataplaneError::NoXdp { name: port.interface.clone(), reason });
        }
        tracing::warn!(
            interface = port.interface,
            "the pinned link does not hold the interface any more: attached anew"
        );
        Pins::remove(&path)?;
    }
    let modes: &[(XdpMode, Attachment)] = match attach {
        Attach::Native => &[(XdpMode::Driver, Attachment::Native)],
        Attach::Generic => &[(XdpMode::Skb, Attachment::Generic)],
        Attach::Auto => {
            &[(XdpMode::Driver, Attachment::Native), (XdpMode::Skb, Attachment::Generic)]
        }
    };
    let mut reasons = Vec::new();
    for &(mode, attachment) in modes {
        let link = match new_link(program, &port.interface, mode) {
            Ok(link) => link,
            Err(reason) => {
                reasons.push(format!("{attachment:?}: {reason}").to_lowercase());
                continue;
            }
        };
        if attachment == Attachment::Generic && attach == Attach::Auto {
            tracing::warn!(
                interface = port.interface,
                reason = reasons.join("; "),
                "the driver takes no XDP program: attached in generic mode, several times slower"
            );
        }
        let path = pins.link(&LinkPin { interface: port.interface.clone(), slot, attachment });
        link.pin(&path)
            .map_err(|error| system(format!("pin {}", path.display()), io::Error::other(error)))?;
        return Ok(());
    }
    Err(DataplaneError::NoXdp { name: port.interface.clone(), reason: reasons.join("; ") })
}

/// The same for an interface that comes, in the way of the other end of its wire: no driver sends what a
/// generic program hands it, nor the other way round.
pub(super) fn attach_again(
    pins: &Pins,
    configured: Attach,
    port: &Guarded,
    slot: u8,
    ebpf: &mut aya::Ebpf,
) -> Result<(), DataplaneError> {
    let links = pins.links()?;
    let Some(far_end) = links.iter().find(|link| Some(&link.interface) == port.peer.as_ref())
    else {
        return attach(pins, configured, port, slot, ebpf);
    };
    let as_far_end = match far_end.attachment {
        Attachment::Native => Attach::Native,
        Attachment::Generic => Attach::Generic,
    };
    attach(pins, as_far_end, port, slot, ebpf).map_err(|error| match error {
        DataplaneError::NoXdp { name, reason } => DataplaneError::NoXdp {
            name,
            reason: format!("unlike the wire's other end, '{}': {reason}", far_end.interface),
        },
        other => other,
    })
}

fn replace_program(program: &mut Xdp, path: &Path) -> Result<(), String> {
    let pinned = PinnedLink::from_pin(path).map_err(|error| error.to_string())?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| error.to_string())?;
    let id = program.attach_to_link(link).map_err(|error| chain(&error))?;
    // Closes our descriptor; the pin keeps the link.
    program.take_link(id).map(drop).map_err(|error| chain(&error))
}

fn new_link(program: &mut Xdp, interface: &str, mode: XdpMode) -> Result<FdLink, String> {
    let id = program.attach(interface, mode).map_err(|error| chain(&error))?;
    let link = program.take_link(id).map_err(|error| chain(&error))?;
    FdLink::try_from(link)
        .map_err(|_| "the kernel has no XDP links (5.9 or later is needed)".into())
}

/// Gives pins the new names of interfaces that were renamed while their link stayed.
pub(super) fn follow_renamed(pins: &Pins, guarded: &[Guarded]) -> Result<(), DataplaneError> {
    for link in pins.links()? {
        let path = pins.link(&link);
        if is_on(&path, &link.interface) {
            continue;
        }
        let Ok(index @ 1..) = sys::interface_of_link(&path) else { continue };
        let holder = guarded.iter().find(|port| interface_index(&port.interface) == Some(index));
        if let Some(port) = holder {
            let renamed = LinkPin { interface: port.interface.clone(), ..link };
            tracing::warn!(from = link.interface, to = port.interface, "an interface was renamed");
            pins.rename_link(&path, &renamed)?;
        }
    }
    Ok(())
}

/// Undoes a start that failed: links that it pinned go, and everything if there was nothing before.
pub(super) fn undo(pins: &Pins, before: &[LinkPin]) -> Result<(), DataplaneError> {
    if before.is_empty() {
        return pins.remove_layout().map(drop);
    }
    for link in pins.links()? {
        let was_there =
            before.iter().any(|old| old.slot == link.slot && old.interface == link.interface);
        if !was_there {
            Pins::remove(&pins.link(&link))?;
        }
    }
    Ok(())
}

/// A wire whose ends are attached in different ways loses all frames of one direction: no driver
/// sends what a generic program hands it, nor the other way round. An end that has no program yet is
/// left to the time when it gets one.
pub(super) fn check_wires(pins: &Pins, guarded: &[Guarded]) -> Result<(), DataplaneError> {
    let links = pins.links()?;
    let attachment = |interface: &str| {
        let mut links = links.iter();
        let on_it =
            |link: &&LinkPin| link.interface == interface && is_on(&pins.link(link), interface);
        links.find(on_it).map(|link| link.attachment)
    };
    for port in guarded {
        let Some(peer) = &port.peer else { continue };
        let (Some(own), Some(other)) = (attachment(&port.interface), attachment(peer)) else {
            continue;
        };
        if own != other {
            return Err(DataplaneError::NoXdp {
                name: port.interface.clone(),
                reason: format!(
                    "one end of the wire to '{peer}' takes programs in the driver and the other \
                     does not; set dataplane.attach: generic, or see `sekisho preflight`"
                ),
            });
        }
    }
    Ok(())
}

/// Takes the program off an interface.
pub(super) fn forget(pins: &Pins, interface: &str) -> Result<(), DataplaneError> {
    let links = pins.links()?.into_iter().filter(|link| link.interface == interface);
    links.map(|link| pins.link(&link)).try_for_each(|pin| Pins::remove(&pin))
}

/// Takes the program off interfaces that are no longer guarded.
pub(super) fn forget_unguarded(pins: &Pins, guarded: &[Guarded]) -> Result<(), DataplaneError> {
    for link in pins.links()? {
        if !guarded.iter().any(|port| port.interface == link.interface) {
            tracing::warn!(
                interface = link.interface,
                "no longer guarded: the program is detached"
            );
            Pins::remove(&pins.link(&link))?;
        }
    }
    Ok(())
}

pub(super) fn interface_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

pub(super) fn port_status(pins: &Pins, link: LinkPin) -> PortStatus {
    let sits_there = is_on(&pins.link(&link), &link.interface);
    PortStatus {
        interface: link.interface,
        slot: link.slot,
        attachment: sits_there.then_some(link.attachment),
    }
}

/// Whether a pinned link sits on the interface that has this name now.
fn is_on(link: &Path, interface: &str) -> bool {
    match (sys::interface_of_link(link), interface_index(interface)) {
        (Ok(sits_on), Some(index)) => sits_on == index,
        _ => false,
    }
}
