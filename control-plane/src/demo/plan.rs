//! Whom the subscribers talk to: a sample of what is listed, and clean addresses right beside it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sekisho_rules::{
    compile::Compiled,
    explain::{Query, Verdict, explain},
    indicator::{Protocol, Traffic},
    table::{Entry, Table},
};

use super::{
    lab::Subscriber,
    traffic::{Session, Transport},
};

/// Most listed remotes, over all feeds and both families.
const MOST_LISTED: usize = 24;
/// Where an entry for all ports is tried.
const USUAL_PORT: u16 = 443;
/// Stands for the source port of a connection that a remote opens.
const SOME_HIGH_PORT: u16 = 40_000;
/// How far from a listed address a clean one may be.
const NEIGHBOURHOOD: u32 = 300;

/// A remote and what may be spoken with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Address and port.
    pub at: SocketAddr,
    /// The transports that are listed (or not) there.
    pub transports: Vec<Transport>,
}

/// Who talks to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What has to be blocked.
    pub listed: Vec<Remote>,
    /// What has to pass.
    pub clean: Vec<Remote>,
    /// Sessions with listed remotes.
    pub blocked_sessions: Vec<Session>,
    /// Sessions with clean remotes.
    pub clean_sessions: Vec<Session>,
}

impl Plan {
    /// Takes a sample of a table.
    pub fn of(compiled: &Compiled, lines: &[Subscriber]) -> Self {
        let mut plan = Self::default();
        for (network, traffic) in sample(&compiled.table) {
            let Some(listed) = listed_remote(compiled, network, traffic) else { continue };
            let neighbours = clean_neighbours(compiled, &listed);
            plan.add_clean(neighbours);
            plan.listed.push(listed);
        }
        plan.blocked_sessions = sessions(compiled, &plan.listed, lines);
        plan.clean_sessions = sessions(compiled, &plan.clean, lines);
        plan
    }

    /// Every remote, each once.
    pub fn remotes(&self) -> BTreeSet<SocketAddr> {
        self.listed.iter().chain(&self.clean).map(|remote| remote.at).collect()
    }

    /// Every remote address, each once.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.remotes().iter().map(SocketAddr::ip).collect()
    }

    fn add_clean(&mut self, remotes: Vec<Remote>) {
        for remote in remotes {
            if !self.clean.contains(&remote) {
                self.clean.push(remote);
            }
        }
    }
}

/// What the lists say of traffic with a remote.
pub fn verdict(compiled: &Compiled, remote: SocketAddr, protocol: u8) -> Verdict {
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == protocol);
    let port = protocol.map(|_| remote.port());
    explain(compiled, Query { address: remote.ip(), port, protocol }).verdict
}

/// Entries of every feed, as evenly as the feeds allow.
fn sample(table: &Table) -> Vec<(IpNet, Traffic)> {
    let share = (MOST_LISTED / table.feeds.len().max(1)).max(2);
    let mut chosen = Vec::new();
    for slot in 0..table.feeds.len() {
        let v4 = claimed_by(table, &table.v4, slot, |network: Ipv4Net| network.into());
        let v6 = claimed_by(table, &table.v6, slot, |network: Ipv6Net| network.into());
        let share_v6 = if v4.is_empty() { share } else { share / 2 };
        let of_v6 = spread(&v6, share_v6);
        let of_v4 = spread(&v4, share - of_v6.len());
        for row in of_v4.into_iter().chain(of_v6) {
            if !chosen.contains(&row) && chosen.len() < MOST_LISTED {
                chosen.push(row);
            }
        }
    }
    chosen
}

fn claimed_by<Net: Copy>(
    table: &Table,
    entries: &[Entry<Net>],
    slot: usize,
    network: impl Fn(Net) -> IpNet,
) -> Vec<(IpNet, Traffic)> {
    entries
        .iter()
        .flat_map(|entry| table.claims_of(entry).iter().map(move |claim| (entry.network, claim)))
        .filter(|(_, claim)| usize::from(claim.feed) == slot)
        .map(|(net, claim)| (network(net), claim.traffic))
        .collect()
}

/// So many rows at equal distances.
fn spread<T: Copy>(rows: &[T], count: usize) -> Vec<T> {
    let step = rows.len().div_ceil(count.max(1)).max(1);
    rows.iter().step_by(step).take(count).copied().collect()
}

fn listed_remote(compiled: &Compiled, network: IpNet, traffic: Traffic) -> Option<Remote> {
    let address = match network {
        IpNet::V4(net) if net.prefix_len() < 31 => shifted(net.addr().into(), 1)?,
        IpNet::V6(net) if net.prefix_len() < 127 => shifted(net.addr().into(), 1)?,
        host => host.addr(),
    };
    let at = SocketAddr::new(address, traffic.port.unwrap_or(USUAL_PORT));
    let transports = transports_with(compiled, at, Verdict::Drop);
    (!transports.is_empty()).then_some(Remote { at, transports })
}

/// A clean address close by, and another port of the same address where that is clean.
fn clean_neighbours(compiled: &Compiled, listed: &Remote) -> Vec<Remote> {
    let other_port =
        SocketAddr::new(listed.at.ip(), listed.at.port().checked_add(1).unwrap_or(USUAL_PORT));
    let close_by = (1..=NEIGHBOURHOOD)
        .flat_map(|distance| [i64::from(distance), -i64::from(distance)])
        .filter_map(|distance| shifted(listed.at.ip(), distance))
        .filter(|address| is_ordinary(*address))
        .map(|address| SocketAddr::new(address, listed.at.port()))
        .find_map(|at| clean_remote(compiled, at));
    clean_remote(compiled, other_port).into_iter().chain(close_by).collect()
}

fn clean_remote(compiled: &Compiled, at: SocketAddr) -> Option<Remote> {
    let transports = transports_with(compiled, at, Verdict::Pass);
    (transports.len() == 2).then_some(Remote { at, transports })
}

fn transports_with(compiled: &Compiled, at: SocketAddr, wanted: Verdict) -> Vec<Transport> {
    [Transport::Tcp, Transport::Udp]
        .into_iter()
        .filter(|transport| verdict(compiled, at, transport.number()) == wanted)
        .collect()
}

/// Two subscribers call each remote, one untagged and one tagged, and the remote calls a third.
fn sessions(compiled: &Compiled, remotes: &[Remote], lines: &[Subscriber]) -> Vec<Session> {
    let mut sessions = Vec::new();
    if lines.is_empty() {
        return sessions;
    }
    let half = lines.len() / 2;
    for (nth, remote) in remotes.iter().enumerate() {
        let line = |offset: usize| lines.get((nth + offset) % lines.len()).cloned();
        for transport in &remote.transports {
            let mut add = |subscriber: Option<Subscriber>, inbound| {
                if let Some(subscriber) = subscriber {
                    let (remote, transport) = (remote.at, *transport);
                    sessions.push(Session { subscriber, remote, transport, inbound });
                }
            };
            add(line(0), false);
            add(line(half), false);
            // A connection that the remote opens comes from a port of the system's choice, so it
            // tells something only where that port means the same as the listed one.
            let high_port = SocketAddr::new(remote.at.ip(), SOME_HIGH_PORT);
            let same = verdict(compiled, high_port, transport.number())
                == verdict(compiled, remote.at, transport.number());
            if *transport == Transport::Udp || same {
                add(line(1), true);
            }
        }
    }
    sessions
}

fn shifted(address: IpAddr, by: i64) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let shifted = i64::from(v4.to_bits()).checked_add(by)?;
            Some(Ipv4Addr::from_bits(u32::try_from(shifted).ok()?).into())
        }
        IpAddr::V6(v6) => {
            let shifted = v6.to_bits().checked_add_signed(by.into())?;
            Some(Ipv6Addr::from_bits(shifted).into())
        }
    }
}

/// Whether a host can have this address and the lab has no other use for it.
fn is_ordinary(address: IpAddr) -> bool {
    let of_the_lab = |net: &str| net.parse::<IpNet>().is_ok_and(|net| net.contains(&address));
    let unicast = match address {
        IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]) && !v4.is_loopback(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    };
    unicast && !of_the_lab("100.64.0.0/10") && !of_the_lab("2001:db8::/32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::lists::{Lists, write_own_lists};

    fn lines() -> Vec<Subscriber> {
        (1..=4)
            .map(|n| Subscriber {
                name: format!("line-{n}"),
                v4: Ipv4Addr::new(100, 64, 0, n),
                v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()),
                vlan: None,
            })
            .collect()
    }

    fn own() -> Compiled {
        let folder = tempfile::tempdir().unwrap();
        write_own_lists(folder.path()).unwrap();
        let lists = Lists::read(folder.path(), |error| panic!("{error}")).unwrap();
        lists.compile("2026-11-22T00:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn listed_and_clean_remotes_never_meet_and_both_families_are_there() {
        let compiled = own();
        let plan = Plan::of(&compiled, &lines());
        for remotes in [&plan.listed, &plan.clean] {
            assert!(remotes.iter().any(|remote| remote.at.is_ipv4()), "{remotes:?}");
            assert!(remotes.iter().any(|remote| remote.at.is_ipv6()), "{remotes:?}");
        }
        for (remotes, expected) in [(&plan.listed, Verdict::Drop), (&plan.clean, Verdict::Pass)] {
            for remote in remotes {
                for transport in &remote.transports {
                    assert_eq!(verdict(&compiled, remote.at, transport.number()), expected);
                }
            }
        }
    }

    #[test]
    fn a_port_entry_gets_a_clean_remote_on_the_same_address() {
        let plan = Plan::of(&own(), &lines());
        assert!(
            plan.listed
                .iter()
                .any(|listed| { plan.clean.iter().any(|clean| clean.at.ip() == listed.at.ip()) })
        );
    }

    #[test]
    fn every_remote_is_called_and_calls() {
        let plan = Plan::of(&own(), &lines());
        for sessions in [&plan.blocked_sessions, &plan.clean_sessions] {
            assert!(sessions.iter().any(|session| session.inbound));
            assert!(sessions.iter().any(|session| !session.inbound));
        }
    }

    #[test]
    fn a_table_without_entries_gives_an_empty_plan() {
        assert_eq!(Plan::of(&Compiled::default(), &lines()), Plan::default());
    }

    #[test]
    fn neighbours_stay_inside_their_family() {
        assert_eq!(shifted("0.0.0.0".parse().unwrap(), -1), None);
        assert_eq!(shifted("255.255.255.255".parse().unwrap(), 1), None);
        assert_eq!(shifted("::".parse().unwrap(), -1), None);
    }
}
