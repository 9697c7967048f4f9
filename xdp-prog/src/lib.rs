//! The pure parts of the XDP program, which also build on the host.
#![no_std]
