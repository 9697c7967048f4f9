//! What somebody with rights might do to a dataplane behind the daemon's back.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya_obj::generated::{bpf_cmd, bpf_link_info, bpf_map_type};
use sekisho_abi::image::Image;

use crate::bpf::{bpf, owned, zeroed};

/// `BPF_F_MMAPABLE` of linux/bpf.h, without which a map does not fit the slot.
const MMAPABLE: u32 = 1 << 10;

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Pins the object of one pin under another name.
pub fn pin_again(pin: &Path, other: &Path) -> io::Result<()> {
    let object = open(pin)?;
    let path = CString::new(other.as_os_str().as_encoded_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Takes the program of a pinned link off its interface; the link and the pin stay.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let link = open(pin)?;
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// The kernel's numbers of a pinned link, of its program and of its interface.
pub fn link(pin: &Path) -> io::Result<(u32, u32, u32)> {
    let link = open(pin)?;
    // SAFETY: `bpf_link_info` is made of plain integers.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the caller's link is an XDP link, and this arm is theirs.
    Ok((info.id, info.prog_id, unsafe { info.__bindgen_anon_1.xdp.ifindex }))
}

/// Puts another program into a pinned link.
pub fn replace_program(pin: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open(pin)?;
    let mut attr = zeroed();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Takes the first element out of a pinned map: a ruleset out of its slot, a device.
pub fn remove_first(pin: &Path) -> io::Result<()> {
    remove(pin, &0_u32.to_ne_bytes())
}

/// Takes an element out of a pinned map, whose keys are as long as this one.
pub fn remove(pin: &Path, key: &[u8]) -> io::Result<()> {
    let map = open(pin)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr).map(drop)
}

/// Puts another ruleset into the pinned slot.
pub fn swap_image(pin: &Path, capacity: usize, image: &Image) -> io::Result<()> {
    let slot = open(pin)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = capacity as u32;
    attr.__bindgen_anon_1.max_entries = 1;
    attr.__bindgen_anon_1.map_flags = MMAPABLE;
    let map = bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)?;
    let mut value = image.bytes().to_vec();
    value.resize(capacity, 0);
    update(map.as_fd(), value.as_ptr() as u64)?;
    let fd = map.as_raw_fd();
    update(slot.as_fd(), std::ptr::from_ref(&fd) as u64)
}

/// Sets the only element of a pinned map, whose values are as long as this one.
pub fn overwrite(pin: &Path, value: &[u8]) -> io::Result<()> {
    update(open(pin)?.as_fd(), value.as_ptr() as u64)
}

/// The only element of a pinned map whose values have so many bytes.
pub fn value(pin: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let (map, key, mut value) = (open(pin)?, 0_u32, vec![0; bytes]);
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Sets the only element; `value` points to as many bytes as the map's values have.
fn update(map: BorrowedFd<'_>, value: u64) -> io::Result<()> {
    let key = 0_u32;
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}
