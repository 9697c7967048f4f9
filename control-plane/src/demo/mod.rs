//! `sekisho demo`.

pub mod lab;
pub mod link;
pub mod lists;
pub mod netns;
pub mod patience;
pub mod plan;
pub mod sniffer;
pub mod traffic;
pub mod trunk;

#[cfg(test)]
mod lab_test {
    use super::*;
    #[test]
    fn smoke() {
        use std::time::Duration;
        let lab = lab::Lab::build("smoke").unwrap();
        let line = sniffer::Sniffer::start(&lab.subscribers, lab::LINE, sniffer::Side::Subscribers).unwrap();
        let core = sniffer::Sniffer::start(&lab.internet, lab::CORE, sniffer::Side::Internet).unwrap();
        let remotes: Vec<std::net::SocketAddr> = ["198.18.0.1:443", "[2001:2::1]:443"].iter().map(|a| a.parse().unwrap()).collect();
        lab.add_remotes(remotes.iter().map(|r| r.ip())).unwrap();
        let stage = traffic::Stage::open(&lab).unwrap();
        stage.serve(remotes.clone()).unwrap();
        let mut s = vec![];
        for l in &lab.lines { for r in &remotes { for t in [traffic::Transport::Tcp, traffic::Transport::Udp] { for inbound in [true, false] {
            s.push(traffic::Session { subscriber: l.clone(), remote: *r, transport: t, inbound });
        }}}}
        for (s, ok) in stage.hold(&s).unwrap() { println!("{s} {ok}"); assert!(ok); }
        patience::Interrupt::default().wait_for_quiet("quiet", Duration::from_millis(300), Duration::from_secs(5), || line.frames() + core.frames()).unwrap();
        let (l, c) = (line.finish().unwrap(), core.finish().unwrap());
        println!("{l:#?}");
        let f = |m: &std::collections::BTreeMap<sniffer::Conversation, u64>| m.iter().filter(|(c, _)| remotes.iter().any(|r| r.ip() == c.remote.ip())).map(|(a, b)| (*a, *b)).collect::<Vec<_>>();
        assert_eq!(f(&l.sent), f(&c.arrived));
        assert_eq!(f(&c.sent), f(&l.arrived));
    }
}
