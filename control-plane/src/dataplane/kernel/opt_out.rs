//! Those who opted out, in the kernel.

use std::{collections::HashSet, io, os::fd::AsFd};

use aya::maps::{HashMap, MapData};
use sekisho_abi::{
    names,
    opt_out::{BlockKey, BlockPorts},
};

use super::{
    ledger::typed_hash,
    map_error,
    ruleset::{new_image_map, open_fd, put_live},
};
use crate::dataplane::{
    DataplaneError, OptOuts,
    opt_outs::CAPACITY,
    pins::{Pins, system},
    sys,
};

/// Creates the slot of the image unless it is there.
pub(super) fn adopt(pins: &Pins) -> Result<(), DataplaneError> {
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

/// Makes these the ones who opted out. Who joins is in before who left is out.
pub(super) fn put(pins: &Pins, opt_outs: &OptOuts) -> Result<(), DataplaneError> {
    let image = opt_outs.image(CAPACITY)?;
    let mut rows: HashMap<MapData, BlockKey, BlockPorts> = typed_hash(pins, names::OPT_OUT_BLOCKS)?;
    let wanted = opt_outs.rows();
    for (key, ports) in &wanted {
        // A row of which some ports leave keeps them until the image is live.
        let held = rows.get(key, 0).unwrap_or(0);
        if held | ports != held {
            rows.insert(key, held | ports, 0)
                .map_err(|error| map_error("add a port block that opted out", error))?;
        }
    }
    put_live(&open_fd(&pins.map(names::OPT_OUT))?, CAPACITY, image.bytes())?;
    for (key, ports) in &wanted {
        if rows.get(key, 0).unwrap_or(0) != *ports {
            rows.insert(key, ports, 0)
                .map_err(|error| map_error("change a port block that opted out", error))?;
        }
    }
    let kept: HashSet<BlockKey> = wanted.into_iter().map(|(key, _)| key).collect();
    let there: Result<Vec<BlockKey>, _> = rows.keys().collect();
    for key in there.map_err(|error| map_error("list the port blocks that opted out", error))? {
        if !kept.contains(&key) {
            rows.remove(&key)
                .map_err(|error| map_error("remove a port block that opted out", error))?;
        }
    }
    Ok(())
}
