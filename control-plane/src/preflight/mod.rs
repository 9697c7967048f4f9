//! Whether a machine and its interfaces are fit to block on, before anything is attached for good.
//!
//! [`gather`] asks the kernel; [`check`] turns what it says into rows, each with a sentence and, if
//! something is to be done, the command that does it.

mod bond;
pub mod facts;
mod host;
mod link;
mod netdev;
mod netlink;
mod offload;
mod outlet;
mod wire;

mod gather;

use serde::Serialize;

use self::facts::Facts;
pub use self::gather::gather;

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All is well.
    Pass,
    /// It works, but not as well as it could.
    Warn,
    /// It does not work, or not safely.
    Fail,
}

impl Outcome {
    /// As the rows have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Whether this process may find out.
    Rights,
    /// Version of the kernel.
    Kernel,
    /// The compiler for programs in the kernel.
    Jit,
    /// The file system of pins.
    Bpffs,
    /// The limit of locked memory.
    Memlock,
    /// Whether the kernel takes the program.
    Program,
    /// Whether the interface exists, and of which kind it is.
    Interface,
    /// Whether it is up and has a carrier.
    State,
    /// The bond, bridge or team that it belongs to.
    Master,
    /// The bond's mode and hash policy.
    Bond,
    /// Another XDP program on it.
    XdpProgram,
    /// XDP in the driver.
    NativeXdp,
    /// Longest packet.
    Mtu,
    /// Receive queues against CPUs.
    Queues,
    /// Frames whose first buffer is empty.
    FirstBuffer,
    /// VLAN tags that the NIC strips.
    VlanOffload,
    /// Packets that the NIC merges.
    Lro,
    /// Two ports as a wire.
    Wire,
    /// Frames that are sent out of it by a program.
    Outlet,
}

impl Topic {
    /// As the rows have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rights => "rights",
            Self::Kernel => "kernel",
            Self::Jit => "jit",
            Self::Bpffs => "bpffs",
            Self::Memlock => "memlock",
            Self::Program => "program",
            Self::Interface => "interface",
            Self::State => "state",
            Self::Master => "master",
            Self::Bond => "bond",
            Self::XdpProgram => "xdp-program",
            Self::NativeXdp => "native-xdp",
            Self::Mtu => "mtu",
            Self::Queues => "queues",
            Self::FirstBuffer => "first-buffer",
            Self::VlanOffload => "vlan-offload",
            Self::Lro => "lro",
            Self::Wire => "wire",
            Self::Outlet => "outlet",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The interface, `A=B` for a wire, or `host`.
    pub about: String,
    /// Which check.
    pub check: Topic,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, in a sentence.
    pub text: String,
    /// The command that mends it.
    pub command: Option<String>,
}

/// Rows about one subject.
#[derive(Debug)]
struct Rows {
    about: String,
    rows: Vec<Row>,
}

impl Rows {
    fn about(subject: impl Into<String>) -> Self {
        Self { about: subject.into(), rows: Vec::new() }
    }

    fn pass(&mut self, check: Topic, text: impl Into<String>) {
        self.push(check, Outcome::Pass, text.into(), None);
    }

    fn warn(&mut self, check: Topic, text: impl Into<String>, command: impl Into<String>) {
        self.push(check, Outcome::Warn, text.into(), Some(command.into()));
    }

    fn fail(&mut self, check: Topic, text: impl Into<String>, command: impl Into<String>) {
        self.push(check, Outcome::Fail, text.into(), Some(command.into()));
    }

    fn push(&mut self, check: Topic, outcome: Outcome, text: String, command: Option<String>) {
        self.rows.push(Row { about: self.about.clone(), check, outcome, text, command });
    }
}

/// Every check, in the order in which things are to be mended.
pub fn check(facts: &Facts) -> Vec<Row> {
    let mut rows = host::check(&facts.host);
    for port in &facts.ports {
        let wired = facts.wires.iter().any(|(a, b)| *a == port.name || *b == port.name);
        rows.extend(link::check(port, &facts.host, wired));
    }
    for (a, b) in &facts.wires {
        rows.extend(wire::check(facts, a, b));
    }
    rows.extend(facts.sinkhole.iter().flat_map(outlet::sinkhole));
    rows
}

/// What has to be told whenever the daemon starts: what fails, and what has frames lost or slowed down
/// although all else works.
pub fn faults(facts: &Facts) -> Vec<Row> {
    let of_a_wire = |row: &Row| facts.wires.iter().any(|(a, b)| row.about == wire::name(a, b));
    let mut rows = check(facts);
    rows.retain(|row| match (row.outcome, row.check) {
        (Outcome::Pass, _) => false,
        (Outcome::Warn, Topic::Mtu) => of_a_wire(row),
        (Outcome::Warn, check) => check == Topic::FirstBuffer,
        (Outcome::Fail, _) => true,
    });
    rows
}

/// Whether nothing fails.
pub fn is_fit(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.outcome != Outcome::Fail)
}

#[cfg(test)]
mod tests;
