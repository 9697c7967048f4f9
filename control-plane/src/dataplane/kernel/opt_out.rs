//! Those who opted out, in the kernel.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{HashMap, Map, MapData};
use sekisho_abi::{
    names,
    opt_out::{BlockKey, BlockPorts},
    record::Modes,
};

use super::{
    ledger::typed_hash,
    map_error,
    ruleset::{new_image_map, open_fd, put_live},
};
use crate::dataplane::{
    DataplaneError, OptOuts,
    evidence::Depth,
    objects,
    opt_outs::CAPACITY,
    pins::{Pins, system},
    sys,
};

/// Creates the slot of the image unless it is there, and makes room for so many rows of ports.
pub(super) fn adopt(pins: &Pins, rows: u32) -> Result<(), DataplaneError> {
    enlarge(pins, rows)?;
    let path = pins.map(names::OPT_OUT);
    if path.exists() {
        return Ok(());
    }
    let template = new_image_map(CAPACITY)?;
    let slot = sys::create_slot(template.as_fd())
        .map_err(|error| system("create the slot of opt-outs", error))?;
    MapData::from_fd(slot)
        .map_err(|error| map_error("inspect the slot of opt-outs", error))?
        .pin(&path)
        .map_err(|error| system(format!("pin {}", path.display()), io::Error::other(error)))
}

/// Puts a larger table of ports in the place of one that is pinned and has fewer rows. A program
/// that runs keeps the one that it was loaded with, which nobody changes any more; the next one that
/// is loaded takes the larger one.
fn enlarge(pins: &Pins, rows: u32) -> Result<(), DataplaneError> {
    let path = pins.map(names::OPT_OUT_BLOCKS);
    if !path.exists() {
        return Ok(());
    }
    if room(pins)? >= rows {
        return Ok(());
    }
    let pinned = open_rows(pins)?;
    let failed = |error| system("create a larger table of port blocks", error);
    let (key, value) = (size_of::<BlockKey>() as u32, size_of::<BlockPorts>() as u32);
    let larger = sys::create_hash(names::OPT_OUT_BLOCKS, key, value, rows).map_err(failed)?;
    let copy = MapData::from_fd(larger.try_clone().map_err(failed)?)
        .and_then(|map| HashMap::try_from(Map::HashMap(map)));
    let mut copy: Rows = copy.map_err(|error| map_error("open a larger table", error))?;
    for row in &pinned {
        row.and_then(|(key, ports)| copy.insert(key, ports, 0))
            .map_err(|error| map_error("copy the port blocks that opted out", error))?;
    }
    let aside = pins.map(names::LARGER_OPT_OUT_BLOCKS);
    Pins::remove(&aside)?;
    objects::pin(larger.as_fd(), &aside)
        .and_then(|()| std::fs::rename(&aside, &path))
        .map_err(|error| system(format!("replace {}", path.display()), error))
}

type Rows = HashMap<MapData, BlockKey, BlockPorts>;

fn open_rows(pins: &Pins) -> Result<Rows, DataplaneError> {
    typed_hash(pins, names::OPT_OUT_BLOCKS)
}

/// How many rows the table can have.
fn room(pins: &Pins) -> Result<u32, DataplaneError> {
    let info = MapData::from_pin(pins.map(names::OPT_OUT_BLOCKS)).and_then(|map| map.info());
    info.map(|info| info.max_entries()).map_err(|error| map_error("inspect OPT_OUT_BLOCKS", error))
}

/// Makes these the ones who opted out; gives the map that their image is in. Who joins is in before
/// who left is out, unless the table has no room for both.
pub(super) fn put(pins: &Pins, opt_outs: &OptOuts) -> Result<OwnedFd, DataplaneError> {
    let image = opt_outs.image(CAPACITY)?;
    let mut rows = open_rows(pins)?;
    let wanted = opt_outs.rows();
    let kept: HashSet<BlockKey> = wanted.iter().map(|(key, _)| *key).collect();
    let there: Result<Vec<BlockKey>, _> = rows.keys().collect();
    let there = there.map_err(|error| map_error("list the port blocks that opted out", error))?;
    let left: Vec<BlockKey> = there.into_iter().filter(|key| !kept.contains(key)).collect();
    let room = room(pins)? as usize;
    if kept.len() > room {
        let fault = format!("{} rows of port blocks where {room} fit", kept.len());
        return Err(system("set who opted out", io::Error::other(fault)));
    }
    let has_room_for_both = kept.len() + left.len() <= room;
    if !has_room_for_both {
        remove(&mut rows, &left)?;
    }
    for (key, ports) in &wanted {
        // A row of which some ports leave keeps them until the image is live.
        let held = rows.get(key, 0).unwrap_or(0);
        if held | ports != held {
            rows.insert(key, held | ports, 0)
                .map_err(|error| map_error("add a port block that opted out", error))?;
        }
    }
    let live = put_live(&open_fd(&pins.map(names::OPT_OUT))?, CAPACITY, image.bytes())?;
    for (key, ports) in &wanted {
        if rows.get(key, 0).unwrap_or(0) != *ports {
            rows.insert(key, ports, 0)
                .map_err(|error| map_error("change a port block that opted out", error))?;
        }
    }
    if has_room_for_both {
        remove(&mut rows, &left)?;
    }
    Ok(live)
}

fn remove(rows: &mut Rows, left: &[BlockKey]) -> Result<(), DataplaneError> {
    left.iter().try_for_each(|key| {
        rows.remove(key).map_err(|error| map_error("remove a port block that opted out", error))
    })
}

/// Whether the table has the rows of these, and no others.
fn are_there(pins: &Pins, opt_outs: &OptOuts) -> Result<bool, DataplaneError> {
    let rows = open_rows(pins)?;
    let there: Result<std::collections::HashMap<BlockKey, BlockPorts>, _> = rows.iter().collect();
    let there = there.map_err(|error| map_error("read the port blocks that opted out", error))?;
    Ok(there == opt_outs.rows().into_iter().collect())
}

/// Who is to be opted out, as this process set it, or found it at the start.
pub(super) struct Held {
    slot: OwnedFd,
    image: Option<(OwnedFd, u32)>,
    /// [`Modes::opt_outs`].
    applies: u8,
    /// `None` until this process sets anything.
    set: Option<OptOuts>,
}

impl Held {
    /// What is there.
    pub(super) fn found(pins: &Pins, modes: &Modes) -> Result<Self, DataplaneError> {
        let slot = open_fd(&pins.map(names::OPT_OUT))?;
        let image = live(&slot)?;
        Ok(Self { slot, image, applies: modes.opt_outs, set: None })
    }

    /// From now on it is these, whose image is in this map.
    pub(super) fn set(&mut self, opt_outs: &OptOuts, map: OwnedFd) -> Result<(), DataplaneError> {
        self.image = Some(with_number(map)?);
        self.applies = u8::from(!opt_outs.is_empty());
        self.set = Some(opt_outs.clone());
        Ok(())
    }

    /// Whether it is as it is to be; the table of ports is read only on a deep look.
    pub(super) fn holds(
        &self,
        pins: &Pins,
        modes: &Modes,
        depth: Depth,
    ) -> Result<bool, DataplaneError> {
        let number = |image: &Option<(OwnedFd, u32)>| image.as_ref().map(|(_, number)| *number);
        if modes.opt_outs != self.applies || number(&live(&self.slot)?) != number(&self.image) {
            return Ok(false);
        }
        match &self.set {
            Some(opt_outs) if depth == Depth::Deep => are_there(pins, opt_outs),
            _ => Ok(true),
        }
    }

    /// Puts it back; gives what [`Modes::opt_outs`] is to be.
    pub(super) fn put_back(&mut self, pins: &Pins) -> Result<u8, DataplaneError> {
        if let Some(opt_outs) = self.set.take() {
            let restored = put(pins, &opt_outs).and_then(|map| self.set(&opt_outs, map));
            self.set = Some(opt_outs);
            restored?;
        } else if let Some((map, _)) = &self.image {
            sys::replace(self.slot.as_fd(), map.as_fd())
                .map_err(|error| system("replace the image of opt-outs", error))?;
        }
        Ok(self.applies)
    }
}

/// The map in the slot, with the kernel's number of it.
fn live(slot: &OwnedFd) -> Result<Option<(OwnedFd, u32)>, DataplaneError> {
    let inside = sys::inside(slot.as_fd());
    let inside = inside.map_err(|error| system("read the slot of opt-outs", error))?;
    inside.map(with_number).transpose()
}

fn with_number(map: OwnedFd) -> Result<(OwnedFd, u32), DataplaneError> {
    let [_, number] = objects::identity(map.as_fd())
        .map_err(|error| system("inspect the image of opt-outs", error))?;
    Ok((map, number))
}
