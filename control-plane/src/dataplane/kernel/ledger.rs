//! The maps of a dataplane: the kill switch, the lease, the counters.

use aya::{
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use sekisho_abi::{
    names,
    reason::Reason,
    record::{Count, EventCounters, Lease, Mode, Modes, PortCounters},
};

use super::{flow_table::FlowTable, map_error, unfit};
use crate::dataplane::{
    DataplaneError,
    pins::{Pins, system},
};

/// The maps of a dataplane, open.
pub(super) struct Maps {
    modes: Array<MapData, Modes>,
    lease: Array<MapData, Lease>,
    counters: PerCpuArray<MapData, PortCounters>,
    overflow: PerCpuArray<MapData, Count>,
    pub(super) flows: FlowTable,
    pub(super) event_counters: PerCpuArray<MapData, EventCounters>,
}

impl Maps {
    pub(super) fn open(pins: &Pins, cpus: usize) -> Result<Self, DataplaneError> {
        Ok(Self {
            modes: open_modes(pins)?,
            lease: typed(pins, names::LEASE, Map::Array, size_of::<Lease>())?,
            counters: typed(pins, names::COUNTERS, Map::PerCpuArray, size_of::<PortCounters>())?,
            overflow: typed(pins, names::OVERFLOW, Map::PerCpuArray, size_of::<Count>())?,
            flows: FlowTable::open(pins, cpus)?,
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

    /// Gives a flow table that was just made a number of its own.
    pub(super) fn begin_ledger(&mut self) -> Result<(), DataplaneError> {
        let lease = self.lease()?;
        if lease.ledger != 0 {
            return Ok(());
        }
        self.set_lease(&Lease { ledger: fastrand::u32(1..), ..lease })
    }

    pub(super) fn set_modes(&mut self, modes: &Modes) -> Result<(), DataplaneError> {
        write_modes(&mut self.modes, *modes)
    }

    /// Hits of a rule that no place of the flow table could hold.
    pub(super) fn overflow(&self, rule: u32) -> Result<Count, DataplaneError> {
        let values =
            self.overflow.get(&rule, 0).map_err(|error| map_error("read OVERFLOW", error))?;
        let mut sum = Count::default();
        values.iter().for_each(|cpu| sum += *cpu);
        Ok(sum)
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
    pub(super) fn begin_port(&mut self, slot: u8, own: Mode) -> Result<(), DataplaneError> {
        let mut modes = self.modes()?;
        if let Some(mode) = modes.ports.get_mut(usize::from(slot)) {
            *mode = own as u8;
        }
        self.set_modes(&modes)?;
        let cpus = nr_cpus().map_err(|(call, error)| system(call, error))?;
        let zero = vec![zerocopy::FromZeros::new_zeroed(); cpus];
        let zero = PerCpuValues::try_from(zero).map_err(|error| system("clear COUNTERS", error))?;
        self.counters.set(slot.into(), zero, 0).map_err(|error| map_error("clear COUNTERS", error))
    }
}

/// The kill switch's map.
pub(super) fn open_modes(pins: &Pins) -> Result<Array<MapData, Modes>, DataplaneError> {
    typed(pins, names::MODES, Map::Array, size_of::<Modes>())
}

/// Writes the switch; what was decided under it so far is decided anew.
///
/// Its number changes once more when all of it is there: a packet that saw it half written may have
/// kept its decision under the first number.
pub(super) fn write_modes(
    map: &mut Array<MapData, Modes>,
    mut modes: Modes,
) -> Result<(), DataplaneError> {
    let before = map.get(&0, 0).map_err(|error| map_error("read MODES", error))?;
    for step in 1..=2 {
        modes.version = before.version.wrapping_add(step);
        map.set(0, modes, 0).map_err(|error| map_error("write MODES", error))?;
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
