//! The load: one thread, keep-alive connections, closed or open loop, and every answer checked.
//!
//! A fast wrong answer is a failure, so a wrong one ends the run. In the open loop a request has a time at which it is
//! meant to be sent, and its latency counts from then: a server that stalls is charged for the requests that had to wait.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::measure::{at, count};

/// How long the load waits for answers when it has stopped to ask.
const PATIENCE: Duration = Duration::from_secs(30);

/// One request and what is right.
pub struct Ask {
    /// The whole request.
    pub bytes: Vec<u8>,
    /// Text of which an answer must hold one, when it is right.
    pub expected: Vec<&'static str>,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each connection asks again as soon as it has its answer.
    Closed,
    /// That many a second, whatever the answers do.
    Open(f64),
}

/// What came of a run.
pub struct Outcome {
    /// In milliseconds, sorted.
    pub latencies: Vec<f64>,
    pub elapsed: Duration,
}

/// Looks at the body of an answer that is right, and says what is wrong with it all the same.
pub type Inspect<'a> = Box<dyn FnMut(&str) -> Result<(), String> + 'a>;

/// Connections to one server.
pub struct Load<'a> {
    /// Looks at every answer, where there is more to see than whether it is right.
    pub inspect: Option<Inspect<'a>>,
    poll: Poll,
    connections: Vec<Connection>,
    asks: &'a [Ask],
    next: usize,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// Which request is under way, and since when.
    asked: Option<(usize, Instant)>,
}

// === impl Outcome ===

impl Outcome {
    /// Returns how many answers came.
    pub fn answers(&self) -> usize {
        self.latencies.len()
    }

    /// Returns the answers a second.
    pub fn per_second(&self) -> f64 {
        count(self.answers()) / self.elapsed.as_secs_f64()
    }

    /// Returns the latency within which that share was answered, in milliseconds.
    pub fn latency(&self, share: f64) -> f64 {
        at(&self.latencies, share)
    }
}

// === impl Load ===

impl<'a> Load<'a> {
    /// Opens the connections.
    ///
    /// # Errors
    ///
    /// When the server does not accept them.
    pub fn connect(address: SocketAddr, number: usize, asks: &'a [Ask]) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(number);
        for place in 0..number {
            // Connected before it is made non-blocking, so that no connection is half open when the run begins.
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(place), Interest::READABLE)?;
            connections.push(Connection {
                stream,
                answer: Vec::with_capacity(4_096),
                asked: None,
            });
        }
        Ok(Self {
            inspect: None,
            poll,
            connections,
            asks,
            next: 0,
            buffer: vec![0; 65_536],
        })
    }

    /// Asks for `time`, and waits for the last answers.
    ///
    /// # Errors
    ///
    /// A wrong answer, a closed connection, or an answer that does not come.
    pub fn run(&mut self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        let mut latencies = Vec::with_capacity(65_536);
        let mut events = Events::with_capacity(256);
        let start = Instant::now();
        let until = start + time;
        let gap = match pace {
            Pace::Closed => Duration::ZERO,
            Pace::Open(per_second) => Duration::from_secs_f64(1.0 / per_second.max(1.0)),
        };
        let mut due = start;
        // In turn: the server closes a connection that is never asked on.
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        loop {
            let now = Instant::now();
            let asking = now < until;
            while asking && due <= now {
                let Some(place) = idle.pop_front() else { break };
                let since = if gap.is_zero() { now } else { due };
                self.ask(place, since)?;
                due += gap;
            }
            if !asking && idle.len() == self.connections.len() {
                break;
            }
            if now > until + PATIENCE {
                return Err(io::Error::other("an answer did not come in 30 s"));
            }
            // The clock of the poll is in milliseconds: the last one before a request is due is spent looking.
            let wait = match pace {
                Pace::Open(_) if asking => {
                    Duration::from_millis(due.saturating_duration_since(now).as_millis() as u64)
                }
                _ => Duration::from_millis(100),
            };
            self.poll.poll(&mut events, Some(wait))?;
            for event in &events {
                let place = event.token().0;
                if let Some(since) = self.read(place)? {
                    let now = Instant::now();
                    latencies.push((now - since).as_secs_f64() * 1e3);
                    if gap.is_zero() && now < until {
                        self.ask(place, now)?;
                    } else {
                        idle.push_back(place);
                    }
                }
            }
        }
        let elapsed = start.elapsed();
        latencies.sort_by(f64::total_cmp);
        Ok(Outcome { latencies, elapsed })
    }

    fn ask(&mut self, place: usize, since: Instant) -> io::Result<()> {
        let number = self.next % self.asks.len();
        self.next += 1;
        if let (Some(connection), Some(ask)) =
            (self.connections.get_mut(place), self.asks.get(number))
        {
            connection.answer.clear();
            connection.asked = Some((number, since));
            // A request is far smaller than the socket's buffer: it goes whole or the server has stopped reading.
            if connection.stream.write(&ask.bytes)? < ask.bytes.len() {
                return Err(io::Error::other("the server does not read"));
            }
        }
        Ok(())
    }

    /// Reads what there is; returns since when the request was under way once its answer is whole and right.
    fn read(&mut self, place: usize) -> io::Result<Option<Instant>> {
        let Some(connection) = self.connections.get_mut(place) else {
            return Ok(None);
        };
        let taken = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        connection
            .answer
            .extend_from_slice(self.buffer.get(..taken).unwrap_or_default());
        let Some(body) = body(&connection.answer) else {
            return Ok(None);
        };
        let Some((number, since)) = connection.asked.take() else {
            return Err(io::Error::other("an answer that nobody asked for"));
        };
        let right = self.asks.get(number).is_some_and(|ask| {
            ask.expected
                .iter()
                .any(|expected| contains(body, expected.as_bytes()))
        });
        if !(connection.answer.starts_with(b"HTTP/1.1 200") && right) {
            let ask = self.asks.get(number).map(|ask| ask.bytes.as_slice());
            return Err(io::Error::other(format!(
                "a wrong answer:\n{}\nto:\n{}",
                String::from_utf8_lossy(&connection.answer),
                String::from_utf8_lossy(ask.unwrap_or_default())
            )));
        }
        if let Some(inspect) = &mut self.inspect {
            inspect(&String::from_utf8_lossy(body)).map_err(io::Error::other)?;
        }
        Ok(Some(since))
    }
}

/// Returns the body of a response once it is whole.
pub fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = answer.split_at_checked(end + 4)?;
    for line in head.split(|byte| *byte == b'\n') {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(0));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length: usize = std::str::from_utf8(value).ok()?.parse().ok()?;
            return rest.get(..length);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return rest.ends_with(b"0\r\n\r\n").then_some(rest);
        }
    }
    None
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// Sends one request on a connection of its own and returns the status and the body.
///
/// # Errors
///
/// When the server does not answer in two minutes.
pub fn once(address: SocketAddr, request: &[u8]) -> io::Result<(u16, String)> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(request)?;
    answer(&mut stream)
}

/// Reads one answer and returns the status and the body.
///
/// # Errors
///
/// When there is none in two minutes.
pub fn answer(stream: &mut std::net::TcpStream) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        if let Some(body) = body(&answer) {
            let status = answer
                .get(9..12)
                .and_then(|it| std::str::from_utf8(it).ok());
            let status = status.and_then(|text| text.parse().ok()).unwrap_or(0);
            return Ok((status, String::from_utf8_lossy(body).into_owned()));
        }
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            taken => answer.extend_from_slice(buffer.get(..taken).unwrap_or_default()),
        }
    }
}

/// Writes one HTTP request with a JSON body.
pub fn request(
    method: &str,
    path: &str,
    address: SocketAddr,
    headers: &[(&str, &str)],
    body: &str,
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    text.into_bytes()
}
