//! The dataplane in the kernel: loads or adopts programs and maps, and speaks to them.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::{
    EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf},
    programs::{
        ProgramFd, TestRun, TestRunOptions, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
    util::nr_cpus,
};
use nix::fcntl::Flock;
use sekisho_abi::{
    MAX_PORTS,
    image::{self, Image},
    names::{self, globals},
    reason::Reason,
    record::{
        Count, EventCounters, FLOW_CACHE_SLOTS, FlowKey, FlowSlot, FlowTotals, HitEvent, Lease,
        Mode, Modes, PortCounters, Role, RuleTotals,
    },
};

use super::{
    Attachment, Dataplane, DataplaneError, Drained, FlowRow, Installed, LedgerCounts, ListSet,
    PortCounts, PortStatus,
    pins::{LinkPin, Pins, system},
    sys::{self, GracePeriod, Mapping, Take},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sekisho-xdp"));

/// How to attach to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// In the driver; if it can't, in the generic hook, and the log says so.
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the generic hook.
    Generic,
}

/// An interface to guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Name in this network namespace.
    pub interface: String,
    /// Which end of its packets is the subscriber's.
    pub role: Role,
}

/// What a dataplane is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder on a bpffs.
    pub pin_dir: PathBuf,
    /// Bytes an image may have, at most 512 MiB.
    pub image_capacity: usize,
    /// Rows of each flow table.
    pub flow_table_entries: u32,
    /// How to attach.
    pub attach: Attach,
    /// The mode if nothing is pinned yet.
    pub initial_mode: Mode,
}

/// The maps of a dataplane, open.
struct Maps {
    modes: Array<MapData, Modes>,
    lease: Array<MapData, Lease>,
    counters: PerCpuArray<MapData, PortCounters>,
    rule_totals: PerCpuArray<MapData, RuleTotals>,
    flow_cache: PerCpuArray<MapData, FlowSlot>,
    flows: [HashMap<MapData, FlowKey, FlowTotals>; 2],
    /// The same maps for batch calls, which aya has none of.
    flow_cache_fd: OwnedFd,
    flows_fd: [OwnedFd; 2],
    event_counters: PerCpuArray<MapData, EventCounters>,
}

/// A dataplane in the kernel, loaded by this process or by another one.
pub struct KernelDataplane {
    pins: Pins,
    slot: OwnedFd,
    capacity: usize,
    cpus: usize,
    maps: Mutex<Maps>,
    /// Only who loaded the dataplane takes events off the ring.
    events: Option<Mutex<RingBuf<MapData>>>,
    grace: GracePeriod,
    programs: Vec<(String, Mutex<aya::Ebpf>)>,
    _lock: Option<Flock<OwnedFd>>,
}

impl KernelDataplane {
    /// Loads the programs, adopts what is pinned, and attaches. What runs already keeps running
    /// until the new program takes its place in the same link; no packet passes unjudged between.
    pub fn start(settings: &Settings, guarded: &[Guarded]) -> Result<Self, DataplaneError> {
        let pins = Pins::new(&settings.pin_dir);
        pins.create()?;
        let lock = pins.lock()?;
        let started = Self::load_and_attach(pins.clone(), settings, guarded);
        match started {
            Ok(dataplane) => Ok(Self { _lock: Some(lock), ..dataplane }),
            Err(error) => {
                // A first start that failed leaves nothing behind, the mode it did not set least.
                if pins.links().is_ok_and(|links| links.is_empty()) {
                    let _ = pins.remove_all();
                }
                Err(error)
            }
        }
    }

    fn load_and_attach(
        pins: Pins,
        settings: &Settings,
        guarded: &[Guarded],
    ) -> Result<Self, DataplaneError> {
        for port in guarded {
            if interface_index(&port.interface).is_none() {
                return Err(DataplaneError::NoInterface { name: port.interface.clone() });
            }
        }
        let slot = adopt_ruleset(&pins, settings.image_capacity)?;
        let is_new = !pins.map(names::MODES).exists();
        let slots = allocate_ports(&pins.links()?, guarded)?;
        let mut programs = Vec::new();
        for (port, number) in guarded.iter().zip(&slots) {
            programs.push((port, *number, load(&pins, settings, port.role, *number)?));
        }
        if is_new {
            Maps::open(&pins)?.set_modes(&Modes::all(settings.initial_mode))?;
        }
        let mut attached = Vec::new();
        for (port, number, mut program) in programs {
            attach(&pins, settings.attach, port, number, &mut program)?;
            attached.push((port.interface.clone(), Mutex::new(program)));
        }
        forget_unguarded(&pins, guarded)?;
        for (capacity, path) in pins.rulesets()? {
            if capacity != settings.image_capacity {
                Pins::remove(&path)?;
            }
        }
        let events = RingBuf::try_from(open_map(&pins, names::EVENTS, Map::RingBuf)?)
            .map_err(|error| unfit(&pins.map(names::EVENTS), error))?;
        let mut dataplane = Self::assemble(pins, slot, settings.image_capacity)?;
        dataplane.programs = attached;
        dataplane.events = Some(Mutex::new(events));
        Ok(dataplane)
    }

    /// Opens what is pinned, whether or not its daemon is alive, to read it or to set the mode.
    pub fn open(pin_dir: &Path) -> Result<Self, DataplaneError> {
        let pins = Pins::new(pin_dir);
        let rulesets = if pins.exist() { pins.rulesets()? } else { Vec::new() };
        let Some((capacity, path)) = rulesets.into_iter().next_back() else {
            return Err(DataplaneError::NotLoaded { path: pins.display() });
        };
        let slot = open_fd(&path)?;
        Self::assemble(pins, slot, capacity)
    }

    fn assemble(pins: Pins, slot: OwnedFd, capacity: usize) -> Result<Self, DataplaneError> {
        let cpus = nr_cpus().map_err(|(call, error)| system(call, error))?;
        Ok(Self {
            maps: Mutex::new(Maps::open(&pins)?),
            pins,
            slot,
            capacity,
            cpus,
            events: None,
            grace: GracePeriod::new().map_err(|error| system("create a map in a map", error))?,
            programs: Vec::new(),
            _lock: None,
        })
    }

    /// Lets go of the pins without closing anything, so that another process may own them.
    pub fn release(&mut self) {
        self._lock = None;
    }

    /// Runs the program of an interface on a frame without sending it anywhere
    /// (`BPF_PROG_TEST_RUN`), `repeat` times, counters included. Returns the XDP action, and how
    /// long a run took on average.
    pub fn test_run(
        &self,
        interface: &str,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(u32, Duration), DataplaneError> {
        let Some((_, program)) = self.programs.iter().find(|(name, _)| name == interface) else {
            return Err(DataplaneError::NoInterface { name: interface.to_owned() });
        };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let program = xdp(&mut program)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = program.test_run(options).map_err(|error| rejected(&error))?;
        Ok((result.return_value, result.duration))
    }

    /// The program of an interface, for another program to call.
    pub fn program(&self, interface: &str) -> Result<ProgramFd, DataplaneError> {
        let Some((_, program)) = self.programs.iter().find(|(name, _)| name == interface) else {
            return Err(DataplaneError::NoInterface { name: interface.to_owned() });
        };
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = xdp(&mut program)?.fd().map_err(|error| rejected(&error))?;
        fd.try_clone().map_err(|error| system("clone a descriptor", error))
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live image, mapped.
    fn live(&self) -> Result<Option<Mapping>, DataplaneError> {
        live_image(&self.slot, self.capacity)
    }
}

/// Removes every program and map of a dataplane; traffic then flows unguarded. Returns the pins
/// that were removed.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>, DataplaneError> {
    let pins = Pins::new(pin_dir);
    let _lock = if pins.exist() { Some(pins.lock()?) } else { None };
    pins.remove_all()
}

impl Dataplane for KernelDataplane {
    fn publish(&self, image: &Image) -> Result<(), DataplaneError> {
        put_live(&self.slot, self.capacity, image.bytes())
    }

    fn installed(&self) -> Result<Installed, DataplaneError> {
        let lease = self.maps().lease()?;
        let left = lease.enforce_until_ns.saturating_sub(sys::monotonic_ns());
        let mut installed = Installed {
            image_capacity: self.capacity as u64,
            lease: Duration::from_nanos(left),
            ports: self.pins.links()?.into_iter().map(port_status).collect(),
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
            installed.intact = header.checksum == image::checksum(live.bytes());
        }
        Ok(installed)
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
        maps.set_lease(&Lease::new(until, lease.epoch))
    }

    fn modes(&self) -> Result<Modes, DataplaneError> {
        let maps = self.maps();
        maps.modes.get(&0, 0).map_err(|error| map_error("read MODES", error))
    }

    fn set_modes(&self, modes: &Modes) -> Result<(), DataplaneError> {
        self.maps().set_modes(modes)
    }

    fn drain(&self) -> Result<Drained, DataplaneError> {
        let mut maps = self.maps();
        let lease = maps.lease()?;
        let quiet = lease.epoch & 1;
        maps.set_lease(&Lease::new(lease.enforce_until_ns, quiet ^ 1))?;
        self.grace.wait().map_err(|error| system("wait for running programs", error))?;
        let mut rows = Vec::new();
        maps.drain_cache(quiet, self.cpus, &mut rows)?;
        maps.drain_table(quiet, &mut rows)?;
        Ok(Drained { rows })
    }

    fn counts(&self) -> Result<Vec<PortCounts>, DataplaneError> {
        let maps = self.maps();
        let mut ports = self.pins.links()?;
        ports.sort_by_key(|link| link.slot);
        ports
            .into_iter()
            .map(|link| {
                let values = maps
                    .counters
                    .get(&link.slot.into(), 0)
                    .map_err(|error| map_error("read COUNTERS", error))?;
                let mut by_reason = [Count::default(); Reason::COUNT];
                for cpu in values.iter() {
                    for (sum, count) in by_reason.iter_mut().zip(cpu.by_reason) {
                        *sum += count;
                    }
                }
                Ok(PortCounts { slot: link.slot, by_reason })
            })
            .collect()
    }

    fn rule_totals(&self) -> Result<Vec<(ListSet, RuleTotals)>, DataplaneError> {
        let Some(live) = self.live()? else { return Ok(Vec::new()) };
        let maps = self.maps();
        let rules = image::rule_lists(live.bytes());
        rules
            .into_iter()
            .enumerate()
            .skip(1)
            .map(|(rule, lists)| {
                let values = maps
                    .rule_totals
                    .get(&(rule as u32), 0)
                    .map_err(|error| map_error("read RULE_TOTALS", error))?;
                let mut sum = RuleTotals::default();
                for cpu in values.iter() {
                    sum.hits += cpu.hits;
                    sum.overflow += cpu.overflow;
                }
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

    fn events(&self) -> Result<Vec<HitEvent>, DataplaneError> {
        let Some(ring) = &self.events else { return Ok(Vec::new()) };
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            if let Ok((event, _)) = <HitEvent as zerocopy::FromBytes>::read_from_prefix(&item) {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn ask(
        &self,
        remote: IpAddr,
        protocol: u8,
        port: Option<u16>,
    ) -> Result<ListSet, DataplaneError> {
        Ok(self.live()?.map_or(0, |live| image::ask(live.bytes(), remote, protocol, port)))
    }
}

impl Maps {
    fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            modes: typed(pins, names::MODES, Map::Array, size_of::<Modes>())?,
            lease: typed(pins, names::LEASE, Map::Array, size_of::<Lease>())?,
            counters: typed(pins, names::COUNTERS, Map::PerCpuArray, size_of::<PortCounters>())?,
            rule_totals: typed(
                pins,
                names::RULE_TOTALS,
                Map::PerCpuArray,
                size_of::<RuleTotals>(),
            )?,
            flow_cache: typed(pins, names::FLOW_CACHE, Map::PerCpuArray, size_of::<FlowSlot>())?,
            flows: [
                typed(pins, names::FLOWS[0], Map::HashMap, size_of::<FlowTotals>())?,
                typed(pins, names::FLOWS[1], Map::HashMap, size_of::<FlowTotals>())?,
            ],
            flow_cache_fd: open_fd(&pins.map(names::FLOW_CACHE))?,
            flows_fd: [open_fd(&pins.map(names::FLOWS[0]))?, open_fd(&pins.map(names::FLOWS[1]))?],
            event_counters: typed(
                pins,
                names::EVENT_COUNTERS,
                Map::PerCpuArray,
                size_of::<EventCounters>(),
            )?,
        })
    }

    fn lease(&self) -> Result<Lease, DataplaneError> {
        self.lease.get(&0, 0).map_err(|error| map_error("read LEASE", error))
    }

    fn set_lease(&mut self, lease: &Lease) -> Result<(), DataplaneError> {
        self.lease.set(0, lease, 0).map_err(|error| map_error("write LEASE", error))
    }

    fn set_modes(&mut self, modes: &Modes) -> Result<(), DataplaneError> {
        self.modes.set(0, modes, 0).map_err(|error| map_error("write MODES", error))
    }

    /// Takes the flows that are still in the quiet side of the per-CPU caches.
    fn drain_cache(
        &mut self,
        epoch: u32,
        cpus: usize,
        rows: &mut Vec<FlowRow>,
    ) -> Result<(), DataplaneError> {
        let side = epoch * FLOW_CACHE_SLOTS..(epoch + 1) * FLOW_CACHE_SLOTS;
        let mut used = Vec::new();
        let mut each = |index: u32, slots: &[FlowSlot]| {
            if !side.contains(&index) {
                return;
            }
            let before = rows.len();
            let taken = slots.iter().filter(|slot| slot.totals.packets != 0);
            rows.extend(taken.map(|slot| FlowRow { key: slot.key, totals: slot.totals }));
            if rows.len() > before {
                used.push(index);
            }
        };
        let map = self.flow_cache_fd.as_fd();
        match sys::read_all(map, Take::Copy, cpus, &mut each) {
            Err(error) if is_unsupported(&error) => {
                for index in side.clone() {
                    let slots = self
                        .flow_cache
                        .get(&index, 0)
                        .map_err(|error| map_error("read FLOW_CACHE", error))?;
                    each(index, &slots);
                }
            }
            other => other.map_err(|error| system("read FLOW_CACHE", error))?,
        }
        for index in used {
            let empty = vec![zerocopy::FromZeros::new_zeroed(); cpus];
            let empty =
                PerCpuValues::try_from(empty).map_err(|error| system("clear FLOW_CACHE", error))?;
            self.flow_cache
                .set(index, empty, 0)
                .map_err(|error| map_error("clear FLOW_CACHE", error))?;
        }
        Ok(())
    }

    /// Takes the flows that were moved into the quiet table.
    fn drain_table(&mut self, epoch: u32, rows: &mut Vec<FlowRow>) -> Result<(), DataplaneError> {
        let ([zero, one], [zero_fd, one_fd]) = (&mut self.flows, &self.flows_fd);
        let (table, fd) = if epoch == 0 { (zero, zero_fd) } else { (one, one_fd) };
        let taken = sys::read_all(fd.as_fd(), Take::Remove, 1, |key, totals| {
            rows.extend(totals.first().map(|totals| FlowRow { key, totals: *totals }));
        });
        match taken {
            Err(error) if is_unsupported(&error) => {}
            other => return other.map_err(|error| system("drain the flow table", error)),
        }
        let keys: Result<Vec<FlowKey>, _> = table.keys().collect();
        for key in keys.map_err(|error| map_error("list the flow table", error))? {
            let totals =
                table.get(&key, 0).map_err(|error| map_error("read the flow table", error))?;
            table.remove(&key).map_err(|error| map_error("clear the flow table", error))?;
            rows.push(FlowRow { key, totals });
        }
        Ok(())
    }
}

/// The kernel has no batch command for this kind of map.
fn is_unsupported(error: &io::Error) -> bool {
    /// The kernel's own "not supported", which no header shows to user space.
    const ENOTSUPP: i32 = 524;
    matches!(error.raw_os_error(), Some(libc::EINVAL | ENOTSUPP | libc::EOPNOTSUPP))
}

fn interface_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

fn port_status(link: LinkPin) -> PortStatus {
    let is_there = interface_index(&link.interface).is_some();
    PortStatus {
        interface: link.interface,
        slot: link.slot,
        attachment: is_there.then_some(link.attachment),
    }
}

/// Opens the slot of the live image, or creates it; an image that is live in a slot of another
/// capacity moves over, so that enforcement goes on while the program is replaced.
fn adopt_ruleset(pins: &Pins, capacity: usize) -> Result<OwnedFd, DataplaneError> {
    let path = pins.ruleset(capacity);
    if path.exists() {
        return open_fd(&path);
    }
    let template = new_image_map(capacity)?;
    let slot = sys::create_slot(template.as_fd())
        .map_err(|error| system("create the ruleset slot", error))?;
    for (other, path) in pins.rulesets()? {
        if let Some(live) = live_image(&open_fd(&path)?, other)?
            && let Some(header) = image::header(live.bytes())
        {
            put_live(&slot, capacity, &live.bytes()[..header.bytes as usize])?;
        }
    }
    MapData::from_fd(slot.try_clone().map_err(|error| system("clone a descriptor", error))?)
        .map_err(|error| map_error("inspect the ruleset slot", error))?
        .pin(&path)
        .map_err(|error| system(format!("pin {}", path.display()), io::Error::other(error)))?;
    Ok(slot)
}

fn new_image_map(capacity: usize) -> Result<OwnedFd, DataplaneError> {
    sys::create_image_map(capacity)
        .map_err(|error| system(format!("create an image of {capacity} bytes"), error))
}

fn open_fd(path: &Path) -> Result<OwnedFd, DataplaneError> {
    let map = MapData::from_pin(path).map_err(|error| unfit(path, error))?;
    map.fd().as_fd().try_clone_to_owned().map_err(|error| system("clone a descriptor", error))
}

fn live_image(slot: &OwnedFd, capacity: usize) -> Result<Option<Mapping>, DataplaneError> {
    let inner =
        sys::inside(slot.as_fd()).map_err(|error| system("read the ruleset slot", error))?;
    inner
        .map(|map| Mapping::read_only(map.as_fd(), capacity))
        .transpose()
        .map_err(|error| system("map the live image", error))
}

fn put_live(slot: &OwnedFd, capacity: usize, image: &[u8]) -> Result<(), DataplaneError> {
    if image.len() > capacity {
        return Err(DataplaneError::TooLarge { needed: image.len(), capacity });
    }
    let map = new_image_map(capacity)?;
    sys::fill(map.as_fd(), image).map_err(|error| system("write the image", error))?;
    sys::freeze(map.as_fd()).map_err(|error| system("freeze the image", error))?;
    sys::replace(slot.as_fd(), map.as_fd()).map_err(|error| system("replace the live image", error))
}

/// A port slot for each guarded interface: the one it has, or the lowest free one.
fn allocate_ports(pinned: &[LinkPin], guarded: &[Guarded]) -> Result<Vec<u8>, DataplaneError> {
    if guarded.len() > MAX_PORTS {
        return Err(DataplaneError::TooManyInterfaces { configured: guarded.len() });
    }
    let mut taken: BTreeMap<u8, &str> = BTreeMap::new();
    for link in pinned {
        if guarded.iter().any(|port| port.interface == link.interface) {
            taken.insert(link.slot, &link.interface);
        }
    }
    let mut slots = Vec::new();
    for port in guarded {
        let kept = taken.iter().find(|(_, name)| **name == port.interface).map(|(slot, _)| *slot);
        let free = || (0..MAX_PORTS as u8).find(|slot| !taken.contains_key(slot));
        let slot = kept
            .or_else(free)
            .ok_or(DataplaneError::TooManyInterfaces { configured: guarded.len() })?;
        taken.insert(slot, &port.interface);
        slots.push(slot);
    }
    Ok(slots)
}

fn load(
    pins: &Pins,
    settings: &Settings,
    role: Role,
    slot: u8,
) -> Result<aya::Ebpf, DataplaneError> {
    let image_bytes = settings.image_capacity as u64;
    let (port, role) = (u32::from(slot), role as u32);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(globals::IMAGE_BYTES, &image_bytes, true)
        .override_global(globals::PORT, &port, true)
        .override_global(globals::ROLE, &role, true)
        .map_max_entries(names::FLOWS[0], settings.flow_table_entries)
        .map_max_entries(names::FLOWS[1], settings.flow_table_entries)
        .map_pin_path(names::RULESET, pins.ruleset(settings.image_capacity));
    for name in names::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| rejected(&error))?;
    xdp(&mut ebpf)?.load().map_err(|error| rejected(&error))?;
    Ok(ebpf)
}

fn xdp(ebpf: &mut aya::Ebpf) -> Result<&mut Xdp, DataplaneError> {
    ebpf.program_mut(names::PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| DataplaneError::Rejected("the object holds no XDP program".to_owned()))
}

/// Puts the program into the interface's pinned link, or into a new one.
fn attach(
    pins: &Pins,
    attach: Attach,
    port: &Guarded,
    slot: u8,
    ebpf: &mut aya::Ebpf,
) -> Result<(), DataplaneError> {
    let program = xdp(ebpf)?;
    for link in pins.links()?.into_iter().filter(|link| link.interface == port.interface) {
        let path = pins.link(&link);
        match replace_program(program, &path) {
            Ok(()) => return Ok(()),
            // The interface went away and came back, or was never this one: the link is dead.
            Err(error) => {
                tracing::warn!(interface = port.interface, %error, "a stale link is replaced");
                Pins::remove(&path)?;
            }
        }
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

/// Takes the program off interfaces that are no longer guarded.
fn forget_unguarded(pins: &Pins, guarded: &[Guarded]) -> Result<(), DataplaneError> {
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

fn open_map(
    pins: &Pins,
    name: &str,
    kind: impl FnOnce(MapData) -> Map,
) -> Result<Map, DataplaneError> {
    let path = pins.map(name);
    MapData::from_pin(&path).map(kind).map_err(|error| unfit(&path, error))
}

fn typed<M>(
    pins: &Pins,
    name: &str,
    kind: impl FnOnce(MapData) -> Map,
    value_size: usize,
) -> Result<M, DataplaneError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let path = pins.map(name);
    let data = MapData::from_pin(&path).map_err(|error| unfit(&path, error))?;
    let found = data.info().map_err(|error| unfit(&path, error))?.value_size() as usize;
    if found != value_size {
        let detail = format!("values of {found} bytes instead of {value_size}");
        return Err(DataplaneError::Incompatible { path: path.display().to_string(), detail });
    }
    M::try_from(kind(data)).map_err(|error| unfit(&path, error))
}

fn unfit(path: &Path, error: MapError) -> DataplaneError {
    DataplaneError::Incompatible { path: path.display().to_string(), detail: chain(&error) }
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
