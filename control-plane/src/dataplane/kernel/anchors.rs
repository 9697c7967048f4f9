//! What this process put into the kernel, held by descriptors, so that nobody can take it away by
//! removing a pin, and so that it can be put back.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use aya::maps::{MapData, xdp::DevMap};
use nix::fcntl::Flock;
use sekisho_abi::{
    image, names,
    record::{Mode, Modes, Role, SINKHOLE_DEVICE},
};

use super::{
    Guarded, Settings,
    attach::{self, Loaded},
    devices, opt_out, promiscuous, ruleset,
};
use crate::dataplane::{
    DataplaneError,
    evidence::{ImageFacts, ImageLabel, PortEvidence, PortState},
    objects::{self, LinkFacts},
    pins::{Pins, system},
    sys,
};

/// What this process put into the kernel.
pub(super) struct Anchors {
    pins: Pins,
    settings: Settings,
    maps: Vec<Anchor>,
    ports: Vec<PortAnchor>,
    devices: DevMap<MapData>,
    ways: devices::Ways,
    opt_outs: opt_out::Held,
    image: Option<(OwnedFd, ImageFacts)>,
    /// The switch as it was when it was last a switch.
    switch: Modes,
    /// The lock on a folder that had to be made again.
    lock: Option<Flock<OwnedFd>>,
}

/// An object and its pin.
struct Anchor {
    pin: PathBuf,
    object: OwnedFd,
    identity: [u32; 2],
}

struct PortAnchor {
    guarded: Guarded,
    slot: u8,
    /// Number of the program that was loaded for it.
    program: u32,
    /// Index of the interface when the program was put on it; 0 before it was there.
    index: u32,
    /// `None` while it has never been there.
    link: Option<Anchor>,
}

/// The program that an interface runs now.
pub(super) struct LiveProgram {
    pub(super) interface: String,
    pub(super) slot: u8,
    pub(super) role: Role,
    /// Its number.
    pub(super) program: u32,
}

/// An interface with the port slot and the number of the program that it has.
pub(super) type Guard = (Guarded, u8, u32);

impl Anchors {
    /// Takes hold of everything that is pinned.
    pub(super) fn hold(
        pins: &Pins,
        settings: &Settings,
        guards: Vec<Guard>,
        switch: Modes,
    ) -> Result<Self, DataplaneError> {
        let paths = names::PINNED.iter().chain([&names::OPT_OUT]).map(|name| pins.map(name));
        let slot = pins.ruleset(settings.image_capacity);
        let maps: Vec<Anchor> =
            paths.chain([slot.clone()]).map(Anchor::open).collect::<Result<_, _>>()?;
        let ports = guards.into_iter().map(|guard| PortAnchor::open(pins, guard));
        let mut anchors = Self {
            pins: pins.clone(),
            settings: settings.clone(),
            devices: devices::open(pins)?,
            ways: devices::open_ways(pins)?,
            opt_outs: opt_out::Held::found(pins, &switch)?,
            ports: ports.collect::<Result<_, _>>()?,
            maps,
            image: None,
            switch,
            lock: None,
        };
        let slot = objects::open(&slot).map_err(|error| system("open the ruleset slot", error))?;
        anchors.hold_image(anchors.live(&slot)?)?;
        Ok(anchors)
    }

    /// From now on this is the ruleset that is to be live.
    pub(super) fn hold_image(&mut self, image: Option<OwnedFd>) -> Result<(), DataplaneError> {
        self.image = match image {
            Some(map) => {
                let facts = self.facts(&map)?;
                Some((map, facts))
            }
            None => None,
        };
        Ok(())
    }

    /// The ruleset that is to be live.
    pub(super) fn expected(&self) -> Option<ImageFacts> {
        self.image.as_ref().map(|(_, facts)| facts.clone())
    }

    /// The ruleset that is live.
    pub(super) fn found(&self, slot: &OwnedFd) -> Result<Option<ImageFacts>, DataplaneError> {
        self.live(slot)?.map(|map| self.facts(&map)).transpose()
    }

    /// Makes the ruleset live again that is to be; there may be none.
    pub(super) fn put_image_back(&self, slot: &OwnedFd) -> Result<(), DataplaneError> {
        let Some((map, _)) = &self.image else { return Ok(()) };
        sys::replace(slot.as_fd(), map.as_fd())
            .map_err(|error| system("replace the live image", error))
    }

    /// Pins that are gone or some other object's.
    pub(super) fn lost_pins(&self) -> Vec<String> {
        let lost = self.all().filter(|anchor| !objects::is_pinned(&anchor.pin, anchor.identity));
        lost.map(|anchor| anchor.pin.display().to_string()).collect()
    }

    /// Pins an object again.
    pub(super) fn pin_again(&mut self, path: &str) -> Result<(), DataplaneError> {
        if !self.pins.exist() {
            self.pins.create()?;
            self.lock = Some(self.pins.lock()?);
        }
        let Some(anchor) = self.all().find(|anchor| anchor.pin.as_os_str() == path) else {
            return Ok(());
        };
        Pins::remove(&anchor.pin)?;
        objects::pin(anchor.object.as_fd(), &anchor.pin)
            .map_err(|error| system(format!("pin {path}"), error))
    }

    /// How the interfaces stand, and the programs that they run, whosever they are. Both come of one
    /// look: a program that is replaced meanwhile is in both or in neither.
    pub(super) fn ports(&self) -> Result<(Vec<PortEvidence>, Vec<LiveProgram>), DataplaneError> {
        let (mut ports, mut programs) = (Vec::new(), Vec::new());
        for port in &self.ports {
            let state = port.state()?;
            let Guarded { interface, role, .. } = &port.guarded;
            ports.push(PortEvidence { interface: interface.clone(), state });
            let program = match state {
                PortState::Guarded => port.program,
                PortState::Replaced { found, .. } => found,
                PortState::Absent | PortState::Returned | PortState::Detached => continue,
            };
            let (interface, role) = (interface.clone(), *role);
            programs.push(LiveProgram { interface, slot: port.slot, role, program });
        }
        Ok((ports, programs))
    }

    /// Interfaces to which redirected frames can't find their way.
    pub(super) fn lost_devices(&self) -> Vec<String> {
        let lost = self
            .destinations()
            .filter(|(key, interface)| devices::is_lost(&self.devices, *key, interface));
        lost.map(|(_, interface)| interface.to_owned()).collect()
    }

    /// Lets redirected frames find their way to an interface again.
    pub(super) fn name_again(&mut self, interface: &str) -> Result<(), DataplaneError> {
        let named = |(key, name): (u32, &str)| (name == interface).then_some(key);
        let keys: Vec<u32> = self.destinations().filter_map(named).collect();
        keys.into_iter().try_for_each(|key| devices::put(&mut self.devices, key, interface))
    }

    fn destinations(&self) -> impl Iterator<Item = (u32, &str)> {
        let ports = self.ports.iter();
        let ports = ports.map(|port| (u32::from(port.slot), port.guarded.interface.as_str()));
        let sinkhole = self.settings.sinkhole.as_ref().map(|way| way.interface.as_str());
        ports.chain(sinkhole.map(|interface| (SINKHOLE_DEVICE, interface)))
    }

    /// Whether what is sinkholed is sent as it was set to be.
    pub(super) fn is_way_to_sinkhole(&self) -> Result<bool, DataplaneError> {
        devices::is_way(&self.ways, self.settings.sinkhole.as_ref())
    }

    /// Has what is sinkholed sent as it was set to be, from its interface as it is now.
    pub(super) fn put_way_to_sinkhole_back(&mut self) -> Result<(), DataplaneError> {
        devices::set_way(&mut self.ways, self.settings.sinkhole.as_ref())
    }

    /// Who is to be opted out.
    pub(super) const fn opt_outs(&mut self) -> &mut opt_out::Held {
        &mut self.opt_outs
    }

    /// Puts the program on an interface again.
    pub(super) fn guard_again(
        &mut self,
        interface: &str,
        program: &mut Loaded,
    ) -> Result<(), DataplaneError> {
        let mut ports = self.ports.iter_mut();
        let Some(port) = ports.find(|port| port.guarded.interface == interface) else {
            return Ok(());
        };
        program.adapt(&self.pins, &self.settings, &port.guarded)?;
        let slot = port.slot;
        attach::attach_again(
            &self.pins,
            self.settings.attach,
            &port.guarded,
            slot,
            &mut program.ebpf,
        )?;
        let guard = (port.guarded.clone(), slot, attach::program_id(&mut program.ebpf)?);
        *port = PortAnchor::open(&self.pins, guard)?;
        promiscuous::ensure(&self.pins, &port.guarded);
        self.name_again(interface)
    }

    /// Whether the switch holds what it can hold; if so, that is remembered.
    pub(super) fn is_switch(&mut self, modes: &Modes) -> bool {
        let is_mode = |mode: &u8| Mode::from_u8(*mode) as u8 == *mode;
        let holds = modes.written != 0 && is_mode(&modes.global) && modes.ports.iter().all(is_mode);
        if holds {
            self.switch = *modes;
        }
        holds
    }

    /// The switch as it was when it was last a switch.
    pub(super) const fn last_switch(&self) -> &Modes {
        &self.switch
    }

    fn all(&self) -> impl Iterator<Item = &Anchor> {
        self.maps.iter().chain(self.ports.iter().filter_map(|port| port.link.as_ref()))
    }

    fn live(&self, slot: &OwnedFd) -> Result<Option<OwnedFd>, DataplaneError> {
        sys::inside(slot.as_fd()).map_err(|error| system("read the ruleset slot", error))
    }

    fn facts(&self, map: &OwnedFd) -> Result<ImageFacts, DataplaneError> {
        let [_, id] = objects::identity(map.as_fd())
            .map_err(|error| system("inspect the live image", error))?;
        let live = ruleset::mapped(map, self.settings.image_capacity)?;
        let label = image::header(live.bytes()).map(|header| ImageLabel {
            generation: header.generation,
            entries_v4: header.prefixes_v4,
            entries_v6: header.prefixes_v6,
            checksum: header.checksum,
        });
        Ok(ImageFacts { map: id, label })
    }
}

impl Anchor {
    fn open(pin: PathBuf) -> Result<Self, DataplaneError> {
        let held = objects::open(&pin)
            .and_then(|object| Ok((objects::identity(object.as_fd())?, object)))
            .map_err(|error| system(format!("open {}", pin.display()), error))?;
        let (identity, object) = held;
        Ok(Self { pin, object, identity })
    }
}

impl PortAnchor {
    fn open(pins: &Pins, (guarded, slot, program): Guard) -> Result<Self, DataplaneError> {
        let index = attach::interface_index(&guarded.interface).unwrap_or(0);
        let links = pins.links()?;
        let link = links.iter().find(|link| link.interface == guarded.interface);
        let link = link.map(|link| Anchor::open(pins.link(link))).transpose()?;
        Ok(Self { guarded, slot, program, index, link })
    }

    fn state(&self) -> Result<PortState, DataplaneError> {
        let Some(index) = attach::interface_index(&self.guarded.interface) else {
            return Ok(PortState::Absent);
        };
        let Some(link) = &self.link else { return Ok(PortState::Returned) };
        let LinkFacts { interface, program, .. } =
            objects::link(link.object.as_fd()).map_err(|error| system("inspect a link", error))?;
        Ok(if index != interface && index != self.index {
            PortState::Returned
        } else if index != interface {
            PortState::Detached
        } else if program != self.program {
            PortState::Replaced { expected: self.program, found: program }
        } else {
            PortState::Guarded
        })
    }
}
