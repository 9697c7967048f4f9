//! A popular address gets into a list: the breaker lets it go in the live program.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    time::{Duration, Instant},
};

use sekisho_tests::{
    cable::{MARK_AT, Then},
    packet::{UDP, ethernet, ip, udp},
    post::Post,
    program,
    span::{LISTED, LISTED_V6, SUBSCRIBER, SUBSCRIBER_V6, Span, wait_until},
};

const POLICY: &str = "breaker: {subscribers_per_minute: 30}\n";
/// How soon it must be let go.
const SOON: Duration = Duration::from_secs(120);

struct Link {
    post: Post,
    span: Span,
}

impl Link {
    fn send(&self, subscriber: &str, remote: &str, mark: u8) {
        let ethertype = if remote.contains(':') { 0x86dd } else { 0x0800 };
        let mut frame = ethernet(&[], ethertype, &ip(subscriber, remote, UDP, &udp(4000, 443)));
        frame[MARK_AT] = mark;
        self.span.from_line.send(&frame, 1).expect("sent");
    }

    /// Whether a packet comes out at the far end. One to an address that nobody lists shows that it
    /// had its time.
    fn passes(&self, subscriber: &str, remote: &str) -> bool {
        let arrived = |mark| self.span.core.counted(mark).expect("a count");
        let before = (arrived(1), arrived(2));
        self.send(subscriber, remote, 1);
        self.send(SUBSCRIBER, "198.19.0.1", 2);
        wait_until("the packet behind it", || arrived(2) > before.1);
        arrived(1) > before.0
    }

    /// Decides about an entry, or lists all.
    fn breaker(&self, arguments: &[&str]) -> String {
        let config = self.post.file("sekisho.yaml");
        let config = ["-c", config.to_str().expect("a path")];
        let token: &[&str] = if arguments.is_empty() { &[] } else { &config };
        let output = self.post.run(&[&["breaker"], arguments, token].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn a_popular_address_in_a_list_is_let_go_until_somebody_decides() {
    let span = Span::lay("breaker", Then::Drop);
    let link = Link { post: Post::furnish(program!(), &span), span };
    fs::write(link.post.file("policy.yaml"), POLICY).expect("written");
    link.post.configure("policy: policy.yaml");
    let daemon = link.post.start();
    assert!(!link.passes(SUBSCRIBER, LISTED));
    assert!(!link.passes(SUBSCRIBER_V6, LISTED_V6));
    let began = Instant::now();
    while !link.passes(SUBSCRIBER, LISTED) {
        assert!(began.elapsed() < SOON, "{}", daemon.status());
        for subscriber in 0..40 {
            link.send(&format!("100.64.8.{subscriber}"), LISTED, 1);
        }
    }
    assert!(!link.passes(SUBSCRIBER_V6, LISTED_V6), "few call that one");
    let alarm = daemon.status()["health"]["degraded"].to_string();
    assert!(alarm.contains(LISTED) && alarm.contains("sekisho breaker"), "{alarm}");
    daemon.kill();

    let _next = link.post.start();
    assert!(link.passes(SUBSCRIBER, LISTED), "a restart decides nothing");
    let listed = link.breaker(&[]);
    let row = listed.lines().nth(1).expect("an entry");
    assert!(row.contains(LISTED) && row.contains("30") && row.contains("listed"), "{listed}");
    let id = row.split_whitespace().next().expect("a number");
    let without = link.post.run(&["breaker", "release", id]);
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && told.contains("token"), "{told}");
    assert!(link.passes(SUBSCRIBER, LISTED), "who has no token decides nothing");
    link.breaker(&["release", id]);
    wait_until("enforcement", || !link.passes(SUBSCRIBER, LISTED));
    link.breaker(&["keep", id]);
    wait_until("observation", || link.passes(SUBSCRIBER, LISTED));
    link.breaker(&["forget", id]);
    wait_until("enforcement", || !link.passes(SUBSCRIBER, LISTED));
    assert_eq!(link.breaker(&[]), "nothing is demoted\n");
}
