//! The maps to whose only value the program has the address: the kill switch and the lease.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use sekisho_abi::{
    names::{self, values},
    record::{Lease, Modes},
};

use crate::dataplane::{
    DataplaneError, objects,
    pins::{Pins, system},
    sys,
};

/// The number in the program, the name, and the bytes of the value.
const VALUES: [(u64, &str, usize); 2] = [
    (values::MODES, names::MODES, size_of::<Modes>()),
    (values::LEASE, names::LEASE, size_of::<Lease>()),
];

/// Makes and pins those that are not there yet, all zero.
pub(super) fn adopt(pins: &Pins) -> Result<(), DataplaneError> {
    for (_, name, bytes) in VALUES {
        let path = pins.map(name);
        if path.exists() {
            continue;
        }
        sys::create_value(name, bytes)
            .and_then(|map| objects::pin(map.as_fd(), &path))
            .map_err(|error| system(format!("create {}", path.display()), error))?;
    }
    Ok(())
}

/// An object in which these maps are at their places. They have to be held until it is loaded.
pub(super) struct Object {
    pub(super) bytes: Vec<u8>,
    _maps: Vec<OwnedFd>,
}

impl Object {
    /// Puts the pinned maps into an object.
    pub(super) fn with_pinned(pins: &Pins, object: &[u8]) -> Result<Self, DataplaneError> {
        let (mut bytes, mut maps) = (object.to_vec(), Vec::new());
        for (number, name, _) in VALUES {
            let path = pins.map(name);
            let map = objects::open(&path)
                .map_err(|error| system(format!("open {}", path.display()), error))?;
            put(&mut bytes, number, map.as_fd());
            maps.push(map);
        }
        Ok(Self { bytes, _maps: maps })
    }
}

/// Bytes of an instruction, and what its parts are in linux/bpf.h. A number of eight bytes takes two.
mod insn {
    pub(super) const BYTES: usize = 8;
    /// `BPF_LD | BPF_IMM | BPF_DW`.
    pub(super) const LOAD_NUMBER: u8 = 0x18;
    /// `BPF_PSEUDO_MAP_VALUE`, as the source register, which is in the upper half of the second byte.
    pub(super) const MAP_VALUE: u8 = 2 << 4;
    pub(super) const REGISTERS: usize = 1;
    pub(super) const NUMBER: usize = 4;
}

/// Replaces each load of a number by that of the address of a map's value.
fn put(object: &mut [u8], number: u64, map: BorrowedFd<'_>) {
    let (low, high) = (number as u32, (number >> 32) as u32);
    let (instructions, _) = object.as_chunks_mut::<{ insn::BYTES }>();
    for at in 1..instructions.len() {
        let [first, second] = &mut instructions[at - 1..=at] else { continue };
        let loads_it = first[0] == insn::LOAD_NUMBER
            && first[insn::NUMBER..] == low.to_le_bytes()
            && second[..insn::NUMBER] == [0; insn::NUMBER]
            && second[insn::NUMBER..] == high.to_le_bytes();
        if loads_it {
            first[insn::REGISTERS] |= insn::MAP_VALUE;
            first[insn::NUMBER..].copy_from_slice(&map.as_raw_fd().to_le_bytes());
            second[insn::NUMBER..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{super::attach::OBJECT, *};

    #[test]
    fn the_program_loads_each_number_and_after_that_the_map() {
        let map = File::open("/dev/null").unwrap();
        let mut object = OBJECT.to_vec();
        for (number, name, _) in VALUES {
            let before = object.clone();
            put(&mut object, number, map.as_fd());
            assert!(before != object, "{name} is nowhere in the program");
            let low = (number as u32).to_le_bytes();
            let left = object.windows(low.len()).filter(|bytes| *bytes == low);
            assert_eq!(left.count(), 0, "{name} was not put everywhere");
        }
    }

    #[test]
    fn only_the_load_of_the_number_becomes_that_of_the_map() {
        let map = File::open("/dev/null").unwrap();
        let [low, high] = [0x1111_2222_u32, 0x3333_4444].map(u32::to_le_bytes);
        let number = u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32;
        let load = |register: u8, low: [u8; 4], high: [u8; 4]| {
            [&[0x18, register, 0, 0], low.as_slice(), &[0; 4], &high].concat()
        };
        let other = load(1, low, [0; 4]);
        let mut object = [other.clone(), load(3, low, high), other.clone()].concat();
        put(&mut object, number, map.as_fd());
        let of_map = load(0x23, map.as_raw_fd().to_le_bytes(), [0; 4]);
        assert_eq!(object, [other.clone(), of_map, other].concat());
    }
}
