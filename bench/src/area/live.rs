//! live/: packets a second over a cable, ours beside what a user would pick instead.

mod peers;
mod stand;

use std::{collections::HashMap, rc::Rc};

use anyhow::Result;

use self::{
    peers::{Ipset, Nftables, Peer, XdpFilter},
    stand::{Contender, Stage, Stand},
};
use super::Run;
use crate::{
    lab::Room,
    lists::{Entries, label},
    report::{Results, Row},
    sampling::Samples,
    trace::{Layout, Trace, Transport, subscribers},
};

/// Distinct flows of a trace.
const FLOWS: [usize; 5] = [1, 1_000, 100_000, 250_000, 1_000_000];
/// Those of a quick run, where the longest list alone sees them all.
const FEW_FLOWS: [usize; 2] = [1, 250_000];
/// From so many flows on, samples are long, and there are fewer of them.
const MANY_FLOWS: usize = 100_000;

/// What is done to packets, and to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Listed ones are dropped.
    Drop,
    /// Listed ones are counted, and go on into the network stack.
    Observe,
    /// Clean ones go on over another cable.
    Wire,
    /// Listed segments of TCP are answered with a reset, up to the limit, and dropped.
    Reject,
}

impl Action {
    const ALL: [Self; 4] = [Self::Drop, Self::Observe, Self::Wire, Self::Reject];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Observe => "observe",
            Self::Wire => "wire",
            Self::Reject => "reject",
        }
    }

    /// The program that does the same and nothing else, and its name in results.
    const fn empty(self) -> (&'static str, &'static str) {
        match self {
            Self::Drop => ("empty_drop", "empty"),
            Self::Observe => ("empty_pass", "empty-pass"),
            Self::Wire => ("empty_redirect", "empty-redirect"),
            Self::Reject => ("empty_tx", "empty-tx"),
        }
    }

    /// Samples of few flows that each takes in a turn: short ones, so that what disturbs the machine meets
    /// neighbours alike. Those of the others have to be long: the stack is slow to take a packet, and
    /// answers are limited by time.
    const fn repeats(self) -> usize {
        match self {
            Self::Drop | Self::Wire => 8,
            Self::Observe | Self::Reject => 1,
        }
    }

    const fn layout(self) -> Layout {
        let transport = match self {
            Self::Reject => Transport::TcpSyn,
            Self::Drop | Self::Observe | Self::Wire => Transport::Udp,
        };
        Layout { transport, ..Layout::PLAIN_V4 }
    }
}

/// What one contender reached with each trace.
struct Figures {
    name: String,
    rates: [Samples; FLOWS.len()],
    /// Packets that the cable lost because the receiving end was too slow for it.
    lost: u64,
    absent: Option<String>,
}

/// Measures every contender with every trace. Those that do the same to packets take turns.
pub fn measure(run: &Run, room: Room, entries: &Entries, results: &mut Results) -> Result<()> {
    let mut figures = HashMap::new();
    let mut traces = Traces::new(entries);
    for action in Action::ALL {
        figures.insert(action, contest(run, room, action, &mut traces)?);
    }
    for action in Action::ALL {
        report(action, &figures, results);
    }
    Ok(())
}

fn contenders(run: &Run, action: Action) -> Vec<Contender> {
    let mut contenders = vec![Contender::Empty];
    let largest = run.sizes.last().copied();
    let is_wanted = |entries: &&usize| match action {
        Action::Drop => true,
        Action::Wire => !run.is_quick && **entries == 1 || Some(**entries) == largest,
        Action::Observe | Action::Reject => Some(**entries) == largest,
    };
    let ours = run.sizes.iter().filter(is_wanted);
    contenders.extend(ours.map(|entries| Contender::Sekisho { entries: *entries }));
    if action == Action::Drop {
        let peers: [Box<dyn Peer>; 3] = [Box::new(XdpFilter), Box::new(Nftables), Box::new(Ipset)];
        contenders.extend(peers.map(Contender::Peer));
    }
    contenders
}

/// Whether a contender meets so many flows: in a quick run, not each meets all of them.
fn meets(run: &Run, action: Action, contender: &Contender, flows: usize) -> bool {
    if !run.is_quick {
        return true;
    }
    let is_shorter = match contender {
        Contender::Sekisho { entries } => run.sizes.last() != Some(entries),
        Contender::Empty | Contender::Peer(_) => false,
    };
    match action {
        Action::Drop => !is_shorter || flows == 1,
        Action::Observe | Action::Wire | Action::Reject => FEW_FLOWS.contains(&flows),
    }
}

fn contest(run: &Run, room: Room, action: Action, traces: &mut Traces<'_>) -> Result<Vec<Figures>> {
    let mut stage = Stage::new(action, room, traces.entries)?;
    let (mut figures, mut stands) = (Vec::new(), Vec::new());
    for (place, contender) in contenders(run, action).into_iter().enumerate() {
        let (name, is_peer) = (contender.name(action), contender.is_peer());
        let (stand, absent) = match Stand::set_up(&mut stage, place, contender) {
            Ok(stand) => (Some(stand), None),
            Err(error) if is_peer => (None, Some(format!("{error:#}"))),
            Err(error) => return Err(error.context(name)),
        };
        stands.push(stand);
        figures.push(Figures { name, rates: Default::default(), lost: 0, absent });
    }
    let order = order(run, &stands);
    for turn in 0..run.turns.div_ceil(2) {
        for (at, flows) in FLOWS.into_iter().enumerate() {
            if flows >= MANY_FLOWS && turn >= run.rounds {
                continue;
            }
            let repeats = if flows < MANY_FLOWS { action.repeats() } else { 1 };
            for place in order.iter().flat_map(|group| group.repeat(repeats)) {
                let (stand, figures) = (&mut stands[place], &mut figures[place]);
                let Some(contender) = stand.as_ref().map(Stand::contender) else { continue };
                if !meets(run, action, contender, flows) {
                    continue;
                }
                let key = (action == Action::Wire, action.layout().transport, flows);
                let trace = traces.get(key, contender.entries());
                let is_peer = contender.is_peer();
                let sample = stand.as_ref().map(|stand| stand.sample(&mut stage, &trace, flows));
                match sample.transpose() {
                    Ok(None) => {}
                    Ok(Some(sample)) => {
                        figures.rates[at].push(sample.rate);
                        figures.lost += sample.lost;
                    }
                    Err(error) if is_peer => {
                        figures.absent = Some(format!("{error:#}"));
                        *stand = None;
                    }
                    Err(error) => return Err(error.context(figures.name.clone())),
                }
            }
        }
    }
    Ok(figures)
}

/// Who takes turns sample by sample, by their places, group after group: most of them, then each of our
/// shorter lists, of which only one can be live.
fn order(run: &Run, stands: &[Option<Stand>]) -> Vec<Vec<usize>> {
    let is_shorter = |place: &usize| match stands[*place].as_ref().map(Stand::contender) {
        Some(Contender::Sekisho { entries }) => run.sizes.last() != Some(entries),
        _ => false,
    };
    let (shorter, others) = (0..stands.len()).partition(is_shorter);
    let mut groups: Vec<Vec<usize>> = vec![others];
    groups.extend(Vec::into_iter(shorter).map(|place| vec![place]));
    groups
}

/// Whether destinations are clean, the transport layer, and the flows.
type Kind = (bool, Transport, usize);

/// Traces by their kind and listed addresses: sixteen megabytes each, so none is made twice.
struct Traces<'a> {
    entries: &'a Entries,
    made: HashMap<(Kind, usize), Rc<Trace>>,
}

impl<'a> Traces<'a> {
    fn new(entries: &'a Entries) -> Self {
        Self { entries, made: HashMap::new() }
    }

    /// So many flows, listed ones to the first `listed` entries at most, from as many subscribers as
    /// that takes.
    fn get(&mut self, kind @ (is_clean, transport, flows): Kind, listed: usize) -> Rc<Trace> {
        let used = if is_clean { flows } else { listed.min(flows) };
        let make = || {
            let sources = subscribers(flows);
            Rc::new(if is_clean {
                Trace::v4_of(transport, &Entries::clean_v4(&[self.entries], used), sources)
            } else {
                Trace::v4_of(transport, &self.entries.v4[..used], sources)
            })
        };
        Rc::clone(self.made.entry((kind, used)).or_insert_with(make))
    }
}

fn report(action: Action, figures: &HashMap<Action, Vec<Figures>>, results: &mut Results) {
    let rates = |action: Action, name: &str, at: usize| {
        figures[&action]
            .iter()
            .find(|figures| figures.name.starts_with(name) && figures.absent.is_none())
            .map_or_else(Samples::default, |figures| figures.rates[at].clone())
    };
    let (_, empty) = action.empty();
    for of_one in &figures[&action] {
        for (at, flows) in FLOWS.into_iter().enumerate() {
            let plural = if flows == 1 { "flow" } else { "flows" };
            let flows = label(flows);
            let name = format!("live/{}/{}/{flows}-{plural}", action.as_str(), of_one.name);
            if let Some(why) = &of_one.absent {
                results.push(Row::absent(name, why));
                continue;
            }
            if of_one.rates[at].runs() == 0 {
                continue;
            }
            let mut row = Row::new(name, "Mpps", &of_one.rates[at]).with("lost", of_one.lost);
            if of_one.name != empty {
                row = row.ratio(empty, &rates(action, empty, at));
            }
            if of_one.name.starts_with("sekisho") && action == Action::Drop {
                for peer in ["xdp-filter", "nftables", "ipset"] {
                    row = row.ratio(peer, &rates(action, peer, at));
                }
            }
            results.push(row);
        }
    }
}
