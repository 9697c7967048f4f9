//! One contender on its cable: set up once, then asked for samples in turn with the others.

use std::{collections::BTreeMap, fs, rc::Rc, slice, time::Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::XdpMode;
use sekisho::dataplane::PortCounts;
use sekisho_abi::{
    image::{self, Image},
    reason::Reason,
    record::{ANSWER_WINDOW_NS, ANSWERS_PER_WINDOW, Mode},
};

use super::{Action, MANY_FLOWS, peers::Peer};
use crate::{
    lab::{self, Cable, Guard, Received, Room},
    lists::{Entries, label},
    trace::Trace,
    tracer::{Options, Tracer},
};

/// Packets before a sample of few flows, so that caches are warm.
const WARM_UP: u32 = 1 << 15;
/// Packets of a sample.
const PACKETS: u32 = 1 << 17;
/// Packets of a sample of many flows, with nothing before it: the whole trace, in which 250,000 flows
/// have four packets each. The ledger is empty at its beginning.
const PACKETS_OF_MANY: u32 = 1 << 20;
/// The same for peers, which keep no ledger, and so do the same to each packet.
const PACKETS_OF_MANY_FOR_PEERS: u32 = 1 << 18;

/// A program or rule on the receiving end, with a list.
pub(super) enum Contender {
    /// A program that gives the verdict and does nothing else.
    Empty,
    /// Ours.
    Sekisho { entries: usize },
    /// What a user would pick instead.
    Peer(Box<dyn Peer>),
}

impl Contender {
    /// As results name it, list included.
    pub(super) fn name(&self, action: Action) -> String {
        match self {
            Self::Empty => action.empty().1.to_owned(),
            Self::Sekisho { entries } => format!("sekisho/{}", label(*entries)),
            Self::Peer(peer) => format!("{}/{}", peer.name(), label(peer.most_entries())),
        }
    }

    /// Entries of its list.
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Empty => usize::MAX,
            Self::Sekisho { entries } => *entries,
            Self::Peer(peer) => peer.most_entries(),
        }
    }

    pub(super) const fn is_peer(&self) -> bool {
        matches!(self, Self::Peer(_))
    }
}

/// What the contenders of one action share.
pub(super) struct Stage<'a> {
    action: Action,
    tracer: Tracer,
    /// What the tracer is loaded with.
    loaded: Option<Rc<Trace>>,
    room: Room,
    entries: &'a Entries,
    ours: Option<Ours>,
}

/// Our program on a cable, which all of our lists share.
struct Ours {
    guard: Guard,
    cable: Cable,
    beyond: Cable,
    images: BTreeMap<usize, Image>,
    /// The list that is live.
    live: Option<usize>,
    /// Packets that the flow table had no place for so far, as its last drain said.
    overflow: u64,
}

impl<'a> Stage<'a> {
    pub(super) fn new(action: Action, room: Room, entries: &'a Entries) -> Result<Self> {
        let tracer = Tracer::new(&Options::of(action.layout()))?;
        Ok(Self { action, tracer, loaded: None, room, entries, ours: None })
    }

    /// Our program on these cables, unless it is on others already.
    fn ours(&mut self, cable: Cable, beyond: Cable) -> Result<&mut Ours> {
        if self.ours.is_none() {
            let guard = match self.action {
                Action::Wire => Guard::start_wire(self.room, &cable, &beyond)?,
                Action::Drop | Action::Observe | Action::Reject => Guard::start(self.room, &cable)?,
            };
            let is_observe = self.action == Action::Observe;
            guard.set_mode(if is_observe { Mode::Observe } else { Mode::Enforce })?;
            let images = BTreeMap::new();
            self.ours = Some(Ours { guard, cable, beyond, images, live: None, overflow: 0 });
        }
        self.ours.as_mut().context("nothing is guarded")
    }

    /// Our program with the list of this length live.
    fn guard(&mut self, entries: usize) -> Result<&Guard> {
        let ours = self.ours.as_mut().context("nothing is guarded")?;
        if ours.live != Some(entries) {
            let image = ours.images.get(&entries).context("a list that was not made")?;
            ours.guard.publish(image)?;
            ours.live = Some(entries);
        }
        Ok(&ours.guard)
    }

    /// Packets that the ledger accounts for since this was asked last.
    fn accounted(&mut self) -> Result<u64> {
        let ours = self.ours.as_mut().context("nothing is guarded")?;
        let settled = ours.guard.settle()?;
        let before = std::mem::replace(&mut ours.overflow, settled.overflow);
        Ok(settled.in_rows + settled.overflow - before)
    }

    fn attach(&mut self, program: &str, interface: &str) -> Result<()> {
        self.tracer.program(program)?;
        self.tracer.xdp(program)?.attach(interface, XdpMode::Driver)?;
        Ok(())
    }

    /// Makes this the trace that is sent, from its beginning.
    fn load(&mut self, trace: &Rc<Trace>) -> Result<()> {
        if self.loaded.as_ref().is_some_and(|loaded| Rc::ptr_eq(loaded, trace)) {
            return self.tracer.rewind();
        }
        self.loaded = Some(Rc::clone(trace));
        self.tracer.load(trace)
    }
}

/// A contender on its cable.
pub(super) struct Stand {
    contender: Contender,
    action: Action,
    cable: Cable,
    /// The cable that a wire goes on with.
    beyond: Cable,
}

/// What a contender reached.
pub(super) struct Sample {
    /// Million packets a second.
    pub(super) rate: f64,
    /// Packets that the cable lost on the way.
    pub(super) lost: u64,
}

/// What the counters say before a sample.
struct Before {
    far: Received,
    near: Received,
    beyond: Received,
    counted: u64,
    in_stack: u64,
    ours: Option<PortCounts>,
    at: Instant,
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Contender::Peer(peer) = &self.contender
            && let Err(error) = peer.unload(&self.cable.far)
        {
            eprintln!("{}: {error:#}", peer.name());
        }
    }
}

impl Stand {
    /// Puts a contender onto a cable of its own.
    pub(super) fn set_up(
        stage: &mut Stage<'_>,
        place: usize,
        contender: Contender,
    ) -> Result<Self> {
        let action = stage.action;
        let (mut cable, mut beyond) = (Cable::lay(2 * place)?, Cable::lay(2 * place + 1)?);
        let is_new = match &contender {
            Contender::Empty => {
                stage.attach(action.empty().0, &cable.far)?;
                stage.tracer.set_way_out(lab::index(&beyond.near)?)?;
                true
            }
            Contender::Sekisho { entries } => {
                let is_new = stage.ours.is_none();
                let made = image_for(stage, *entries)?;
                let ours = stage.ours(cable, beyond)?;
                ours.images.insert(*entries, made);
                (cable, beyond) = (ours.cable.clone(), ours.beyond.clone());
                is_new
            }
            Contender::Peer(peer) => {
                // A cable takes frames from a program only towards an end that has one, too.
                if peer.needs_program() {
                    stage.attach("empty_pass", &cable.far)?;
                }
                let listed = &stage.entries.v4[..peer.most_entries()];
                peer.load(&cable.far, listed)?;
                true
            }
        };
        match action {
            Action::Wire if is_new => stage.attach("count_drop", &beyond.far)?,
            Action::Reject if is_new => stage.attach("count_drop", &cable.near)?,
            Action::Wire | Action::Reject | Action::Drop | Action::Observe => {}
        }
        Ok(Self { contender, action, cable, beyond })
    }

    pub(super) const fn contender(&self) -> &Contender {
        &self.contender
    }

    /// Sends the packets of a trace and checks where each of them went.
    pub(super) fn sample(
        &self,
        stage: &mut Stage<'_>,
        trace: &Rc<Trace>,
        flows: usize,
    ) -> Result<Sample> {
        let (warm_up, packets) = match self.contender {
            _ if flows < MANY_FLOWS => {
                let parts = self.action.repeats() as u32;
                (WARM_UP / parts, PACKETS / parts)
            }
            Contender::Peer(_) => (0, PACKETS_OF_MANY_FOR_PEERS),
            Contender::Empty | Contender::Sekisho { .. } => (0, PACKETS_OF_MANY),
        };
        stage.load(trace)?;
        let before = self.before(stage)?;
        let near = lab::index(&self.cable.near)?;
        if warm_up > 0 {
            stage.tracer.send(near, warm_up)?;
        }
        let time = stage.tracer.send(near, packets)?;
        let sent = u64::from(warm_up) + u64::from(packets);
        let arrived = before.far.await_more(&self.cable.far, sent)?;
        let all = arrived.packets + arrived.dropped;
        ensure!(all == sent, "of {sent} packets {all} arrived or were lost");
        let lost_beyond = self.check(stage, &before, arrived.packets)?;
        let lost = arrived.dropped + lost_beyond;
        let rate = f64::from(packets) / time.as_secs_f64() / 1e6;
        Ok(Sample { rate: rate * (sent - lost) as f64 / sent as f64, lost })
    }

    fn before(&self, stage: &mut Stage<'_>) -> Result<Before> {
        let ours = match self.contender {
            Contender::Sekisho { entries } => Some(stage.guard(entries)?.counts()?),
            Contender::Empty | Contender::Peer(_) => None,
        };
        Ok(Before {
            far: Received::of(&self.cable.far)?,
            near: Received::of(&self.cable.near)?,
            beyond: Received::of(&self.beyond.far)?,
            counted: stage.tracer.counted()?,
            in_stack: reached_stack()?,
            ours,
            at: Instant::now(),
        })
    }

    /// Fails unless every packet that arrived went where it should; gives those that were lost behind
    /// the program.
    fn check(&self, stage: &mut Stage<'_>, before: &Before, arrived: u64) -> Result<u64> {
        self.check_stack(before, arrived)?;
        let rejected = match self.contender {
            Contender::Sekisho { .. } => self.check_ours(stage, before, arrived)?,
            Contender::Empty | Contender::Peer(_) => arrived,
        };
        let out_of = |interface: &str, received: Received, due: u64| {
            let out = received.await_more(interface, due)?;
            let all = out.packets + out.dropped;
            ensure!(all == due, "of {due} packets {all} came out or were lost");
            let counted = stage.tracer.counted()? - before.counted;
            ensure!(counted == out.packets, "{counted} packets were counted behind the program");
            Ok(out.dropped)
        };
        match self.action {
            Action::Drop | Action::Observe => Ok(0),
            Action::Wire => out_of(&self.beyond.far, before.beyond, arrived),
            Action::Reject => out_of(&self.cable.near, before.near, rejected).map(|_| 0),
        }
    }

    fn check_stack(&self, before: &Before, arrived: u64) -> Result<()> {
        let in_stack = reached_stack()? - before.in_stack;
        let passes = match &self.contender {
            Contender::Peer(peer) => {
                peer.check(arrived, in_stack)?;
                !peer.drops_early()
            }
            Contender::Empty | Contender::Sekisho { .. } => self.action == Action::Observe,
        };
        let expected = if passes { arrived } else { 0 };
        ensure!(in_stack == expected, "{in_stack} packets reached IPv4, {expected} should have");
        Ok(())
    }

    /// Every packet has the reason that it should have, and the ledger holds every hit; gives those
    /// that were answered.
    fn check_ours(&self, stage: &mut Stage<'_>, before: &Before, arrived: u64) -> Result<u64> {
        let counts = before.ours.as_ref().context("nothing was counted")?;
        let counted = stage.guard(self.contender.entries())?.counted_since(counts)?;
        let answered = counted.get(&Reason::Rejected).copied().unwrap_or(0);
        let mut expected = match self.action {
            Action::Drop => BTreeMap::from([(Reason::Dropped, arrived)]),
            Action::Observe => BTreeMap::from([(Reason::ModeObserved, arrived)]),
            Action::Wire => BTreeMap::from([(Reason::NotListed, arrived)]),
            Action::Reject => {
                let silent = arrived.saturating_sub(answered);
                BTreeMap::from([(Reason::Rejected, answered), (Reason::RejectedSilently, silent)])
            }
        };
        expected.retain(|_, packets| *packets > 0);
        ensure!(counted == expected, "{expected:?} were expected, counted were {counted:?}");
        if self.action == Action::Reject {
            let windows = before.at.elapsed().as_nanos() as u64 / ANSWER_WINDOW_NS + 2;
            let most = windows * ANSWERS_PER_WINDOW;
            ensure!((1..=most).contains(&answered), "{answered} answers, at most {most} are due");
        }
        let accounted = stage.accounted()?;
        let hits = if self.action == Action::Wire { 0 } else { arrived };
        ensure!(accounted == hits, "the ledger accounts for {accounted} of {hits} hits");
        Ok(answered)
    }
}

fn image_for(stage: &Stage<'_>, entries: usize) -> Result<Image> {
    let action = match stage.action {
        Action::Reject => image::Action::Reject,
        Action::Drop | Action::Observe | Action::Wire => image::Action::Drop,
    };
    stage.entries.image_of(action, slice::from_ref(&(0..entries)), 1, stage.room.capacity)
}

/// Packets that the IPv4 layer of the namespace has seen.
fn reached_stack() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = lines.next().zip(lines.next()).context("no Ip: counters")?;
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(name, _)| *name == "InReceives")
        .and_then(|(_, value)| value.parse().ok())
        .context("no InReceives")
}
