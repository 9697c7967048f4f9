//! Frames in several buffers, as drivers that support `xdp.frags` hand them over.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

use crate::bpf::{bpf, zeroed};

/// `struct xdp_md` of linux/bpf.h.
#[derive(Default)]
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Runs a program once on a frame (`BPF_PROG_TEST_RUN`) of which so many bytes lie in its first buffer,
/// and gives the XDP action. Needs kernel 6.18.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], in_first: u32) -> io::Result<u32> {
    let context = Context { data_end: in_first, ..Context::default() };
    let mut attr = zeroed();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.ctx_in = (&raw const context) as u64;
    attr.test.ctx_size_in = size_of::<Context>() as u32;
    attr.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    Ok(returned(&attr))
}

/// What the kernel has written.
fn returned(attr: &bpf_attr) -> u32 {
    // SAFETY: this part of the union was filled for the call, all of it plain integers.
    unsafe { attr.test.retval }
}
