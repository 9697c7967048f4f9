//! The daemon's configuration file.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

mod dataplane;
mod interface;
mod share;

pub(crate) use dataplane::WELL_KNOWN_NAT64;
pub use dataplane::{
    Attach, DataplaneConfig, HardwareAddress, SinkholeConfig, TunnelConfig, Unwrap,
};
pub use interface::{Forwarding, InterfaceConfig, Role};
use sekisho_abi::record::Mode;
use sekisho_rules::{
    access::{Login, Proxy, SecretRef},
    period::Period,
    yaml::{YamlError, from_yaml},
};
use serde::{Deserialize, Serialize};
pub use share::Share;

/// Smallest ruleset image: the blocks of both families alone take 5.4 MiB.
pub const SMALLEST_IMAGE_MIB: u32 = 8;
/// Largest ruleset image: the layout counts words in 29 bits.
pub const LARGEST_IMAGE_MIB: u32 = 512;
/// Longest that hits may be kept, whatever is configured.
pub const LONGEST_RETENTION: Period = Period::days(180);

/// What the daemon does, and where.
///
/// Relative paths start at the folder of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Interfaces under guard; at least one.
    pub interfaces: Vec<InterfaceConfig>,
    /// Mode on the first start, when nothing is pinned yet. Later the pinned switch holds, which
    /// `sekisho mode` sets. Default: enforce.
    #[serde(default)]
    pub mode: InitialMode,
    /// Catalogue of feeds. Default: the one that comes with the program, in which a feed is
    /// enabled only if its terms allow that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feeds: Option<PathBuf>,
    /// Policy. Default: the one that comes with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// Networks that are never blocked.
    #[serde(default)]
    pub never_block: NeverBlockConfig,
    /// Where last good lists and hits are kept. Default: /var/lib/sekisho.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// How long lists are enforced after any enabled feed was last confirmed by its source;
    /// afterwards they only observe. A feed that was not confirmed for so long, or for twice its
    /// `refresh` if that is longer, only observes however fresh the others are. Default: 24h.
    #[serde(default = "default_list_lifetime")]
    pub list_lifetime: Period,
    /// How long the kernel goes on enforcing without a word from the daemon. Default: 24h.
    #[serde(default = "default_heartbeat_lifetime")]
    pub heartbeat_lifetime: Period,
    /// How often hits are taken out of the kernel, at most 1m. Default: 1s.
    #[serde(default = "default_drain_interval")]
    pub drain_interval: Period,
    /// How lists are fetched over HTTP.
    #[serde(default)]
    pub fetch: FetchConfig,
    /// The kernel side.
    #[serde(default)]
    pub dataplane: DataplaneConfig,
    /// Who uses which address.
    #[serde(default)]
    pub subscribers: SubscribersConfig,
    /// Whose traffic passes unseen.
    #[serde(default)]
    pub opt_outs: OptOutsConfig,
    /// The record of hits.
    #[serde(default)]
    pub hits: HitsConfig,
    /// The rulesets that were live.
    #[serde(default)]
    pub history: HistoryConfig,
    /// The HTTP interface.
    #[serde(default)]
    pub api: ApiConfig,
    /// What makes the daemon unhealthy.
    #[serde(default)]
    pub alerts: AlertsConfig,
    /// The daemon's log.
    #[serde(default)]
    pub log: LogConfig,
}

/// Mode on the first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialMode {
    /// Do what the lists say.
    #[default]
    Enforce,
    /// Account hits, drop nothing.
    Observe,
    /// Look nothing up.
    Bypass,
}

impl From<InitialMode> for Mode {
    fn from(mode: InitialMode) -> Self {
        match mode {
            InitialMode::Enforce => Self::Enforce,
            InitialMode::Observe => Self::Observe,
            InitialMode::Bypass => Self::Bypass,
        }
    }
}

/// Networks that are never blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeverBlockConfig {
    /// Whether the lists that come with the program apply: public resolvers, root servers and the
    /// like. Default: true.
    pub shipped: bool,
    /// Further lists. Default: none.
    pub files: Vec<PathBuf>,
}

impl Default for NeverBlockConfig {
    fn default() -> Self {
        Self { shipped: true, files: Vec::new() }
    }
}

/// How lists are fetched over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// Longest wait for a connection. Default: 10s.
    pub connect_timeout: Period,
    /// Longest time that one list may take. Default: 5m.
    pub timeout: Period,
    /// Shortest time between two requests for one feed, whatever its `refresh` says. Default: 5m,
    /// which is what abuse.ch asks for.
    pub floor: Period,
    /// Mail address or page that publishers find in the User-Agent. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// HTTP proxy that requests go through, or `direct`; a feed may name another. Default: what
    /// HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Who asks that proxy. Default: nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_login: Option<Login>,
    /// Certificates (PEM) of those who may vouch for servers; a feed may name others. Default: those
    /// of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Period::seconds(10),
            timeout: Period::minutes(5),
            floor: Period::minutes(5),
            contact: None,
            proxy: None,
            proxy_login: None,
            ca_file: None,
        }
    }
}

/// Who uses which address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscribersConfig {
    /// CSV file with the columns prefix, subscriber, tenant, from, to. Default: none; every hit's
    /// subscriber is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
}

/// Whose traffic passes unseen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptOutsConfig {
    /// CSV file with the columns prefix and ports, which is followed while the daemon runs. Default:
    /// none; nobody opted out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
}

/// The record of hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HitsConfig {
    /// How long a hit is kept, at most 180d. Default: 30d.
    pub retention: Period,
}

impl Default for HitsConfig {
    fn default() -> Self {
        Self { retention: Period::days(30) }
    }
}

/// The rulesets that were live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// How many are kept to go back to, 2 to 10000. Default: 50.
    pub versions: u32,
    /// Room for them in MiB, 1 to 65536; the oldest go first. Default: 512.
    pub max_mib: u32,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { versions: 50, max_mib: 512 }
    }
}

/// The HTTP interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address and port. Whoever reaches it may read. Default: 127.0.0.1:9320.
    pub listen: SocketAddr,
    /// Whether `listen` may be an address that others can reach. Default: false.
    pub allow_remote: bool,
    /// File with the tokens of those who may change something through it: a line `NAME TOKEN` each.
    /// Default: none; nobody can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9320),
            allow_remote: false,
            token_file: None,
        }
    }
}

/// What makes the daemon unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Largest share of the packets of a minute that may be unreadable. Default: 1%.
    pub unparsed_share: Share,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self { unparsed_share: Share::of(1, 100) }
    }
}

/// The daemon's log, on standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Shape of the lines. Default: text.
    pub format: LogFormat,
    /// Least severe level that is written. Default: info. Subscriber addresses appear from debug on.
    pub level: LogLevel,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Severity of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something to wake up for.
    Warn,
    /// What an operator follows.
    #[default]
    Info,
    /// What a developer follows; names subscriber addresses.
    Debug,
    /// Every first packet of a flow.
    Trace,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file says something else than expected.
    #[error(transparent)]
    Wrong(#[from] YamlError),
}

impl Config {
    /// Reads and checks a file, and makes its paths absolute or relative to the working folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let mut config = Self::from_yaml(&text, &path.display().to_string())?;
        config.rebase(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads and checks a text; `file` only serves the error text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, YamlError> {
        let config: Self = from_yaml(text, file)?;
        match config.fault() {
            None => Ok(config),
            Some(fault) => {
                let (line, column) = place_of(text, fault.path);
                Err(YamlError { file: file.to_owned(), line, column, message: fault.message })
            }
        }
    }

    /// The configuration in force, defaults included, in the syntax of the file.
    pub fn to_yaml(&self) -> Result<String, String> {
        serde_yaml::to_string(self).map_err(|error| error.to_string())
    }

    fn rebase(&mut self, folder: &Path) {
        let paths = [
            &mut self.feeds,
            &mut self.policy,
            &mut self.subscribers.csv,
            &mut self.opt_outs.csv,
            &mut self.api.token_file,
        ];
        for path in paths.into_iter().flatten().chain(&mut self.never_block.files) {
            *path = folder.join(&path);
        }
        self.state_dir = folder.join(&self.state_dir);
        if let Some(file) = &mut self.fetch.ca_file {
            *file = folder.join(&file);
        }
        if let Some(Login { password: SecretRef::File(file), .. }) = &mut self.fetch.proxy_login {
            *file = folder.join(&file);
        }
    }

    /// What single fields can't tell: limits, and fields that contradict each other.
    fn fault(&self) -> Option<Fault> {
        self.interface_fault()
            .or_else(|| self.size_fault())
            .or_else(|| self.time_fault())
            .or_else(|| self.proxy_fault())
            .or_else(|| self.api_fault())
    }

    fn interface_fault(&self) -> Option<Fault> {
        let message = interface::fault(&self.interfaces)?;
        Some(Fault { path: &["interfaces"], message })
    }

    fn size_fault(&self) -> Option<Fault> {
        let DataplaneConfig { image_capacity_mib: image, flow_table_entries: flows, .. } =
            &self.dataplane;
        if let Some((path, message)) = self.dataplane.fault() {
            return Some(Fault { path, message });
        }
        if !(SMALLEST_IMAGE_MIB..=LARGEST_IMAGE_MIB).contains(image) {
            return Some(Fault {
                path: &["dataplane", "image_capacity_mib"],
                message: format!(
                    "expected {SMALLEST_IMAGE_MIB} to {LARGEST_IMAGE_MIB} MiB, found {image}"
                ),
            });
        }
        let HistoryConfig { versions, max_mib } = self.history;
        if !(2..=10_000).contains(&versions) {
            return Some(Fault {
                path: &["history", "versions"],
                message: format!("expected 2 to 10000, found {versions}"),
            });
        }
        if !(1..=65_536).contains(&max_mib) {
            return Some(Fault {
                path: &["history", "max_mib"],
                message: format!("expected 1 to 65536 MiB, found {max_mib}"),
            });
        }
        if !(1 << 10..=1 << 24).contains(flows) {
            return Some(Fault {
                path: &["dataplane", "flow_table_entries"],
                message: format!("expected {} to {}, found {flows}", 1 << 10, 1 << 24),
            });
        }
        None
    }

    fn time_fault(&self) -> Option<Fault> {
        if self.hits.retention > LONGEST_RETENTION {
            return Some(Fault {
                path: &["hits", "retention"],
                message: format!(
                    "hits may be kept for at most {LONGEST_RETENTION}, found {}",
                    self.hits.retention
                ),
            });
        }
        if self.drain_interval > Period::minutes(1) {
            return Some(Fault {
                path: &["drain_interval"],
                message: format!("expected at most 1m, found {}", self.drain_interval),
            });
        }
        if self.fetch.connect_timeout > self.fetch.timeout {
            return Some(Fault {
                path: &["fetch", "connect_timeout"],
                message: format!(
                    "expected no more than fetch.timeout ({}), found {}",
                    self.fetch.timeout, self.fetch.connect_timeout
                ),
            });
        }
        if self.list_lifetime <= self.fetch.floor {
            return Some(Fault {
                path: &["list_lifetime"],
                message: format!(
                    "expected more than fetch.floor ({}), found {}: lists would lapse between two \
                     fetches",
                    self.fetch.floor, self.list_lifetime
                ),
            });
        }
        None
    }

    fn proxy_fault(&self) -> Option<Fault> {
        let has_proxy = matches!(self.fetch.proxy, Some(Proxy::Through(_)));
        (self.fetch.proxy_login.is_some() && !has_proxy).then(|| Fault {
            path: &["fetch", "proxy_login"],
            message: "expected the address of a proxy beside it, as fetch.proxy".to_owned(),
        })
    }

    fn api_fault(&self) -> Option<Fault> {
        let ApiConfig { listen, allow_remote, .. } = self.api;
        (!listen.ip().is_loopback() && !allow_remote).then(|| Fault {
            path: &["api", "listen"],
            message: format!(
                "{listen} can be reached from elsewhere and the API has no authentication: expected \
                 a loopback address, or api.allow_remote: true"
            ),
        })
    }
}

struct Fault {
    path: &'static [&'static str],
    message: String,
}

/// Line and column of a key, given as the keys that lead to it; 1:1 if the text has it not.
fn place_of(text: &str, path: &[&str]) -> (u64, u64) {
    let mut place = (1, 1);
    let mut lines = (1..).zip(text.lines());
    for key in path {
        let found = lines.find_map(|(number, line)| {
            let trimmed = line.trim_start();
            let is_key = trimmed.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
            is_key.then(|| (number, (line.len() - trimmed.len() + 1) as u64))
        });
        let Some(found) = found else { break };
        place = found;
    }
    place
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/sekisho")
}

fn default_list_lifetime() -> Period {
    Period::hours(24)
}

fn default_heartbeat_lifetime() -> Period {
    Period::hours(24)
}

fn default_drain_interval() -> Period {
    Period::seconds(1)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
