//! What the end-to-end tests share.

pub mod packet;
pub mod scene;
pub mod site;
pub mod tamper;

/// The `sekisho` command as built for the test that asks.
#[macro_export]
macro_rules! program {
    () => {
        std::path::Path::new(env!("CARGO_BIN_EXE_sekisho-under-test"))
    };
}
