//! Objects of the kernel by their pins and numbers.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use aya_obj::generated::{bpf_cmd, bpf_link_info};

use super::sys::{bpf, owned, zeroed_attr};

/// What a link holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkFacts {
    /// Its number.
    pub(super) id: u32,
    /// Number of the program.
    pub(super) program: u32,
    /// Index of the interface; 0 once it is detached.
    pub(super) interface: u32,
}

fn path_of(pin: &Path) -> io::Result<CString> {
    Ok(CString::new(pin.as_os_str().as_encoded_bytes())?)
}

/// Opens a pinned object.
pub(super) fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = path_of(pin)?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Pins an object.
pub(super) fn pin(object: BorrowedFd<'_>, pin: &Path) -> io::Result<()> {
    let path = path_of(pin)?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Type and number of a map, a program or a link, with which all three descriptions begin.
pub(super) fn identity(object: BorrowedFd<'_>) -> io::Result<[u32; 2]> {
    let mut beginning = [0_u32; 2];
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info = std::ptr::from_mut(&mut beginning) as u64;
    attr.info.info_len = size_of_val(&beginning) as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(beginning)
}

/// Whether a pin is there and is this object's.
pub(super) fn is_pinned(pin: &Path, object: [u32; 2]) -> bool {
    open(pin).and_then(|found| identity(found.as_fd())).is_ok_and(|found| found == object)
}

/// The program of a number.
pub(super) fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
}

/// Puts a program into a link, in the place of the one that is there.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// What an XDP link holds together.
pub(super) fn link(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    // SAFETY: `bpf_link_info` is made of plain integers.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the caller's descriptor is an XDP link's, and theirs is this arm.
    let interface = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(LinkFacts { id: info.id, program: info.prog_id, interface })
}
