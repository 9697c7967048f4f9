//! The slot of the live image.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use sekisho_abi::image;

use super::{map_error, unfit};
use crate::dataplane::{
    DataplaneError,
    pins::{Pins, system},
    sys::{self, Mapping},
};

/// Opens the slot, or creates it; an image that is live in a slot of another
/// capacity moves over, so that enforcement goes on while the program is replaced.
pub(super) fn adopt(pins: &Pins, capacity: usize) -> Result<OwnedFd, DataplaneError> {
    let path = pins.ruleset(capacity);
    if path.exists() {
        return open_fd(&path);
    }
    let template = new_image_map(capacity)?;
    let slot = sys::create_slot(template.as_fd())
        .map_err(|error| system("create the ruleset slot", error))?;
    if let Some((other, found)) = newest(pins.rulesets()?)?
        && let Some(live) = live_image(&found, other)?
        && let Some(header) = image::header(live.bytes())
        && let Some(image) = live.bytes().get(..header.bytes as usize)
    {
        put_live(&slot, capacity, image)?;
    }
    MapData::from_fd(slot.try_clone().map_err(|error| system("clone a descriptor", error))?)
        .map_err(|error| map_error("inspect the ruleset slot", error))?
        .pin(&path)
        .map_err(|error| system(format!("pin {}", path.display()), io::Error::other(error)))?;
    Ok(slot)
}

/// The slot whose image has the highest generation: after a daemon died while the capacity was
/// being changed there can be two.
pub(super) fn newest(
    rulesets: Vec<(usize, PathBuf)>,
) -> Result<Option<(usize, OwnedFd)>, DataplaneError> {
    let mut newest: Option<(Option<u32>, usize, OwnedFd)> = None;
    for (capacity, path) in rulesets {
        let slot = open_fd(&path)?;
        let live = live_image(&slot, capacity)?;
        let header = live.as_ref().and_then(|live| image::header(live.bytes()));
        let generation = header.map(|header| header.generation);
        if newest.as_ref().is_none_or(|(best, ..)| generation > *best) {
            newest = Some((generation, capacity, slot));
        }
    }
    Ok(newest.map(|(_, capacity, slot)| (capacity, slot)))
}

pub(super) fn new_image_map(capacity: usize) -> Result<OwnedFd, DataplaneError> {
    sys::create_image_map(capacity)
        .map_err(|error| system(format!("create an image of {capacity} bytes"), error))
}

pub(super) fn open_fd(path: &Path) -> Result<OwnedFd, DataplaneError> {
    let map = MapData::from_pin(path).map_err(|error| unfit(path, &error))?;
    map.fd().as_fd().try_clone_to_owned().map_err(|error| system("clone a descriptor", error))
}

pub(super) fn live_image(
    slot: &OwnedFd,
    capacity: usize,
) -> Result<Option<Mapping>, DataplaneError> {
    let inner =
        sys::inside(slot.as_fd()).map_err(|error| system("read the ruleset slot", error))?;
    inner.map(|map| mapped(&map, capacity)).transpose()
}

pub(super) fn mapped(map: &OwnedFd, capacity: usize) -> Result<Mapping, DataplaneError> {
    Mapping::read_only(map.as_fd(), capacity).map_err(|error| system("map the live image", error))
}

/// Gives the map that the image is in.
pub(super) fn put_live(
    slot: &OwnedFd,
    capacity: usize,
    image: &[u8],
) -> Result<OwnedFd, DataplaneError> {
    if image.len() > capacity {
        return Err(DataplaneError::TooLarge { needed: image.len(), capacity });
    }
    let map = new_image_map(capacity)?;
    sys::fill(map.as_fd(), image).map_err(|error| system("write the image", error))?;
    sys::freeze(map.as_fd()).map_err(|error| system("freeze the image", error))?;
    sys::replace(slot.as_fd(), map.as_fd())
        .map_err(|error| system("replace the live image", error))?;
    Ok(map)
}
