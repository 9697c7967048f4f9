//! Random and mutated frames: the kernel and the host agree on each, and the sums add up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::UNIX_EPOCH,
};

use sekisho::dataplane::Dataplane;
use sekisho_abi::{
    reason::{Reason, Verdict},
    record::Role,
};
use sekisho_xdp::decide::Match;

use crate::{
    corpus::{self, setting},
    direction::ROLES,
    expected::assert_valid,
    lab::{Counts, Lab, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, hex},
    world::SINKHOLE_LINK,
};

/// Says how many frames, in place of [`FRAMES`].
const FRAMES_VARIABLE: &str = "SEKISHO_FUZZ_FRAMES";
/// Repeats the random numbers of a run that told its seed.
const SEED_VARIABLE: &str = "SEKISHO_FUZZ_SEED";
const FRAMES: u64 = 30_000;
const SEED: u64 = 0x5e41_5110;
/// Counters are compared, and rows drained, after so many frames.
const BATCH: u64 = 10_000;
/// The kernel's test run takes no shorter frames.
const SHORTEST: usize = 14;
const LONGEST: usize = 1600;

/// Reasons that need another state of the world, or a frame that no test run takes.
const OUT_OF_REACH: [Reason; 8] = [
    Reason::TruncatedEthernet,
    Reason::ListBypassed,
    Reason::ModeBypass,
    Reason::NoRuleset,
    Reason::CanaryPassed,
    Reason::ModeObserved,
    Reason::LifetimeOver,
    // Only so many answers fit into a window, and a fast machine asks for more.
    Reason::RejectedSilently,
];

#[test]
fn random_and_mutated_frames_are_judged_alike_by_kernel_and_host() {
    let frames = setting(FRAMES_VARIABLE);
    // Who asks for a number of frames wants others than the last time.
    let seed = setting(SEED_VARIABLE).unwrap_or_else(|| match frames {
        Some(_) => UNIX_EPOCH.elapsed().expect("a clock that is set").as_secs(),
        None => SEED,
    });
    let frames = frames.unwrap_or(FRAMES);
    println!("{frames} frames; {SEED_VARIABLE}={seed} repeats them");
    let lab = Lab::new("fuzz");
    lab.newly_counted();
    let mut mutator = Mutator::new(seed);
    let mut sums = Sums::default();
    for batch in 0..frames.div_ceil(BATCH) {
        let mut tally = Tally::default();
        for _ in 0..BATCH.min(frames - batch * BATCH) {
            let role = mutator.role();
            tally.judge(&lab, role, &mutator.frame());
        }
        tally.compare(&lab.newly_counted());
        sums.add(&lab, &tally);
    }
    sums.compare(&lab, frames);
    for reason in Reason::ALL {
        let is_reached = sums.by_reason[reason as usize] > 0;
        assert!(
            is_reached || frames < FRAMES || OUT_OF_REACH.contains(&reason),
            "no frame was {reason:?}"
        );
    }
}

/// What the host says of a batch, by interface.
#[derive(Default)]
struct Tally {
    by_role: [Vec<Reason>; 3],
    /// Answers that the kernel did not give, as the limit was reached.
    unanswered: [u64; 3],
}

impl Tally {
    fn judge(&mut self, lab: &Lab, role: Role, frame: &[u8]) {
        let (row, port) = lab.port(role);
        let (reason, found) = port.site.judge(frame, &lab.image);
        if let Some(in_short) = port.site.judge_in_short(frame, &lab.image) {
            assert_eq!(in_short, reason, "by the short way: {frame:02x?}");
        }
        let (action, left) =
            lab.dataplane.rewrite(&port.interface, frame).expect("the program runs");
        self.by_role[row].push(reason);
        let wanted = match reason.verdict() {
            Verdict::Pass => XDP_PASS,
            Verdict::Drop => XDP_DROP,
            Verdict::Sinkhole => XDP_REDIRECT,
            Verdict::Reject if action == XDP_DROP => {
                self.unanswered[row] += 1;
                XDP_DROP
            }
            Verdict::Reject => XDP_TX,
        };
        let frame_in_hex = || hex(frame);
        assert_eq!(action, wanted, "{reason:?} ({role:?}): {}", frame_in_hex());
        match (wanted, &found) {
            (XDP_TX, Some(found)) => assert_answers(frame, &left, found),
            (XDP_REDIRECT, Some(found)) => {
                assert_eq!(left[..12], SINKHOLE_LINK, "{}", frame_in_hex());
                assert_eq!(left[14..], frame[found.packet.ip.offset..], "{}", frame_in_hex());
            }
            _ => assert_eq!(left, frame, "{reason:?} ({role:?}) changes nothing"),
        }
    }

    /// The kernel's counters rose by what the host says.
    fn compare(&self, counted: &[Counts]) {
        assert_eq!(counted.len(), ROLES.len());
        for (row, counted) in counted.iter().enumerate() {
            let mut expected = [0; Reason::COUNT];
            for reason in &self.by_role[row] {
                expected[*reason as usize] += 1;
            }
            expected[Reason::Rejected as usize] -= self.unanswered[row];
            expected[Reason::RejectedSilently as usize] += self.unanswered[row];
            for reason in Reason::ALL {
                let at = reason as usize;
                assert_eq!(counted[at], expected[at], "{reason:?}, interface {row}");
            }
        }
    }
}

/// An answer goes back where the frame came from, and another implementation finds it in order.
fn assert_answers(frame: &[u8], answer: &[u8], found: &Match) {
    let context = || format!("{}answered with {}", hex(frame), hex(answer));
    let at = found.packet.ip.offset;
    assert_eq!(answer[..6], frame[6..12], "{}", context());
    assert_eq!(answer[6..12], frame[..6], "{}", context());
    let length = assert_valid(&answer[at..], &frame[at..]);
    assert!(answer.len() >= at + length && answer.len() >= 60, "{}", context());
    if found.packet.link.pppoe_session == 0 && found.packet.link.encapsulation.0 == 0 {
        assert_eq!(answer[12..at], frame[12..at], "{}", context());
    } else {
        // The header begins behind Ethernet and the tags; its length stands at its end.
        let told_at = 14 + 4 * usize::from(found.packet.link.tags) + 4;
        assert_eq!(answer[12..told_at], frame[12..told_at], "{}", context());
        let told = u16::from_be_bytes([answer[told_at], answer[told_at + 1]]);
        assert_eq!(usize::from(told), length + (at - told_at - 2), "{}", context());
        assert_eq!(answer[told_at + 2..at], frame[told_at + 2..at], "{}", context());
    }
}

/// What all batches amount to.
#[derive(Default)]
struct Sums {
    by_reason: Vec<u64>,
    rows: u64,
}

impl Sums {
    fn add(&mut self, lab: &Lab, tally: &Tally) {
        self.by_reason.resize(Reason::COUNT, 0);
        for reason in tally.by_role.iter().flatten() {
            self.by_reason[*reason as usize] += 1;
        }
        self.rows += lab.drained().iter().map(|row| row.totals.packets).sum::<u64>();
    }

    fn compare(&self, lab: &Lab, frames: u64) {
        assert_eq!(self.by_reason.iter().sum::<u64>(), frames, "every frame has one reason");
        let is_hit = |reason: &Reason| reason.is_hit();
        let expected: u64 =
            Reason::ALL.into_iter().filter(is_hit).map(|hit| self.by_reason[hit as usize]).sum();
        let totals = lab.dataplane.rule_totals().expect("totals can be read");
        let hits: u64 = totals.iter().map(|(_, totals)| totals.hits.packets).sum();
        let overflow: u64 = totals.iter().map(|(_, totals)| totals.overflow.packets).sum();
        assert_eq!(hits, expected, "every hit is counted by rule");
        assert_eq!(self.rows + overflow, expected, "rows and overflow are all hits");
    }
}

/// Makes frames out of those of the corpus.
struct Mutator {
    /// By reason, so that one that few have is met as often as another.
    frames: Vec<Vec<Vec<u8>>>,
    random: Random,
}

impl Mutator {
    fn new(seed: u64) -> Self {
        // A failure can be repeated only if the order is the same each time.
        let mut unique: BTreeMap<Reason, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for case in corpus::cases() {
            unique.entry(case.reason).or_default().insert(case.frame);
        }
        let frames = unique.into_values().map(|frames| frames.into_iter().collect()).collect();
        let mut random = Random(seed.max(1));
        // Neighbouring seeds begin alike.
        for _ in 0..8 {
            random.next();
        }
        Self { frames, random }
    }

    fn role(&mut self) -> Role {
        ROLES[self.random.below(3)]
    }

    fn unchanged(&mut self) -> Vec<u8> {
        let of_reason = &self.frames[self.random.below(self.frames.len())];
        of_reason[self.random.below(of_reason.len())].clone()
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.unchanged();
        match self.random.below(16) {
            0 => self.scramble(&mut frame),
            1 | 2 => self.splice(&mut frame),
            _ => {}
        }
        for _ in 0..self.random.below(5) {
            // Most of what matters stands in front.
            let reach = if self.random.below(4) == 0 { frame.len() } else { frame.len().min(90) };
            let at = self.random.below(reach);
            frame[at] = match self.random.below(3) {
                0 => frame[at] ^ 1 << self.random.below(8),
                1 => [0, 1, 4, 6, 41, 44, 47, 60, 0x45, 0x60, 0x80, 0xff][self.random.below(12)],
                _ => self.random.next() as u8,
            };
        }
        match self.random.below(8) {
            0 => frame.resize(frame.len() + self.random.below(100), 0xa5),
            1 | 2 => frame.truncate(SHORTEST + self.random.below(frame.len() - SHORTEST + 1)),
            _ => {}
        }
        frame.truncate(LONGEST);
        frame
    }

    /// Random bytes behind the Ethernet addresses and a type that leads on.
    fn scramble(&mut self, frame: &mut [u8]) {
        let types = [0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x8864, 0x8847];
        let ethertype = types[self.random.below(types.len())].to_be_bytes();
        frame[12..14].copy_from_slice(&ethertype);
        for byte in &mut frame[14..] {
            *byte = self.random.next() as u8;
        }
    }

    /// The end of another frame behind the beginning of this one.
    fn splice(&mut self, frame: &mut Vec<u8>) {
        let other = self.unchanged();
        let at = SHORTEST + self.random.below(frame.len() - SHORTEST + 1);
        let from = self.random.below(other.len() + 1);
        frame.truncate(at);
        frame.extend(&other[from..]);
    }
}

/// A small generator (xorshift64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
