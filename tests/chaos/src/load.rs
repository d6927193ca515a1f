//! Clients that ask questions for as long as they are let, and remember every answer with its times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::pdp::{PATIENCE, Pdp, patient_client, question};

/// The most questions that one client asks, so that no load is without end.
const MOST: usize = 100_000;

/// One question and what became of it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which client asked.
    pub client: usize,
    /// The agent that was asked about.
    pub agent: &'static str,
    /// When it was sent.
    pub sent: Instant,
    /// How long it took until the answer had been read, or until there was none.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was decided.
    Decided {
        /// The id of the decision.
        id: String,
        /// Whether it was permitted.
        permit: bool,
        /// The revision it was decided at.
        revision: u64,
    },
    /// It was refused: no decision.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// The connection ended in the middle of it.
    Lost {
        /// What the client was told.
        error: String,
        /// Whether the connection could not be made at all, so that nothing was asked.
        unsent: bool,
    },
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<Vec<Call>>,
    stop: Arc<AtomicBool>,
    decided: Arc<AtomicUsize>,
}

// === impl Load ===

impl Load {
    /// Starts clients on one server, each with a connection of its own that asks again `pause` after every answer.
    ///
    /// Every third question is about an agent that nobody registered, so that it is denied. A client ends when it is
    /// told to, or when its connection does.
    pub fn start(pdp: &Pdp, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let decided = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (url, key) = (format!("{}/access/v1/evaluation", pdp.url), pdp.key.clone());
            let (stop, decided) = (Arc::clone(&stop), Arc::clone(&decided));
            tasks.spawn(async move {
                let http = patient_client(PATIENCE);
                let mut calls = Vec::new();
                while !stop.load(Ordering::SeqCst) && calls.len() < MOST {
                    let agent = if (number + calls.len()).is_multiple_of(3) {
                        "ghost-bot"
                    } else {
                        "invoice-bot"
                    };
                    let request = http.post(&url).bearer_auth(&key).json(&question(agent));
                    let sent = Instant::now();
                    let outcome = Outcome::of(request).await;
                    let took = sent.elapsed();
                    let lost = matches!(outcome, Outcome::Lost { .. });
                    if matches!(outcome, Outcome::Decided { .. }) {
                        decided.fetch_add(1, Ordering::SeqCst);
                    }
                    calls.push(Call {
                        client: number,
                        agent,
                        sent,
                        took,
                        outcome,
                    });
                    if lost {
                        break;
                    }
                    tokio::time::sleep(pause).await;
                }
                calls
            });
        }
        Self {
            clients: tasks,
            stop,
            decided,
        }
    }

    /// Returns how many questions have been decided so far.
    pub fn decided(&self) -> usize {
        self.decided.load(Ordering::SeqCst)
    }

    /// Waits until so many more questions have been decided.
    ///
    /// # Panics
    ///
    /// When that does not happen in time.
    pub async fn until_decided(&self, more: usize) {
        let target = self.decided() + more;
        let until = Instant::now() + PATIENCE;
        while self.decided() < target {
            assert!(Instant::now() < until, "the server decides nothing");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets every client finish its question, and returns all calls in the order they were sent.
    pub async fn stop(self) -> Vec<Call> {
        self.stop.store(true, Ordering::SeqCst);
        let mut calls = self.clients.join_all().await.concat();
        calls.sort_by_key(|call| call.sent);
        calls
    }
}

// === impl Outcome ===

impl Outcome {
    /// Sends a question and reads the answer to its end.
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let lost = |error: &reqwest::Error| Self::Lost {
            unsent: error.is_connect(),
            error: format!("{error:?}"),
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return lost(&error),
        };
        let status = answer.status().as_u16();
        let header = |name: &str| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (id, revision) = (header("x-decision-id"), header("remit-revision"));
        // The head may arrive and the body not; then nothing was answered.
        let body = match answer.text().await {
            Ok(body) => body,
            Err(error) => return lost(&error),
        };
        match (status, id) {
            (200, Some(id)) => Self::Decided {
                id,
                permit: serde_json::from_str::<Value>(&body).unwrap()["decision"] == true,
                revision: revision.unwrap().parse().unwrap(),
            },
            _ => Self::Refused { status, body },
        }
    }

    /// Whether it was permitted.
    pub fn permits(&self) -> bool {
        matches!(self, Self::Decided { permit: true, .. })
    }
}

/// Returns the time below which a share of the calls took, such as 0.99 of them.
///
/// # Panics
///
/// When there are no calls.
pub fn quantile<'a>(calls: impl IntoIterator<Item = &'a Call>, share: f64) -> Duration {
    let mut times: Vec<Duration> = calls.into_iter().map(|call| call.took).collect();
    times.sort_unstable();
    let count = u32::try_from(times.len()).unwrap();
    let position = (f64::from(count) * share).ceil();
    times
        .into_iter()
        .zip(1_u32..)
        .find(|(_, number)| f64::from(*number) >= position)
        .unwrap()
        .0
}
