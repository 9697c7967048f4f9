//! The pure parts of the XDP program: they run in the kernel and, for tests, on the host.
//!
//! - [`frame`]: reading bytes of a packet, never past its end
//! - [`parse`]: from bytes to addresses, protocol, ports
//! - [`decide`]: from addresses to what becomes of the packet
#![no_std]
#![forbid(unsafe_code)]

pub mod decide;
pub mod frame;
pub mod parse;
