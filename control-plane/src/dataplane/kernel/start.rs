//! How a daemon begins: what is pinned is adopted, what is absent is waited for, and what another
//! layout left is taken over.

use std::sync::Mutex;

use aya::{
    maps::{Map, RingBuf},
    util::nr_cpus,
};
use sekisho_abi::{
    names,
    record::{Mode, Modes},
};

use super::{
    Guarded, KernelDataplane, Settings,
    anchors::Anchors,
    attach::{self, Loaded},
    devices, flow_table,
    ledger::{self, Maps},
    legacy::Legacy,
    opt_out, promiscuous, ruleset, unfit, values,
};
use crate::dataplane::{
    DataplaneError,
    pins::{Pins, system},
};

/// A port slot that no interface has: a wire without its other end leaves packets to the kernel.
const NO_PEER: u8 = u8::MAX;

impl KernelDataplane {
    /// Loads the programs, adopts what is pinned, and attaches. What runs already keeps running
    /// until the new program takes its place in the same link; no packet passes unjudged between,
    /// unless what runs is of another layout: then packets pass until a ruleset is published.
    ///
    /// Interfaces that do not exist are guarded once they do, if at least one exists.
    pub fn start(settings: &Settings, guarded: &[Guarded]) -> Result<Self, DataplaneError> {
        let pins = Pins::new(&settings.pin_dir);
        pins.create()?;
        let lock = pins.lock()?;
        let before = pins.links()?;
        let mut legacy = Legacy::default();
        let started = legacy
            .find(&pins, guarded)
            .and_then(|()| Self::load_and_attach(pins.clone(), settings, guarded, &mut legacy));
        match started {
            Ok(dataplane) => {
                legacy.retire(&dataplane.pins);
                promiscuous::settle(&dataplane.pins, guarded);
                Ok(Self { _lock: Some(lock), ..dataplane })
            }
            Err(error) => {
                // What could not be given back is all that forwards: it stays.
                let undone = legacy.give_back().and_then(|()| attach::undo(&pins, &before));
                if let Err(error) = undone {
                    tracing::warn!(%error, "a start that failed left pins behind");
                }
                Err(error)
            }
        }
    }

    fn load_and_attach(
        pins: Pins,
        settings: &Settings,
        guarded: &[Guarded],
        legacy: &mut Legacy,
    ) -> Result<Self, DataplaneError> {
        expect_one(guarded)?;
        let cpus = nr_cpus().map_err(|(call, error)| system(call, error))?;
        let buckets = flow_table::buckets(&pins, settings.flow_table_entries, cpus)?;
        let slot = ruleset::adopt(&pins, settings.image_capacity)?;
        opt_out::adopt(&pins, settings.opt_out_rows)?;
        values::adopt(&pins)?;
        attach::follow_renamed(&pins, guarded)?;
        let own = pins.links()?;
        let slots = attach::allocate_ports(&legacy.known(&own), guarded)?;
        let mut programs = Vec::new();
        for (port, number) in guarded.iter().zip(&slots) {
            let peer = guarded.iter().position(|end| Some(&end.interface) == port.peer.as_ref());
            let peer = peer.and_then(|at| slots.get(at)).copied().unwrap_or(NO_PEER);
            let is_bond = attach::is_bond(&port.interface);
            let place = attach::Place { slot: *number, peer, is_bond, flow_buckets: buckets };
            programs.push((port, *number, Loaded::new(&pins, settings, port, place)?));
        }
        let mut maps = Maps::open(&pins, cpus)?;
        maps.begin_ledger()?;
        let is_live = ruleset::live_image(&slot, settings.image_capacity)?.is_some();
        let lists = if is_live { Vec::new() } else { legacy.lists() };
        let switching = pins.lock_switch()?;
        // Where this layout has links, its switch is in force already.
        let inherited = if own.is_empty() { legacy.modes() } else { None };
        let are_lists_known = is_live || !lists.is_empty();
        begin_switch(&mut maps, inherited, settings.initial_mode, are_lists_known)?;
        for (port, number) in guarded.iter().zip(&slots) {
            if !own.iter().any(|link| link.interface == port.interface) {
                let mode = legacy.mode_of(&port.interface).unwrap_or(Mode::Enforce);
                maps.begin_port(*number, mode)?;
            }
        }
        drop(switching);
        // Ends that have a program of another layout send each other frames from the first one on.
        let ports = || guarded.iter().zip(&slots);
        devices::fill(&pins, ports().filter(|(port, _)| legacy.runs_on(&port.interface)))?;
        let (mut attached, mut guards) = (Vec::new(), Vec::new());
        for (port, number, mut program) in programs {
            if attach::interface_index(&port.interface).is_some() {
                legacy.move_link(&pins, &port.interface, number)?;
                attach::attach(&pins, settings.attach, port, number, &mut program.ebpf)?;
            }
            guards.push((port.clone(), number, attach::program_id(&mut program.ebpf)?));
            attached.push((port.interface.clone(), Mutex::new(program)));
        }
        attach::check_wires(&pins, guarded)?;
        // Only now: a frame is not to be sent to an end that has no program yet.
        devices::fill(&pins, ports())?;
        devices::fill_sinkhole(&pins, settings.sinkhole.as_ref())?;
        attach::forget_unguarded(&pins, guarded)?;
        for (capacity, path) in pins.rulesets()? {
            if capacity != settings.image_capacity {
                Pins::remove(&path)?;
            }
        }
        let events = RingBuf::try_from(ledger::open_map(&pins, names::EVENTS, Map::RingBuf)?)
            .map_err(|error| unfit(&pins.map(names::EVENTS), &error))?;
        let each = guards.iter().map(|(port, slot, _)| (port.interface.clone(), *slot)).collect();
        let anchors = Anchors::hold(&pins, settings, guards, maps.modes()?)?;
        let mut dataplane = Self::assemble(pins, slot, settings.image_capacity)?;
        dataplane.anchors = Some(Mutex::new(anchors));
        dataplane.programs = attached;
        dataplane.guarded = each;
        dataplane.lists = lists;
        dataplane.events = Some(Mutex::new(events));
        Ok(dataplane)
    }
}

/// Tells of interfaces that are not there, and refuses if none is.
fn expect_one(guarded: &[Guarded]) -> Result<(), DataplaneError> {
    let is_absent = |port: &&Guarded| attach::interface_index(&port.interface).is_none();
    let absent: Vec<&Guarded> = guarded.iter().filter(is_absent).collect();
    if let [first, ..] = absent[..]
        && absent.len() == guarded.len()
    {
        return Err(DataplaneError::NoInterface { name: first.interface.clone() });
    }
    for Guarded { interface, .. } in absent {
        tracing::error!(
            interface,
            command = "ip -brief link",
            "there is no interface '{interface}': it is guarded as soon as there is; if its name is \
             misspelt, correct it under `interfaces` and restart"
        );
    }
    Ok(())
}

/// Lets the switch be as it is, as it is taken over, or, if nobody has set it, in its initial mode.
fn begin_switch(
    maps: &mut Maps,
    inherited: Option<Modes>,
    initial: Mode,
    are_lists_known: bool,
) -> Result<(), DataplaneError> {
    let found = maps.modes()?;
    let begun = if found.written == 0 { Modes::all(initial) } else { found };
    let mut modes = inherited.unwrap_or(begun);
    if !are_lists_known && (modes.observed_lists | modes.bypassed_lists) != 0 {
        tracing::error!(
            command = "sekisho mode observe --list NAME; sekisho mode enforce",
            "lists were switched to observe or bypass, and nothing says any more which: nothing is \
             enforced until you say so"
        );
        (modes.observed_lists, modes.bypassed_lists) = (0, 0);
        if modes.global == Mode::Enforce as u8 {
            modes.global = Mode::Observe as u8;
        }
    }
    if modes == found { Ok(()) } else { maps.set_modes(&modes) }
}
