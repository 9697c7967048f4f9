//! The maps of a dataplane: the kill switch, the lease, the counters, and the flow ledger.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::{
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use sekisho_abi::{
    names,
    reason::Reason,
    record::{
        Count, EventCounters, FLOW_CACHE_SLOTS, FlowKey, FlowSlot, FlowTotals, Lease, Mode, Modes,
        PortCounters, RuleTotals,
    },
};

use super::{map_error, ruleset::open_fd, unfit};
use crate::dataplane::{
    DataplaneError, FlowRow,
    pins::{Pins, system},
    sys::{self, Take},
};

/// The maps of a dataplane, open.
pub(super) struct Maps {
    modes: Array<MapData, Modes>,
    lease: Array<MapData, Lease>,
    counters: PerCpuArray<MapData, PortCounters>,
    pub(super) rule_totals: PerCpuArray<MapData, RuleTotals>,
    flow_cache: PerCpuArray<MapData, FlowSlot>,
    flows: [HashMap<MapData, FlowKey, FlowTotals>; 2],
    /// The same maps for batch calls, which aya has none of.
    flow_cache_fd: OwnedFd,
    flows_fd: [OwnedFd; 2],
    /// Rows of a drain that failed half-way, for the next one.
    pending: Vec<FlowRow>,
    pub(super) event_counters: PerCpuArray<MapData, EventCounters>,
}

impl Maps {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            modes: open_modes(pins)?,
            pending: Vec::new(),
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

    pub(super) fn modes(&self) -> Result<Modes, DataplaneError> {
        self.modes.get(&0, 0).map_err(|error| map_error("read MODES", error))
    }

    pub(super) fn lease(&self) -> Result<Lease, DataplaneError> {
        self.lease.get(&0, 0).map_err(|error| map_error("read LEASE", error))
    }

    pub(super) fn set_lease(&mut self, lease: &Lease) -> Result<(), DataplaneError> {
        self.lease.set(0, lease, 0).map_err(|error| map_error("write LEASE", error))
    }

    pub(super) fn set_modes(&mut self, modes: &Modes) -> Result<(), DataplaneError> {
        self.modes.set(0, modes, 0).map_err(|error| map_error("write MODES", error))
    }

    /// What the counters of one interface say, by reason, summed over CPUs.
    pub(super) fn counts(&self, slot: u8) -> Result<[Count; Reason::COUNT], DataplaneError> {
        let values = self
            .counters
            .get(&slot.into(), 0)
            .map_err(|error| map_error("read COUNTERS", error))?;
        let mut by_reason = [Count::default(); Reason::COUNT];
        for cpu in values.iter() {
            for (sum, count) in by_reason.iter_mut().zip(cpu.by_reason) {
                *sum += count;
            }
        }
        Ok(by_reason)
    }

    /// Lets an interface begin with a switch and counters of its own in a slot that another one may
    /// have had.
    pub(super) fn begin_port(&mut self, slot: u8) -> Result<(), DataplaneError> {
        let mut modes = self.modes()?;
        if let Some(mode) = modes.ports.get_mut(usize::from(slot)) {
            *mode = Mode::Enforce as u8;
        }
        self.set_modes(&modes)?;
        let cpus = nr_cpus().map_err(|(call, error)| system(call, error))?;
        let zero = vec![zerocopy::FromZeros::new_zeroed(); cpus];
        let zero = PerCpuValues::try_from(zero).map_err(|error| system("clear COUNTERS", error))?;
        self.counters.set(slot.into(), zero, 0).map_err(|error| map_error("clear COUNTERS", error))
    }

    /// Takes every flow of the quiet side. What was read before an error is kept for the next call.
    pub(super) fn drain_side(
        &mut self,
        epoch: u32,
        cpus: usize,
    ) -> Result<Vec<FlowRow>, DataplaneError> {
        let mut rows = std::mem::take(&mut self.pending);
        let drained = self
            .drain_cache(epoch, cpus, &mut rows)
            .and_then(|()| self.drain_table(epoch, &mut rows));
        match drained {
            Ok(()) => Ok(rows),
            Err(error) => {
                self.pending = rows;
                Err(error)
            }
        }
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

/// The kill switch's map.
pub(super) fn open_modes(pins: &Pins) -> Result<Array<MapData, Modes>, DataplaneError> {
    typed(pins, names::MODES, Map::Array, size_of::<Modes>())
}

/// Says so if the tables that are pinned are of another size than configured: they stay.
pub(super) fn check_flow_tables(pins: &Pins, configured: u32) -> Result<(), DataplaneError> {
    let path = pins.map(names::FLOWS[0]);
    let info = MapData::from_pin(&path).and_then(|map| map.info());
    let entries = info.map_err(|error| unfit(&path, &error))?.max_entries();
    if entries != configured {
        tracing::warn!(
            entries,
            configured,
            "the flow tables keep their size until `sekisho detach` and a new start"
        );
    }
    Ok(())
}

pub(super) fn open_map(
    pins: &Pins,
    name: &str,
    kind: impl FnOnce(MapData) -> Map,
) -> Result<Map, DataplaneError> {
    let path = pins.map(name);
    MapData::from_pin(&path).map(kind).map_err(|error| unfit(&path, &error))
}

/// A hash map by its name.
pub(super) fn typed_hash<K: aya::Pod, V: aya::Pod>(
    pins: &Pins,
    name: &str,
) -> Result<HashMap<MapData, K, V>, DataplaneError> {
    typed(pins, name, Map::HashMap, size_of::<V>())
}

pub(super) fn typed<M>(
    pins: &Pins,
    name: &str,
    kind: impl FnOnce(MapData) -> Map,
    value_size: usize,
) -> Result<M, DataplaneError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let path = pins.map(name);
    let data = MapData::from_pin(&path).map_err(|error| unfit(&path, &error))?;
    let found = data.info().map_err(|error| unfit(&path, &error))?.value_size() as usize;
    if found != value_size {
        let detail = format!("values of {found} bytes instead of {value_size}");
        return Err(DataplaneError::Incompatible { path: path.display().to_string(), detail });
    }
    M::try_from(kind(data)).map_err(|error| unfit(&path, &error))
}
