//! A guarded link with a daemon, and packets to try it with.
#![allow(clippy::expect_used, reason = "a link that cannot be tried fails its test")]

use std::path::Path;

use sekisho::dataplane::kernel::KernelDataplane;
use sekisho_abi::reason::Reason;

use crate::{
    cable::{MARK_AT, Then},
    packet::{UDP, ethernet, ip, udp},
    post::Post,
    span::{LISTED, LISTED_V6, Span, packets, wait_until},
};

/// A span with a daemon's post.
pub struct Link {
    /// The daemon's files.
    pub post: Post,
    /// The guarded stretch.
    pub span: Span,
}

impl Link {
    /// Lays one in a network namespace of the caller's own.
    pub fn new(program: &'static Path, name: &str) -> Self {
        let span = Span::lay(name, Then::Drop);
        let post = Post::furnish(program, &span);
        Self { post, span }
    }

    /// What is pinned.
    pub fn dataplane(&self) -> KernelDataplane {
        KernelDataplane::open(&self.span.settings.pin_dir).expect("it is pinned")
    }

    /// Packets of the subscribers' end that were counted under a reason.
    pub fn counted(&self, reason: Reason) -> u64 {
        packets(&self.dataplane(), 0, reason)
    }

    /// Whether a packet from a subscriber to a listed address comes out at the far end.
    pub fn passes(&self, subscriber: &str) -> bool {
        let remote = if subscriber.contains(':') { LISTED_V6 } else { LISTED };
        self.passes_to(subscriber, remote)
    }

    /// Whether a packet from a subscriber to this address does.
    pub fn passes_to(&self, subscriber: &str, remote: &str) -> bool {
        let ethertype = if subscriber.contains(':') { 0x86dd } else { 0x0800 };
        let frame = ethernet(&[], ethertype, &ip(subscriber, remote, UDP, &udp(4000, 443)));
        let arrived = || self.span.core.counted(frame[MARK_AT]).expect("a count");
        let dropped = || self.counted(Reason::Dropped);
        let before = (arrived(), dropped());
        self.span.from_line.send(&frame, 1).expect("sent");
        wait_until("a verdict", || (arrived(), dropped()) != before);
        arrived() > before.0
    }

    /// Sets the mode of everything.
    pub fn switch(&self, mode: &str) {
        let pins = self.span.settings.pin_dir.to_str().expect("UTF-8");
        let output = self.post.run(&["mode", mode, "--pin-dir", pins]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
