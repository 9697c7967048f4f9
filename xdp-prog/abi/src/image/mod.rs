//! The ruleset image.

/// A finished image.
#[cfg(any(feature = "build", test))]
#[derive(Clone, Debug)]
pub struct Image;
