//! The ruleset image: one immutable block of bytes that holds a whole ruleset.
//!
//! It is compiled in user space and lives in the kernel as the only value of an array map, so that
//! replacing that map replaces the whole ruleset at once. One function looks an address up, in the
//! kernel on map memory and on the host on a slice.
//!
//! Both families share one shape. The first 24 bits of the key choose a slot; a bitmap over all
//! 2^24 slots answers "nothing listed here" with one memory access, which is the answer for nearly
//! every packet. Blocks of 192 bits have a Bloom filter of what is listed in them, and the place of
//! their words, beside them: where a bit is set and the filter does not tell otherwise, it leads to the
//! slot's word, and the word is
//!
//! - a *selector*: the whole slot is listed alike;
//! - a *host* (IPv4): one single address of the slot is listed; the word itself holds it;
//! - a *leaf* (IPv6): one single prefix of the slot is listed; a *far* one holds the next four bits too;
//! - a *node*: a bitmap over the next eight bits, with ranks into words of the same kinds.
//!
//! The key of an IPv4 address is the address. The key of an IPv6 address is what follows the three
//! bits that all global unicast addresses share (2000::/3, RFC 4291 and the IANA registry), so that
//! a slot is a /27; nothing outside 2000::/3 can be listed.
//!
//! A selector says which rule applies to which protocol and port; a rule says which lists name the
//! entry, by action. Allowed networks are cut out at build time.

#[cfg(any(feature = "build", test))]
mod build;
pub mod layout;
mod lookup;
#[cfg(any(feature = "build", test))]
mod named;

#[cfg(any(feature = "build", test))]
pub use build::{Action, BuildError, Image, ImageBuilder, Limit, List, ListSet, Port};
pub use lookup::{
    Bytes, Header, Lists, Selector, dropping, find_v4, find_v6, header, lists_of, may_be_v4,
    may_hold_v4, may_hold_v6, resolve, rule_of_all,
};
#[cfg(any(feature = "build", test))]
pub use lookup::{ask, checksum, list_names, rule_lists};
#[cfg(any(feature = "build", test))]
pub use named::Named;
