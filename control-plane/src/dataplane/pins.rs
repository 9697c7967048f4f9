//! What outlives the daemon: where maps and links are pinned, and under which names.
//!
//! `PIN_DIR/abi1/MODES` and the like are maps; `ruleset-67108864` is the slot of the live image,
//! with the bytes an image may have; `link-3-native-eth0` is the program on an interface, with its
//! port slot and the way it is attached; `promiscuous-eth0` notes a flag that was set. bpffs takes no dots in names, so they are escaped.

use std::{
    cmp::Reverse,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use sekisho_abi::{ABI_VERSION, MAX_PORTS, names};

use super::{Attachment, DataplaneError, switch_lock};

const BPFFS: &str = "/sys/fs/bpf";
/// How notes of interfaces that were made promiscuous begin.
const PROMISCUOUS: &str = "promiscuous-";

/// The folder of one dataplane on bpffs.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
    dir: PathBuf,
}

/// A pinned link, as its name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkPin {
    pub(super) interface: String,
    pub(super) slot: u8,
    pub(super) attachment: Attachment,
}

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), dir: root.join(format!("abi{ABI_VERSION}")) }
    }

    /// Creates the folder; mounts bpffs where it usually is if nobody has yet.
    pub(super) fn create(&self) -> Result<(), DataplaneError> {
        if self.root.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
                .map_err(|error| system("mount bpffs on /sys/fs/bpf", error.into()))?;
        }
        let call = || format!("create {}", self.dir.display());
        fs::create_dir_all(&self.dir).map_err(|error| {
            let has_dot = self.root.as_os_str().as_encoded_bytes().contains(&b'.');
            if has_dot && error.kind() == io::ErrorKind::PermissionDenied {
                let why = "a bpffs takes no names with a dot; choose another dataplane.pin_dir";
                return system(call(), io::Error::other(why));
            }
            system(call(), error)
        })?;
        if !is_bpffs(&self.dir) {
            return Err(system(
                call(),
                io::Error::other(
                    "not on a bpffs; set dataplane.pin_dir to a folder below /sys/fs/bpf",
                ),
            ));
        }
        Ok(())
    }

    /// Makes sure that one daemon at a time owns the folder.
    pub(super) fn lock(&self) -> Result<Flock<OwnedFd>, DataplaneError> {
        let path = self.dir.display().to_string();
        let dir =
            fs::File::open(&self.dir).map_err(|error| system(format!("open {path}"), error))?;
        Flock::lock(OwnedFd::from(dir), FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == nix::errno::Errno::EWOULDBLOCK {
                DataplaneError::Busy { path }
            } else {
                system(format!("lock {path}"), errno.into())
            }
        })
    }

    /// The folders of other layouts below the same root, the newest first.
    pub(super) fn others(&self) -> Result<Vec<Self>, DataplaneError> {
        let mut others: Vec<(u32, Self)> = layouts(&self.root)?
            .into_iter()
            .filter(|(number, _)| *number != ABI_VERSION)
            .map(|(number, dir)| (number, Self { root: self.root.clone(), dir }))
            .collect();
        others.sort_by_key(|(number, _)| Reverse(*number));
        Ok(others.into_iter().map(|(_, pins)| pins).collect())
    }

    pub(super) fn exist(&self) -> bool {
        self.dir.is_dir()
    }

    pub(super) fn display(&self) -> String {
        self.dir.display().to_string()
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn ruleset(&self, capacity: usize) -> PathBuf {
        self.dir.join(format!("ruleset-{capacity}"))
    }

    /// The slots of live images that are pinned, with their capacities.
    pub(super) fn rulesets(&self) -> Result<Vec<(usize, PathBuf)>, DataplaneError> {
        let names = self.names()?;
        let capacity = |name: &String| name.strip_prefix("ruleset-")?.parse().ok();
        Ok(names
            .iter()
            .filter_map(|name| capacity(name).map(|bytes| (bytes, self.dir.join(name))))
            .collect())
    }

    pub(super) fn link(&self, link: &LinkPin) -> PathBuf {
        let attachment = match link.attachment {
            Attachment::Native => "native",
            Attachment::Generic => "generic",
        };
        self.dir.join(format!("link-{}-{attachment}-{}", link.slot, escape(&link.interface)))
    }

    /// The links that are pinned.
    pub(super) fn links(&self) -> Result<Vec<LinkPin>, DataplaneError> {
        Ok(self.names()?.iter().filter_map(|name| parse_link(name)).collect())
    }

    /// The note that this interface was made promiscuous.
    pub(super) fn promiscuous(&self, interface: &str) -> PathBuf {
        self.dir.join(format!("{PROMISCUOUS}{}", escape(interface)))
    }

    /// The interfaces that were.
    pub(super) fn all_promiscuous(&self) -> Result<Vec<String>, DataplaneError> {
        let interface = |name: &String| unescape(name.strip_prefix(PROMISCUOUS)?);
        Ok(self.names()?.iter().filter_map(interface).collect())
    }

    /// Gives a link's pin another name; one that has it already is of a link that is dead.
    pub(super) fn rename_link(&self, from: &Path, to: &LinkPin) -> Result<(), DataplaneError> {
        let to = self.link(to);
        Self::remove(&to)?;
        fs::rename(from, &to).map_err(|error| system(format!("rename {}", from.display()), error))
    }

    /// Waits for whoever is changing the kill switch, so that no change is lost; not for long, as it
    /// takes microseconds.
    pub(super) fn lock_switch(&self) -> Result<Flock<OwnedFd>, DataplaneError> {
        switch_lock::take(&self.root)
    }

    /// Removes a pin that may be gone already.
    pub(super) fn remove(path: &Path) -> Result<(), DataplaneError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(system(format!("remove {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the pins of this layout, and its folder. Returns what was removed.
    pub(super) fn remove_layout(&self) -> Result<Vec<String>, DataplaneError> {
        let is_other = self.dir != Self::new(&self.root).dir;
        let removed = remove_pins(&self.dir, is_other)?;
        self.remove_empty_root();
        Ok(removed)
    }

    /// Others may keep pins beside ours; then the folder stays.
    fn remove_empty_root(&self) {
        let _ = fs::remove_dir(&self.root);
    }

    fn names(&self) -> Result<Vec<String>, DataplaneError> {
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(entries(&self.dir)?.iter().filter_map(name).collect())
    }
}

/// Removes a layout's pins, links first, so that no program runs on half of its maps. Another layout
/// may have maps whose names nobody knows here: they go as well.
fn remove_pins(layout: &Path, is_other: bool) -> Result<Vec<String>, DataplaneError> {
    let kind = |path: &Path| is_link(path).or((is_other && !path.is_dir()).then_some(false));
    let mut pins: Vec<(bool, PathBuf)> =
        entries(layout)?.into_iter().filter_map(|path| Some((!kind(&path)?, path))).collect();
    pins.sort();
    let failed = |what: &Path, error| system(format!("remove {}", what.display()), error);
    for (_, pin) in &pins {
        fs::remove_file(pin).map_err(|error| failed(pin, error))?;
    }
    fs::remove_dir(layout).map_err(|error| failed(layout, error))?;
    Ok(pins.into_iter().map(|(_, pin)| pin.display().to_string()).collect())
}

/// Whether one of our pins is a link; `None` if it is none of ours.
fn is_link(pin: &Path) -> Option<bool> {
    let name = pin.file_name()?.to_str()?;
    if parse_link(name).is_some() {
        return Some(true);
    }
    let is_other = names::PINNED.contains(&name)
        || name == names::OPT_OUT
        || name == names::LARGER_OPT_OUT_BLOCKS
        || name.starts_with("ruleset-")
        || name.starts_with(PROMISCUOUS);
    is_other.then_some(false)
}

/// Folders of layouts below a root, with their numbers.
fn layouts(root: &Path) -> Result<Vec<(u32, PathBuf)>, DataplaneError> {
    let numbered = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.strip_prefix("abi")?.parse().ok()?;
        path.is_dir().then_some((number, path))
    };
    Ok(entries(root)?.into_iter().filter_map(numbered).collect())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataplaneError> {
    let failed = |error| system(format!("list {}", dir.display()), error);
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
        }
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn system(call: impl Into<String>, source: io::Error) -> DataplaneError {
    DataplaneError::System { call: call.into(), source }
}

fn escape(interface: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    interface.bytes().fold(String::new(), |mut escaped, byte| {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02x}"));
        }
        escaped
    })
}

fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn parse_link(name: &str) -> Option<LinkPin> {
    let (slot, rest) = name.strip_prefix("link-")?.split_once('-')?;
    let (attachment, interface) = rest.split_once('-')?;
    let slot = slot.parse().ok().filter(|slot| usize::from(*slot) < MAX_PORTS)?;
    let attachment = match attachment {
        "native" => Attachment::Native,
        "generic" => Attachment::Generic,
        _ => return None,
    };
    Some(LinkPin { interface: unescape(interface)?, slot, attachment })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_pin_comes_back_from_its_name() {
        let pins = Pins::new(Path::new("/sys/fs/bpf/x"));
        for interface in ["eth0", "bond0.100", "wan-0_b", "ä%b"] {
            let link = LinkPin {
                interface: interface.to_owned(),
                slot: 7,
                attachment: Attachment::Generic,
            };
            let path = pins.link(&link);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!name.contains('.'), "{name}");
            assert_eq!(parse_link(name), Some(link));
        }
    }

    #[test]
    fn other_pins_are_no_links() {
        for name in ["MODES", "link-", "link-64-native-eth0", "link-1-tc-eth0", "link-x-native-e"] {
            assert_eq!(parse_link(name), None, "{name}");
        }
    }
}
