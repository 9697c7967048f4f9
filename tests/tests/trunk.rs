//! The lab's VLAN trunk: what it carries before it has carried anything, and after a cable was down.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sekisho::demo::{link, netns::Netns, trunk::Trunk};
use sekisho_tests::{
    capture::Capture,
    packet::{UDP, ethernet, ip, udp},
};

const VLAN: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_trunk_carries_the_first_frame_that_comes_over_a_cable_that_was_down() {
    let namespace = |part: &str| Netns::create(&format!("sekisho-{part}-{}", std::process::id()));
    let near = namespace("trunk-near").expect("a namespace");
    let far = namespace("trunk-far").expect("a namespace");
    let far_name = far.path().file_name().expect("a name").to_string_lossy().into_owned();
    // Nothing of its own leaves the near end, so that what comes is the first it hears of.
    let silent = || link::set("ipv6/conf/default/disable_ipv6", "1");
    near.inside(|| {
        silent()?;
        link::ip(&format!("link add near type veth peer name far netns {far_name}\n"))?;
        link::turn_off_offloads("near")
    })
    .expect("a cable");
    far.inside(|| {
        link::turn_off_offloads("far")?;
        link::ip("link set far up\n")
    })
    .expect("its far end");
    let _trunk = Trunk::start(&near, "near", "near.7", VLAN).expect("a trunk");
    let (inside, outside) = (
        near.inside(|| {
            link::ip("link set near.7 arp off up\n")?;
            Ok(Capture::start("near.7")?)
        }),
        far.inside(|| Ok(Capture::start("far")?)),
    );
    let (inside, outside) = (inside.expect("a capture"), outside.expect("a capture"));
    let packet = ip("100.64.0.1", "100.64.0.2", UDP, &udp(1, 2));
    let (tagged, plain) =
        (ethernet(&[(0x8100, VLAN)], 0x0800, &packet), ethernet(&[], 0x0800, &packet));
    for round in 1..=2 {
        near.inside(|| link::ip("link set near down\nlink set near up\n")).expect("it is there");
        outside.send(&tagged).expect("sent");
        let came = inside.next(PATIENCE, |frame| frame == plain).expect("a capture");
        assert!(came.is_some(), "the cable is up for time {round}");
    }
}
