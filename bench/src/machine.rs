//! Where and when a run took place: a figure without these means nothing.

use std::{fs, process::Command};

use serde::Serialize;

/// The machine and the run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Cache sizes of the first processor, as level, type and size.
    pub caches: Vec<String>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Version of the kernel.
    pub kernel: String,
    /// Frequency governor, where there is one to read.
    pub governor: Option<String>,
    /// The hypervisor's mark, on a virtual machine.
    pub is_virtual: bool,
    /// Load average over the last minute when the run began: other work on the machine.
    pub load_at_start: Option<f64>,
    /// The same when it ended, this run's own work included.
    pub load_at_end: Option<f64>,
    /// Commit of the checkout.
    pub commit: Option<String>,
    /// Whether the checkout had changes beyond that commit.
    pub is_modified: Option<bool>,
    /// When the run began, UTC.
    pub date: Option<String>,
    /// How to do it again.
    pub command: String,
    /// How long the run took.
    pub seconds: f64,
}

impl Machine {
    /// What can be found out.
    pub fn look(command: String) -> Self {
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = read("/proc/meminfo")
            .and_then(|text| text.lines().next()?.split_whitespace().nth(1)?.parse::<u64>().ok());
        Self {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            caches: caches(),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            is_virtual: field("flags").is_some_and(|flags| flags.contains(" hypervisor")),
            load_at_start: load(),
            load_at_end: None,
            commit: answer("git", &["rev-parse", "HEAD"]),
            is_modified: answer("git", &["status", "--porcelain", "--untracked-files=no"])
                .map(|changes| !changes.is_empty()),
            date: answer("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            command,
            seconds: 0.0,
        }
    }
}

/// Load average over the last minute.
pub fn load() -> Option<f64> {
    read("/proc/loadavg")?.split_whitespace().next()?.parse().ok()
}

fn caches() -> Vec<String> {
    let property = |index: u32, name: &str| {
        read(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"))
    };
    let cache = |index| {
        let (level, kind) = (property(index, "level")?, property(index, "type")?);
        Some(format!("L{level} {} {}", kind.to_lowercase(), property(index, "size")?))
    };
    (0..8).map_while(cache).collect()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
