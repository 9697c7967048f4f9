//! A network namespace with cables in it, and the dataplane on their ends.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv6Net;
use nix::{
    sched::{CloneFlags, sched_setaffinity, unshare},
    unistd::Pid,
};
use sekisho::dataplane::{
    Dataplane as _, Drained, PortCounts,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    ABI_VERSION,
    image::Image,
    prefix::{Prefix, Prefixes},
    reason::Reason,
    record::{Forwarding, Mode, Role},
};

use crate::tracer::Target;

/// Hardware address of every receiving end.
pub const RECEIVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

const BPFFS: &str = "/sys/fs/bpf";
const PREFIX: &str = "sekisho-bench-";

/// Moves this process into a network namespace of its own, on one processor.
///
/// To be called before any other thread is started.
pub fn enter() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "loading BPF programs needs root");
    remove_leftovers();
    unshare(CloneFlags::CLONE_NEWNET).context("create a network namespace")?;
    // No neighbour discovery between the packets that are counted.
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
        .context("switch IPv6 autoconfiguration off")?;
    ip(&["link", "set", "lo", "up"])
}

/// A cable of the namespace: what goes into one end comes out of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cable {
    /// The end that packets are sent into.
    pub near: String,
    /// The end where they come out.
    pub far: String,
}

/// The number of the next cable that carries nothing.
static BERTHS: AtomicUsize = AtomicUsize::new(1_000);

impl Cable {
    /// A cable that carries nothing, for a program to sit on.
    pub fn berth() -> Result<Self> {
        Self::lay(BERTHS.fetch_add(1, Ordering::Relaxed))
    }

    /// The cable of this number, laid unless it is there.
    pub fn lay(number: usize) -> Result<Self> {
        let cable = Self { near: format!("near{number}"), far: format!("far{number}") };
        if index(&cable.near).is_err() {
            let mac = RECEIVER_MAC.map(|byte| format!("{byte:02x}")).join(":");
            let (near, far) = (cable.near.as_str(), cable.far.as_str());
            ip(&["link", "add", near, "type", "veth", "peer", "name", far, "address", &mac])?;
            ip(&["link", "set", near, "up"])?;
            ip(&["link", "set", far, "up"])?;
        }
        Ok(cable)
    }
}

/// What an interface says of the frames that came in.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Those that it took.
    pub packets: u64,
    /// Those that it had no room for.
    pub dropped: u64,
}

impl Received {
    /// What an interface has received so far.
    pub fn of(interface: &str) -> Result<Self> {
        let text = fs::read_to_string("/proc/thread-self/net/dev")?;
        let of_interface = |line: &str| {
            let (name, counters) = line.split_once(':')?;
            let mut counters = counters.split_whitespace().map(str::parse);
            // Bytes, packets, errors, dropped, as proc_pid_net(5) says.
            let (packets, dropped) = (counters.nth(1)?.ok()?, counters.nth(1)?.ok()?);
            (name.trim() == interface).then_some(Self { packets, dropped })
        };
        let found = text.lines().find_map(of_interface);
        found.with_context(|| format!("no statistics of {interface}"))
    }

    /// What it has received once so many packets more than these have come or are lost; the last
    /// ones may still be on their way when the generator is done.
    pub fn await_more(self, interface: &str, packets: u64) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let now = Self::of(interface)?;
            let more =
                Self { packets: now.packets - self.packets, dropped: now.dropped - self.dropped };
            if more.packets + more.dropped >= packets || Instant::now() > deadline {
                return Ok(more);
            }
        }
    }
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

/// The product's dataplane on one or more interfaces.
pub struct Guard {
    dataplane: KernelDataplane,
    /// The interface whose program is run, and whose counters are read.
    interface: String,
    capacity: usize,
    /// Dropped last, when the dataplane has let go of its pins.
    pins: Pins,
}

/// How much a dataplane holds.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of the ruleset.
    pub capacity: usize,
    /// Rows of each flow table.
    pub flow_table_entries: u32,
}

/// A folder of pins, which go when this does.
pub struct Pins(PathBuf);

impl Pins {
    /// One of this process, by this name.
    pub fn below(name: &str) -> Self {
        Self(Path::new(BPFFS).join(format!("{PREFIX}{}-{name}", std::process::id())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// What a provider with NAT64 and routers of its own has set: it costs every packet something.
fn prefixes(texts: [&str; 2]) -> Result<Prefixes> {
    let mut all = Vec::new();
    for text in texts {
        let net: Ipv6Net = text.parse()?;
        let bits = net.addr().to_bits();
        all.push(Prefix::new((bits >> 64) as u64, bits as u64, net.prefix_len()));
    }
    Prefixes::of(&all).context("too many prefixes")
}

impl Guard {
    /// Loads and attaches it, in enforce mode, to the far end of a cable.
    pub fn start(room: Room, cable: &Cable) -> Result<Self> {
        Self::start_on(room, &[Guarded::routed(&cable.far, Role::Subscriber)])
    }

    /// The same as a bump in the wire between the far end of one cable and the near end of another.
    pub fn start_wire(room: Room, subscribers: &Cable, uplink: &Cable) -> Result<Self> {
        let end = |interface: &str, role, peer: &str| Guarded {
            forwarding: Forwarding::Wire,
            peer: Some(peer.to_owned()),
            ..Guarded::routed(interface, role)
        };
        let ends = [
            end(&subscribers.far, Role::Subscriber, &uplink.near),
            end(&uplink.near, Role::Uplink, &subscribers.far),
        ];
        Self::start_on(room, &ends)
    }

    fn start_on(room: Room, guarded: &[Guarded]) -> Result<Self> {
        let first = guarded.first().context("nothing to guard")?;
        let pins = Pins::below(&first.interface);
        let settings = Settings {
            flow_table_entries: room.flow_table_entries,
            attach: Attach::Native,
            embedding: prefixes(["64:ff9b::/96", "64:ff9b:1:fffe::/64"])?,
            infrastructure: prefixes(["::ffff:100.127.255.0/120", "2001:db8:ff::/48"])?,
            ..Settings::new(pins.path().to_owned(), room.capacity)
        };
        let dataplane = KernelDataplane::start(&settings, guarded)?;
        dataplane.renew_lease(Duration::from_secs(24 * 3600))?;
        Ok(Self { dataplane, interface: first.interface.clone(), capacity: room.capacity, pins })
    }

    /// The dataplane itself.
    pub const fn dataplane(&self) -> &KernelDataplane {
        &self.dataplane
    }

    /// The program that judges packets, to run it on packets of a trace.
    pub fn program(&self) -> Result<Target> {
        Ok(self.dataplane.program(&self.interface)?)
    }

    /// Where everything is pinned.
    pub fn pin_dir(&self) -> &Path {
        self.pins.path()
    }

    /// Where the live ruleset is pinned, and how large it can be.
    pub fn ruleset(&self) -> (PathBuf, usize) {
        let pin = format!("abi{ABI_VERSION}/ruleset-{}", self.capacity);
        (self.pins.0.join(pin), self.capacity)
    }

    /// Takes every row out of the ledger.
    pub fn settle(&self) -> Result<Settled> {
        let Drained { id, rows } = self.dataplane.drain()?;
        self.dataplane.settle(id)?;
        let in_rows = rows.iter().map(|row| row.totals.packets).sum();
        let overflow =
            self.dataplane.rule_totals()?.iter().map(|(_, totals)| totals.overflow.packets).sum();
        Ok(Settled { rows: rows.len(), in_rows, overflow })
    }

    /// Makes an image live.
    pub fn publish(&self, image: &Image) -> Result<()> {
        Ok(self.dataplane.publish(image)?)
    }

    /// Sets the mode of everything.
    pub fn set_mode(&self, mode: Mode) -> Result<()> {
        Ok(self.dataplane.change_modes(&mut |modes| modes.global = mode as u8).map(drop)?)
    }

    /// Packets by reason so far, on the interface that was named first.
    pub fn counts(&self) -> Result<PortCounts> {
        self.dataplane.counts()?.into_iter().next().context("no interface is guarded")
    }

    /// Packets since `before`, for each reason that any had.
    pub fn counted_since(&self, before: &PortCounts) -> Result<BTreeMap<Reason, u64>> {
        let now = self.counts()?;
        let since = |reason: Reason| {
            let at = reason as usize;
            now.by_reason[at].packets - before.by_reason[at].packets
        };
        let counted = Reason::ALL.into_iter().map(|reason| (reason, since(reason)));
        Ok(counted.filter(|(_, packets)| *packets > 0).collect())
    }

    /// Fails unless the packets since `before` all had this reason and were this many.
    pub fn expect(&self, before: &PortCounts, reason: Reason, packets: u64) -> Result<()> {
        let counted = self.counted_since(before)?;
        let is_expected = counted == BTreeMap::from([(reason, packets)]);
        ensure!(is_expected, "{packets} {reason:?} were expected, counted were {counted:?}");
        Ok(())
    }
}

/// What was in the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Rows, of which several may be of one flow.
    pub rows: usize,
    /// Packets that they hold.
    pub in_rows: u64,
    /// Packets that no row ever held, since the dataplane was started.
    pub overflow: u64,
}

/// Removes the pins of runs that were killed.
fn remove_leftovers() {
    let Ok(pins) = fs::read_dir(BPFFS) else { return };
    for pin in pins.flatten() {
        let name = pin.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let pid = pid.split('-').next().unwrap_or(pid);
        if !Path::new("/proc").join(pid).exists()
            && let Err(error) = detach(&pin.path())
        {
            eprintln!("{}: {error}", pin.path().display());
        }
    }
}
