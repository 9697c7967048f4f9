//! The system call behind what the tests do to the kernel themselves.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

pub(crate) fn zeroed() -> bpf_attr {
    // SAFETY: `bpf_attr` is a union of plain integers; the kernel wants unused bytes to be zero.
    unsafe { std::mem::zeroed() }
}

pub(crate) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<u32> {
    // SAFETY: `attr` is valid for its size, and the callers keep alive what it points to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub(crate) fn owned(fd: u32) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
