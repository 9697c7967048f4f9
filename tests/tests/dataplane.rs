//! The embedded XDP program in this machine's kernel, or in an older one's under qemu (`make
//! kernels`): the verifier takes it, and it tells a listed address from a clean one.

use std::{net::Ipv4Addr, path::PathBuf, process::Command, time::Duration};

use sekisho::dataplane::{
    Dataplane as _,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    image::{
        Action,
        build::{Image, ImageBuilder, List, Port},
    },
    record::{Mode, Role},
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const CAPACITY: usize = 64 << 20;
const SUBSCRIBER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const LISTED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const CLEAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 67);

/// A veth pair and a pin folder, both gone when the test ends.
struct Lab {
    interface: String,
    pin_dir: PathBuf,
}

impl Lab {
    fn new(name: &str) -> Self {
        let lab = Self {
            interface: format!("{name}{}", std::process::id() % 100_000),
            pin_dir: PathBuf::from(format!("/sys/fs/bpf/{name}-{}", std::process::id())),
        };
        ip(&["link", "add", &lab.interface, "type", "veth"]);
        ip(&["link", "set", &lab.interface, "up"]);
        lab
    }

    fn start(&self, role: Role) -> KernelDataplane {
        let settings = Settings {
            pin_dir: self.pin_dir.clone(),
            image_capacity: CAPACITY,
            flow_table_entries: 4096,
            attach: Attach::Auto,
            initial_mode: Mode::Enforce,
        };
        let guarded = [Guarded { interface: self.interface.clone(), role }];
        let dataplane = KernelDataplane::start(&settings, &guarded).unwrap();
        dataplane.publish(&image_of(LISTED)).unwrap();
        dataplane.renew_lease(Duration::from_secs(60)).unwrap();
        dataplane
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that failed half-way still leaves nothing behind.
        let _ = detach(&self.pin_dir);
        let _ = Command::new("ip").args(["link", "delete", &self.interface]).status();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {}", arguments.join(" "));
}

fn image_of(address: Ipv4Addr) -> Image {
    let mut builder =
        ImageBuilder::new(vec![List { name: "botnet".to_owned(), action: Action::Drop }]);
    builder.list_v4(address, 32, Port::Any, 1);
    builder.build(1, CAPACITY).unwrap()
}

/// An Ethernet frame with an IPv4 header and a UDP header without payload.
fn udp(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0]);
    frame
}

#[test]
fn from_a_subscriber_the_destination_is_looked_up() {
    let lab = Lab::new("sub");
    let dataplane = lab.start(Role::Subscriber);
    let verdict = |source, destination| {
        dataplane.test_run(&lab.interface, &udp(source, destination), 1).unwrap().0
    };
    assert_eq!(verdict(SUBSCRIBER, LISTED), XDP_DROP);
    assert_eq!(verdict(SUBSCRIBER, CLEAN), XDP_PASS);
    assert_eq!(verdict(LISTED, SUBSCRIBER), XDP_PASS);
}

#[test]
fn from_the_uplink_the_source_is_looked_up() {
    let lab = Lab::new("up");
    let dataplane = lab.start(Role::Uplink);
    let verdict = |source, destination| {
        dataplane.test_run(&lab.interface, &udp(source, destination), 1).unwrap().0
    };
    assert_eq!(verdict(LISTED, SUBSCRIBER), XDP_DROP);
    assert_eq!(verdict(CLEAN, SUBSCRIBER), XDP_PASS);
    assert_eq!(verdict(SUBSCRIBER, LISTED), XDP_PASS);
}

#[test]
fn a_drain_tells_who_called_whom_and_how_often() {
    let lab = Lab::new("drain");
    let dataplane = lab.start(Role::Subscriber);
    dataplane.test_run(&lab.interface, &udp(SUBSCRIBER, LISTED), 3).unwrap();
    dataplane.test_run(&lab.interface, &udp(SUBSCRIBER, CLEAN), 3).unwrap();

    let drained = dataplane.drain().unwrap();
    assert!(!drained.rows.is_empty());
    assert!(drained.rows.iter().all(|row| row.key.remote_port == 443_u16.to_be_bytes()));
    assert_eq!(drained.rows.iter().map(|row| row.totals.packets).sum::<u64>(), 3);
}
