//! The few BPF system calls that aya does not offer: maps of a size known only at run time, and
//! reading and writing values without copying them through the kernel.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    ptr::NonNull,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_info, bpf_map_type};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::FromBytes;

use super::objects;

/// User space may map the value, `BPF_F_MMAPABLE` of linux/bpf.h.
const MMAPABLE: u32 = 1 << 10;

pub(super) fn zeroed_attr() -> bpf_attr {
    // SAFETY: `bpf_attr` is a union of plain integers; the kernel wants unused bytes to be zero.
    unsafe { std::mem::zeroed() }
}

pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<u32> {
    // SAFETY: `attr` is valid for its size for the time of the call; what it points to is the
    // caller's word, given in the functions below.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub(super) fn owned(fd: u32) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn create_map(
    map_type: bpf_map_type,
    name: &str,
    [key_size, value_size, entries]: [u32; 3],
    flags: u32,
    inner: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: this arm of the union is the one that BPF_MAP_CREATE reads.
    let create = unsafe { &mut attr.__bindgen_anon_1 };
    create.map_type = map_type as u32;
    create.key_size = key_size;
    create.value_size = value_size;
    create.max_entries = entries;
    create.map_flags = flags;
    create.inner_map_fd = inner.map_or(0, |fd| fd.as_raw_fd() as u32);
    for (to, from) in create.map_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from as _;
    }
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)
}

/// An array map whose single value of `bytes` can be mapped into this process.
pub(super) fn create_image_map(bytes: usize) -> io::Result<OwnedFd> {
    let bytes = u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    create_map(bpf_map_type::BPF_MAP_TYPE_ARRAY, "sekisho_image", [4, bytes, 1], MMAPABLE, None)
}

/// An array map with a single value of `bytes`.
pub(super) fn create_value(name: &str, bytes: usize) -> io::Result<OwnedFd> {
    let bytes = u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    create_map(bpf_map_type::BPF_MAP_TYPE_ARRAY, name, [4, bytes, 1], 0, None)
}

/// A hash table with as many rows.
pub(super) fn create_hash(
    name: &str,
    key_size: u32,
    value_size: u32,
    entries: u32,
) -> io::Result<OwnedFd> {
    let sizes = [key_size, value_size, entries];
    create_map(bpf_map_type::BPF_MAP_TYPE_HASH, name, sizes, 0, None)
}

/// An array of one map, of the same shape as `inner`.
pub(super) fn create_slot(inner: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    create_map(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, "RULESET", [4, 4, 1], 0, Some(inner))
}

/// Puts a map into the slot.
///
/// Returns only when no program runs any more that may have seen what was there before: the kernel
/// waits for a grace period whenever a map in a map is replaced (since 5.0).
pub(super) fn replace(slot: BorrowedFd<'_>, inner: BorrowedFd<'_>) -> io::Result<()> {
    let key = 0_u32;
    let value = inner.as_raw_fd();
    let mut attr = zeroed_attr();
    // SAFETY: this arm is the one that BPF_MAP_UPDATE_ELEM reads; key and value outlive the call.
    unsafe {
        let update = &mut attr.__bindgen_anon_2;
        update.map_fd = slot.as_raw_fd() as u32;
        update.key = std::ptr::from_ref(&key) as u64;
        update.__bindgen_anon_1.value = std::ptr::from_ref(&value) as u64;
    }
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// The map in the slot; `None` while it is empty.
pub(super) fn inside(slot: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let key = 0_u32;
    let mut id = 0_u32;
    let mut attr = zeroed_attr();
    // SAFETY: as in `replace`; the kernel writes the four bytes of the map's id.
    unsafe {
        let lookup = &mut attr.__bindgen_anon_2;
        lookup.map_fd = slot.as_raw_fd() as u32;
        lookup.key = std::ptr::from_ref(&key) as u64;
        lookup.__bindgen_anon_1.value = std::ptr::from_mut(&mut id) as u64;
    }
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        other => other?,
    };
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
    bpf(bpf_cmd::BPF_MAP_GET_FD_BY_ID, &mut attr).map(|fd| Some(owned(fd)))
}

/// The only value of a pinned array map, however many bytes it has.
pub(super) struct OnlyValue {
    map: OwnedFd,
    bytes: usize,
}

impl OnlyValue {
    pub(super) fn open(pin: &Path) -> io::Result<Self> {
        let map = objects::open(pin)?;
        // SAFETY: `bpf_map_info` is made of plain integers.
        let mut info: bpf_map_info = unsafe { std::mem::zeroed() };
        let mut attr = zeroed_attr();
        attr.info.bpf_fd = map.as_raw_fd() as u32;
        attr.info.info = std::ptr::from_mut(&mut info) as u64;
        attr.info.info_len = size_of::<bpf_map_info>() as u32;
        bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
        if info.type_ != bpf_map_type::BPF_MAP_TYPE_ARRAY as u32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no array map"));
        }
        Ok(Self { map, bytes: info.value_size as usize })
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut value = vec![0; self.bytes];
        self.call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, value.as_mut_ptr() as u64)?;
        Ok(value)
    }

    /// Writes a value that has as many bytes.
    pub(super) fn write(&self, value: &[u8]) -> io::Result<()> {
        if value.len() != self.bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.call(bpf_cmd::BPF_MAP_UPDATE_ELEM, value.as_ptr() as u64)
    }

    /// `value` points to as many bytes as a value of this array map has.
    fn call(&self, command: bpf_cmd, value: u64) -> io::Result<()> {
        let key = 0_u32;
        let mut attr = zeroed_attr();
        // SAFETY: as in `replace`.
        unsafe {
            let element = &mut attr.__bindgen_anon_2;
            element.map_fd = self.map.as_raw_fd() as u32;
            element.key = std::ptr::from_ref(&key) as u64;
            element.__bindgen_anon_1.value = value;
        }
        bpf(command, &mut attr).map(drop)
    }
}

/// Forbids user space to change the map from now on; the image in force is immutable.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// Runs an XDP program once on a frame that is sent nowhere; gives its action.
pub(super) fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let mut attr = zeroed_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    attr.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: this arm is the one that the command writes its result to.
    Ok(unsafe { attr.test.retval })
}

/// Index of the interface that a pinned XDP link sits on; 0 if that interface is gone.
pub(super) fn interface_of_link(pin: &Path) -> io::Result<u32> {
    let link = objects::open(pin)?;
    objects::link(link.as_fd()).map(|facts| facts.interface)
}

/// The value of an image map in this process's memory.
pub(super) struct Mapping {
    start: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

// SAFETY: the mapping is owned, and its memory is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the memory can only be read, and who maps it sees to it that
// nobody writes there meanwhile: an image in force is frozen, a side that is read is quiet.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of the map's value, for reading only.
    pub(super) fn read_only(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        Self::new(map, 0, length, ProtFlags::PROT_READ)
    }

    /// Maps `length` bytes of the map's values from an offset on, a multiple of the page size, for
    /// reading and writing.
    pub(super) fn writable(map: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<Self> {
        Self::new(map, offset, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    fn new(
        map: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        protection: ProtFlags,
    ) -> io::Result<Self> {
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, offset) }?;
        Ok(Self { start, length })
    }

    /// The record at a byte offset that is a multiple of its alignment; `None` outside of the mapping.
    pub(super) fn read<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let record = self.record::<T>(offset)?;
        // SAFETY: it lies inside the mapping and any bits make one; volatile, as programs of the
        // kernel write there at other times.
        Some(unsafe { record.as_ptr().read_volatile() })
    }

    /// Makes the record at a byte offset zero.
    pub(super) fn clear<T: FromBytes>(&mut self, offset: usize) {
        if let Some(record) = self.record::<T>(offset) {
            // SAFETY: as in `read`, and the mapping is writable where this is called.
            unsafe { record.as_ptr().write_volatile(T::new_zeroed()) };
        }
    }

    fn record<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        let fits = end <= self.length.get() && offset.is_multiple_of(align_of::<T>());
        // SAFETY: it lies inside the mapping, which begins at a page.
        fits.then(|| unsafe { self.start.byte_add(offset) }.cast())
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping covers `length` bytes and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and no reference outlives `self`.
        if let Err(error) = unsafe { munmap(self.start, self.length.get()) } {
            tracing::debug!(%error, "cannot unmap an image");
        }
    }
}

/// Writes `bytes` to the beginning of the map's value.
pub(super) fn fill(map: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let mapping = Mapping::writable(map, 0, bytes.len())?;
    // SAFETY: the mapping has `bytes.len()` writable bytes and nobody else knows the map yet.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.start.as_ptr().cast(), bytes.len());
    }
    Ok(())
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock that the program's times are on.
pub fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
    })
}

/// A slot of its own, to wait for programs that run.
pub(super) struct GracePeriod {
    slot: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriod {
    pub(super) fn new() -> io::Result<Self> {
        let inner = create_image_map(8)?;
        let slot = create_slot(inner.as_fd())?;
        Ok(Self { slot, inner })
    }

    /// Returns when every program that was running at the call has ended.
    pub(super) fn wait(&self) -> io::Result<()> {
        replace(self.slot.as_fd(), self.inner.as_fd())
    }
}
