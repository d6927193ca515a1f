//! A reader of server-sent events (`text/event-stream`, WHATWG HTML §9.2).

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::Value;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

/// A stream of events, read as it comes.
pub struct Stream {
    source: Source,
    waiting: Vec<u8>,
    /// How many comments have come.
    pub comments: usize,
}

enum Source {
    Body(Body),
    Answer(reqwest::Response),
}

// === impl Stream ===

impl Stream {
    /// Reads the body of an answer of the API in this process.
    pub(crate) fn of(body: Body) -> Self {
        Self::new(Source::Body(body))
    }

    /// Opens a stream over a socket with a key.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn connect(url: &str, key: &str) -> Self {
        // One choice a process: a second one is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(url).bearer_auth(key).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self::new(Source::Answer(answer))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            waiting: Vec::new(),
            comments: 0,
        }
    }

    /// Returns the next event; `None` at the end of the stream.
    ///
    /// # Panics
    ///
    /// When neither comes within `patience`, or what comes is no event.
    pub async fn next(&mut self, patience: Duration) -> Option<Event> {
        let next = tokio::time::timeout(patience, self.read());
        next.await.expect("an event, or the end")
    }

    /// Reads until `quiet` is over without an event.
    ///
    /// # Panics
    ///
    /// When one comes, or the end.
    pub async fn is_quiet(&mut self, quiet: Duration) {
        if let Ok(came) = tokio::time::timeout(quiet, self.read()).await {
            panic!("not quiet: {came:?}");
        }
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(at) = self.waiting.windows(2).position(|two| two == b"\n\n") {
                let rest = self.waiting.split_off(at + 2);
                let block = String::from_utf8(std::mem::replace(&mut self.waiting, rest)).unwrap();
                if block.starts_with(':') {
                    self.comments += 1;
                } else {
                    return Some(Event::read(&block));
                }
            }
            let piece = self.source.piece().await?;
            self.waiting.extend_from_slice(&piece);
        }
    }
}

// === impl Source ===

impl Source {
    /// Returns what comes next; `None` at the end, also where the connection breaks.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Body(body) => {
                let frame = body.frame().await?.ok()?;
                Some(frame.into_data().unwrap_or_default().to_vec())
            }
            Self::Answer(answer) => Some(answer.chunk().await.ok()??.to_vec()),
        }
    }
}

// === impl Event ===

impl Event {
    fn read(block: &str) -> Self {
        let field = |name: &str| {
            let mut values = block.lines().filter_map(|line| line.strip_prefix(name));
            let value = values.next().unwrap_or_else(|| panic!("{name} {block:?}"));
            assert_eq!(values.next(), None, "{name} twice: {block:?}");
            value
        };
        Self {
            id: field("id: ").to_owned(),
            kind: field("event: ").to_owned(),
            data: serde_json::from_str(field("data: ")).unwrap(),
        }
    }
}
