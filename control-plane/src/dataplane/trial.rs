//! What an interface and a kernel would take, found out by trying.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::programs::{loaded_links, loaded_programs};
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use sekisho_abi::names;

use super::{
    DataplaneError, kernel,
    sys::{bpf, owned, zeroed_attr},
};

/// The program takes frames of several buffers, `BPF_F_XDP_HAS_FRAGS` of linux/bpf.h.
const HAS_FRAGS: u32 = 1 << 5;
/// Attach in the driver or not at all, `XDP_FLAGS_DRV_MODE` of linux/if_link.h.
const DRIVER_MODE: u32 = 1 << 2;

/// A program that passes every frame, to try interfaces with.
#[derive(Debug)]
pub struct PassProgram(OwnedFd);

/// Longest name of a program, the final zero left out.
const LONGEST_NAME: usize = 15;

/// The program on an interface. It goes with this value, even if the process dies.
#[derive(Debug)]
pub struct Held {
    _link: OwnedFd,
}

/// A program that sits on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The kernel's number for it.
    pub id: u32,
    /// As its author called it, cut to 15 bytes.
    pub name: String,
    /// The link that holds it; `None` if it was attached through netlink.
    pub link: Option<u32>,
}

impl Loaded {
    /// Whether this project's program has that name.
    pub fn is_ours(&self) -> bool {
        self.name == names::PROGRAM
    }
}

impl PassProgram {
    /// Loads it.
    pub fn load() -> io::Result<Self> {
        // r0 = XDP_PASS; exit
        let code = [instruction(0xb7, 2), instruction(0x95, 0)];
        load("sekisho_try", &code).map(Self)
    }

    /// Puts it into the driver of an interface, until the returned value goes. A program that is
    /// there already stays untouched: then the kernel refuses with EBUSY.
    pub fn attach(&self, interface: u32) -> io::Result<Held> {
        attach(self.as_fd(), interface).map(|link| Held { _link: link })
    }
}

impl AsFd for PassProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Loads an XDP program that takes frames of several buffers. Its name is cut to 15 bytes.
pub fn load(name: &str, code: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: this arm of the union is the one that BPF_PROG_LOAD reads; the instructions and the
    // licence outlive the call.
    unsafe {
        let load = &mut attr.__bindgen_anon_3;
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
        load.expected_attach_type = bpf_attach_type::BPF_XDP as u32;
        load.prog_flags = HAS_FRAGS;
        load.insns = code.as_ptr() as u64;
        load.insn_cnt = code.len() as u32;
        load.license = c"MIT".as_ptr() as u64;
        for (to, from) in load.prog_name.iter_mut().take(LONGEST_NAME).zip(name.bytes()) {
            *to = from as _;
        }
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Puts a program into the driver of an interface; it stays as long as the link.
pub fn attach(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = interface;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = DRIVER_MODE;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

fn instruction(code: u8, immediate: i32) -> bpf_insn {
    // SAFETY: an instruction is made of plain integers.
    let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
    instruction.code = code;
    instruction.imm = immediate;
    instruction
}

/// Whether this kernel takes the program that comes with this build, with everything switched on; it
/// is attached to nothing. Gives how many instructions the verifier followed at most, where the
/// kernel tells; it gives up at a million.
pub fn load_own_program() -> Result<Option<u32>, DataplaneError> {
    kernel::try_load()
}

/// Who a program is, by its number.
pub fn program(id: u32) -> Loaded {
    let info = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    let name = info.and_then(|info| info.name_as_str().map(str::to_owned)).unwrap_or_default();
    let link = loaded_links()
        .filter_map(Result::ok)
        .find(|link| link.program_id() == id)
        .map(|link| link.id());
    Loaded { id, name, link }
}
