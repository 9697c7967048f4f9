//! The flow table: places that the program fills and this process reads and frees, one side at a
//! time.
//!
//! A drain leaves the rows where they are. They are freed when whoever asked says that they are
//! recorded, so that a daemon killed between the two neither loses nor doubles a hit.

use std::{
    mem::offset_of,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{Array, Map, MapData};
use sekisho_abi::{
    flow::{FLOWS_PER_BUCKET, FlowRegion, FlowSlot, buckets_of, flow_region},
    image::layout::rule,
    names,
    record::Count,
};

use super::{ledger::typed, map_error, ruleset::open_fd, unfit};
use crate::dataplane::{
    DataplaneError, FlowRow,
    pins::{Pins, system},
    sys::Mapping,
};

/// The flow table of a dataplane.
pub(super) struct FlowTable {
    map: OwnedFd,
    /// Those of one CPU on one side.
    buckets: u32,
    cpus: u32,
    regions: Array<MapData, FlowRegion>,
    /// What was freed since this process opened the table, by rule.
    freed: Vec<Count>,
}

/// Places that are mapped at a time, 4 MiB: mapped memory counts as this process's.
const WINDOW: usize = 32_768;
/// Offsets of mappings are multiples of it, whatever the page size.
const ALIGNMENT: usize = 65_536;

impl FlowTable {
    pub(super) fn open(pins: &Pins, cpus: usize) -> Result<Self, DataplaneError> {
        let path = pins.map(names::FLOWS);
        let info = MapData::from_pin(&path).and_then(|map| map.info());
        let entries = info.map_err(|error| unfit(&path, &error))?.max_entries();
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let map = open_fd(&path)?;
        let regions = typed(pins, names::FLOW_REGIONS, Map::Array, size_of::<FlowRegion>())?;
        let freed = vec![Count::default(); rule::MAX];
        Ok(Self { map, buckets: entries / regions_of(cpus), cpus, regions, freed })
    }

    /// Every row of a side on which no program runs any more.
    pub(super) fn read(&self, side: u32) -> Result<Vec<FlowRow>, DataplaneError> {
        let mut rows = Vec::new();
        for cpu in 0..self.cpus {
            let region = flow_region(cpu, side);
            rows.reserve(self.taken(region)?);
            self.visit(region, |slot, _| rows.push(slot.into()))?;
        }
        Ok(rows)
    }

    /// Whether a side has rows.
    pub(super) fn has_rows(&self, side: u32) -> Result<bool, DataplaneError> {
        for cpu in 0..self.cpus {
            if self.taken(flow_region(cpu, side))? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Frees every place of a side on which no program runs any more.
    pub(super) fn free(&mut self, side: u32) -> Result<(), DataplaneError> {
        for cpu in 0..self.cpus {
            let region = flow_region(cpu, side);
            if self.taken(region)? == 0 {
                continue;
            }
            let mut freed = std::mem::take(&mut self.freed);
            let all = self.visit(region, |slot, place| {
                if let Some(sum) = freed.get_mut(usize::from(slot.rule)) {
                    *sum += Count { packets: slot.packets, bytes: slot.bytes };
                }
                place.clear();
            });
            self.freed = freed;
            all?;
            self.regions
                .set(region, FlowRegion::default(), 0)
                .map_err(|error| map_error("write FLOW_REGIONS", error))?;
        }
        Ok(())
    }

    /// Hits of a rule that were freed since this process opened the table.
    pub(super) fn freed(&self, rule: usize) -> Count {
        self.freed.get(rule).copied().unwrap_or_default()
    }

    fn taken(&self, region: u32) -> Result<usize, DataplaneError> {
        let places = u64::from(self.buckets) * u64::from(FLOWS_PER_BUCKET);
        Ok(usize::try_from(self.region(region)?.taken.min(places)).unwrap_or(usize::MAX))
    }

    fn region(&self, region: u32) -> Result<FlowRegion, DataplaneError> {
        self.regions.get(&region, 0).map_err(|error| map_error("read FLOW_REGIONS", error))
    }

    /// Shows every place of a region that is taken.
    fn visit(
        &self,
        region: u32,
        mut each: impl FnMut(FlowSlot, Place<'_>),
    ) -> Result<(), DataplaneError> {
        let parts = self.region(region)?.parts;
        for part in (0..64).filter(|part| parts >> part & 1 != 0) {
            let buckets = buckets_of(part, self.buckets);
            let places =
                |bucket: u32| (region * self.buckets + bucket) as usize * FLOWS_PER_BUCKET as usize;
            let all = places(buckets.start)..places(buckets.end);
            for start in all.clone().step_by(WINDOW) {
                let end = (start + WINDOW).min(all.end);
                let offset = start * size_of::<FlowSlot>() / ALIGNMENT * ALIGNMENT;
                let length = end * size_of::<FlowSlot>() - offset;
                let mut window = Mapping::writable(self.map.as_fd(), offset, length)
                    .map_err(|error| system("map the flow table", error))?;
                for place in start..end {
                    let at = place * size_of::<FlowSlot>() - offset;
                    let place = Place { window: &mut window, at };
                    if let Some(slot) = place.slot() {
                        each(slot, place);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A place in mapped memory.
struct Place<'a> {
    window: &'a mut Mapping,
    at: usize,
}

impl Place<'_> {
    /// What is in it, if it is taken.
    fn slot(&self) -> Option<FlowSlot> {
        if self.window.read::<u64>(self.at + offset_of!(FlowSlot, packets))? == 0 {
            return None;
        }
        self.window.read(self.at)
    }

    fn clear(self) {
        self.window.clear::<FlowSlot>(self.at);
    }
}

/// The regions of so many CPUs.
pub(super) const fn regions_of(cpus: u32) -> u32 {
    flow_region(cpus, 0)
}

/// How many buckets a CPU has on each side: those of the table that is pinned, or its share of what is
/// configured.
pub(super) fn buckets(pins: &Pins, configured: u32, cpus: usize) -> Result<u32, DataplaneError> {
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let wanted = configured.div_ceil(cpus * FLOWS_PER_BUCKET).max(1).next_power_of_two();
    let path = pins.map(names::FLOWS);
    if !path.exists() {
        return Ok(wanted);
    }
    let info = MapData::from_pin(&path).and_then(|map| map.info());
    let pinned = info.map_err(|error| unfit(&path, &error))?.max_entries() / regions_of(cpus);
    if pinned != wanted {
        tracing::warn!(
            flows = pinned * FLOWS_PER_BUCKET * cpus,
            configured,
            "the flow table keeps its size until `sekisho detach` and a new start"
        );
    }
    Ok(pinned)
}
