//! Raw sockets: bytes out and answers in, for what no HTTP client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a peer may take to answer or to close.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One answer of HTTP/1, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The head in lower case names, without the status line.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

/// What came on a connection until its end.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Every byte that came.
    pub bytes: Vec<u8>,
    /// Whether the peer ended the connection; otherwise time was up.
    pub closed: bool,
    /// How long it took.
    pub took: Duration,
}

/// Returns the address in an `http://` URL.
///
/// # Panics
///
/// When it has none.
pub fn address(url: &str) -> SocketAddr {
    let host = url.strip_prefix("http://").unwrap_or(url);
    host.parse()
        .unwrap_or_else(|error| panic!("{error}: {url}"))
}

/// Opens a connection that gives up reading after [`PATIENCE`].
///
/// # Panics
///
/// When nobody listens.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Sends bytes on a connection of their own and reads until the peer closes it or [`PATIENCE`] is over.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Exchange {
    let mut socket = connect(address);
    // The peer may have closed already, which is an answer as well.
    let _ = socket.write_all(bytes);
    read_to_end(&mut socket)
}

/// Sends bytes as [`exchange`] does, but takes three seconds without a byte after the first answer for the end.
///
/// # Panics
///
/// When nobody listens.
pub fn exchange_until_quiet(address: SocketAddr, bytes: &[u8]) -> Exchange {
    const QUIET: Duration = Duration::from_secs(3);
    let began = Instant::now();
    let mut socket = connect(address);
    let _ = socket.write_all(bytes);
    let mut whole = Exchange::default();
    socket.set_read_timeout(Some(QUIET)).unwrap();
    loop {
        let part = read_to_end(&mut socket);
        whole.bytes.extend_from_slice(&part.bytes);
        whole.closed = part.closed;
        whole.took = began.elapsed();
        if whole.closed || !whole.responses().is_empty() || whole.took > PATIENCE {
            return whole;
        }
    }
}

/// Reads until the peer closes the connection or [`PATIENCE`] is over.
pub fn read_to_end(socket: &mut TcpStream) -> Exchange {
    let began = Instant::now();
    let mut exchange = Exchange::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => {
                exchange.closed = true;
                break;
            }
            Ok(taken) => exchange.bytes.extend_from_slice(&buffer[..taken]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                // A reset is an end as well; only a timeout is not.
                exchange.closed =
                    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                break;
            }
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    exchange.took = began.elapsed();
    exchange
}

/// Reads one whole answer and leaves the connection open; `None` where it ended first.
pub fn read_one(socket: &mut TcpStream) -> Option<Response> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some((response, _)) = Response::parse(&bytes, false) {
            return Some(response);
        }
        match socket.read(&mut buffer) {
            Ok(taken) if taken > 0 => bytes.extend_from_slice(&buffer[..taken]),
            _ => return Response::parse(&bytes, true).map(|(response, _)| response),
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Returns the answers in the order they came, informational ones (1xx) left out.
    pub fn responses(&self) -> Vec<Response> {
        let (mut rest, mut found) = (&self.bytes[..], Vec::new());
        while let Some((response, taken)) = Response::parse(rest, true) {
            rest = &rest[taken..];
            if response.status >= 200 {
                found.push(response);
            }
        }
        found
    }

    /// Returns the statuses of the answers.
    pub fn statuses(&self) -> Vec<u16> {
        self.responses().iter().map(|one| one.status).collect()
    }

    /// Returns everything that came, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

// === impl Response ===

impl Response {
    /// Returns a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads one answer from the front of `bytes`, and says how long it was; `ended` says that nothing more comes.
    fn parse(bytes: &[u8], ended: bool) -> Option<(Self, usize)> {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let mut lines = text.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Self {
            status,
            headers,
            body: Vec::new(),
        };
        let rest = &bytes[head + 4..];
        let bodyless = status < 200 || status == 204 || status == 304;
        let taken = if bodyless {
            0
        } else if response.header("transfer-encoding") == "chunked" {
            let (body, taken) = unchunk(rest).or(ended.then(|| (rest.to_vec(), rest.len())))?;
            response.body = body;
            taken
        } else if let Ok(length) = response.header("content-length").parse::<usize>() {
            if rest.len() < length && !ended {
                return None;
            }
            let length = length.min(rest.len());
            response.body = rest[..length].to_vec();
            length
        } else if ended {
            response.body = rest.to_vec();
            rest.len()
        } else {
            return None;
        };
        Some((response, head + 4 + taken))
    }
}

/// Reads a chunked body without trailers, and says how long it was on the wire.
fn unchunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        let end = at.checked_add(size)?.checked_add(2)?;
        body.extend_from_slice(bytes.get(at..end - 2)?);
        bytes.get(at..end)?;
        at = end;
        if size == 0 {
            return Some((body, at));
        }
    }
}
