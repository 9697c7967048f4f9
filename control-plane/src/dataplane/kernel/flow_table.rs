//! The flow table: places that the program fills and this process reads and frees, one side at a
//! time.
//!
//! A drain leaves the rows where they are. They are freed when whoever asked says that they are
//! recorded, so that a daemon killed between the two neither loses nor doubles a hit.

use std::{mem::offset_of, os::fd::AsFd as _};

use aya::maps::{Array, Map, MapData};
use sekisho_abi::{
    flow::{Decision, FLOWS_PER_BUCKET, FlowBucket, FlowRegion, FlowSlot, flow_region},
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
    places: u32,
    cpus: u32,
    slots: Mapping,
    regions: Array<MapData, FlowRegion>,
    /// What was freed since this process opened the table, by rule.
    freed: Vec<Count>,
}

impl FlowTable {
    pub(super) fn open(pins: &Pins, cpus: usize) -> Result<Self, DataplaneError> {
        let path = pins.map(names::FLOWS);
        let info = MapData::from_pin(&path).and_then(|map| map.info());
        let entries = info.map_err(|error| unfit(&path, &error))?.max_entries();
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let length = entries as usize * size_of::<FlowBucket>();
        let slots = Mapping::writable(open_fd(&path)?.as_fd(), length)
            .map_err(|error| system("map the flow table", error))?;
        let regions = typed(pins, names::FLOW_REGIONS, Map::Array, size_of::<FlowRegion>())?;
        let freed = vec![Count::default(); rule::MAX];
        let places = entries / regions_of(cpus) * FLOWS_PER_BUCKET;
        Ok(Self { places, cpus, slots, regions, freed })
    }

    /// Every row of a side on which no program runs any more.
    pub(super) fn read(&self, side: u32) -> Result<Vec<FlowRow>, DataplaneError> {
        let mut rows = Vec::new();
        for cpu in 0..self.cpus {
            let region = flow_region(cpu, side);
            let taken = self.taken(region)?;
            rows.reserve(taken);
            rows.extend(self.rows(region).take(taken));
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
            let mut left = self.taken(region)?;
            if left == 0 {
                continue;
            }
            for place in self.places_of(region) {
                if left == 0 {
                    break;
                }
                let Some(slot) = self.slot(place) else { continue };
                left -= 1;
                let rule = Decision::of(slot.decision).rule;
                if let Some(sum) = self.freed.get_mut(usize::from(rule)) {
                    *sum += Count { packets: slot.packets, bytes: slot.bytes };
                }
                self.slots.clear::<FlowSlot>(place * size_of::<FlowSlot>());
            }
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
        let taken = self
            .regions
            .get(&region, 0)
            .map_err(|error| map_error("read FLOW_REGIONS", error))?
            .taken;
        Ok(usize::try_from(taken).unwrap_or(usize::MAX).min(self.places as usize))
    }

    fn rows(&self, region: u32) -> impl Iterator<Item = FlowRow> {
        self.places_of(region).filter_map(|place| self.slot(place)).map(FlowRow::from)
    }

    fn places_of(&self, region: u32) -> std::ops::Range<usize> {
        let first = region as usize * self.places as usize;
        first..first + self.places as usize
    }

    /// A place, if it is taken.
    fn slot(&self, place: usize) -> Option<FlowSlot> {
        let at = place * size_of::<FlowSlot>();
        if self.slots.read::<u64>(at + offset_of!(FlowSlot, packets))? == 0 {
            return None;
        }
        self.slots.read(at)
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
