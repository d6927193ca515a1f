//! Streams: events that are sent while the connection stands (`text/event-stream`, WHATWG HTML §9.2).
//!
//! A stream ends when its key does not work any more, when the process is about to stop, when its reader is too slow, and
//! after an hour: whoever reads comes back and says where it was (`Last-Event-ID`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use remit_core::{KeyId, TenantId};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Kind, Problem};

/// Where a reader was, when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The longest id of an event.
const ID_BYTES: usize = 64;
/// The most streams that one key may read at once, one tenant, and all of them together.
const MOST_OF_KEY: usize = 16;
const MOST_OF_TENANT: usize = 64;
const MOST: usize = 1_024;
/// How many events wait for a reader.
const WAITING: usize = 64;
/// How long a reader may take for one.
const SLOW: Duration = Duration::from_secs(10);
/// How often something is sent where nothing happens.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether the stream may go on.
const LOOK: Duration = Duration::from_millis(250);
/// How long one stream lasts.
const LONGEST: Duration = Duration::from_hours(1);

/// The streams that are read now, by tenant and key.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<(TenantId, KeyId), usize>>);

/// One stream that is read.
struct Open {
    app: Arc<App>,
    whose: (TenantId, KeyId),
}

/// The end of a stream where events are put in.
pub(crate) struct Sender(mpsc::Sender<Bytes>);

/// Nobody reads any more, or not fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Returns the id of the last event that a reader has seen; `None` for one that begins.
///
/// # Errors
///
/// `invalid-request` for one that is sent twice or is no short printable text.
pub(crate) fn last_seen(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let told = "`Last-Event-ID` must be sent once, as the id of an event";
    let invalid = || Problem::new(Kind::INVALID_REQUEST, told);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.len() <= ID_BYTES => {
            Ok(Some(value.to_str().map_err(|_| invalid())?).filter(|id| !id.is_empty()))
        }
        _ => Err(invalid()),
    }
}

/// Answers with a stream: `make` puts events in until it returns, which ends the stream.
///
/// `beat` says what is sent every five seconds beside, as a comment.
///
/// # Errors
///
/// `overloaded` where too many are read.
pub(crate) fn answer<F, Made>(
    app: &Arc<App>,
    caller: &Caller,
    beat: impl Fn(&App) -> String + Send + 'static,
    make: F,
) -> Result<Response, Problem>
where
    F: FnOnce(Sender) -> Made,
    Made: Future<Output = ()> + Send + 'static,
{
    let open = Open::of(app, (caller.tenant, caller.key))?;
    let (events, read) = mpsc::channel(WAITING);
    let source = make(Sender(events.clone()));
    let (watched, caller) = (Arc::clone(app), caller.clone());
    tokio::spawn(async move {
        let _open = open;
        let beats = Sender(events.clone());
        tokio::select! {
            () = source => {}
            () = beating(&watched, &beats, beat) => {}
            () = allowed(&watched, &caller) => {}
            () = events.closed() => {}
        }
    });
    let body = stream::unfold(read, async |mut read| {
        let bytes = read.recv().await?;
        Some((Ok::<_, Infallible>(bytes), read))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What stands in between must not keep events back until there are many.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Sends a comment again and again; returns when nobody reads.
async fn beating(app: &App, beats: &Sender, beat: impl Fn(&App) -> String) {
    loop {
        if beats.comment(&beat(app)).await.is_err() {
            return;
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Returns when a stream must end.
async fn allowed(app: &App, caller: &Caller) {
    let end = Instant::now() + LONGEST;
    while Instant::now() < end && !app.is_retired() && still(app, caller) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the key works still, and its tenant is there and not suspended.
fn still(app: &App, caller: &Caller) -> bool {
    let key = app.keys.get(caller.key);
    let works = key.is_some_and(|key| key.usable(app.now()).is_ok());
    let standing = app.progress.standing(caller.tenant);
    works && standing.is_some_and(|standing| !standing.suspended())
}

// === impl Sender ===

impl Sender {
    /// Sends an event; its data stands in one line.
    ///
    /// # Errors
    ///
    /// [`Gone`]: the stream is over.
    pub(crate) async fn event(&self, id: &str, kind: &str, data: &Value) -> Result<(), Gone> {
        self.send(format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"))
            .await
    }

    async fn comment(&self, text: &str) -> Result<(), Gone> {
        self.send(format!(": {text}\n\n")).await
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        let sent = self.0.send_timeout(Bytes::from(text), SLOW).await;
        sent.map_err(|_| Gone)
    }
}

// === impl Open ===

impl Open {
    fn of(app: &Arc<App>, whose: (TenantId, KeyId)) -> Result<Self, Problem> {
        let mut streams = app.streams.lock();
        let all: usize = streams.values().sum();
        let of_tenant = streams.iter().filter(|((tenant, _), _)| *tenant == whose.0);
        let of_tenant: usize = of_tenant.map(|(_, count)| count).sum();
        let of_key = streams.get(&whose).copied().unwrap_or_default();
        if all >= MOST || of_tenant >= MOST_OF_TENANT || of_key >= MOST_OF_KEY {
            let detail = format!(
                "at most {MOST_OF_KEY} streams of a key are read at once, {MOST_OF_TENANT} of a tenant, {MOST} of all"
            );
            return Err(Problem::new(Kind::OVERLOADED, detail));
        }
        streams.insert(whose, of_key.saturating_add(1));
        drop(streams);
        Ok(Self {
            app: Arc::clone(app),
            whose,
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut streams = self.app.streams.lock();
        if let Some(own) = streams.get_mut(&self.whose) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                streams.remove(&self.whose);
            }
        }
    }
}

// === impl Streams ===

impl Streams {
    /// Returns how many are read now.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, KeyId), usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
