//! Who used an address at a given time.

mod csv_file;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::csv_file::CsvFileError;

/// How sure an attribution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// One subscriber had the address all the time.
    Exact,
    /// More than one had it, or it changed hands.
    Ambiguous,
    /// Nobody is known to have had it.
    Unknown,
}

impl Certainty {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Ambiguous, Self::Unknown];

    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Ambiguous => "ambiguous",
            Self::Unknown => "unknown",
        }
    }

    /// The certainty of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|certainty| certainty.as_str() == name)
    }
}

/// A subscriber of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// As the operator's systems name it.
    pub id: Arc<str>,
    /// The brand or wholesale customer it belongs to; empty if there is but one.
    pub tenant: Arc<str>,
}

/// Whose an address was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// How sure that is.
    pub certainty: Certainty,
    /// Only if it is exact.
    pub subscriber: Option<Subscriber>,
}

/// A subscriber had a network from a time (inclusive) to a time (exclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Host bits are zero.
    pub network: IpNet,
    /// Who had it.
    pub subscriber: Subscriber,
    /// `None` since ever.
    pub from: Option<Timestamp>,
    /// `None` for good.
    pub to: Option<Timestamp>,
}

impl Assignment {
    fn holds_at(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }
}

/// Assignments by network.
#[derive(Clone, Debug, Default)]
pub struct Subscribers {
    by_network: HashMap<IpNet, Vec<Assignment>>,
    /// Prefix lengths that occur, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    count: usize,
}

impl Subscribers {
    /// Indexes assignments.
    pub fn new(assignments: impl IntoIterator<Item = Assignment>) -> Self {
        let mut subscribers = Self::default();
        for assignment in assignments {
            let lengths = match assignment.network {
                IpNet::V4(_) => &mut subscribers.lengths_v4,
                IpNet::V6(_) => &mut subscribers.lengths_v6,
            };
            let length = assignment.network.prefix_len();
            if let Err(at) = lengths.binary_search_by(|known| length.cmp(known)) {
                lengths.insert(at, length);
            }
            subscribers.by_network.entry(assignment.network).or_default().push(assignment);
            subscribers.count += 1;
        }
        subscribers
    }

    /// Reads a CSV file.
    pub fn read(path: &Path) -> Result<Self, CsvFileError> {
        Ok(Self::new(csv_file::read(path)?))
    }

    /// How many assignments there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many subscribers hold an address at this time.
    pub fn holding(&self, at: Timestamp) -> usize {
        let all = self.by_network.values().flatten();
        let holders: HashSet<_> = all.filter(|a| a.holds_at(at)).map(|a| &a.subscriber).collect();
        holders.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All networks that somebody has or had, neighbours joined.
    pub fn networks(&self) -> Vec<IpNet> {
        let networks: Vec<IpNet> = self.by_network.keys().copied().collect();
        IpNet::aggregate(&networks)
    }

    /// Whose an address was over a span of time, both ends included.
    pub fn attribute(&self, address: IpAddr, first: Timestamp, last: Timestamp) -> Attribution {
        let at_last = self.holder(address, last);
        if first >= last {
            return at_last;
        }
        let at_first = self.holder(address, first);
        if at_first == at_last && !self.changed_within(address, first, last) {
            return at_last;
        }
        Attribution { certainty: Certainty::Ambiguous, subscriber: None }
    }

    /// Whose it was at one moment: the longest network that somebody had then decides.
    fn holder(&self, address: IpAddr, at: Timestamp) -> Attribution {
        for assignments in self.covering(address) {
            let mut holders = assignments.iter().filter(|assignment| assignment.holds_at(at));
            let Some(first) = holders.next() else { continue };
            return if holders.all(|other| other.subscriber == first.subscriber) {
                let subscriber = Some(first.subscriber.clone());
                Attribution { certainty: Certainty::Exact, subscriber }
            } else {
                Attribution { certainty: Certainty::Ambiguous, subscriber: None }
            };
        }
        Attribution { certainty: Certainty::Unknown, subscriber: None }
    }

    /// Whether anybody's assignment of it began or ended in between, with another holder then.
    fn changed_within(&self, address: IpAddr, first: Timestamp, last: Timestamp) -> bool {
        let at_last = self.holder(address, last);
        self.covering(address)
            .flatten()
            .flat_map(|assignment| [assignment.from, assignment.to])
            .flatten()
            .filter(|edge| first < *edge && *edge < last)
            .any(|edge| self.holder(address, edge) != at_last)
    }

    /// The assignments of the networks that cover an address, the longest first.
    fn covering(&self, address: IpAddr) -> impl Iterator<Item = &[Assignment]> {
        let address = address.to_canonical();
        let lengths = match address {
            IpAddr::V4(_) => &self.lengths_v4,
            IpAddr::V6(_) => &self.lengths_v6,
        };
        lengths
            .iter()
            .filter_map(move |length| self.by_network.get(&network_of(address, *length)))
            .map(Vec::as_slice)
    }
}

fn network_of(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).map_or(IpNet::from(address), |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-05-{text}Z").parse().unwrap()
    }

    fn subscribers(rows: &str) -> Subscribers {
        let text = format!("prefix,subscriber,tenant,from,to\n{rows}");
        Subscribers::new(csv_file::parse(text.as_bytes(), Path::new("s.csv")).unwrap())
    }

    fn who(subscribers: &Subscribers, address: &str, first: &str, last: &str) -> String {
        let answer = subscribers.attribute(address.parse().unwrap(), at(first), at(last));
        let id = answer.subscriber.map(|subscriber| subscriber.id.to_string()).unwrap_or_default();
        format!("{} {id}", answer.certainty.as_str()).trim_end().to_owned()
    }

    #[test]
    fn the_longest_network_decides() {
        let known = subscribers("10.0.0.0/8,wide,t,,\n10.1.2.3,host,t,,\n2001:db8::/32,six,t,,\n");
        assert_eq!(who(&known, "10.1.2.3", "01T00:00", "01T00:00"), "exact host");
        assert_eq!(who(&known, "10.9.9.9", "01T00:00", "01T00:00"), "exact wide");
        assert_eq!(who(&known, "2001:db8::7", "01T00:00", "01T00:00"), "exact six");
        assert_eq!(who(&known, "192.0.2.1", "01T00:00", "01T00:00"), "unknown");
        assert_eq!(who(&known, "::ffff:10.1.2.3", "01T00:00", "01T00:00"), "exact host");
    }

    #[test]
    fn a_subscriber_with_several_networks_is_one_holder() {
        let rows = "10.0.0.1,a,t,,\n2001:db8::/64,a,t,,\n10.0.0.2,a,u,,\n\
                    10.0.0.3,b,t,,2026-05-02T00:00:00Z\n";
        let known = subscribers(rows);
        assert_eq!(
            (known.len(), known.holding(at("01T00:00")), known.holding(at("02T00:00"))),
            (4, 3, 2)
        );
    }

    #[test]
    fn an_assignment_holds_from_its_start_to_just_before_its_end() {
        let known = subscribers("10.0.0.1,a,t,2026-05-02T00:00:00Z,2026-05-03T00:00:00Z\n");
        assert_eq!(who(&known, "10.0.0.1", "01T23:59", "01T23:59"), "unknown");
        assert_eq!(who(&known, "10.0.0.1", "02T00:00", "02T00:00"), "exact a");
        assert_eq!(who(&known, "10.0.0.1", "03T00:00", "03T00:00"), "unknown");
    }

    #[test]
    fn a_longer_network_without_a_holder_then_leaves_it_to_the_wider() {
        let known = subscribers("10.0.0.0/24,wide,t,,\n10.0.0.1,a,t,2026-05-02T00:00:00Z,\n");
        assert_eq!(who(&known, "10.0.0.1", "01T00:00", "01T00:00"), "exact wide");
    }

    #[test]
    fn two_holders_at_a_time_are_ambiguous_unless_they_are_the_same() {
        let known = subscribers("10.0.0.1,a,t,,\n10.0.0.1,b,t,,\n10.0.0.2,c,t,,\n10.0.0.2,c,t,,\n");
        assert_eq!(who(&known, "10.0.0.1", "01T00:00", "01T00:00"), "ambiguous");
        assert_eq!(who(&known, "10.0.0.2", "01T00:00", "01T00:00"), "exact c");
    }

    #[test]
    fn the_same_name_of_two_tenants_is_two_subscribers() {
        let known = subscribers("10.0.0.1,a,one,,\n10.0.0.1,a,two,,\n");
        assert_eq!(who(&known, "10.0.0.1", "01T00:00", "01T00:00"), "ambiguous");
    }

    #[test]
    fn an_address_that_changed_hands_within_the_flow_is_ambiguous() {
        let known = subscribers(
            "10.0.0.1,a,t,,2026-05-02T00:00:00Z\n10.0.0.1,b,t,2026-05-02T00:00:00Z,\n\
             10.0.0.2,a,t,,2026-05-02T00:00:00Z\n10.0.0.2,b,t,2026-05-02T00:00:00Z,2026-05-03T00:00:00Z\n\
             10.0.0.2,a,t,2026-05-03T00:00:00Z,\n",
        );
        assert_eq!(who(&known, "10.0.0.1", "01T00:00", "03T00:00"), "ambiguous");
        assert_eq!(who(&known, "10.0.0.1", "02T00:00", "03T00:00"), "exact b");
        assert_eq!(who(&known, "10.0.0.2", "01T00:00", "04T00:00"), "ambiguous", "and back again");
    }
}
