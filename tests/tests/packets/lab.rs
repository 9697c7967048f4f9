//! A dataplane in a network namespace of its own, and cases that it is tried on.

use std::{cell::RefCell, path::PathBuf, process::Command, time::Duration};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Dataplane, FlowRow,
    kernel::{Attach, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    image::Image,
    reason::{Reason, Verdict},
    record::{Forwarding, Mode, Modes, Role},
};
use sekisho_tests::site::HostSite;

use crate::world::{CAPACITY, Setup, ruleset};

pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// The generation of the ruleset that a lab begins with.
pub(crate) const GENERATION: u32 = 7;

/// One sentence about one frame.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) sentence: String,
    /// The role of the interface that it arrives on.
    pub(crate) role: Role,
    pub(crate) frame: Vec<u8>,
    /// The reason, and with it the verdict, in enforcement.
    pub(crate) reason: Reason,
    /// The frame that it is answered or diverted with, where the case is about that.
    pub(crate) becomes: Option<Vec<u8>>,
}

impl Case {
    pub(crate) fn new(
        role: Role,
        sentence: impl Into<String>,
        frame: Vec<u8>,
        reason: Reason,
    ) -> Self {
        Self { sentence: sentence.into(), role, frame, reason, becomes: None }
    }

    /// On an interface towards subscribers.
    pub(crate) fn outbound(sentence: impl Into<String>, frame: Vec<u8>, reason: Reason) -> Self {
        Self::new(Role::Subscriber, sentence, frame, reason)
    }

    /// On an interface towards the Internet.
    pub(crate) fn inbound(sentence: impl Into<String>, frame: Vec<u8>, reason: Reason) -> Self {
        Self::new(Role::Uplink, sentence, frame, reason)
    }

    pub(crate) fn becoming(self, frame: Vec<u8>) -> Self {
        Self { becomes: Some(frame), ..self }
    }
}

/// A dataplane in a network namespace of its own.
pub(crate) struct Lab {
    pub(crate) dataplane: KernelDataplane,
    pub(crate) image: Image,
    ports: Vec<Port>,
    counted: RefCell<Vec<Counts>>,
    /// Dropped last, when the dataplane has let go of its pins.
    _pins: Pins,
}

/// Packets by reason.
pub(crate) type Counts = [u64; Reason::COUNT];

pub(crate) struct Port {
    pub(crate) interface: String,
    pub(crate) site: HostSite,
}

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let detached = detach(&self.0);
        // Of two failures the first is the one to be told.
        if !std::thread::panicking() {
            detached.expect("a dataplane can be detached");
            assert!(!self.0.exists(), "no pin stays behind");
        }
    }
}

impl Lab {
    /// With everything on, and an interface of each role.
    pub(crate) fn new(name: &str) -> Self {
        Self::of(name, &Setup::all_roles())
    }

    /// With the interfaces and settings of a setup.
    pub(crate) fn of(name: &str, setup: &Setup) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads an XDP program and needs root");
        // Each test has a thread of its own, and with it a namespace of its own.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let pair = ["link", "add", "uplink", "type", "veth", "peer", "name", "both"];
        let status = Command::new("ip").args(pair).status().expect("ip runs");
        assert!(status.success(), "ip cannot make a veth pair");
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let pins = Pins(pin_dir.clone());
        let settings = Settings {
            flow_table_entries: 1024,
            attach: Attach::Generic,
            unwrapped: setup.unwrapped,
            embedding: setup.embedding,
            infrastructure: setup.infrastructure,
            sinkhole: setup.sinkhole.clone(),
            ..Settings::new(pin_dir, CAPACITY)
        };
        let dataplane = KernelDataplane::start(&settings, &setup.ports).expect("the program loads");
        let image = ruleset(GENERATION);
        dataplane.publish(&image).expect("the image is published");
        dataplane.set_opt_outs(&setup.opt_outs).expect("the opt-outs are set");
        dataplane.renew_lease(Duration::from_secs(3600)).expect("the lease is renewed");
        let port = |port: &sekisho::dataplane::kernel::Guarded| Port {
            interface: port.interface.clone(),
            site: setup.site(port),
        };
        let ports: Vec<Port> = setup.ports.iter().map(port).collect();
        let counted = RefCell::new(vec![[0; Reason::COUNT]; ports.len()]);
        Self { dataplane, image, ports, counted, _pins: pins }
    }

    /// The first interface of a role, and the row of its counters.
    pub(crate) fn port(&self, role: Role) -> (usize, &Port) {
        let of_role = |(_, port): &(usize, &Port)| port.site.role == role;
        self.ports.iter().enumerate().find(of_role).expect("an interface of this role")
    }

    /// What was counted since the last time, by interface.
    pub(crate) fn newly_counted(&self) -> Vec<Counts> {
        let counts = self.dataplane.counts().expect("counters can be read");
        let now: Vec<Counts> =
            counts.iter().map(|port| port.by_reason.map(|count| count.packets)).collect();
        let before = self.counted.replace(now.clone());
        let since =
            |(now, before): (&Counts, &Counts)| std::array::from_fn(|at| now[at] - before[at]);
        now.iter().zip(&before).map(since).collect()
    }

    /// What the kernel makes of a frame: the action, the frame as it is left, and the one reason
    /// whose counter rose by one.
    pub(crate) fn judge(&self, role: Role, frame: &[u8]) -> (u32, Vec<u8>, Reason) {
        let (row, port) = self.port(role);
        let (action, left) =
            self.dataplane.rewrite(&port.interface, frame).expect("the program runs");
        let counts = self.newly_counted();
        let all: u64 = counts.iter().flatten().sum();
        assert_eq!(all, 1, "one packet is counted once");
        let of_port = counts.get(row).expect("a row for each interface");
        let reason = Reason::ALL.into_iter().find(|reason| of_port[*reason as usize] == 1);
        (action, left, reason.expect("it is counted for the interface that it came from"))
    }

    /// Tries a case in the kernel and on the host.
    pub(crate) fn check(&self, case: &Case) {
        let Case { sentence, role, frame, reason, becomes } = case;
        let (_, port) = self.port(*role);
        let (action, left, found) = self.judge(*role, frame);
        assert_eq!(found, *reason, "{sentence} ({role:?}): {frame:02x?}");
        assert_eq!(action, action_of(*reason, port.site.forwarding), "{sentence} ({role:?})");
        match reason.verdict() {
            Verdict::Pass | Verdict::Drop => {
                assert_eq!(left, *frame, "left as it was: {sentence} ({role:?})");
                let again = self.judge(*role, frame);
                let first = (action, left, found);
                assert_eq!(again, first, "its flow is known now: {sentence} ({role:?})");
            }
            Verdict::Reject | Verdict::Sinkhole => {
                let becomes = becomes.as_ref().unwrap_or(&left);
                assert_eq!(hex(&left), hex(becomes), "{sentence} ({role:?})");
            }
        }
        let (on_host, _) = port.site.judge(frame, &self.image);
        if let Some(in_short) = port.site.judge_in_short(frame, &self.image) {
            assert_eq!(in_short, on_host, "by the short way: {sentence}");
        }
        assert_eq!(on_host, *reason, "on the host: {sentence} ({role:?})");
    }

    pub(crate) fn check_all(&self, cases: &[Case]) {
        // What was counted before belongs to no case.
        self.newly_counted();
        for case in cases {
            self.check(case);
        }
    }

    /// Sets the global mode.
    pub(crate) fn switch(&self, mode: Mode) {
        let set = &mut |modes: &mut Modes| modes.global = mode as u8;
        self.dataplane.change_modes(set).expect("the mode can be set");
    }

    pub(crate) fn drained(&self) -> Vec<FlowRow> {
        let drained = self.dataplane.drain().expect("flows can be drained");
        self.dataplane.settle(drained.id).expect("a drain can be settled");
        drained.rows
    }
}

/// What XDP is told where this is the reason and a frame that passes is forwarded like this.
pub(crate) fn action_of(reason: Reason, forwarding: Forwarding) -> u32 {
    match (reason.verdict(), forwarding) {
        (Verdict::Pass, Forwarding::Kernel) => XDP_PASS,
        (Verdict::Pass, Forwarding::Wire) => XDP_REDIRECT,
        (Verdict::Pass, Forwarding::Tap) | (Verdict::Drop, _) => XDP_DROP,
        (Verdict::Reject, _) => XDP_TX,
        (Verdict::Sinkhole, _) => XDP_REDIRECT,
    }
}

/// Tells a figure of this kernel, in the words that `tests/kernels/run` makes a table of.
pub(crate) fn report(name: &str, value: impl std::fmt::Display) {
    println!("reported: {name} = {value}");
}

/// Bytes that a failed comparison can be read in.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}
