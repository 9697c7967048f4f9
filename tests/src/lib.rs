//! What the end-to-end tests share.

mod bpf;
pub mod buffers;
pub mod cable;
pub mod capture;
pub mod icmp;
pub mod link;
pub mod packet;
pub mod pcap;
pub mod peer;
pub mod pins;
pub mod post;
pub mod scene;
pub mod site;
pub mod span;
pub mod tamper;
pub mod traffic;
pub mod tshark;

/// The `sekisho` command as built for the test that asks.
#[macro_export]
macro_rules! program {
    () => {
        std::path::Path::new(env!("CARGO_BIN_EXE_sekisho-under-test"))
    };
}
