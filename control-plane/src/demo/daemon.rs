//! The real daemon as a child process, and its API.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sekisho_abi::reason::Reason;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    lab::{ACCESS, Lab, UPLINK},
    netns::Resident,
    patience::Interrupt,
};
use crate::{
    config::{
        ApiConfig, Config, DataplaneConfig, InterfaceConfig, NeverBlockConfig, Role,
        SubscribersConfig,
    },
    feeds::http::install_tls,
};

/// Where the daemon answers inside the edge's namespace.
pub const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9320);
/// Longest that it may take to end when asked to.
const LONGEST_END: Duration = Duration::from_secs(20);
const LONGEST_ANSWER: Duration = Duration::from_secs(20);
/// Most hits on a page of the API.
const PAGE: u32 = 10_000;

/// A folder for one daemon: configuration, catalogue, subscribers, state, log, and its pins.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    pins: PathBuf,
}

impl Home {
    /// Uses a folder that exists; the pins are at `pins` on bpffs and go with this value.
    pub const fn new(folder: PathBuf, pins: PathBuf) -> Self {
        Self { folder, pins }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("sekisho.yaml")
    }

    /// The catalogue of feeds.
    pub fn catalogue(&self) -> PathBuf {
        self.folder.join("feeds.yaml")
    }

    /// What the daemon says.
    pub fn log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    /// Where last good lists and hits are.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where maps and links are pinned.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// What a daemon in the lab is configured to do.
    pub fn configuration(&self) -> anyhow::Result<Config> {
        Ok(Config {
            interfaces: vec![
                InterfaceConfig::routed(ACCESS, Role::Subscriber),
                InterfaceConfig::routed(UPLINK, Role::Uplink),
            ],
            mode: Default::default(),
            feeds: Some(self.catalogue()),
            policy: None,
            never_block: NeverBlockConfig::default(),
            state_dir: self.state(),
            list_lifetime: period("1h")?,
            heartbeat_lifetime: period("1h")?,
            drain_interval: period("1s")?,
            fetch: Default::default(),
            dataplane: DataplaneConfig { pin_dir: self.pins.clone(), ..Default::default() },
            subscribers: SubscribersConfig { csv: Some(self.folder.join("subscribers.csv")) },
            opt_outs: Default::default(),
            alerts: Default::default(),
            hits: Default::default(),
            history: Default::default(),
            api: ApiConfig { listen: API, ..ApiConfig::default() },
            log: Default::default(),
        })
    }

    /// Writes the configuration and who uses which address in the lab.
    pub fn furnish(&self, config: &Config, lab: &Lab) -> anyhow::Result<()> {
        let mut csv = String::from("prefix,subscriber,tenant,from,to\n");
        for line in &lab.lines {
            csv.push_str(&format!("{}/32,{},demo,,\n", line.v4, line.name));
            csv.push_str(&format!("{}/128,{},demo,,\n", line.v6, line.name));
        }
        fs::write(self.folder.join("subscribers.csv"), csv)?;
        let text = config.to_yaml().map_err(|error| anyhow!(error))?;
        fs::write(self.config(), text).context("cannot write the daemon's configuration")
    }

    /// The end of the daemon's log, for the report of a failure.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The last reference to a pinned link detaches the program.
        match fs::remove_dir_all(&self.pins) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("sekisho: {} stays behind: {error}", self.pins.display());
            }
            _ => {}
        }
    }
}

/// A length of time from its text.
pub fn period(text: &str) -> anyhow::Result<sekisho_rules::period::Period> {
    text.parse().map_err(|error: String| anyhow!(error))
}

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `program run -c CONFIG` in the edge's namespace; its output goes to the log.
    pub fn start(program: &Path, lab: &Lab, home: &Home) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(home.log())?;
        let errors = log.try_clone()?;
        // A child inherits the namespace of the thread that starts it.
        let child = lab.edge.inside(|| {
            Command::new(program)
                .arg("run")
                .arg("-c")
                .arg(home.config())
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors)
                .spawn_in_own_group()
                .with_context(|| format!("cannot start {}", program.display()))
        })?;
        Ok(Self { child })
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended by itself.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end and waits; kills it if it takes too long.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        let ended = Interrupt::default()
            .wait_for("the daemon to end", LONGEST_END, || Ok(self.child.try_wait()?));
        match ended {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error)
            }
        }
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("sekisho: the daemon did not end well: {error:#}");
        }
    }
}

trait OwnGroup {
    /// Starts it in a process group of its own, so that Ctrl-C reaches only whoever started it.
    fn spawn_in_own_group(&mut self) -> std::io::Result<Child>;
}

impl OwnGroup for Command {
    fn spawn_in_own_group(&mut self) -> std::io::Result<Child> {
        use std::os::unix::process::CommandExt as _;
        self.process_group(0).spawn()
    }
}

/// The daemon's API, asked from inside its namespace.
#[derive(Debug)]
pub struct Client {
    edge: Resident,
    http: reqwest::Client,
}

impl Client {
    /// Ready to ask.
    pub fn new(lab: &Lab) -> anyhow::Result<Self> {
        install_tls();
        let edge = Resident::start(&lab.edge, "api-client")?;
        // Connections that a killed daemon leaves behind are of no use to the next one.
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(LONGEST_ANSWER)
            .build()?;
        Ok(Self { edge, http })
    }

    /// The body at a path, whatever the status.
    pub fn text(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let request = self.http.get(format!("http://{API}{path}"));
        self.edge.run(async move {
            let response = request.send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        })
    }

    /// The answer at a path below `/api/v1`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let (status, body) = self.text(&format!("/api/v1/{path}"))?;
        if status != 200 {
            bail!("GET /api/v1/{path}: {status} {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("GET /api/v1/{path}: {body}"))
    }

    /// Every hit that is recorded.
    pub fn hits(&self) -> anyhow::Result<Vec<HitRow>> {
        let mut hits = Vec::new();
        let mut page: Page = self.get(&format!("hits?limit={PAGE}"))?;
        loop {
            hits.append(&mut page.hits);
            let Some(cursor) = page.next else { return Ok(hits) };
            page = self.get(&format!("hits?limit={PAGE}&cursor={cursor}"))?;
        }
    }

    /// Packets by interface and reason, without the daemon's own probes.
    pub fn counters(&self) -> anyhow::Result<Vec<Counter>> {
        let (status, text) = self.text("/metrics")?;
        if status != 200 {
            bail!("GET /metrics: {status} {text}");
        }
        let counters: Option<Vec<Counter>> = text
            .lines()
            .filter_map(|line| line.strip_prefix("sekisho_packets_total{"))
            .map(Counter::parse)
            .collect();
        let mut counters =
            counters.with_context(|| format!("unexpected lines in /metrics: {text}"))?;
        let is_probe = |reason: &Reason| reason.is_probe();
        let probes = || Reason::ALL.into_iter().filter(is_probe).map(Reason::as_str);
        counters.retain(|counter| probes().all(|probe| counter.reason != probe));
        Ok(counters)
    }
}

/// One packet counter of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The interface.
    pub interface: String,
    /// What became of the packets.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

impl Counter {
    /// Reads `interface="…",reason="…",…} 5`.
    fn parse(line: &str) -> Option<Self> {
        let (labels, value) = line.rsplit_once("} ")?;
        let label = |name: &str| {
            labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim_matches('"').to_owned())
        };
        Some(Self {
            interface: label("interface")?,
            reason: label("reason")?,
            packets: value.trim().parse().ok()?,
        })
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    hits: Vec<HitRow>,
    next: Option<String>,
}

/// A hit as the API tells it, as far as the report needs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct HitRow {
    /// Who was hit.
    pub subscriber: String,
    /// The subscriber's address.
    pub subscriber_address: std::net::IpAddr,
    /// The listed address.
    pub remote: std::net::IpAddr,
    /// Its port.
    pub remote_port: u16,
    /// Protocol by name.
    pub protocol: String,
    /// outbound or inbound.
    pub direction: String,
    /// Who began: initiated, response or other.
    pub class: String,
    /// What became of the packets.
    pub reason: String,
    /// The interface that they came in on.
    pub interface: String,
    /// VLAN identifiers, outermost first.
    pub vlans: Vec<u16>,
    /// Feeds that list the remote.
    pub feed: String,
    /// The malware family; empty if no feed names one.
    pub malware: String,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Time of the first packet.
    pub first_seen: jiff::Timestamp,
    /// Time of the last packet.
    pub last_seen: jiff::Timestamp,
}

/// The ruleset that is live, as the API tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct RulesetRow {
    /// IPv4 entries.
    pub entries_v4: usize,
    /// IPv6 entries.
    pub entries_v6: usize,
    /// Refused indicators by reason.
    pub refused_by_reason: std::collections::BTreeMap<String, u64>,
    /// The first of them.
    pub refused: Vec<RefusedRow>,
}

impl RulesetRow {
    /// How many indicators were refused.
    pub fn refused_total(&self) -> u64 {
        self.refused_by_reason.values().sum()
    }
}

/// An indicator that the policy kept out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct RefusedRow {
    /// The indicator.
    pub indicator: String,
    /// Who listed it.
    pub feed: String,
    /// The line of the list.
    pub line: u32,
    /// The kind of refusal.
    pub reason: String,
    /// A full sentence.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_from_its_line() {
        let line = r#"interface="access",reason="not_listed",verdict="pass"} 41"#;
        let expected =
            Counter { interface: "access".into(), reason: "not_listed".into(), packets: 41 };
        assert_eq!(Counter::parse(line), Some(expected));
        assert_eq!(Counter::parse("interface=\"access\"} many"), None);
    }
}
