//! Hosts that defenders run are observed: whoever calls one is infected and should be told, and what
//! the defenders learn of it is lost if the call is stopped.

use ipnet::IpNet;

use super::Guards;
use crate::{demotion::Demotion, feed::Class};

/// What that means for a claim on a network of this class.
pub(crate) fn check(network: IpNet, class: Class, guards: &Guards) -> Option<Demotion> {
    let is_sinkhole = class == Class::Sinkhole || guards.sinkhole(network).is_some();
    is_sinkhole.then_some(Demotion::Sinkhole)
}
