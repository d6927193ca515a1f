//! `remit approvals watch`: what happens to access requests, approvals and exceptions, as it happens.

use std::time::Duration;

use remit_core::Timestamp;
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PATH, card};
use crate::client::{Client, Sent, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// How long one connection may stand; the server ends it after an hour.
const LONGEST: Duration = Duration::from_mins(70);
/// How long it waits before it connects again, at first and at most.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(30);

/// Examples in `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
    remit approvals watch
    remit approvals watch --kind access_request.created
    remit approvals watch --after 43.0 -o ndjson
    remit approvals watch --kind access_request. --count 1 && notify-send 'Somebody asks'

It connects again where the connection is lost, and goes on after the last event that it has shown. Events are kept for seven
days; where some are not kept any more, it says that there is a gap.";

/// The flags of `remit approvals watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Begin after this event, and not with what happens from now on.
    #[arg(long, value_name = "EVENT")]
    after: Option<String>,
    /// Only events of this kind, or of all that begin so where it ends with a dot.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// End after so many events.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    server: Server,
}

/// An event as it is shown.
#[derive(Debug, Serialize)]
struct Told {
    id: String,
    #[serde(flatten)]
    event: Event,
}

/// An event as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Event {
    at: Timestamp,
    kind: String,
    subject: String,
    #[serde(default)]
    data: Map<String, Value>,
}

/// How far somebody is who watches.
struct Place {
    after: Option<String>,
    shown: u64,
}

// === impl Watch ===

impl Watch {
    /// Shows events until it has shown as many as were asked for; without a number, until it is stopped.
    ///
    /// # Errors
    ///
    /// Those of the client, where the first connection fails or a later one is refused for good.
    pub(super) async fn run(&self, out: &Output) -> Result<Exit, Error> {
        let client = self.server.client()?;
        let mut place = Place {
            after: self.after.clone(),
            shown: 0,
        };
        let (mut connected, mut pause) = (false, SOON);
        loop {
            let before = place.after.clone();
            let ended = self.follow(&client, &mut place, &mut connected, out).await;
            if self.is_done(&place) {
                return Ok(Exit::Ok);
            }
            match ended {
                Err(error) if !connected || !passes(&error) => return Err(error),
                Err(error) => out.note(&format!("{error}; it is tried again")),
                Ok(()) => {}
            }
            if place.after.is_none() {
                out.note("what happens until it is connected again is not shown");
            }
            pause = if place.after == before {
                (pause * 2).min(LATER)
            } else {
                SOON
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Shows the events of one connection.
    async fn follow(
        &self,
        client: &Client,
        place: &mut Place,
        connected: &mut bool,
        out: &Output,
    ) -> Result<(), Error> {
        let mut request = client
            .request(Method::GET, &[PATH, &["events"]].concat())?
            .header(ACCEPT, "text/event-stream")
            .timeout(LONGEST);
        if let Some(after) = &place.after {
            request = request.header("last-event-id", after);
        }
        let mut events = client.events(request).await?;
        *connected = true;
        while !self.is_done(place) {
            let Some(sent) = events.next().await? else {
                return Ok(());
            };
            self.show(client, &sent, place, out)?;
        }
        Ok(())
    }

    fn show(
        &self,
        client: &Client,
        sent: &Sent,
        place: &mut Place,
        out: &Output,
    ) -> Result<(), Error> {
        if !sent.id.is_empty() {
            place.after = Some(sent.id.clone());
        }
        if sent.name == "gap" {
            out.note("there is a gap: some events are not kept any more; `remit approvals list` shows how it is now");
            return Ok(());
        }
        let told = Told {
            id: sent.id.clone(),
            event: client.understand(&sent.data)?,
        };
        if !self.wants(&told.event.kind) {
            return Ok(());
        }
        place.shown += 1;
        out.value(&told, |told| told.text(out))
    }

    fn wants(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|wanted| {
            kind == wanted || wanted.ends_with('.') && kind.starts_with(wanted)
        })
    }

    fn is_done(&self, place: &Place) -> bool {
        self.count.is_some_and(|count| place.shown >= count)
    }
}

/// Whether what failed may be over when it is tried again.
fn passes(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::TimedOut { .. } => true,
        Error::Refused(problem) => problem.exit() == Exit::Unavailable,
        _ => false,
    }
}

// === impl Told ===

impl Told {
    fn text(&self, out: &Output) -> String {
        let event = &self.event;
        let tone = match event.kind.rsplit('.').next().unwrap_or_default() {
            "approved" | "confirmed" => Tone::Good,
            "denied" => Tone::Bad,
            "created" | "proposed" | "escalated" => Tone::Warn,
            _ => Tone::Dim,
        };
        let kind = out.paint(tone, &plain(&event.kind));
        let data = event.data.iter();
        let data = data.map(|(name, value)| format!("{}={}", plain(name), card::one_line(value)));
        let data: Vec<String> = data.collect();
        format!(
            "{}  {kind}  {}  {}",
            event.at,
            plain(&event.subject),
            data.join(" ")
        )
    }
}
