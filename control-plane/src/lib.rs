//! The control plane, in the order of the data.

pub mod dataplane;
