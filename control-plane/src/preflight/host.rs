//! Checks of the machine.

use super::{
    Row, Rows, Topic,
    facts::{Host, Trial},
};

/// Oldest kernel that the program is tested on.
const TESTED: (u32, u32) = (6, 1);
/// Oldest kernel that has all that the program uses: XDP on bonds (5.15).
const OLDEST: (u32, u32) = (5, 15);
/// Maps are charged to the memory cgroup instead of the limit of locked memory (5.11).
const CHARGES_CGROUPS: (u32, u32) = (5, 11);
/// Two images and the flow table at their defaults.
const NEEDED_MEMORY: u64 = 256 << 20;
const NEWER_KERNEL: &str = "apt-get install linux-image-amd64";

pub(super) fn check(host: &Host) -> Vec<Row> {
    let mut rows = Rows::about("host");
    rights(host, &mut rows);
    kernel(host, &mut rows);
    jit(host, &mut rows);
    if host.bpffs {
        rows.pass(Topic::Bpffs, "a bpffs is mounted on /sys/fs/bpf");
    } else {
        rows.warn(
            Topic::Bpffs,
            "no bpffs is mounted on /sys/fs/bpf; the daemon mounts one if it may",
            "mount -t bpf bpf /sys/fs/bpf",
        );
    }
    memlock(host, &mut rows);
    program(host, &mut rows);
    rows.rows
}

fn rights(host: &Host, rows: &mut Rows) {
    if host.privileged {
        rows.pass(Topic::Rights, "this process may load XDP programs");
    } else {
        rows.fail(
            Topic::Rights,
            "this process may not load XDP programs: what only a trial can tell is not known",
            "sudo sekisho preflight",
        );
    }
}

fn kernel(host: &Host, rows: &mut Rows) {
    let release = &host.kernel;
    match version(release) {
        Some(version) if version >= TESTED => {
            rows.pass(Topic::Kernel, format!("kernel {release} is 6.1 or later"));
        }
        Some(version) if version >= OLDEST => rows.warn(
            Topic::Kernel,
            format!("kernel {release} has what the program needs, but the oldest tested is 6.1"),
            NEWER_KERNEL,
        ),
        _ => rows.fail(
            Topic::Kernel,
            format!("kernel {release} is too old: XDP on bonds came with 5.15, 6.1 is tested"),
            NEWER_KERNEL,
        ),
    }
}

fn jit(host: &Host, rows: &mut Rows) {
    if host.jit == Some(0) {
        rows.fail(
            Topic::Jit,
            "the kernel interprets programs instead of compiling them, many times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        );
    } else {
        rows.pass(Topic::Jit, "the kernel compiles programs");
    }
}

fn memlock(host: &Host, rows: &mut Rows) {
    let charges_cgroups = version(&host.kernel).is_some_and(|version| version >= CHARGES_CGROUPS);
    match host.memlock {
        _ if charges_cgroups => rows.pass(
            Topic::Memlock,
            "maps count as memory of the control group, not against the limit of locked memory",
        ),
        Some(limit) if limit < NEEDED_MEMORY => rows.fail(
            Topic::Memlock,
            format!("{} MiB may be locked, {} are needed", limit >> 20, NEEDED_MEMORY >> 20),
            "ulimit -l unlimited",
        ),
        _ => rows.pass(Topic::Memlock, "enough memory may be locked"),
    }
}

fn program(host: &Host, rows: &mut Rows) {
    match &host.program {
        Trial::Taken => {
            let followed = host.verified.map_or_else(String::new, |verified| {
                format!(" (its verifier follows {verified} instructions of a million at most)")
            });
            rows.pass(
                Topic::Program,
                format!("the kernel takes the program with everything switched on{followed}"),
            );
        }
        Trial::Refused(reason) => rows.fail(
            Topic::Program,
            format!("the kernel does not take the program of this build: {reason}"),
            NEWER_KERNEL,
        ),
        Trial::NotTried(reason) => rows.warn(
            Topic::Program,
            format!("whether the kernel takes the program was not tried: {reason}"),
            "sudo sekisho preflight",
        ),
    }
}

/// Major and minor number of a kernel release.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
