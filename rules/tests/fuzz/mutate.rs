//! Random changes to inputs, of the kinds that break parsers.

use fastrand::Rng;

/// What publishers and enemies write.
const TOKENS: [&[u8]; 64] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"#",
    b"; EOF",
    b"//",
    b"\"",
    b"\"\"",
    b"'",
    b"\\",
    b"\\'",
    b",",
    b", ",
    b";",
    b"\t",
    b"|",
    b":",
    b"/",
    b"/0",
    b"/33",
    b"/129",
    b"[",
    b"]",
    b"{",
    b"}",
    b"[]",
    b"{}",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"65535",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"198.18.0.1",
    b"0.0.0.0/0",
    b"::/0",
    b"::ffff:198.18.0.1",
    b"fe80::1%eth0",
    b"[2001:2::1]:443",
    b"c2.example.net",
    b"http://[",
    b"https://c2.example.net/x",
    b"2026-02-30 24:60:61",
    b"9999-12-31T23:59:60Z",
    b"# Number of entries: 3",
    b"# END 3 entries",
    b"\"records\":3",
    b"\"type\":\"metadata\"",
    b" OR ",
    b" AND ",
    b" IN (",
    b"!",
    b"any",
    b"$HOME_NET",
    b"->",
    b"1:65535",
    b"\"objects\":",
    b"\\ud800",
];

/// Changes inputs at random.
pub(crate) struct Mutator {
    rng: Rng,
    most_bytes: usize,
}

impl Mutator {
    pub(crate) fn new(seed: u64, most_bytes: usize) -> Self {
        Self { rng: Rng::with_seed(seed), most_bytes }
    }

    /// One of the inputs, changed in a few places.
    pub(crate) fn change(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one_of(inputs);
        for _ in 0..self.rng.usize(1..8) {
            self.change_once(&mut input, inputs);
            input.truncate(self.most_bytes);
        }
        input
    }

    fn change_once(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.rng.usize(..=input.len());
        let (from, to) = self.range(input.len());
        match self.rng.u8(..9) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.rng.u8(..8);
                }
            }
            1 => input.insert(at, self.rng.u8(..)),
            2 => drop(input.drain(from..to)),
            3 => {
                let part = input[from..to].to_vec();
                drop(input.splice(at..at, part));
            }
            4 => {
                let token = TOKENS[self.rng.usize(..TOKENS.len())];
                drop(input.splice(at..at, token.iter().copied()));
            }
            5 => {
                let token = TOKENS[self.rng.usize(..TOKENS.len())];
                drop(input.splice(from..to, token.iter().copied()));
            }
            6 => {
                let other = self.one_of(inputs);
                let (from, to) = self.range(other.len());
                drop(input.splice(at..at, other[from..to].iter().copied()));
            }
            7 => {
                let times = self.rng.usize(1..64);
                let part = input[from..to.min(from + 64)].repeat(times);
                drop(input.splice(at..at, part));
            }
            _ => input.truncate(at),
        }
    }

    fn one_of(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        inputs.get(self.rng.usize(..inputs.len().max(1))).cloned().unwrap_or_default()
    }

    /// Part of so many bytes; more often a short one.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let from = self.rng.usize(..=len);
        let most = if self.rng.bool() { 16 } else { len };
        let to = (from + self.rng.usize(..=most)).min(len);
        (from, to)
    }
}
