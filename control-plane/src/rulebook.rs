//! What decides over lists: the catalogue of feeds, the policy, the never-block lists.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;
use nix::fcntl::OFlag;
use sekisho_rules::{
    access::{Auth, SecretRef},
    catalogue::Catalogue,
    compile::{CompileError, Compiled, Decided, FeedInput, compile_decided},
    feed::{FeedSpec, Source},
    parse::{Limits, ParseFailure, Parsed, parse_feed},
    policy::{NeverBlock, OwnPrefix, Policy},
    shipped,
    yaml::YamlError,
};

use crate::{
    config::{Config, WELL_KNOWN_NAT64},
    feeds::{misp, unpack::unpack},
    subscribers::Subscribers,
};

/// File of a lists folder that holds the catalogue.
pub const FOLDER_CATALOGUE: &str = "feeds.yaml";
/// File of a lists folder that holds the policy, if it brings one.
pub const FOLDER_POLICY: &str = "policy.yaml";
/// Folder of a lists folder with further never-block lists.
pub const FOLDER_NEVER_BLOCK: &str = "never-block";
const NEVER_BLOCK_OF_FOLDER: &str = "a never-block list of a lists folder";
/// Largest file of the operator's own: catalogue, policy, never-block list.
const LARGEST_FILE: u64 = 64 << 20;

/// What decides over lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rulebook {
    /// Which feeds there are; file sources are absolute or relative to the working folder.
    pub catalogue: Catalogue,
    /// The operator's limits.
    pub policy: Policy,
    /// What is never blocked.
    pub never_block: Vec<NeverBlock>,
}

/// Why a file of the operator's can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RulebookError {
    /// It can't be read.
    #[error("{what}: {} can't be read: {source}", path.display())]
    Unreadable {
        /// What names it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It says something else than expected.
    #[error(transparent)]
    Wrong(#[from] YamlError),
}

impl Rulebook {
    /// What a configuration names.
    fn of_config(config: &Config) -> Result<Self, RulebookError> {
        let catalogue = match &config.feeds {
            Some(path) => read_catalogue(path, "feeds")?,
            None => shipped::catalogue()?,
        };
        let policy = match &config.policy {
            Some(path) => read(path, "policy", Policy::from_yaml)?,
            None => shipped::policy()?,
        };
        let mut never_block =
            if config.never_block.shipped { shipped::never_block()? } else { Vec::new() };
        for path in &config.never_block.files {
            never_block.push(read_never_block(path, "never_block.files")?);
        }
        Ok(Self { catalogue, policy, never_block })
    }

    /// What a lists folder holds: `feeds.yaml`, perhaps `policy.yaml`, perhaps `never-block/*.yaml`
    /// and MISP warninglists `never-block/*.json` on top of the shipped lists.
    pub fn of_folder(folder: &Path) -> Result<Self, RulebookError> {
        let catalogue =
            read_catalogue(&folder.join(FOLDER_CATALOGUE), "the catalogue of a lists folder")?;
        let own_policy = folder.join(FOLDER_POLICY);
        let policy = if own_policy.exists() {
            read(&own_policy, "the policy of a lists folder", Policy::from_yaml)?
        } else {
            shipped::policy()?
        };
        let mut never_block = shipped::never_block()?;
        for path in list_files(&folder.join(FOLDER_NEVER_BLOCK))? {
            never_block.push(read_never_block(&path, NEVER_BLOCK_OF_FOLDER)?);
        }
        Ok(Self { catalogue, policy, never_block })
    }

    /// What a configuration names, with its subscribers, whose networks no feed may list.
    pub fn with_subscribers(config: &Config) -> Result<(Self, Subscribers), String> {
        let mut rulebook = Self::of_config(config).map_err(|error| error.to_string())?;
        let subscribers = match &config.subscribers.csv {
            Some(csv) => Subscribers::read(csv).map_err(|error| error.to_string())?,
            None => Subscribers::default(),
        };
        rulebook.protect(&subscribers, config);
        Ok((rulebook, subscribers))
    }

    /// Counts among the operator's own networks those of subscribers, of routers and servers, and of
    /// translators, in which any IPv4 address can be written: no feed may list them.
    fn protect(&mut self, subscribers: &Subscribers, config: &Config) {
        let own = |name: &str| {
            let name = name.to_owned();
            move |network| OwnPrefix { network, name: name.clone() }
        };
        let policy = &mut self.policy.own_prefixes;
        policy.extend(subscribers.networks().into_iter().map(own("subscribers")));
        let translators = config.dataplane.embedded_ipv4.iter().copied();
        let translators = translators.filter(|net| *net != WELL_KNOWN_NAT64).map(IpNet::V6);
        policy.extend(translators.map(own("IPv4 inside IPv6")));
        let infrastructure = config.dataplane.infrastructure.iter().map(IpNet::trunc);
        policy.extend(infrastructure.map(own("infrastructure")));
    }

    /// Applies the policy to what was read of the enabled feeds.
    pub fn compile(
        &self,
        lists: &[(&FeedSpec, &ReadList)],
        now: Timestamp,
    ) -> Result<Compiled, CompileError> {
        self.compile_decided(lists, Decided::default(), now)
    }

    /// The same, with what people decided besides.
    pub fn compile_decided(
        &self,
        lists: &[(&FeedSpec, &ReadList)],
        decided: Decided<'_>,
        now: Timestamp,
    ) -> Result<Compiled, CompileError> {
        compile_decided(&inputs(lists), &self.policy, &self.never_block, decided, now.into())
    }
}

/// Lists as the compiler takes them.
pub fn inputs<'a>(lists: &[(&'a FeedSpec, &'a ReadList)]) -> Vec<FeedInput<'a>> {
    let input = |(spec, list): &(&'a FeedSpec, &'a ReadList)| FeedInput {
        spec,
        parsed: list.parsed.as_ref().map(|parsed| &**parsed),
        fetched_at: list.confirmed_at.into(),
    };
    lists.iter().map(input).collect()
}

/// What was read of one list; cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadList {
    /// Its indicators, or why the whole list is refused.
    pub parsed: Result<Arc<Parsed>, ParseFailure>,
    /// When the source last said that this is its list.
    pub confirmed_at: Timestamp,
}

impl ReadList {
    /// Reads the bytes of a list, compressed or not.
    pub fn new(spec: &FeedSpec, bytes: &[u8], confirmed_at: Timestamp) -> Self {
        let limits = limits(spec);
        let parsed = unpack(bytes, limits.max_bytes)
            .and_then(|plain| parse_feed(spec, &plain, &limits))
            .map(Arc::new);
        Self { parsed, confirmed_at }
    }
}

/// Reads the file of a feed, or the folder of a MISP feed; at most as much as the feed may have.
pub fn read_list_file(spec: &FeedSpec, path: &Path) -> Result<Vec<u8>, std::io::Error> {
    let limits = limits(spec);
    let read = |path: &Path| read_at_most(path, limits.max_bytes);
    if misp::is_feed(spec) {
        let read = misp::read_folder(spec, path, &limits, Timestamp::now(), read);
        return read.map_err(std::io::Error::other);
    }
    read(path)
}

fn read_at_most(path: &Path, most: usize) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells the parser that there is too much.
    let most = most as u64 + 1;
    // A pipe that nobody writes into must not hold the thread that opens it.
    let file =
        fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "it is a folder" } else { "it is no regular file" };
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    }
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How much of a feed's list is read.
pub fn limits(spec: &FeedSpec) -> Limits {
    let mut limits = Limits::default();
    if let Some(most) = spec.max_bytes {
        limits.max_bytes = limits.max_bytes.min(usize::try_from(most).unwrap_or(usize::MAX));
    }
    limits
}

fn read_catalogue(path: &Path, what: &'static str) -> Result<Catalogue, RulebookError> {
    let mut catalogue = read(path, what, Catalogue::from_yaml)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for feed in &mut catalogue.feeds {
        if let Source::File(file) = &mut feed.source {
            *file = folder.join(&file);
        }
        if let Some(file) = &mut feed.ca_file {
            *file = folder.join(&file);
        }
        let auth = feed.auth.as_mut().map(Auth::secret_mut);
        let login = feed.proxy_login.as_mut().map(|login| &mut login.password);
        for secret in auth.into_iter().chain(login) {
            if let SecretRef::File(file) = secret {
                *file = folder.join(&file);
            }
        }
    }
    Ok(catalogue)
}

/// A list in our YAML, or a MISP warninglist in its JSON.
fn read_never_block(path: &Path, what: &'static str) -> Result<NeverBlock, RulebookError> {
    if path.extension().is_some_and(|extension| extension == "json") {
        read(path, what, NeverBlock::from_warninglist)
    } else {
        read(path, what, NeverBlock::from_yaml)
    }
}

fn read<T>(
    path: &Path,
    what: &'static str,
    from_yaml: impl Fn(&str, &str) -> Result<T, YamlError>,
) -> Result<T, RulebookError> {
    let unreadable = |source| RulebookError::Unreadable { what, path: path.to_owned(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(LARGEST_FILE).read_to_string(&mut text).map_err(unreadable)?;
    Ok(from_yaml(&text, &path.display().to_string())?)
}

/// The YAML and JSON files of a folder by name; none if there is no such folder.
fn list_files(folder: &Path) -> Result<Vec<PathBuf>, RulebookError> {
    let what = NEVER_BLOCK_OF_FOLDER;
    let unreadable = |source| RulebookError::Unreadable { what, path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_list = |extension: &OsStr| ["yaml", "yml", "json"].iter().any(|e| extension == *e);
        if path.extension().is_some_and(is_list) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = "feeds:\n  - {name: one, source: one.txt, format: plain}\n";

    #[test]
    fn file_sources_start_at_the_folder_of_the_catalogue() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FOLDER_CATALOGUE), CATALOGUE).unwrap();
        let rulebook = Rulebook::of_folder(dir.path()).unwrap();
        assert_eq!(rulebook.catalogue.feeds[0].source, Source::File(dir.path().join("one.txt")));
        assert_eq!(rulebook.policy, shipped::policy().unwrap());
    }

    #[test]
    fn keys_and_certificates_start_there_too() {
        let dir = tempfile::tempdir().unwrap();
        let text = "feeds:\n  - name: one\n    source: https://x.example/{key}/\n    format: plain\n    \
                    auth: {url_key: {file: keys/x}}\n    ca_file: ca.pem\n    proxy: 'http://p:1'\n    \
                    proxy_login: {user: u, password: {file: keys/p}}\n";
        fs::write(dir.path().join(FOLDER_CATALOGUE), text).unwrap();
        let feed = Rulebook::of_folder(dir.path()).unwrap().catalogue.feeds.remove(0);
        let there = |name: &str| dir.path().join(name);
        assert_eq!(*feed.auth.unwrap().secret(), SecretRef::File(there("keys/x")));
        assert_eq!(feed.proxy_login.unwrap().password, SecretRef::File(there("keys/p")));
        assert_eq!(feed.ca_file, Some(there("ca.pem")));
    }

    #[test]
    fn a_folder_brings_its_own_policy_and_adds_never_block_lists() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FOLDER_CATALOGUE), CATALOGUE).unwrap();
        fs::write(dir.path().join(FOLDER_POLICY), "expire_after: 3d\n").unwrap();
        fs::create_dir(dir.path().join(FOLDER_NEVER_BLOCK)).unwrap();
        let list = "name: ours\nversion: '1'\nsource: us\nnetworks: []\n";
        fs::write(dir.path().join(FOLDER_NEVER_BLOCK).join("ours.yaml"), list).unwrap();
        let list = r#"{"name":"a MISP list","type":"cidr","list":["198.18.0.0/24"]}"#;
        fs::write(dir.path().join(FOLDER_NEVER_BLOCK).join("misp.json"), list).unwrap();
        let rulebook = Rulebook::of_folder(dir.path()).unwrap();
        assert_eq!(rulebook.policy.expire_after.as_secs(), 3 * 86_400);
        assert_eq!(rulebook.never_block.len(), shipped::never_block().unwrap().len() + 2);
        let names = rulebook.never_block.iter().rev().take(2).map(|list| list.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["ours", "a MISP list"]);
    }

    #[test]
    fn subscribers_translators_and_infrastructure_are_our_own_networks() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("subscribers.csv"),
            "prefix,subscriber,tenant,from,to\n198.18.0.0/24,alice,,,\n",
        )
        .unwrap();
        let text = "interfaces: [{name: fake0, role: subscriber}]\n\
                    subscribers: {csv: subscribers.csv}\n\
                    dataplane: {embedded_ipv4: ['64:ff9b::/96', '2001:2:64::/96'],\n             \
                    infrastructure: [198.18.7.0/24]}\n";
        fs::write(dir.path().join("sekisho.yaml"), text).unwrap();
        let config = Config::read(&dir.path().join("sekisho.yaml")).unwrap();
        let (rulebook, _) = Rulebook::with_subscribers(&config).unwrap();
        let own = rulebook.policy.own_prefixes.iter();
        let own: Vec<_> = own.map(|own| format!("{} {}", own.network, own.name)).collect();
        assert_eq!(
            own,
            [
                "198.18.0.0/24 subscribers",
                "2001:2:64::/96 IPv4 inside IPv6",
                "198.18.7.0/24 infrastructure"
            ]
        );
    }

    #[test]
    fn a_missing_catalogue_is_named() {
        let error = Rulebook::of_folder(Path::new("/nowhere")).unwrap_err().to_string();
        let expected = "the catalogue of a lists folder: /nowhere/feeds.yaml can't be read: ";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_fault_in_the_catalogue_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FOLDER_CATALOGUE), "feeds:\n  - {nom: x}\n").unwrap();
        let error = Rulebook::of_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("feeds.yaml:2:"), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let spec = Catalogue::from_yaml(CATALOGUE, "f").unwrap().feeds.remove(0);
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let error = read_list_file(&spec, path).unwrap_err().to_string();
            assert_eq!(error, "it is no regular file", "{}", path.display());
        }
        assert_eq!(read_list_file(&spec, dir.path()).unwrap_err().to_string(), "it is a folder");
    }

    #[test]
    fn a_file_is_read_one_byte_beyond_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.txt");
        fs::write(&path, "192.0.2.1\n192.0.2.2\n").unwrap();
        let mut spec = Catalogue::from_yaml(CATALOGUE, "f").unwrap().feeds.remove(0);
        spec.max_bytes = Some(5);
        let bytes = read_list_file(&spec, &path).unwrap();
        assert_eq!(bytes.len(), 6);
        let list = ReadList::new(&spec, &bytes, Timestamp::UNIX_EPOCH);
        assert_eq!(list.parsed, Err(ParseFailure::TooLarge { limit: 5 }));
    }
}
