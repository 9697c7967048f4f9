//! What the benchmarks' BPF programs and their loader agree on.
#![no_std]
#![forbid(unsafe_code)]

/// Packets of a trace; a power of two.
pub const ROWS: usize = 1 << 20;

/// 64-bit words that one IPv4 packet has in a trace: twelve bytes from its time to live to its
/// destination, checksum included, and four unused ones.
pub const WORDS_V4: usize = 2;

/// 64-bit words that one IPv6 packet has in a trace: the lower half of its source, and its
/// destination.
pub const WORDS_V6: usize = 3;

/// Where the destination begins, counted from where a row is written.
pub const DESTINATION: usize = 8;

/// Words of the trace map.
pub const TRACE_WORDS: usize = ROWS * WORDS_V6;
