//! Real sessions over real sockets, in both directions.

use std::{
    collections::HashSet,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    lab::{Lab, Subscriber},
    netns::Resident,
};

/// The port on which subscribers can be called; CPE management (CWMP) uses it.
pub const SUBSCRIBER_PORT: u16 = 7547;

/// The transports that sessions use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Connect, send, receive, close.
    Tcp,
    /// Three questions and their answers.
    Udp,
}

impl Transport {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The subscriber's end.
    pub subscriber: Subscriber,
    /// The remote's end.
    pub remote: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// Whether the remote calls the subscriber.
    pub inbound: bool,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arrow, transport) = (if self.inbound { "<-" } else { "->" }, self.transport.as_str());
        write!(f, "{} {arrow} {}/{transport}", self.subscriber.name, self.remote)
    }
}

/// Long enough for a SYN and its first repetition, a second later.
const TCP_PATIENCE: Duration = Duration::from_millis(1_400);
const UDP_PATIENCE: Duration = Duration::from_millis(400);
/// Once a connection stands, its end may take as long as a busy machine needs.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
const QUESTIONS: usize = 3;
const QUESTION: &[u8] = b"question";
const ANSWER: &[u8] = b"answer";
const CALL: &[u8] = b"call";

/// Everybody who can talk: listeners on both sides, and a runtime in each namespace.
#[derive(Debug)]
pub struct Stage {
    subscribers: Resident,
    internet: Arc<Resident>,
    remotes: RemoteSockets,
    calls: Calls,
}

type RemoteSockets = Arc<Mutex<Vec<(SocketAddr, Arc<UdpSocket>)>>>;

/// Datagrams that reached a subscriber unasked: from whom, to whom.
type Calls = Arc<Mutex<HashSet<(SocketAddr, SocketAddr)>>>;

impl Stage {
    /// Opens the subscribers' listeners.
    pub fn open(lab: &Lab) -> anyhow::Result<Self> {
        let stage = Self {
            subscribers: Resident::start(&lab.subscribers, "subscribers")?,
            internet: Arc::new(Resident::start(&lab.internet, "internet")?),
            remotes: Arc::default(),
            calls: Arc::default(),
        };
        let calls = Arc::clone(&stage.calls);
        let addresses: Vec<SocketAddr> = lab
            .lines
            .iter()
            .flat_map(|line| [IpAddr::from(line.v4), IpAddr::from(line.v6)])
            .map(|address| SocketAddr::new(address, SUBSCRIBER_PORT))
            .collect();
        stage.subscribers.run(async move {
            for address in addresses {
                serve_tcp(address).await?;
                listen_for_calls(address, Arc::clone(&calls)).await?;
            }
            Ok(())
        })?;
        Ok(stage)
    }

    /// Lets a remote answer, over TCP and UDP; its address must be there already.
    pub fn serve(&self, remotes: impl IntoIterator<Item = SocketAddr>) -> anyhow::Result<()> {
        let remotes: Vec<_> = remotes.into_iter().collect();
        let sockets = Arc::clone(&self.remotes);
        self.internet.run(async move {
            for remote in remotes {
                serve_tcp(remote).await?;
                let socket = answer_udp(remote).await?;
                sockets.lock().unwrap_or_else(PoisonError::into_inner).push((remote, socket));
            }
            Ok(())
        })
    }

    /// Holds all sessions at once and says which of them came to their proper end.
    pub fn hold(&self, sessions: &[Session]) -> anyhow::Result<Vec<(Session, bool)>> {
        let (inbound, outbound): (Vec<_>, Vec<_>) =
            sessions.iter().cloned().partition(|session| session.inbound);
        let internet = Arc::clone(&self.internet);
        let (remotes, calls) = (Arc::clone(&self.remotes), Arc::clone(&self.calls));
        let inbound = std::thread::spawn(move || {
            internet.run(all(inbound, move |session| {
                let (remotes, calls) = (Arc::clone(&remotes), Arc::clone(&calls));
                async move { call_subscriber(&session, &remotes, &calls).await }
            }))
        });
        let outbound =
            self.subscribers.run(all(outbound, |session| async move { talk(&session).await }));
        let inbound = inbound.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread died")));
        let mut outcomes = outbound?;
        outcomes.extend(inbound?);
        Ok(outcomes)
    }
}

async fn all<F>(
    sessions: Vec<Session>,
    hold: impl Fn(Session) -> F,
) -> anyhow::Result<Vec<(Session, bool)>>
where
    F: Future<Output = io::Result<bool>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for session in sessions {
        let outcome = hold(session.clone());
        running.spawn(async move { (outcome.await, session) });
    }
    let mut outcomes = Vec::new();
    while let Some(joined) = running.join_next().await {
        let (outcome, session) = joined?;
        let completed = outcome.with_context(|| format!("cannot start {session}"))?;
        outcomes.push((session, completed));
    }
    Ok(outcomes)
}

/// A subscriber talks to a remote; whether it got its answers.
async fn talk(session: &Session) -> io::Result<bool> {
    let own = SocketAddr::new(session.subscriber.address_towards(session.remote.ip()), 0);
    match session.transport {
        Transport::Tcp => tcp_session(own, session.remote).await,
        Transport::Udp => udp_session(own, session.remote).await,
    }
}

/// A remote calls a subscriber; whether the subscriber noticed.
async fn call_subscriber(
    session: &Session,
    remotes: &RemoteSockets,
    calls: &Calls,
) -> io::Result<bool> {
    let subscriber =
        SocketAddr::new(session.subscriber.address_towards(session.remote.ip()), SUBSCRIBER_PORT);
    if session.transport == Transport::Tcp {
        return tcp_session(SocketAddr::new(session.remote.ip(), 0), subscriber).await;
    }
    let socket = remotes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .find(|(remote, _)| *remote == session.remote)
        .map(|(_, socket)| Arc::clone(socket))
        .ok_or_else(|| io::Error::other(format!("{} has no socket", session.remote)))?;
    for _ in 0..QUESTIONS {
        socket.send_to(CALL, subscriber).await?;
    }
    let key = (session.remote, subscriber);
    let deadline = Instant::now() + UDP_PATIENCE;
    while Instant::now() < deadline {
        if calls.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(false)
}

async fn tcp_session(own: SocketAddr, peer: SocketAddr) -> io::Result<bool> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(own)?;
    let Ok(Ok(mut stream)) = timeout(TCP_PATIENCE, socket.connect(peer)).await else {
        return Ok(false);
    };
    let exchange = async {
        let mut answer = Vec::new();
        stream.write_all(QUESTION).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer == ANSWER)
    };
    Ok(matches!(timeout(LONG_PATIENCE, exchange).await, Ok(Ok(true))))
}

async fn udp_session(own: SocketAddr, peer: SocketAddr) -> io::Result<bool> {
    let socket = UdpSocket::bind(own).await?;
    socket.connect(peer).await?;
    let mut answers = 0;
    for _ in 0..QUESTIONS {
        socket.send(QUESTION).await?;
        let mut answer = [0; 64];
        if let Ok(Ok(length)) = timeout(UDP_PATIENCE, socket.recv(&mut answer)).await
            && answer.get(..length) == Some(ANSWER)
        {
            answers += 1;
        }
    }
    Ok(answers == QUESTIONS)
}

async fn serve_tcp(address: SocketAddr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_tcp(stream));
        }
    });
    Ok(())
}

async fn answer_tcp(mut stream: TcpStream) -> io::Result<()> {
    let mut question = Vec::new();
    stream.read_to_end(&mut question).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

async fn answer_udp(address: SocketAddr) -> anyhow::Result<Arc<UdpSocket>> {
    let socket = bind_udp(address).await?;
    let served = Arc::clone(&socket);
    tokio::spawn(async move {
        let mut datagram = [0; 64];
        while let Ok((length, peer)) = served.recv_from(&mut datagram).await {
            if datagram.get(..length) == Some(QUESTION) {
                let _ = served.send_to(ANSWER, peer).await;
            }
        }
    });
    Ok(socket)
}

async fn listen_for_calls(address: SocketAddr, calls: Calls) -> anyhow::Result<()> {
    let socket = bind_udp(address).await?;
    tokio::spawn(async move {
        let mut datagram = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut datagram).await {
            calls.lock().unwrap_or_else(PoisonError::into_inner).insert((peer, address));
        }
    });
    Ok(())
}

async fn bind_udp(address: SocketAddr) -> anyhow::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} over UDP"))?;
    Ok(Arc::new(socket))
}
