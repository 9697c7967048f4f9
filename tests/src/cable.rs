//! The outer ends of cables: frames go in there at any rate, and are counted where they come out.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::Arc,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_map_type};
use nix::net::if_::if_nametoindex;
use sekisho::dataplane::trial::{attach, load};

use crate::bpf::{bpf, owned, zeroed};

/// Frames that the kernel sends at a time; the ring of a veth end holds 256.
pub const BATCH: u32 = 64;
/// The byte of a frame by which it is counted: the last one of the source address.
pub const MARK_AT: usize = 11;

/// Run the program on real frames and send them, `BPF_F_TEST_XDP_LIVE_FRAMES` of linux/bpf.h.
const LIVE_FRAMES: u32 = 1 << 1;
const MARKS: u32 = 256;

/// Puts frames into a cable.
#[derive(Clone, Debug)]
pub struct Source {
    program: Arc<OwnedFd>,
    _berth: Arc<OwnedFd>,
}

impl Source {
    /// Ready to send out of this interface of the caller's namespace. The program sits on `berth`,
    /// which carries nothing: for one that sits nowhere, each call of [`Self::send`] would rewrite
    /// the kernel's dispatcher of programs, which takes a thirtieth of a second.
    pub fn new(interface: &str, berth: &str) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        let program = load(
            "sekisho_source",
            &[
                op(0xb7, 1, 0, 0, index.cast_signed()), // r1 = index
                op(0xb7, 2, 0, 0, 0),                   // r2 = 0
                op(0x85, 0, 0, 0, 23),                  // r0 = bpf_redirect(r1, r2)
                op(0x95, 0, 0, 0, 0),                   // exit
            ],
        )?;
        let link = attach(program.as_fd(), if_nametoindex(berth)?)?;
        Ok(Self { program: Arc::new(program), _berth: Arc::new(link) })
    }

    /// Sends a frame so many times. When it returns all have been sent; the last ones may still be
    /// in the cable.
    pub fn send(&self, frame: &[u8], times: u32) -> io::Result<()> {
        let mut attr = zeroed();
        attr.test.prog_fd = self.program.as_raw_fd() as u32;
        attr.test.data_in = frame.as_ptr() as u64;
        attr.test.data_size_in = frame.len() as u32;
        attr.test.repeat = times;
        attr.test.flags = LIVE_FRAMES;
        attr.test.batch_size = BATCH.min(times);
        bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
    }
}

/// What becomes of frames once they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// They end.
    Drop = 1,
    /// Whoever listens on the interface gets them.
    Pass = 2,
}

/// Counts the frames that come out of a cable, by the byte at [`MARK_AT`].
#[derive(Debug)]
pub struct Tally {
    counts: OwnedFd,
    _link: OwnedFd,
}

impl Tally {
    /// Counts on this interface of the caller's namespace as long as the value lives.
    pub fn attach(interface: &str, then: Then) -> io::Result<Self> {
        let counts = counters()?;
        let program = load("sekisho_tally", &tally(&counts, then))?;
        let link = attach(program.as_fd(), if_nametoindex(interface)?)?;
        Ok(Self { counts, _link: link })
    }

    /// How many frames came with this mark so far.
    pub fn counted(&self, mark: u8) -> io::Result<u64> {
        let (key, mut value) = (u32::from(mark), 0_u64);
        let mut attr = zeroed();
        attr.__bindgen_anon_2.map_fd = self.counts.as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
        attr.__bindgen_anon_2.__bindgen_anon_1.value = std::ptr::from_mut(&mut value) as u64;
        bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
        Ok(value)
    }
}

fn counters() -> io::Result<OwnedFd> {
    let mut attr: bpf_attr = zeroed();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 8;
    attr.__bindgen_anon_1.max_entries = MARKS;
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)
}

fn tally(counts: &OwnedFd, then: Then) -> [bpf_insn; 17] {
    [
        op(0x61, 2, 1, 0, 0),                  // r2 = data
        op(0x61, 3, 1, 4, 0),                  // r3 = data_end
        op(0xbf, 4, 2, 0, 0),                  // r4 = r2
        op(0x07, 4, 0, 0, MARK_AT as i32 + 1), // r4 += up to the mark
        op(0x2d, 4, 3, 10, 0),                 // if r4 > r3 goto out
        op(0x71, 2, 2, MARK_AT as i16, 0),     // r2 = mark
        op(0x63, 10, 2, -4, 0),                // key = r2
        op(0x18, 1, 1, 0, counts.as_raw_fd()), // r1 = counts
        op(0, 0, 0, 0, 0),                     // second half of it
        op(0xbf, 2, 10, 0, 0),                 // r2 = frame pointer
        op(0x07, 2, 0, 0, -4),                 // r2 = &key
        op(0x85, 0, 0, 0, 1),                  // r0 = bpf_map_lookup_elem(r1, r2)
        op(0x15, 0, 0, 2, 0),                  // if r0 == 0 goto out
        op(0xb7, 1, 0, 0, 1),                  // r1 = 1
        op(0xdb, 0, 1, 0, 0),                  // lock *r0 += r1
        op(0xb7, 0, 0, 0, then as i32),        // out: r0 = verdict
        op(0x95, 0, 0, 0, 0),                  // exit
    ]
}

/// An instruction as linux/bpf.h numbers it.
fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> bpf_insn {
    // SAFETY: an instruction is made of plain integers.
    let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
    instruction.code = code;
    instruction.set_dst_reg(destination);
    instruction.set_src_reg(source);
    instruction.off = offset;
    instruction.imm = immediate;
    instruction
}
