//! A steady stream of frames into a cable, of which every one is accounted for.
#![allow(clippy::expect_used, reason = "traffic that breaks off fails its test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    cable::{MARK_AT, Source, Tally},
    packet::{TCP, UDP, ethernet, flag, ip, pppoe, tcp, udp},
    span::{CLEAN, CLEAN_V6, LISTED, LISTED_V6, Span, lost_before, wait_until},
};

/// Packets a second.
pub const RATE: u32 = 1_000_000;
/// Frames of one kind in a row.
const BURST: u32 = 256;
const VLANS: [(u16, u16); 2] = [(0x88a8, 30), (0x8100, 1200)];

/// A kind of frame; its place in the list is its mark.
#[derive(Clone, Debug)]
pub struct Kind {
    /// What is sent.
    pub frame: Vec<u8>,
    /// Whether its remote is listed.
    pub is_listed: bool,
}

/// Clean and listed packets of several subscribers, plain and in PPPoE over two tags.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for subscriber in 1..=2 {
        for (remote, is_listed) in
            [(CLEAN, false), (LISTED, true), (CLEAN_V6, false), (LISTED_V6, true)]
        {
            let source = match remote.contains(':') {
                true => format!("2001:db8:7::{subscriber}"),
                false => format!("100.64.7.{subscriber}"),
            };
            let datagram = ip(&source, remote, UDP, &udp(4000, 443));
            let segment = ip(&source, remote, TCP, &tcp(4000, 443, flag::SYN));
            let ethertype = if remote.contains(':') { 0x86dd } else { 0x0800 };
            for frame in
                [ethernet(&[], ethertype, &datagram), ethernet(&VLANS, 0x8864, &pppoe(7, &segment))]
            {
                kinds.push(Kind { frame, is_listed });
            }
        }
    }
    for (mark, kind) in kinds.iter_mut().enumerate() {
        kind.frame[MARK_AT] = mark as u8;
    }
    kinds
}

/// Traffic that flows as long as this value lives.
#[derive(Debug)]
pub struct Traffic {
    kinds: Vec<Kind>,
    sent: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Duration>>,
}

impl Traffic {
    /// Sends all kinds of frames in turn from the subscribers' end of a span. The sender has a
    /// processor of its own: the calling thread, and what it starts from now on, keep off it.
    pub fn start(span: &Span) -> Self {
        let (others, own) = processors();
        sched_setaffinity(Pid::from_raw(0), &others).expect("a thread may be moved");
        let source = span.from_line.clone();
        let kinds = kinds();
        let sent: Arc<Vec<AtomicU64>> = Arc::new(kinds.iter().map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (kinds, sent, stop) = (kinds.clone(), Arc::clone(&sent), Arc::clone(&stop));
            thread::spawn(move || {
                sched_setaffinity(Pid::from_raw(0), &own).expect("a thread may be moved");
                pace(&source, &kinds, &sent, &stop)
            })
        };
        Self { kinds, sent, stop, thread: Some(thread) }
    }

    /// How many packets have been sent so far.
    pub fn so_far(&self) -> u64 {
        self.sent.iter().map(|sent| sent.load(Ordering::Acquire)).sum()
    }

    /// Ends it; every packet is then at one of the tallies, dropped, or lost.
    pub fn stop(mut self) -> Sent {
        self.stop.store(true, Ordering::Release);
        let took = self.thread.take().expect("it runs").join().expect("it did not fail");
        let of = |is_listed| -> u64 {
            let each = self.kinds.iter().zip(self.sent.iter());
            each.filter(|(kind, _)| kind.is_listed == is_listed)
                .map(|(_, sent)| sent.load(Ordering::Acquire))
                .sum()
        };
        let (clean, listed) = (of(false), of(true));
        let by_kind = self.sent.iter().map(|sent| sent.load(Ordering::Acquire)).collect();
        Sent { clean, listed, by_kind, kinds: std::mem::take(&mut self.kinds), took }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a stream amounted to.
#[derive(Debug)]
pub struct Sent {
    /// Packets to remotes that are on no list.
    pub clean: u64,
    /// Packets to listed remotes.
    pub listed: u64,
    /// Packets by kind.
    by_kind: Vec<u64>,
    kinds: Vec<Kind>,
    took: Duration,
}

impl Sent {
    /// All clean packets are at the far end, and nothing else.
    pub fn expect_at(&self, span: &Span) {
        self.expect(span, |kind| !kind.is_listed);
    }

    /// All packets are at the far end, the listed ones as well.
    pub fn expect_all_at(&self, span: &Span) {
        self.expect(span, |_| true);
    }

    fn expect(&self, span: &Span, passes: impl Fn(&Kind) -> bool) {
        let counted = |tally: &Tally, mark: usize| tally.counted(mark as u8).expect("a count");
        let lost = [crate::span::ACCESS, crate::span::CORE].map(lost_before);
        assert_eq!(lost, [0, 0], "the cables themselves lost frames: the machine is too busy");
        let kinds = || self.kinds.iter().zip(&self.by_kind);
        let passing: u64 = kinds().filter(|(kind, _)| passes(kind)).map(|(_, sent)| sent).sum();
        let arrived =
            || -> u64 { (0..self.kinds.len()).map(|mark| counted(&span.core, mark)).sum() };
        wait_until("the last packets that pass", || arrived() >= passing);
        for (mark, (kind, sent)) in kinds().enumerate() {
            let expected = if passes(kind) { *sent } else { 0 };
            assert_eq!(counted(&span.core, mark), expected, "of kind {mark}: {kind:02x?}");
        }
        assert!(self.clean > 0 && self.listed > 0, "there was traffic of both");
    }

    /// Packets a second.
    pub fn rate(&self) -> f64 {
        (self.clean + self.listed) as f64 / self.took.as_secs_f64()
    }
}

/// Sends at [`RATE`] until it is to stop; how long that took.
fn pace(source: &Source, kinds: &[Kind], sent: &[AtomicU64], stop: &AtomicBool) -> Duration {
    let begin = Instant::now();
    let mut all = 0_u32;
    let mut second = begin;
    while !stop.load(Ordering::Acquire) {
        for (kind, sent) in kinds.iter().zip(sent) {
            source.send(&kind.frame, BURST).expect("frames can be sent");
            sent.fetch_add(BURST.into(), Ordering::AcqRel);
            all += BURST;
            let due = Duration::from_secs(1) * all / RATE;
            if let Some(ahead) = due.checked_sub(second.elapsed()) {
                thread::sleep(ahead);
            }
        }
        if all >= RATE {
            // What was not sent in its second is not made up for.
            (all, second) = (0, Instant::now());
        }
    }
    begin.elapsed()
}

/// The processor for the sender, and the others; the same where there is but one.
///
/// A veth end reads its ring on the processor that filled it: a sender that moved to another one could
/// fill the ring again before the first processor has come round to reading it. And it would get no
/// time while the kernel verifies a program on its processor.
fn processors() -> (CpuSet, CpuSet) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("a set of processors");
    let is_allowed = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    let mut numbers: Vec<usize> = (0..CpuSet::count()).filter(is_allowed).collect();
    let set = |cpus: &[usize]| {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu).expect("it is in the set"));
        set
    };
    let own = set(&numbers[numbers.len().saturating_sub(1)..]);
    if numbers.len() > 1 {
        numbers.pop();
    }
    (set(&numbers), own)
}
