//! A local receiver of webhooks: it keeps everything that comes, and answers as badly as it is told to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use remit_core::ContentHash;
use serde_json::Value;

/// How long a sender may be silent in the middle of a request.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest request that is taken, in bytes.
const LARGEST: usize = 1 << 20;
/// How far apart the clocks of sender and receiver may be, in seconds.
const TOLERANCE: u64 = 300;

/// What the receiver does with one request, once it has kept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this status.
    Answer(u16),
    /// Answers with this status, after a while.
    Late(Duration, u16),
    /// Sends the client to another place.
    Redirect(String),
    /// Answers 200 with a body that goes on until the sender has had enough.
    Endless,
    /// Closes the connection without an answer.
    Hangup,
}

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// In the order they came, with names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When it was complete.
    pub at: Instant,
}

/// A receiver on a port of this machine; it ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    plan: VecDeque<Behaviour>,
    /// Connections, whatever came on them.
    connections: usize,
    /// Bytes of bodies without end that a sender let us write.
    endless: usize,
    over: bool,
}

// === impl Receiver ===

impl Receiver {
    /// Starts a receiver that answers 204 to everything.
    ///
    /// # Panics
    ///
    /// When this machine has no port left.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&kept);
                {
                    let mut state = shared.state.lock().unwrap();
                    if state.over {
                        return;
                    }
                    state.connections += 1;
                    shared.changed.notify_all();
                }
                if let Ok(stream) = stream {
                    thread::spawn(move || serve(stream, &shared));
                }
            }
        });
        Self { address, shared }
    }

    /// Returns what to allow and to dial, such as `127.0.0.1:4711`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a path here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Says what to do with the next requests, one each; the last one holds for all that follow.
    pub fn does(&self, plan: &[Behaviour]) {
        self.shared.state.lock().unwrap().plan = plan.iter().cloned().collect();
    }

    /// Returns everything that came so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state.lock().unwrap().received.clone()
    }

    /// Returns how many connections there were, also those on which nothing came.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    /// Returns how many bytes of bodies without end were written before the senders had enough.
    pub fn endless_bytes(&self) -> usize {
        self.shared.state.lock().unwrap().endless
    }

    /// Waits until at least so many requests have come, and returns all of them.
    ///
    /// # Panics
    ///
    /// When they have not within `patience`.
    pub fn wait_for(&self, count: usize, patience: Duration) -> Vec<Received> {
        let state = self.shared.state.lock().unwrap();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, patience, |state| state.received.len() < count)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{} of {count} requests came within {patience:?}",
            state.received.len()
        );
        state.received.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Whoever waits here failed already where the lock is poisoned.
        if let Ok(mut state) = self.shared.state.lock() {
            state.over = true;
        }
        // Wakes the loop, which sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

// === impl Received ===

impl Received {
    /// Returns the value of a header, by its name in lower case; `None` where it came not once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// Reads the body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the message's id, which is the same in every attempt.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn id(&self) -> &str {
        self.header("webhook-id").unwrap()
    }

    /// Whether it is signed with a secret such as `whsec_...` and no older or newer than five minutes, by Standard Webhooks.
    ///
    /// Written apart from what signs: it shares no code with it but SHA-256.
    pub fn is_signed(&self, secret: &str, now: u64) -> bool {
        let stamp = self.header("webhook-timestamp").map(str::parse::<u64>);
        let (Some(id), Some(Ok(stamp)), Some(signatures)) = (
            self.header("webhook-id"),
            stamp,
            self.header("webhook-signature"),
        ) else {
            return false;
        };
        let fresh = now.abs_diff(stamp) <= TOLERANCE;
        let key = secret.strip_prefix("whsec_").and_then(unbase64);
        let Some(key) = key.filter(|_| fresh) else {
            return false;
        };
        let mut signed = format!("{id}.{stamp}.").into_bytes();
        signed.extend_from_slice(&self.body);
        let expected = hmac_sha256(&key, &signed);
        signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .any(|signature| unbase64(signature).as_deref() == Some(&expected[..]))
    }
}

/// Reads one request, keeps it, and does what is planned.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let Some(received) = read(&mut stream) else {
        return;
    };
    let planned = {
        let mut state = shared.state.lock().unwrap();
        state.received.push(received);
        shared.changed.notify_all();
        let next = state.plan.front().cloned();
        if state.plan.len() > 1 {
            state.plan.pop_front();
        }
        next.unwrap_or(Behaviour::Answer(204))
    };
    // The sender may be gone, which the test sees by what it sends next.
    let _ = match planned {
        Behaviour::Answer(status) => answer(&mut stream, status, ""),
        Behaviour::Late(pause, status) => {
            thread::sleep(pause);
            answer(&mut stream, status, "")
        }
        Behaviour::Redirect(to) => answer(&mut stream, 307, &format!("Location: {to}\r\n")),
        Behaviour::Endless => endless(&mut stream, shared),
        Behaviour::Hangup => Ok(()),
    };
}

fn answer(stream: &mut TcpStream, status: u16, more: &str) -> std::io::Result<()> {
    let length = if status == 204 {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    let head = format!("HTTP/1.1 {status} Planned\r\n{more}{length}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())
}

fn endless(stream: &mut TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = [b"400\r\n".as_slice(), &[b'x'; 1_024], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
        let mut state = shared.state.lock().unwrap();
        state.endless += 1_024;
        if state.over {
            return Ok(());
        }
        drop(state);
        // Slowly, so that what the kernel keeps of it is small beside what a sender reads.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reads one request with a body of a stated length; `None` for anything else.
fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(stream, &mut bytes)?;
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        more(stream, &mut body)?;
    }
    Some(Received {
        method,
        target,
        headers,
        body,
        at: Instant::now(),
    })
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4_096];
    let count = loop {
        match stream.read(&mut piece) {
            Ok(0) => return None,
            Ok(count) => break count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    };
    bytes.extend_from_slice(&piece[..count]);
    (bytes.len() <= LARGEST).then_some(())
}

/// HMAC of RFC 2104 over SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&sha256(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with).to_vec();
    let inner = sha256(&[pad(0x36), message.to_vec()].concat());
    sha256(&[pad(0x5c), inner.to_vec()].concat())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let shown = ContentHash::of(bytes).to_string();
    let hex = shown.rsplit(':').next().unwrap();
    let digits: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    digits.try_into().unwrap()
}

/// Reads standard base64 (RFC 4648 §4); `None` for anything else.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) || text.is_empty() {
        return None;
    }
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
        bits &= (1 << held) - 1;
    }
    (padding <= 2 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector() -> Received {
        let headers = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            (
                "webhook-signature",
                "v1,bm9ib2R5 v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ];
        Received {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            body: br#"{"test": 2432232314}"#.to_vec(),
            at: Instant::now(),
        }
    }

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The vector of the reference implementations, whose first signature is of nobody.
    #[test]
    fn a_published_signature_is_one() {
        assert!(vector().is_signed(SECRET, 1_614_265_330));
    }

    #[test]
    fn what_was_altered_or_is_old_is_not_signed() {
        let at = 1_614_265_330;
        let mut altered = vector();
        altered.body.push(b' ');
        assert!(!altered.is_signed(SECRET, at), "another body");
        let mut altered = vector();
        altered.headers[0].1.push('x');
        assert!(!altered.is_signed(SECRET, at), "another id");
        let mut altered = vector();
        altered.headers[1].1 = "1614265331".to_owned();
        assert!(!altered.is_signed(SECRET, at), "another time");
        let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx";
        assert!(!vector().is_signed(other, at), "another secret");
        assert!(!vector().is_signed(SECRET, at + TOLERANCE + 1), "too old");
        assert!(!vector().is_signed(SECRET, at - TOLERANCE - 1), "too new");
        let mut twice = vector();
        twice
            .headers
            .push(("webhook-id".to_owned(), "x".to_owned()));
        assert!(!twice.is_signed(SECRET, at), "two ids");
    }

    /// RFC 4231, test cases 2 and 6: a short key, and one that is longer than a block.
    #[test]
    fn the_hmac_is_that_of_the_rfc() {
        let hex = |bytes: [u8; 32]| -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(
            hex(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac_sha256(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn it_keeps_what_comes_and_does_as_it_is_told() {
        let receiver = Receiver::start();
        receiver.does(&[Behaviour::Answer(500), Behaviour::Answer(204)]);
        let send = || {
            let mut stream = TcpStream::connect(receiver.address()).unwrap();
            let request = "POST /in?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        for status in ["500", "204", "204"] {
            let answer = send();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        let received = receiver.wait_for(3, PATIENCE);
        assert_eq!((received.len(), receiver.connections()), (3, 3));
        assert_eq!(received[0].target, "/in?x=1");
        assert_eq!(received[0].json(), serde_json::json!({}));
        assert_eq!(received[0].header("host"), Some("x"));
    }
}
