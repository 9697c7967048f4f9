//! The interfaces under guard.

use std::collections::HashSet;

use sekisho_abi::{MAX_PORTS, record};
use serde::{Deserialize, Serialize};

/// Longest interface name that Linux takes (IFNAMSIZ less the final zero).
const LONGEST_NAME: usize = 15;

/// An interface under guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceConfig {
    /// Its name, as `ip link` shows it.
    pub name: String,
    /// Which side of it the subscribers are on.
    pub role: Role,
    /// What becomes of packets that pass. Default: kernel.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// The interface at the other end of the wire. Needed where `forwarding` is wire, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// What becomes of packets that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// The kernel routes or bridges them.
    #[default]
    Kernel,
    /// A bump in the wire: they leave through `peer`, frames of all protocols included.
    Wire,
    /// A mirror port: they are counted and end here.
    Tap,
}

impl From<Forwarding> for record::Forwarding {
    fn from(forwarding: Forwarding) -> Self {
        match forwarding {
            Forwarding::Kernel => Self::Kernel,
            Forwarding::Wire => Self::Wire,
            Forwarding::Tap => Self::Tap,
        }
    }
}

impl InterfaceConfig {
    /// An interface whose packets the kernel forwards.
    pub fn routed(name: &str, role: Role) -> Self {
        Self { name: name.to_owned(), role, forwarding: Forwarding::Kernel, peer: None }
    }
}

/// Which side of an interface the subscribers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Packets that come in are from subscribers.
    Subscriber,
    /// Packets that come in are from the Internet.
    Uplink,
    /// Both: one-armed.
    Both,
}

impl From<Role> for record::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Subscriber => Self::Subscriber,
            Role::Uplink => Self::Uplink,
            Role::Both => Self::Both,
        }
    }
}

/// What is wrong with the interfaces as a whole.
pub(super) fn fault(interfaces: &[InterfaceConfig]) -> Option<String> {
    if interfaces.is_empty() {
        return Some("expected at least one interface".to_owned());
    }
    if interfaces.len() > MAX_PORTS {
        return Some(format!("expected at most {MAX_PORTS} interfaces"));
    }
    let mut seen = HashSet::new();
    for InterfaceConfig { name, .. } in interfaces {
        let fits = (1..=LONGEST_NAME).contains(&name.len())
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !fits {
            return Some(format!(
                "'{name}' is no interface name: expected 1 to {LONGEST_NAME} characters without \
                 blanks and '/'"
            ));
        }
        if !seen.insert(name) {
            return Some(format!("interface '{name}' is named twice"));
        }
    }
    interfaces.iter().find_map(|interface| wire_fault(interface, interfaces))
}

/// A wire has two ends that name each other.
fn wire_fault(interface: &InterfaceConfig, all: &[InterfaceConfig]) -> Option<String> {
    let name = &interface.name;
    let Some(peer) = &interface.peer else {
        return (interface.forwarding == Forwarding::Wire).then(|| {
            format!("interface '{name}' is an end of a wire: expected `peer`, the other end")
        });
    };
    if interface.forwarding != Forwarding::Wire {
        return Some(format!("interface '{name}' has a peer: expected `forwarding: wire`"));
    }
    let leads_back = all
        .iter()
        .any(|end| end.name == *peer && end.name != *name && end.peer.as_ref() == Some(name));
    let roles = all.iter().find(|end| end.name == *peer).map(|end| (interface.role, end.role));
    let fits = |roles| {
        matches!(
            roles,
            (Role::Subscriber, Role::Uplink)
                | (Role::Uplink, Role::Subscriber)
                | (Role::Both, Role::Both)
        )
    };
    if leads_back && !roles.is_some_and(fits) {
        return Some(format!(
            "the wire from '{name}' to '{peer}' has no two sides: expected the roles subscriber and \
             uplink, or both at both ends"
        ));
    }
    (!leads_back).then(|| {
        format!("the wire from '{name}' does not come back: expected '{peer}' with `peer: {name}`")
    })
}
