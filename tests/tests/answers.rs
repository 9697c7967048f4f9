//! What peers make of the dataplane's answers: real sockets behind a rejecting edge, and a sinkhole
//! on a cable of its own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

use etherparse::{IpSlice, UdpSlice};
use sekisho::{
    dataplane::{
        Dataplane as _,
        kernel::{Attach, Guarded, KernelDataplane, Settings, SinkholeWay, detach},
        trial::{Held, PassProgram},
    },
    demo::{
        lab::{ACCESS, CORE, LINE, Lab, Subscriber},
        link,
        netns::Netns,
        sniffer::{Side, Sniffer},
    },
};
use sekisho_abi::{
    image::{Action, Image, ImageBuilder, List, Port},
    reason::Reason,
    record::{Role, Sinkhole, SinkholeKind},
};
use sekisho_tests::{
    cable::{Tally, Then},
    capture::Capture,
    icmp::{IcmpError, error_of, keep_errors},
    span::wait_until,
};
use socket2::{Domain, Socket, Type};

const CAPACITY: usize = 8 << 20;
const LEASE: Duration = Duration::from_secs(600);
/// A SYN is repeated after a second: what is answered sooner was answered at once.
const AT_ONCE: Duration = Duration::from_millis(900);
const PATIENCE: Duration = Duration::from_secs(5);

const LISTED: &str = "198.18.0.66";
const LISTED_V6: &str = "2001:db8:dead::66";
const CLEAN: &str = "198.18.0.67";
const CLEAN_V6: &str = "2001:db8:dead::67";
const PORT: u16 = 443;
const CLOSED_PORT: u16 = 9;

/// A lab whose edge does something else with listed packets than to drop them.
struct Stage {
    dataplane: Option<KernelDataplane>,
    pin_dir: PathBuf,
    action: Action,
    core: Sniffer,
    _line: Held,
    lab: Lab,
}

impl Stage {
    fn new(name: &str, action: Action, prepare: impl FnOnce(&Lab) -> Option<SinkholeWay>) -> Self {
        let lab = Lab::build(&format!("sekisho-{name}")).expect("a lab");
        let remotes = [LISTED, LISTED_V6, CLEAN, CLEAN_V6].map(address);
        lab.add_remotes(remotes).expect("addresses");
        // A veth end takes what the other end's program sends only while it has a program too.
        let line = lab.subscribers.inside(|| Ok(PassProgram::load()?.attach(index(LINE))?));
        let core = Sniffer::start(&lab.internet, CORE, Side::Internet).expect("a sniffer");
        let sinkhole = prepare(&lab);
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let settings = Settings {
            flow_table_entries: 1024,
            attach: Attach::Native,
            sinkhole,
            ..Settings::new(pin_dir.clone(), CAPACITY)
        };
        let guarded = [Guarded::routed(ACCESS, Role::Subscriber)];
        let dataplane = lab.edge.inside(|| Ok(KernelDataplane::start(&settings, &guarded)?));
        let stage = Self {
            dataplane: Some(dataplane.expect("the dataplane starts")),
            pin_dir,
            action,
            core,
            _line: line.expect("a program on the line"),
            lab,
        };
        stage.list(&[]);
        stage.dataplane().renew_lease(LEASE).expect("renewed");
        stage.wait_for_neighbours();
        stage
    }

    /// Waits until the remotes themselves refuse a connection, while nobody is listed: then all
    /// neighbours are known, which may take its time on a busy machine.
    fn wait_for_neighbours(&self) {
        for line in self.lines() {
            for remote in [CLEAN, CLEAN_V6] {
                let to = SocketAddr::new(address(remote), CLOSED_PORT);
                wait_until("a remote to refuse", || {
                    let connect = || socket_of(line, to.ip()).connect_timeout(&to.into(), PATIENCE);
                    self.from(connect).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
                });
            }
        }
    }

    fn dataplane(&self) -> &KernelDataplane {
        self.dataplane.as_ref().expect("it runs")
    }

    /// Makes these, and no others, the listed addresses.
    fn list(&self, remotes: &[&str]) {
        self.dataplane().publish(&image(self.action, remotes)).expect("published");
    }

    /// Does something where the subscribers are.
    fn from<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.lab.subscribers.inside(|| Ok(work())).expect("the namespace is there")
    }

    /// An untagged line, and one behind a VLAN.
    fn lines(&self) -> [&Subscriber; 2] {
        let of = |is_tagged| self.lab.lines.iter().find(|line| line.vlan.is_some() == is_tagged);
        [of(false).expect("an untagged line"), of(true).expect("a tagged line")]
    }

    fn counted(&self, reason: Reason) -> u64 {
        self.dataplane().counts().expect("counters")[0].by_reason[reason as usize].packets
    }

    /// How many packets from subscribers to a remote came out at the far end.
    fn arrived(&self, remote: &str) -> u64 {
        let seen = self.core.complete().expect("all was seen");
        let to = address(remote);
        let matching = seen.arrived.iter().filter(|(packet, _)| packet.remote.ip() == to);
        matching.map(|(_, packets)| packets).sum()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.dataplane.take());
        if let Err(error) = detach(&self.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.pin_dir.display());
        }
    }
}

fn image(action: Action, remotes: &[&str]) -> Image {
    let mut builder = ImageBuilder::new(vec![List { name: "list".to_owned(), action }]);
    for remote in remotes {
        match address(remote) {
            IpAddr::V4(v4) => builder.list_v4(v4, 32, Port::Any, 1),
            IpAddr::V6(v6) => builder.list_v6(v6, 128, Port::Any, 1),
        }
    }
    builder.build(1, CAPACITY).expect("it fits")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).expect("the interface is there")
}

/// A TCP socket with a subscriber's address.
fn socket_of(line: &Subscriber, remote: IpAddr) -> Socket {
    let own = SocketAddr::new(line.address_towards(remote), 0);
    let socket = Socket::new(Domain::for_address(own), Type::STREAM, None).expect("a socket");
    socket.bind(&own.into()).expect("the address is the subscriber's");
    socket
}

#[test]
fn a_connection_to_a_listed_address_is_refused_at_once() {
    let stage = Stage::new("refused", Action::Reject, |_| None);
    stage.list(&[LISTED, LISTED_V6]);
    let listen = |remote| TcpListener::bind(SocketAddr::new(address(remote), PORT)).expect("free");
    let _listeners =
        stage.lab.internet.inside(|| Ok([LISTED, LISTED_V6, CLEAN, CLEAN_V6].map(listen)));
    for line in stage.lines() {
        for (remote, is_listed) in
            [(CLEAN, false), (LISTED, true), (CLEAN_V6, false), (LISTED_V6, true)]
        {
            let to = SocketAddr::new(address(remote), PORT);
            let begin = Instant::now();
            let outcome =
                stage.from(|| socket_of(line, to.ip()).connect_timeout(&to.into(), PATIENCE));
            let kind = outcome.err().map(|error| error.kind());
            let expected = is_listed.then_some(ErrorKind::ConnectionRefused);
            assert_eq!(kind, expected, "{} to {to}", line.name);
            assert!(begin.elapsed() < AT_ONCE, "{} to {to}: {:?}", line.name, begin.elapsed());
        }
    }
    assert_eq!(stage.counted(Reason::Rejected), 4, "one SYN a connection");
    for remote in [LISTED, LISTED_V6] {
        assert_eq!(stage.arrived(remote), 0, "no packet reaches {remote}");
    }
    for remote in [CLEAN, CLEAN_V6] {
        // Who counts them may lag behind.
        wait_until("packets that reach a clean remote", || stage.arrived(remote) >= 4);
    }
}

#[test]
fn a_connection_that_stands_is_reset_when_its_remote_becomes_listed() {
    let stage = Stage::new("reset", Action::Reject, |_| None);
    for line in stage.lines() {
        for remote in [LISTED, LISTED_V6] {
            let to = SocketAddr::new(address(remote), PORT);
            stage.list(&[]);
            let listener = stage.lab.internet.inside(|| Ok(TcpListener::bind(to)?)).expect("free");
            let mut near = stage.from(|| {
                let socket = socket_of(line, to.ip());
                socket.connect_timeout(&to.into(), PATIENCE).expect("not listed yet");
                std::net::TcpStream::from(socket)
            });
            let (mut far, _) = listener.accept().expect("a connection");
            far.write_all(b"hello").expect("sent");
            let mut greeting = [0; 5];
            near.read_exact(&mut greeting).expect("received");
            stage.list(&[LISTED, LISTED_V6]);
            near.set_read_timeout(Some(PATIENCE)).expect("a socket");
            near.write_all(b"question").expect("it is in the socket's buffer");
            let outcome = near.read(&mut greeting).map_err(|error| error.kind());
            assert_eq!(outcome, Err(ErrorKind::ConnectionReset), "{} to {to}", line.name);
        }
    }
}

#[test]
fn a_datagram_to_a_listed_address_is_answered_as_prohibited() {
    let stage = Stage::new("prohibited", Action::Reject, |_| None);
    stage.list(&[LISTED, LISTED_V6]);
    // RFC 1812, 5.2.7.1, and RFC 4443, 3.1; and what Linux makes of them.
    for (remote, [kind, code], errno) in
        [(LISTED, [3, 13], libc::EHOSTUNREACH), (LISTED_V6, [1, 1], libc::EACCES)]
    {
        for line in stage.lines() {
            let to = SocketAddr::new(address(remote), 53);
            let begin = Instant::now();
            let socket = stage.from(|| {
                UdpSocket::bind(SocketAddr::new(line.address_towards(to.ip()), 0)).expect("free")
            });
            keep_errors(&socket).expect("a socket");
            socket.connect(to).expect("a route");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
            socket.send(b"question").expect("sent");
            let outcome = socket.recv(&mut [0; 16]).map_err(|error| error.raw_os_error());
            assert_eq!(outcome, Err(Some(errno)), "{} to {to}", line.name);
            assert!(begin.elapsed() < AT_ONCE, "{} to {to}", line.name);
            let told = error_of(&socket).expect("an error is kept");
            assert_eq!(told, Some(IcmpError { kind, code, from: to.ip() }), "{}", line.name);
        }
        assert_eq!(stage.arrived(remote), 0, "no packet reaches {remote}");
    }
    assert_eq!(stage.counted(Reason::Rejected), 4);
}

/// Where the edge's cable to the sinkhole begins, and where it ends.
const DRAIN: &str = "drain";
const SINK: &str = "sink";
const SINK_MAC: [u8; 6] = [0x02, 0x51, 0, 0, 0, 0x0e];
const DRAIN_MAC: [u8; 6] = [0x02, 0x51, 0, 0, 0, 0x0d];

/// A sinkhole with a cable of its own, and what listens at its end.
fn dig(lab: &Lab, name: &str) -> (Netns, Tally) {
    let sinkhole = Netns::create(&format!("sekisho-{name}-{}-sinkhole", std::process::id()));
    let sinkhole = sinkhole.expect("a namespace");
    let its_name = sinkhole.path().file_name().expect("a name").to_string_lossy().into_owned();
    let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let lay = || {
        link::ip(&format!(
            "link add name {DRAIN} address {} type veth peer name {SINK} address {} netns {its_name}\n\
             link set {DRAIN} up\n",
            mac(DRAIN_MAC),
            mac(SINK_MAC)
        ))
    };
    lab.edge.inside(lay).expect("a cable");
    let tally = sinkhole.inside(|| {
        link::ip(&format!(
            "link set lo up\nlink set {SINK} up\naddr add {LISTED}/32 dev lo\n\
             addr add {LISTED_V6}/128 dev lo nodad\n"
        ))?;
        Ok(Tally::attach(SINK, Then::Pass)?)
    });
    (sinkhole, tally.expect("a program"))
}

fn way(kind: SinkholeKind) -> SinkholeWay {
    let none: Sinkhole = zerocopy::FromZeros::new_zeroed();
    let ethernet: [u8; 12] = [SINK_MAC, DRAIN_MAC].concat().try_into().expect("twelve bytes");
    let sinkhole = Sinkhole {
        ethernet: zerocopy::transmute!(ethernet),
        kind: kind as u8,
        mtu: 1500,
        source_v4: 0x0a42_0001,
        destination_v4: 0x0a4d_0001,
        source_v6: [0x2001_0db8_0066_0000, 1],
        destination_v6: [0x2001_0db8_0077_0000, 1],
        ..none
    };
    SinkholeWay { interface: DRAIN.to_owned(), sinkhole }
}

/// A line sends a datagram to a listed address; gives the port that it came from.
fn ask(stage: &Stage, line: &Subscriber, to: SocketAddr) -> SocketAddr {
    stage.from(|| {
        let own = SocketAddr::new(line.address_towards(to.ip()), 0);
        let socket = UdpSocket::bind(own).expect("the subscriber's address");
        socket.send_to(b"question", to).expect("sent");
        socket.local_addr().expect("it is bound")
    })
}

#[test]
fn a_sinkhole_on_the_next_hop_hears_what_subscribers_send_to_listed_addresses() {
    let mut dug = None;
    let stage = Stage::new("next-hop", Action::Sinkhole, |lab| {
        dug = Some(dig(lab, "next-hop"));
        Some(way(SinkholeKind::NextHop))
    });
    let (sinkhole, _tally) = dug.expect("it was dug");
    stage.list(&[LISTED, LISTED_V6]);
    for remote in [LISTED, LISTED_V6] {
        let to = SocketAddr::new(address(remote), PORT);
        let listener = sinkhole.inside(|| Ok(UdpSocket::bind(to)?)).expect("a listener");
        listener.set_read_timeout(Some(PATIENCE)).expect("a socket");
        for line in stage.lines() {
            let from = ask(&stage, line, to);
            let mut datagram = [0; 16];
            let (length, peer) = listener.recv_from(&mut datagram).expect("a datagram");
            assert_eq!((&datagram[..length], peer), (&b"question"[..], from), "{}", line.name);
        }
        assert_eq!(stage.arrived(remote), 0, "no packet reaches the real {remote}");
    }
    assert_eq!(stage.counted(Reason::Sinkholed), 4);
}

#[test]
fn a_sinkhole_behind_a_tunnel_gets_the_packet_whole_in_an_outer_header() {
    let mut dug = None;
    let stage = Stage::new("tunnel", Action::Sinkhole, |lab| {
        dug = Some(dig(lab, "tunnel"));
        Some(way(SinkholeKind::Tunnel))
    });
    let (sinkhole, _tally) = dug.expect("it was dug");
    stage.list(&[LISTED, LISTED_V6]);
    let capture = sinkhole.inside(|| Ok(Capture::start(SINK)?)).expect("a capture");
    for (remote, outer, is_inner, end) in
        [(LISTED, 20, 4, "10.77.0.1"), (LISTED_V6, 40, 41, "2001:db8:77::1")]
    {
        for line in stage.lines() {
            let to = SocketAddr::new(address(remote), PORT);
            let from = ask(&stage, line, to);
            let ours = |frame: &[u8]| frame.starts_with(&SINK_MAC);
            let frame = capture.next(PATIENCE, ours).expect("a capture").expect("a frame");
            assert_eq!(frame[6..12], DRAIN_MAC);
            let around = IpSlice::from_slice(&frame[14..]).expect("an outer header");
            let within = IpSlice::from_slice(&frame[14 + outer..]).expect("the packet is whole");
            assert_eq!(around.payload_ip_number().0, is_inner);
            assert_eq!(around.destination_addr(), address(end));
            assert_eq!([within.source_addr(), within.destination_addr()], [from.ip(), to.ip()]);
            let udp = UdpSlice::from_slice(within.payload().payload).expect("a datagram");
            assert_eq!((udp.source_port(), udp.destination_port()), (from.port(), PORT));
            assert_eq!(udp.payload(), b"question");
        }
        assert_eq!(stage.arrived(remote), 0, "no packet reaches the real {remote}");
    }
    assert_eq!(stage.counted(Reason::Sinkholed), 4);
}
