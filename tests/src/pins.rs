//! Pins of a test's own.

use std::path::PathBuf;

use sekisho::dataplane::kernel::detach;

/// A folder of pins that goes when the test ends, however it ends: declared before the dataplane that it
/// is for, which is let go of first.
pub struct Pins(pub PathBuf);

impl Pins {
    /// Of this name, in this process.
    pub fn new(name: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id())))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0) {
            eprintln!("cannot clean up {}: {error}", self.0.display());
        }
    }
}
