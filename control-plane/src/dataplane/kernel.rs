//! The dataplane in the kernel: loads or adopts programs and maps, and speaks to them.

mod anchors;
mod attach;
mod devices;
mod flow_table;
mod ledger;
mod legacy;
mod opt_out;
mod probe;
mod promiscuous;
mod rehearsal;
mod ruleset;
mod settings;
mod start;
mod trial;
mod values;

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::{
    maps::{MapData, MapError, RingBuf},
    util::nr_cpus,
};
use nix::fcntl::Flock;
use sekisho_abi::{
    flow::FlowSlot,
    image::{self, Image, Lists},
    record::{Lease, Mode, Modes},
};

use self::{anchors::Anchors, attach::Loaded, ledger::Maps, probe::Probes};
pub use self::{
    devices::{SinkholeWay, hardware_address},
    settings::{Attach, Guarded, Settings},
};
use super::{
    Dataplane, DataplaneError, DrainId, Drained, FlowRow, Installed, LedgerCounts, OptOuts,
    PortCounts, PortStatus, RuleTotals,
    evidence::{Depth, Drift, Evidence},
    objects,
    pins::{Pins, system},
    sys::{self, GracePeriod, Mapping},
};

/// How often evidence is taken while programs or rulesets change under it. What was read before
/// a change and what was read after it would tell of something that never was: of a program that
/// was replaced, and of a canary that still is found.
const LOOKS: usize = 3;

/// A dataplane in the kernel, loaded by this process or by another one.
pub struct KernelDataplane {
    pins: Pins,
    slot: OwnedFd,
    capacity: usize,
    maps: Mutex<Maps>,
    /// Only who loaded the dataplane takes events off the ring.
    events: Option<Mutex<RingBuf<MapData>>>,
    grace: GracePeriod,
    programs: Vec<(String, Mutex<Loaded>)>,
    /// Guarded interfaces and their slots, if this process guards them.
    guarded: Vec<(String, u8)>,
    /// Names by slot of the lists that the switch speaks of until a ruleset is live: of another
    /// layout's ruleset.
    lists: Vec<String>,
    /// Only who loaded the dataplane can put back what others take away.
    anchors: Option<Mutex<Anchors>>,
    /// The map whose bytes were last read, and whether they match their checksum.
    verified: Mutex<Option<(u32, bool)>>,
    probes: Mutex<Probes>,
    _lock: Option<Flock<OwnedFd>>,
}

impl KernelDataplane {
    /// Opens what is pinned, whether or not its daemon is alive, to read it or to set the mode.
    pub fn open(pin_dir: &Path) -> Result<Self, DataplaneError> {
        let pins = Pins::new(pin_dir);
        let rulesets = if pins.exist() { pins.rulesets()? } else { Vec::new() };
        let Some((capacity, slot)) = ruleset::newest(rulesets)? else {
            return Err(DataplaneError::NotLoaded { path: pins.display() });
        };
        Self::assemble(pins, slot, capacity)
    }

    fn assemble(pins: Pins, slot: OwnedFd, capacity: usize) -> Result<Self, DataplaneError> {
        let cpus = nr_cpus().map_err(|(call, error)| system(call, error))?;
        Ok(Self {
            maps: Mutex::new(Maps::open(&pins, cpus)?),
            pins,
            slot,
            capacity,
            events: None,
            grace: GracePeriod::new().map_err(|error| system("create a map in a map", error))?,
            programs: Vec::new(),
            guarded: Vec::new(),
            lists: Vec::new(),
            anchors: None,
            verified: Mutex::default(),
            probes: Mutex::default(),
            _lock: None,
        })
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn anchors(&self) -> Option<MutexGuard<'_, Anchors>> {
        Some(self.anchors.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn guard_again(&self, anchors: &mut Anchors, interface: &str) -> Result<(), DataplaneError> {
        let program = self.programs.iter().find(|(name, _)| name == interface);
        let Some((_, program)) = program else { return Ok(()) };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        anchors.guard_again(interface, &mut program)
    }

    /// Whether the live image matches its checksum. Nobody can write to it while it is live, so its
    /// bytes are only read again when that is asked for.
    fn is_intact(&self, depth: Depth) -> Result<bool, DataplaneError> {
        let inside = sys::inside(self.slot.as_fd());
        let Some(map) = inside.map_err(|error| system("read the ruleset slot", error))? else {
            return Ok(false);
        };
        let [_, id] = objects::identity(map.as_fd())
            .map_err(|error| system("inspect the live image", error))?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, intact)) = *verified
            && known == id
            && depth == Depth::Shallow
        {
            return Ok(intact);
        }
        let live = ruleset::mapped(&map, self.capacity)?;
        let intact = image::header(live.bytes())
            .is_some_and(|header| header.checksum == image::checksum(live.bytes()));
        *verified = Some((id, intact));
        Ok(intact)
    }

    /// What is installed, read one thing after another.
    fn look(&self, anchors: &mut Anchors, depth: Depth) -> Result<Evidence, DataplaneError> {
        let found = anchors.found(&self.slot)?;
        let (ports, programs) = anchors.ports()?;
        let canaries = match &found {
            Some(image) => self.probe(&programs, image.map, depth)?,
            None => Vec::new(),
        };
        let modes = self.maps().modes()?;
        Ok(Evidence {
            expected: anchors.expected(),
            found,
            canaries,
            intact: self.is_intact(depth)?,
            ports,
            lost_pins: anchors.lost_pins(),
            lost_devices: anchors.lost_devices(),
            switch_holds: anchors.is_switch(&modes),
            opt_outs_hold: anchors.opt_outs().holds(&self.pins, &modes, depth)?,
            sinkhole_holds: anchors.is_way_to_sinkhole()?,
        })
    }

    /// The live image, mapped.
    fn live(&self) -> Result<Option<Mapping>, DataplaneError> {
        ruleset::live_image(&self.slot, self.capacity)
    }
}

/// Sets the global mode, of what another layout's daemon left or runs as well. It needs nothing but
/// the switch's own map, so that it works when other pins are damaged.
pub fn set_global_mode(pin_dir: &Path, mode: Mode) -> Result<(), DataplaneError> {
    let pins = Pins::new(pin_dir);
    if !pins.exist() && pins.others()?.is_empty() {
        return Err(DataplaneError::NotLoaded { path: pins.display() });
    }
    let _alone = pins.lock_switch()?;
    // Each is tried, whatever comes of the others.
    let mut outcomes = Vec::new();
    for folder in pins.others()? {
        if folder.links().is_ok_and(|links| !links.is_empty()) {
            let outcome = legacy::set_global_mode(&folder, mode);
            // One that was taken over meanwhile has nothing left to be switched.
            outcomes.push(if folder.exist() { outcome } else { Ok(()) });
        }
    }
    if pins.exist() {
        outcomes.push(set_own_global_mode(&pins, mode));
    }
    outcomes.into_iter().collect()
}

fn set_own_global_mode(pins: &Pins, mode: Mode) -> Result<(), DataplaneError> {
    let mut switch = ledger::open_modes(pins)?;
    let mut modes = switch.get(&0, 0).map_err(|error| map_error("read MODES", error))?;
    modes.global = mode as u8;
    ledger::write_modes(&mut switch, modes)
}

/// Whether this kernel takes the program, and after how many instructions.
pub(super) fn try_load() -> Result<Option<u32>, DataplaneError> {
    rehearsal::try_load()
}

/// Removes every program and map of a dataplane, other layouts' included; traffic then flows
/// unguarded, and interfaces that were made promiscuous for it are so no more. Returns the pins that
/// were removed.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>, DataplaneError> {
    let own = Pins::new(pin_dir);
    let mut layouts = own.others()?;
    if own.exist() {
        layouts.insert(0, own);
    }
    // A daemon that still runs, whatever its layout, keeps all of it.
    let locks: Vec<_> = layouts.iter().map(Pins::lock).collect::<Result<_, _>>()?;
    let mut removed = Vec::new();
    for pins in &layouts {
        let promiscuous = pins.all_promiscuous()?;
        removed.extend(pins.remove_layout()?);
        promiscuous.iter().for_each(|interface| promiscuous::undo(interface));
    }
    drop(locks);
    Ok(removed)
}

impl Dataplane for KernelDataplane {
    fn publish(&self, image: &Image) -> Result<(), DataplaneError> {
        let mut anchors = self.anchors();
        let map = ruleset::put_live(&self.slot, self.capacity, image.bytes())?;
        anchors.as_mut().map_or(Ok(()), |anchors| anchors.hold_image(Some(map)))
    }

    fn set_opt_outs(&self, opt_outs: &OptOuts) -> Result<(), DataplaneError> {
        let mut anchors = self.anchors();
        let map = opt_out::put(&self.pins, opt_outs)?;
        if let Some(anchors) = &mut anchors {
            anchors.opt_outs().set(opt_outs, map)?;
        }
        let applies = u8::from(!opt_outs.is_empty());
        self.change_modes(&mut |modes| modes.opt_outs = applies).map(drop)
    }

    fn installed(&self) -> Result<Installed, DataplaneError> {
        let lease = self.maps().lease()?;
        let left = lease.enforce_until_ns.saturating_sub(sys::monotonic_ns());
        let links = self.pins.links()?;
        let has_link = |name: &str| links.iter().any(|link| link.interface == name);
        let absent = self.guarded.iter().filter(|(name, _)| !has_link(name));
        let absent: Vec<PortStatus> = absent
            .map(|(interface, slot)| PortStatus {
                interface: interface.clone(),
                slot: *slot,
                attachment: None,
            })
            .collect();
        let linked = links.into_iter().map(|link| attach::port_status(&self.pins, link));
        let mut installed = Installed {
            image_capacity: self.capacity as u64,
            lease: Duration::from_nanos(left),
            ports: linked.chain(absent).collect(),
            lists: self.lists.clone(),
            ..Installed::default()
        };
        installed.ports.sort_by_key(|port| port.slot);
        if let Some(live) = self.live()?
            && let Some(header) = image::header(live.bytes())
        {
            installed.generation = Some(header.generation);
            installed.entries_v4 = header.prefixes_v4;
            installed.entries_v6 = header.prefixes_v6;
            installed.image_bytes = header.bytes;
            installed.lists = image::list_names(live.bytes());
            installed.rules = image::rule_lists(live.bytes());
            installed.intact = self.is_intact(Depth::Shallow)?;
        }
        Ok(installed)
    }

    fn evidence(&self, depth: Depth) -> Result<Evidence, DataplaneError> {
        let Some(mut anchors) = self.anchors() else { return Ok(Evidence::default()) };
        let mut evidence = self.look(&mut anchors, depth)?;
        for _ in 1..LOOKS {
            let (ports, _) = anchors.ports()?;
            if ports == evidence.ports && anchors.found(&self.slot)? == evidence.found {
                break;
            }
            evidence = self.look(&mut anchors, depth)?;
        }
        Ok(evidence)
    }

    fn repair(&self, drift: &Drift) -> Result<(), DataplaneError> {
        let Some(mut anchors) = self.anchors() else { return Ok(()) };
        match drift {
            Drift::Pin { path } => anchors.pin_again(path),
            Drift::Device { interface } => anchors.name_again(interface),
            Drift::Interface { interface }
            | Drift::Link { interface }
            | Drift::Program { interface, .. } => self.guard_again(&mut anchors, interface),
            Drift::Canary { interface, .. } => {
                self.guard_again(&mut anchors, interface)?;
                anchors.put_image_back(&self.slot)
            }
            Drift::Image { .. } => anchors.put_image_back(&self.slot),
            Drift::Switch => {
                let last = *anchors.last_switch();
                self.change_modes(&mut |modes| *modes = last).map(drop)
            }
            Drift::OptOuts => {
                let applies = anchors.opt_outs().put_back(&self.pins)?;
                self.change_modes(&mut |modes| modes.opt_outs = applies).map(drop)
            }
            Drift::Sinkhole => anchors.put_way_to_sinkhole_back(),
            Drift::Ruleset { .. } | Drift::Checksum => Ok(()),
        }
    }

    fn renew_lease(&self, lifetime: Duration) -> Result<(), DataplaneError> {
        let lifetime_ns = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        // The program's coarse clock lags by some milliseconds: a lease that is over is 0.
        let until = match lifetime_ns {
            0 => 0,
            more => sys::monotonic_ns().saturating_add(more),
        };
        let mut maps = self.maps();
        let lease = maps.lease()?;
        maps.set_lease(&Lease { enforce_until_ns: until, ..lease })
    }

    fn modes(&self) -> Result<Modes, DataplaneError> {
        self.maps().modes()
    }

    fn change_modes(
        &self,
        change: &mut dyn FnMut(&mut Modes),
    ) -> Result<(Modes, Modes), DataplaneError> {
        // In this order: who waits for a drain must not keep the mode command waiting as well.
        let mut maps = self.maps();
        let _alone = self.pins.lock_switch()?;
        let before = maps.modes()?;
        let mut after = before;
        change(&mut after);
        maps.set_modes(&after)?;
        Ok((before, after))
    }

    fn drain(&self) -> Result<Drained, DataplaneError> {
        let maps = &mut *self.maps();
        let mut lease = maps.lease()?;
        // What an earlier drain gave and nobody settled comes first.
        if !maps.flows.has_rows(lease.side() ^ 1)? {
            lease.epoch = lease.epoch.wrapping_add(1);
            maps.set_lease(&lease)?;
            self.grace.wait().map_err(|error| system("wait for running programs", error))?;
        }
        let rows = maps.flows.read(lease.side() ^ 1)?;
        if rows.is_empty() {
            // Of a settlement that ended after the last row and before its count: nobody settles nothing.
            maps.flows.free(lease.side() ^ 1)?;
        }
        let id = DrainId { ledger: lease.ledger, epoch: lease.epoch.wrapping_sub(1) };
        Ok(Drained { id, rows })
    }

    fn settle(&self, id: DrainId) -> Result<(), DataplaneError> {
        let maps = &mut *self.maps();
        let lease = maps.lease()?;
        let quiet = DrainId { ledger: lease.ledger, epoch: lease.epoch.wrapping_sub(1) };
        if id == quiet { maps.flows.free(lease.side() ^ 1) } else { Ok(()) }
    }

    fn counts(&self) -> Result<Vec<PortCounts>, DataplaneError> {
        let maps = self.maps();
        let mut ports = self.pins.links()?;
        ports.sort_by_key(|link| link.slot);
        ports
            .into_iter()
            .map(|link| Ok(PortCounts { slot: link.slot, by_reason: maps.counts(link.slot)? }))
            .collect()
    }

    fn rule_totals(&self) -> Result<Vec<(Lists, RuleTotals)>, DataplaneError> {
        let Some(live) = self.live()? else { return Ok(Vec::new()) };
        let maps = self.maps();
        let rules = image::rule_lists(live.bytes());
        rules
            .into_iter()
            .enumerate()
            .skip(1)
            .map(|(rule, lists)| {
                let overflow = maps.overflow(rule as u32)?;
                let mut hits = maps.flows.freed(rule);
                hits += overflow;
                let sum = RuleTotals { hits, overflow };
                Ok((lists, sum))
            })
            .collect()
    }

    fn ledger_counts(&self) -> Result<LedgerCounts, DataplaneError> {
        let maps = self.maps();
        let values = maps
            .event_counters
            .get(&0, 0)
            .map_err(|error| map_error("read EVENT_COUNTERS", error))?;
        Ok(values.iter().fold(LedgerCounts::default(), |sum, cpu| LedgerCounts {
            events_lost: sum.events_lost + cpu.lost,
            events_suppressed: sum.events_suppressed + cpu.suppressed,
        }))
    }

    fn events(&self) -> Result<Vec<FlowRow>, DataplaneError> {
        let Some(ring) = &self.events else { return Ok(Vec::new()) };
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            if let Ok((slot, _)) = <FlowSlot as zerocopy::FromBytes>::read_from_prefix(&item) {
                events.push(slot.into());
            }
        }
        Ok(events)
    }

    fn ask(
        &self,
        remote: IpAddr,
        protocol: u8,
        port: Option<u16>,
    ) -> Result<Lists, DataplaneError> {
        let live = self.live()?;
        Ok(live.map(|live| image::ask(live.bytes(), remote, protocol, port)).unwrap_or_default())
    }
}

fn unfit(path: &Path, error: &MapError) -> DataplaneError {
    DataplaneError::Incompatible { path: path.display().to_string(), detail: chain(error) }
}

fn map_error(call: &str, error: MapError) -> DataplaneError {
    system(call, io::Error::other(error))
}

/// The verifier's log can be megabytes long; its verdict stands in the last lines.
fn rejected(error: &(dyn std::error::Error + 'static)) -> DataplaneError {
    let text = chain(error);
    tracing::debug!(log = text, "the kernel refused the program");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    DataplaneError::Rejected(lines[lines.len().saturating_sub(8)..].join("; "))
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
