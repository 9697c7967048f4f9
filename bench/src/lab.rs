//! A network namespace with a cable in it, and the dataplane on one end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, sched_setaffinity, unshare},
    unistd::Pid,
};
use sekisho::dataplane::{
    Dataplane as _, Drained, FlowRow, PortCounts,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    ABI_VERSION,
    image::Image,
    reason::Reason,
    record::{Mode, Role},
};

use crate::tracer::Target;

/// The end of the cable that packets are sent into.
pub const SENDER: &str = "bench0";
/// The end where they come out and are judged.
pub const RECEIVER: &str = "bench1";
/// Hardware address of the receiver.
pub const RECEIVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

const BPFFS: &str = "/sys/fs/bpf";
const PREFIX: &str = "sekisho-bench-";

/// Moves this process into a network namespace of its own, with a cable, on one processor.
///
/// To be called before any other thread is started.
pub fn enter() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "loading BPF programs needs root");
    remove_leftovers();
    unshare(CloneFlags::CLONE_NEWNET).context("create a network namespace")?;
    // No neighbour discovery between the packets that are counted.
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
        .context("switch IPv6 autoconfiguration off")?;
    let mac = RECEIVER_MAC.map(|byte| format!("{byte:02x}")).join(":");
    ip(&["link", "add", SENDER, "type", "veth", "peer", "name", RECEIVER, "address", &mac])?;
    for interface in ["lo", SENDER, RECEIVER] {
        ip(&["link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Keeps this thread on the last of its processors, where the rest of the machine interferes least.
pub fn stay_on_one_processor() -> Result<usize> {
    let this = Pid::from_raw(0);
    let mut allowed = nix::sched::sched_getaffinity(this)?;
    let last = (0..nix::sched::CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .context("no processor")?;
    allowed = nix::sched::CpuSet::new();
    allowed.set(last)?;
    sched_setaffinity(this, &allowed)?;
    Ok(last)
}

/// Lets this thread run wherever there is room.
pub fn use_all_processors() -> Result<()> {
    let mut all = nix::sched::CpuSet::new();
    for cpu in 0..nix::sched::CpuSet::count() {
        all.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &all)?)
}

/// Index of an interface of the namespace.
pub fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).with_context(|| format!("interface {interface}"))
}

/// Runs `ip`.
pub fn ip(arguments: &[&str]) -> Result<()> {
    run("ip", arguments).map(drop)
}

/// Runs a program; what it printed, or what went wrong.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word");
        bail!("{program} {}: {}", arguments.join(" "), last.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The product's dataplane on the receiving end.
pub struct Guard {
    dataplane: KernelDataplane,
    capacity: usize,
    /// Dropped last, when the dataplane has let go of its pins.
    pins: Pins,
}

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

impl Guard {
    /// Loads and attaches it, in enforce mode, with room for so much.
    pub fn start(capacity: usize, flow_table_entries: u32) -> Result<Self> {
        let pin_dir = Path::new(BPFFS).join(format!("{PREFIX}{}", std::process::id()));
        let pins = Pins(pin_dir.clone());
        let settings = Settings {
            flow_table_entries,
            attach: Attach::Native,
            ..Settings::new(pin_dir, capacity)
        };
        let port = Guarded::routed(RECEIVER, Role::Subscriber);
        let dataplane = KernelDataplane::start(&settings, &[port])?;
        dataplane.renew_lease(Duration::from_secs(24 * 3600))?;
        Ok(Self { dataplane, capacity, pins })
    }

    /// The dataplane itself.
    pub const fn dataplane(&self) -> &KernelDataplane {
        &self.dataplane
    }

    /// Takes every flow row out of the kernel.
    pub fn drain(&self) -> Result<Vec<FlowRow>> {
        let Drained { id, rows } = self.dataplane.drain()?;
        self.dataplane.settle(id)?;
        Ok(rows)
    }

    /// The program that judges packets, to run it on packets of a trace.
    pub fn program(&self) -> Result<Target> {
        Ok(self.dataplane.program(RECEIVER)?)
    }

    /// Where the live ruleset is pinned, and how large it can be.
    pub fn ruleset(&self) -> (PathBuf, usize) {
        let pin = format!("abi{ABI_VERSION}/ruleset-{}", self.capacity);
        (self.pins.0.join(pin), self.capacity)
    }

    /// Makes an image live.
    pub fn publish(&self, image: &Image) -> Result<()> {
        Ok(self.dataplane.publish(image)?)
    }

    /// Sets the mode of everything.
    pub fn set_mode(&self, mode: Mode) -> Result<()> {
        Ok(self.dataplane.change_modes(&mut |modes| modes.global = mode as u8).map(drop)?)
    }

    /// Packets by reason so far.
    pub fn counts(&self) -> Result<PortCounts> {
        self.dataplane.counts()?.pop().context("no interface is guarded")
    }

    /// Fails unless the packets since `before` all had this reason and were this many.
    pub fn expect(&self, before: &PortCounts, reason: Reason, packets: u64) -> Result<()> {
        let now = self.counts()?;
        for other in Reason::ALL {
            let counted =
                now.by_reason[other as usize].packets - before.by_reason[other as usize].packets;
            let expected = if other == reason { packets } else { 0 };
            ensure!(
                counted == expected,
                "{counted} packets were counted as {}, {expected} expected",
                other.as_str()
            );
        }
        Ok(())
    }
}

/// Removes the pins of runs that were killed.
fn remove_leftovers() {
    let Ok(pins) = fs::read_dir(BPFFS) else { return };
    for pin in pins.flatten() {
        let name = pin.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if !Path::new("/proc").join(pid).exists()
            && let Err(error) = detach(&pin.path())
        {
            eprintln!("{}: {error}", pin.path().display());
        }
    }
}
