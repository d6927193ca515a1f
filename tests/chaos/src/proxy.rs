//! A network between two processes that can be slow, silent, cut, or worse.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use Direction::{ToClient, ToServer};

/// How long the server may take to answer what it was sent before a cut; then the cut happens all the same.
const CUT_PATIENCE: Duration = Duration::from_secs(2);

/// A TCP proxy on a free port; its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    traffic: Arc<Traffic>,
    tasks: JoinSet<()>,
}

/// What the network does now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Weather {
    upstream: u16,
    /// Added to every piece of data, in each direction.
    latency: Duration,
    /// Bytes a second in each direction; unlimited without.
    rate: Option<u64>,
    /// Connections open and nothing gets through.
    silent: bool,
    /// New connections are closed at once.
    refusing: bool,
    /// Raised by one to reset every connection that is open.
    resets: u64,
    /// Raised by one to end, on every open connection, what comes from the server, and only that.
    half_closes: u64,
}

/// What becomes of a message that a client sends, and of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It gets through, and so does the answer.
    Through,
    /// It never arrives, and the connection is cut: not done, and nobody told.
    Lost,
    /// It is answered, and then the connection is cut: done, and nobody told.
    Unanswered,
}

/// The fates of the messages that hold a pattern, in turn.
#[derive(Debug, Default)]
struct Script {
    pattern: Vec<u8>,
    fates: VecDeque<Fate>,
}

#[derive(Debug, Default)]
struct Traffic {
    connections: AtomicU64,
    script: Mutex<Script>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Why one direction of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The sender closed its side.
    Closed,
    /// The connection is to be reset.
    Reset,
}

// === impl End ===

impl End {
    fn closed(self) -> Result<(), ()> {
        match self {
            Self::Closed => Ok(()),
            Self::Reset => Err(()),
        }
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let weather = watch::Sender::new(Weather {
            upstream,
            ..Weather::default()
        });
        let traffic = Arc::new(Traffic::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, weather.subscribe(), Arc::clone(&traffic)));
        Self {
            port,
            weather,
            traffic,
            tasks,
        }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address of a Postgres database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://remit@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns `url` with this proxy's port for its own.
    pub fn before(&self, url: &str) -> String {
        self.url(url.rsplit('/').next().unwrap())
    }

    /// Delays every piece of data by `latency`, in each direction.
    pub fn latency(&self, latency: Duration) {
        self.weather
            .send_modify(|weather| weather.latency = latency);
    }

    /// Limits each direction to so many bytes a second.
    pub fn rate(&self, bytes: Option<u64>) {
        self.weather.send_modify(|weather| weather.rate = bytes);
    }

    /// Lets connections stand and new ones open, and nothing through.
    pub fn blackhole(&self, silent: bool) {
        self.weather.send_modify(|weather| weather.silent = silent);
    }

    /// Closes new connections at once.
    pub fn refuse(&self, refusing: bool) {
        self.weather
            .send_modify(|weather| weather.refusing = refusing);
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }

    /// Ends what comes from the server on every open connection, and only that.
    pub fn half_close(&self) {
        self.weather.send_modify(|weather| weather.half_closes += 1);
    }

    /// Says what becomes of the messages that hold `pattern`: the next has the first fate, and when all have been used
    /// everything gets through again.
    ///
    /// # Panics
    ///
    /// When the pattern is empty.
    pub fn script(&self, pattern: &[u8], fates: impl IntoIterator<Item = Fate>) {
        assert!(!pattern.is_empty(), "every message holds nothing");
        *self.traffic.script.lock().unwrap() = Script {
            pattern: pattern.to_vec(),
            fates: fates.into_iter().collect(),
        };
    }

    /// Returns how many fates have not been used yet.
    pub fn fates_left(&self) -> usize {
        self.traffic.script.lock().unwrap().fates.len()
    }

    /// Sends new connections to another port, as a failover does.
    pub fn redirect(&self, upstream: u16) {
        self.weather
            .send_modify(|weather| weather.upstream = upstream);
    }

    /// Returns how many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.traffic.connections.load(Ordering::SeqCst)
    }

    /// Ends it and every connection, at once.
    pub fn stop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn accept(listener: TcpListener, weather: watch::Receiver<Weather>, traffic: Arc<Traffic>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (client, _) = listener.accept().await.unwrap();
        if weather.borrow().refusing {
            continue;
        }
        traffic.connections.fetch_add(1, Ordering::SeqCst);
        open.spawn(carry(client, weather.clone(), Arc::clone(&traffic)));
    }
}

/// Carries one connection to its end.
async fn carry(mut client: TcpStream, weather: watch::Receiver<Weather>, traffic: Arc<Traffic>) {
    let upstream = SocketAddr::from(([127, 0, 0, 1], weather.borrow().upstream));
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let cutting = watch::Sender::new(false);
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = pump(
            ToServer,
            from_client,
            to_server,
            weather.clone(),
            &traffic,
            &cutting,
        );
        let back = pump(
            ToClient,
            from_server,
            to_client,
            weather,
            &traffic,
            &cutting,
        );
        // A side that closed lets the other go on, as TCP does; a reset ends both.
        let both = tokio::try_join!(async { there.await.closed() }, async {
            back.await.closed()
        });
        if both.is_ok() {
            End::Closed
        } else {
            End::Reset
        }
    };
    if end == End::Reset {
        for stream in [&client, &server] {
            // No waiting for what is in flight: the peer is to see a reset, not an end.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Carries one direction.
async fn pump(
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    weather: watch::Receiver<Weather>,
    traffic: &Traffic,
    cutting: &watch::Sender<bool>,
) -> End {
    let began = weather.borrow().clone();
    let mut buffer = vec![0; 16 << 10];
    // The end of what was carried, so that a pattern is found across two pieces.
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let read = tokio::select! {
            // In this order: an answer that is there already must not slip through a cut.
            biased;
            () = raised(cutting), if direction == ToClient => {
                // The answer is read, so that what was sent has surely been done, and then thrown away.
                let _ = tokio::time::timeout(CUT_PATIENCE, from.read(&mut buffer)).await;
                return End::Reset;
            }
            read = from.read(&mut buffer) => read,
            end = interrupted(direction, &began, weather.clone()) => return ended(end, &mut to).await,
        };
        let piece = match read {
            Ok(0) => return ended(End::Closed, &mut to).await,
            Ok(length) => &buffer[..length],
            Err(_) => return End::Reset,
        };
        let now = weather.borrow().clone();
        let held = async {
            tokio::time::sleep(now.latency + paced(piece.len(), now.rate)).await;
            let _ = weather.clone().wait_for(|weather| !weather.silent).await;
        };
        tokio::select! {
            () = held => {}
            end = interrupted(direction, &began, weather.clone()) => return ended(end, &mut to).await,
        }
        let fate = match direction {
            ToServer => traffic.fate(&mut tail, piece),
            ToClient => Fate::Through,
        };
        if fate == Fate::Lost || to.write_all(piece).await.is_err() {
            return End::Reset;
        }
        if fate == Fate::Unanswered {
            cutting.send_replace(true);
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Returns what becomes of a piece that a client sends, and keeps in `tail` what may be the start of the pattern.
    fn fate(&self, tail: &mut Vec<u8>, piece: &[u8]) -> Fate {
        let mut script = self.script.lock().unwrap();
        let length = script.pattern.len();
        if length == 0 {
            return Fate::Through;
        }
        tail.extend_from_slice(piece);
        let found = tail.windows(length).any(|part| part == script.pattern);
        let kept = if found { 0 } else { length - 1 };
        tail.drain(..tail.len().saturating_sub(kept));
        let next = if found {
            script.fates.pop_front()
        } else {
            None
        };
        next.unwrap_or(Fate::Through)
    }
}

/// Waits until the weather ends a direction, and says how.
async fn interrupted(
    direction: Direction,
    began: &Weather,
    mut weather: watch::Receiver<Weather>,
) -> End {
    let closes = |now: &Weather| direction == ToClient && now.half_closes != began.half_closes;
    let changed = weather
        .wait_for(|now| now.resets != began.resets || closes(now))
        .await;
    match changed {
        Ok(now) if now.resets == began.resets => End::Closed,
        _ => End::Reset,
    }
}

async fn ended(end: End, to: &mut WriteHalf<'_>) -> End {
    if end == End::Closed {
        let _ = to.shutdown().await;
    }
    end
}

async fn raised(flag: &watch::Sender<bool>) {
    let _ = flag.subscribe().wait_for(|raised| *raised).await;
}

fn paced(bytes: usize, rate: Option<u64>) -> Duration {
    rate.map_or(Duration::ZERO, |rate| {
        Duration::from_micros(bytes as u64 * 1_000_000 / rate.max(1))
    })
}
