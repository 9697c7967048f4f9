//! The pure parts of the XDP program: they run in the kernel and, for tests, on the host.
//!
//! - [`frame`]: reading bytes of a packet, never past its end
//! - [`site`]: what is set for the interface, and who opted out
//! - [`parse`]: from bytes to addresses, protocol, ports
//! - [`opted_out`]: whether the subscriber opted out
//! - [`lookup`]: from addresses to the rule that lists one of them; [`embedded`] ones too
//! - [`protected`]: what passes although it is listed
//! - [`flow`]: from a packet to the words of its flow
//! - [`decide`]: from a frame to what becomes of it
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod decide;
pub mod embedded;
pub mod flow;
pub mod frame;
pub mod lookup;
pub mod opted_out;
pub mod parse;
pub mod protected;
pub mod site;
