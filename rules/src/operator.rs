//! The operator's own entries: blocks, allows, and suppressions of what feeds claim.
//!
//! Blocks are lists of their own, which pass the same guards as a feed. An allow beats every block;
//! what is wider loses the allowed part. A suppression makes claims of feeds on a network count for
//! nothing, and leaves wider claims and the operator's blocks alone.

use std::{fmt, path::PathBuf, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    change::Limits,
    feed::{
        Action, Approval, Class, FeedName, FeedSpec, Format, Ports, SHORTEST_FLOOR_V4,
        SHORTEST_FLOOR_V6, Source,
    },
    indicator::{Indicator, Protocol, Traffic},
    moment::Moment,
    parse::Parsed,
    period::{Period, Wait},
    policy::{Guards, Judge, Policy},
    refusal::{Why, indicator_text},
};

/// The list of blocks that drop; those with another action are in `operator-ACTION`.
pub const LIST: &str = "operator";
/// How many lists the operator's blocks can need: one for each action.
pub const MAX_LISTS: usize = 4;
/// Most entries in force at a time.
pub const MAX_ENTRIES: usize = 10_000;
/// Most ports of one entry.
pub const MAX_PORTS: usize = 16;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 500;
/// Longest name of an owner, in bytes.
pub const MAX_OWNER: usize = 64;

/// What an entry decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// What it names is listed, with its action.
    Block,
    /// What it names is never blocked.
    Allow,
    /// Claims of feeds on what it names don't count.
    Suppress,
}

impl Decision {
    /// The name in reports and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Allow => "allow",
            Self::Suppress => "suppress",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Block, Self::Allow, Self::Suppress];
        let found = all.into_iter().find(|decision| decision.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is no decision: expected block, allow or suppress"))
    }
}

/// An entry of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorEntry {
    /// Its number.
    pub id: u32,
    /// What it decides.
    pub decision: Decision,
    /// What a block does; of no meaning otherwise.
    pub action: Action,
    /// The network; host bits are zero.
    pub network: IpNet,
    /// Only this protocol; `None` is any.
    pub protocol: Option<Protocol>,
    /// Only these ports of the remote; empty is all. Sorted, and none is 0.
    pub ports: Vec<u16>,
    /// The feed whose claims are suppressed; `None` is every feed's.
    pub feed: Option<FeedName>,
    /// Why it was made.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it was made.
    pub since: Moment,
    /// When it ends by itself. Every block and allow has one.
    pub until: Option<Moment>,
}

impl OperatorEntry {
    /// Whether it has not ended by itself.
    pub fn is_in_force(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// What it names, in the notation of indicators, several ports with commas.
    pub fn subject(&self) -> String {
        let whole = |port| indicator_text(self.network, Traffic { protocol: self.protocol, port });
        match self.ports.split_first() {
            None => whole(None),
            Some((&first, [])) => whole(Some(first)),
            Some((&first, others)) => {
                let ports: Vec<String> = others.iter().map(u16::to_string).collect();
                let word = if ports.len() == 1 { "port" } else { "ports" };
                format!("{} and {word} {}", whole(Some(first)), ports.join(", "))
            }
        }
    }

    /// The traffic that it names, one port each.
    fn traffic(&self) -> impl Iterator<Item = Traffic> {
        let every = self.ports.is_empty().then_some(None);
        let each = every.into_iter().chain(self.ports.iter().copied().map(Some));
        each.map(|port| Traffic { protocol: self.protocol, port })
    }

    /// Whether some packet is meant by both.
    pub(crate) fn meets(&self, traffic: Traffic) -> bool {
        let protocol = match (self.protocol, traffic.protocol) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        let port = traffic.port.is_none_or(|port| self.ports.contains(&port));
        protocol && (self.ports.is_empty() || port)
    }

    /// Whether all of that traffic is meant.
    pub(crate) fn covers(&self, traffic: Traffic) -> bool {
        let protocol = self.protocol.is_none_or(|ours| traffic.protocol == Some(ours));
        let port = traffic.port.is_some_and(|port| self.ports.contains(&port));
        protocol && (self.ports.is_empty() || port)
    }

    fn list(&self) -> String {
        match self.action {
            Action::Drop => LIST.to_owned(),
            other => format!("{LIST}-{other}"),
        }
    }
}

/// A full sentence.
impl fmt::Display for OperatorEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, owner, reason, .. } = self;
        let subject = self.subject();
        match (self.decision, &self.feed) {
            (Decision::Block, _) => write!(f, "Entry {id} of {owner} blocks {subject}")?,
            (Decision::Allow, _) => write!(f, "Entry {id} of {owner} lets {subject} pass")?,
            (Decision::Suppress, None) => {
                write!(f, "Entry {id} of {owner} suppresses what feeds say of {subject}")?;
            }
            (Decision::Suppress, Some(feed)) => {
                write!(f, "Entry {id} of {owner} suppresses what feed '{feed}' says of {subject}")?;
            }
        }
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        write!(f, ": {reason}.")
    }
}

/// Why an entry can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It says something else than expected.
    #[error("{0}")]
    Wrong(String),
    /// What it names must not be blocked.
    #[error("{subject} is refused: {why}")]
    Refused {
        /// What it names.
        subject: String,
        /// What refuses it.
        why: Why,
    },
}

/// Whether a new entry may be made: it has a reason, an owner and an end, and a block passes the
/// guards that a feed would have to pass.
pub fn check(
    entry: &OperatorEntry,
    guards: &Guards,
    policy: &Policy,
    now: Moment,
) -> Result<(), EntryError> {
    if let Some(fault) = text_fault(entry).or_else(|| end_fault(entry, policy, now)) {
        return Err(EntryError::Wrong(fault));
    }
    if entry.decision == Decision::Block {
        let spec = spec(&entry.list(), entry.action, policy);
        let judge = Judge::new(guards, policy, &spec, now, now);
        let refusal = indicators(entry)
            .find_map(|indicator| judge.check(&indicator, indicator.traffic).err());
        return match refusal {
            Some(why) => Err(EntryError::Refused { subject: entry.subject(), why }),
            None => Ok(()),
        };
    }
    let shortest = match entry.network {
        IpNet::V4(_) => SHORTEST_FLOOR_V4,
        IpNet::V6(_) => SHORTEST_FLOOR_V6,
    };
    if entry.network.prefix_len() < shortest {
        return Err(EntryError::Wrong(format!(
            "{} is too wide: expected a /{shortest} or longer; the switch `sekisho mode` is there to \
             let everything pass",
            entry.network
        )));
    }
    Ok(())
}

fn text_fault(entry: &OperatorEntry) -> Option<String> {
    let wrong = |text: &str, most| {
        text.trim().is_empty() || text.len() > most || text.contains(char::is_control)
    };
    if wrong(&entry.reason, MAX_REASON) {
        return Some(format!("reason: expected 1 to {MAX_REASON} bytes of text in one line"));
    }
    if wrong(&entry.owner, MAX_OWNER) {
        return Some(format!("owner: expected 1 to {MAX_OWNER} bytes of text in one line"));
    }
    if entry.ports.len() > MAX_PORTS || entry.ports.contains(&0) {
        return Some(format!("ports: expected at most {MAX_PORTS}, from 1 to 65535"));
    }
    if entry.network != entry.network.trunc() {
        let whole = entry.network.trunc();
        return Some(format!("{} has host bits: expected {whole} or a single host", entry.network));
    }
    (entry.feed.is_some() && entry.decision != Decision::Suppress)
        .then(|| "feed: only a suppression is about the claims of a feed".to_owned())
}

fn end_fault(entry: &OperatorEntry, policy: &Policy, now: Moment) -> Option<String> {
    let longest = policy.longest_entry;
    match entry.until {
        None if entry.decision == Decision::Suppress => None,
        None => {
            Some(format!("until: a {} needs an end, at most {longest} from now", entry.decision))
        }
        Some(until) if until <= now => Some(format!("until: {until} is over")),
        Some(until) if until > now.after(longest) => {
            Some(format!("until: expected at most {longest} from now, found {until}"))
        }
        Some(_) => None,
    }
}

/// The blocks in force as lists, one for each action.
pub(crate) fn lists(
    entries: &[OperatorEntry],
    policy: &Policy,
    now: Moment,
) -> Vec<(FeedSpec, Parsed)> {
    let actions = [Action::Drop, Action::Reject, Action::Sinkhole, Action::Observe];
    let list = |action| {
        let blocks = entries.iter().filter(|entry| {
            entry.decision == Decision::Block && entry.action == action && entry.is_in_force(now)
        });
        let first = blocks.clone().next()?;
        let parsed =
            Parsed { indicators: blocks.flat_map(indicators).collect(), ..Parsed::default() };
        Some((spec(&first.list(), action, policy), parsed))
    };
    actions.into_iter().filter_map(list).collect()
}

fn indicators(entry: &OperatorEntry) -> impl Iterator<Item = Indicator> {
    entry.traffic().map(|traffic| Indicator {
        network: entry.network,
        traffic,
        malware: None,
        first_seen: Some(entry.since),
        last_seen: None,
        confidence: None,
        valid_until: entry.until,
        compromised: false,
        line: entry.id,
    })
}

fn spec(name: &str, action: Action, policy: &Policy) -> FeedSpec {
    FeedSpec {
        name: FeedName::reserved(name),
        source: Source::File(PathBuf::new()),
        format: Format::Plain,
        mapping: None,
        action,
        enabled: true,
        min_prefix_v4: Some(policy.entry_min_prefix_v4),
        min_prefix_v6: Some(policy.entry_min_prefix_v6),
        // Their own ends count.
        expire_after: Some(Period::days(3_650)),
        max_age: None,
        class: Class::Unknown,
        ports: Ports::Keep,
        // Nobody is surer of it than who decided it.
        confidence: Some(100),
        min_confidence: 0,
        weight: 100,
        origin: None,
        observe_for: Some(Wait(None)),
        refresh: Period::hours(1),
        min_refresh: None,
        max_content_age: None,
        auth: None,
        proxy: None,
        proxy_login: None,
        ca_file: None,
        taxii: None,
        crowdsec: None,
        max_bytes: None,
        limits: Limits::default(),
        may_be_empty: true,
        approval: Approval::None,
        older_after: None,
        licence: None,
        attribution: None,
        homepage: None,
        comment: None,
    }
}

/// Whether a name is kept for the operator's own lists.
pub fn is_reserved(name: &str) -> bool {
    name == LIST || name.strip_prefix(LIST).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(protocol: Option<Protocol>, ports: &[u16]) -> OperatorEntry {
        OperatorEntry {
            id: 7,
            decision: Decision::Allow,
            action: Action::Drop,
            network: "198.18.0.0/24".parse().unwrap(),
            protocol,
            ports: ports.to_vec(),
            feed: None,
            reason: "a test".to_owned(),
            owner: "alice".to_owned(),
            since: Moment::MIN,
            until: Some(Moment::nearest(1_800_000_000)),
        }
    }

    #[test]
    fn what_meets_and_what_covers_are_told_apart() {
        let tcp = |port| Traffic { protocol: Some(Protocol::Tcp), port };
        let any = entry(None, &[]);
        assert!(any.meets(Traffic::ANY) && any.covers(Traffic::ANY) && any.covers(tcp(Some(9))));
        let web = entry(Some(Protocol::Tcp), &[80, 443]);
        assert!(web.meets(Traffic::ANY) && !web.covers(Traffic::ANY));
        assert!(web.covers(tcp(Some(443))) && !web.meets(tcp(Some(22))));
        assert!(web.meets(Traffic { protocol: None, port: Some(80) }));
        assert!(!web.covers(Traffic { protocol: None, port: Some(80) }));
        assert!(!web.meets(Traffic { protocol: Some(Protocol::Udp), port: Some(443) }));
        assert!(web.meets(tcp(None)) && !web.covers(tcp(None)));
    }

    #[test]
    fn an_entry_is_told_in_a_sentence() {
        let text = entry(Some(Protocol::Tcp), &[80, 443]).to_string();
        let expected = "Entry 7 of alice lets 198.18.0.0/24:80/tcp and port 443 pass until \
                        2027-01-15T08:00:00Z: a test.";
        assert_eq!(text, expected);
    }

    #[test]
    fn names_of_the_operators_lists_are_reserved_and_others_are_not() {
        for name in ["operator", "operator-observe", "operator-x"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["operators", "my-operator", "op"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
