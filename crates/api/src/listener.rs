//! The accept loop: what a socket may do to us before a request exists.
//!
//! `axum::serve` sets no time limit on a request's head, and takes a missing `Host`, two of them, and a body framed in
//! two ways at once. This loop is hyper's HTTP/1 with those holes closed.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

/// What one connection may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// How long the head of a request may take from its first byte, and a new connection until its first request.
    pub head: Duration,
    /// How long a connection may stay open between two requests.
    pub idle: Duration,
    /// How long a client may take no byte of an answer.
    pub write: Duration,
    /// The most header fields.
    pub headers: usize,
    /// The largest head, in bytes.
    pub head_bytes: usize,
    /// How long requests in flight may take to end once the service stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(30),
            headers: 100,
            head_bytes: 16 << 10,
            grace: Duration::from_secs(10),
        }
    }
}

/// Accepts connections and serves `router` on them until `shutdown` ends, then lets requests in flight end.
///
/// # Errors
///
/// When the listener itself fails; what happens on one connection never ends the loop.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::pin!(shutdown);
    let (stop, stopping) = watch::channel(false);
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection =
                    serve_connection(stream, router.clone(), limits.clone(), stopping.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // Out of file descriptors, or the client was gone already: neither is a reason to stop.
            Err(error) => {
                tracing::warn!(
                    cause = error.to_string(),
                    "a connection could not be accepted"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drained = tokio::time::timeout(limits.grace, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests were still in flight when the grace period ended"
        );
    }
    connections.abort_all();
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // The place first: beyond the cap connections wait in the kernel's queue and cost nothing here.
    let place = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let marks = Arc::new(Marks {
        between: AtomicBool::new(true),
        handed: AtomicBool::new(false),
        length: AtomicBool::new(false),
    });
    let watched = Watched::new(stream, &limits, Arc::clone(&marks));
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        let marks = Arc::clone(&marks);
        async move {
            marks.handed.store(true, Ordering::Release);
            marks.between.store(false, Ordering::Release);
            let answer = match refuse(&request, marks.length.swap(false, Ordering::AcqRel)) {
                Some(answer) => answer,
                None => router
                    .oneshot(request.map(Body::new))
                    .await
                    .unwrap_or_else(|never| match never {}),
            };
            marks.between.store(true, Ordering::Release);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(limits.headers)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .serve_connection(TokioIo::new(watched), service);
    tokio::pin!(connection);
    let stopped = async {
        // An error means that the loop is gone, which is a stop as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = &mut stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // A client's doing, and a common one; the request that it cut short has its own log line.
        tracing::debug!(cause = error.to_string(), "a connection ended badly");
    }
}

/// Refuses what two servers in a row could understand differently (RFC 9112 §3.2, §6.3).
fn refuse(request: &Request<Incoming>, length_seen: bool) -> Option<Response> {
    let problem = if host_problem(request.headers()) {
        "exactly one valid Host header is required"
    } else if request.headers().contains_key(header::TRANSFER_ENCODING) && length_seen {
        "Content-Length and Transfer-Encoding must not be sent together"
    } else if coding_problem(request.headers()) {
        "the only Transfer-Encoding is chunked, sent once"
    } else if request.method() == Method::CONNECT {
        // A client may have sent what was meant for the tunnel already; it must not be read as requests (RFC 9931).
        "CONNECT is not served"
    } else {
        return None;
    };
    let mut response = (StatusCode::BAD_REQUEST, format!("\"{problem}\"")).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

fn host_problem(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return true;
    };
    let valid = host
        .to_str()
        .ok()
        .filter(|host| !host.contains('@'))
        .and_then(|host| host.parse::<Authority>().ok())
        .is_some_and(|authority| !authority.host().is_empty());
    !valid
}

/// Finds a coding that hyper takes and leaves undone, as in `gzip, chunked`, where the next server may undo it.
fn coding_problem(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(one), None) => !one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

/// What the socket and the service tell each other about one connection.
#[derive(Debug)]
struct Marks {
    /// No request is being answered: the next byte begins a head.
    between: AtomicBool,
    /// A request has been handed over since the socket was last read: its head is done, also when its answer is as well.
    handed: AtomicBool,
    /// A line that begins with `Content-Length` has come since the last request was handed over.
    length: AtomicBool,
}

/// A socket with the time limits that hyper does not have, and an eye on what hyper does not tell.
///
/// hyper drops `Content-Length` where `Transfer-Encoding` is sent too, before anybody sees both. So the bytes are
/// searched for it as they come. Inside a JSON body no line can begin with it; in a pipelined mixture of both framings
/// it may be found too early, and then the request is refused, which is the safe mistake.
struct Watched {
    stream: TcpStream,
    marks: Arc<Marks>,
    head: Duration,
    write: Duration,
    /// Set from the first byte of a head until its request is handed over.
    head_deadline: Option<Pin<Box<Sleep>>>,
    /// Set while the client takes nothing.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// How many bytes of [`LENGTH`] the last bytes were.
    matched: usize,
}

/// What is searched for, in lower case.
const LENGTH: &[u8] = b"\ncontent-length";

// === impl Watched ===

impl Watched {
    fn new(stream: TcpStream, limits: &Limits, marks: Arc<Marks>) -> Self {
        Self {
            stream,
            marks,
            head: limits.head,
            write: limits.write,
            // A connection that says nothing at all is as slow as one that says half a head.
            head_deadline: Some(Box::pin(tokio::time::sleep(limits.head))),
            write_deadline: None,
            matched: 0,
        }
    }

    fn search(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let wanted = LENGTH.get(self.matched);
            if wanted == Some(&byte.to_ascii_lowercase()) {
                self.matched += 1;
            } else {
                // Only the first byte of what is searched for is a line feed, so a match can begin nowhere else.
                self.matched = usize::from(*byte == b'\n');
            }
            if self.matched == LENGTH.len() {
                self.marks.length.store(true, Ordering::Release);
                self.matched = 0;
            }
        }
    }

    /// Passes on what a write did, and gives up on a client that takes nothing for too long.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_deadline = None;
            return outcome;
        }
        let deadline = Instant::now() + self.write;
        let sleep = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let between = this.marks.between.load(Ordering::Acquire);
        let handed = this.marks.handed.swap(false, Ordering::AcqRel);
        if handed || !between {
            this.head_deadline = None;
        }
        if let Some(deadline) = &mut this.head_deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        if between && !new.is_empty() && this.head_deadline.is_none() {
            this.head_deadline = Some(Box::pin(tokio::time::sleep(this.head)));
        }
        this.search(new);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch_write(cx, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watch_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
