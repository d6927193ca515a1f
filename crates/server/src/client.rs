//! The HTTP client of the commands: one road to a server, and one way to say what it answered.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use remit_engine::Diagnostic;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::read_small;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::plain;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The flags of every command that talks to a server.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
#[group(skip)]
pub(crate) struct Server {
    /// Where Remit answers.
    #[arg(
        long,
        env = "REMIT_URL",
        default_value = "http://127.0.0.1:7364",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// A file that holds the API key; without it the key is taken from REMIT_KEY.
    #[arg(long, env = "REMIT_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// How long to wait for an answer, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// One server and the key to it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<HeaderValue>,
}

/// An answer with a status of success.
#[derive(Debug)]
pub(crate) struct Reply {
    url: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
}

/// A stream of server-sent events (WHATWG HTML §9.2), as far as Remit sends them: each with a name, and its data in one line.
#[derive(Debug)]
pub(crate) struct EventStream<'a> {
    client: &'a Client,
    answer: Response,
    waiting: Vec<u8>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Where a reader goes on after it; empty where it says nothing of that.
    pub(crate) id: String,
    /// Of what kind it is.
    pub(crate) name: String,
    /// What it says.
    pub(crate) data: String,
}

/// A refusal (RFC 9457), or what could be made of one that is not in that form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProblemBody {
    /// The kind, as a URI or path.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind in words.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened this time.
    pub(crate) detail: String,
    /// Under which id the server's log has it.
    pub(crate) request_id: Option<String>,
    /// Which line of NDJSON is at fault, from 1.
    pub(crate) line: Option<u64>,
    /// What is wrong with a bundle.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The kind as a stable code.
    pub(crate) code: String,
    /// In what a task would be wider than it may be.
    pub(crate) dimension: String,
    /// The cases of a bundle that do not come out as expected.
    pub(crate) cases: Vec<FailedCase>,
}

/// A case that does not come out as expected.
#[derive(Debug, Deserialize)]
pub(crate) struct FailedCase {
    name: String,
}

// === impl Server ===

impl Server {
    /// Makes a client; no request is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a URL or key that is malformed, [`Error::Io`] for a key file that cannot be read.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let base: Url = self.url.parse().map_err(|why| {
            Error::Usage(format!(
                "`{}` is not a URL such as http://127.0.0.1:7364: {why}",
                self.url
            ))
        })?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(Error::Usage(format!(
                "`{}` does not begin with http:// or https://",
                self.url
            )));
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(self.timeout))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("remit/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            // A proxy of the environment is not meant for this machine's own ports.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|source| Error::Unreachable {
            url: self.url.clone(),
            source,
        })?;
        Ok(Client {
            http,
            base,
            key: self.key()?,
        })
    }

    fn key(&self) -> Result<Option<HeaderValue>, Error> {
        let text = match &self.key_file {
            Some(path) => {
                Some(read_small(path).map_err(|why| Error::path("read the key in", path, why))?)
            }
            None => std::env::var("REMIT_KEY").ok(),
        };
        let Some(text) = text
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| {
            Error::Usage(
                "the API key holds characters that no key has; keys look like remit_dev_…"
                    .to_owned(),
            )
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

// === impl Client ===

impl Client {
    /// Begins a request with the key; the segments of the path are escaped here.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`] without a key.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Error> {
        let key = self.key.clone().ok_or(Error::NoKey)?;
        Ok(self.open(method, path).header(AUTHORIZATION, key))
    }

    /// Begins a request without a key, for what is public.
    pub(crate) fn open(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    /// Gets one JSON value.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        self.send(self.request(Method::GET, path)?.query(query))
            .await?
            .json()
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] without an answer, [`Error::Refused`] for a status that is not a success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Reply, Error> {
        let mut answer = self.answer(request).await?;
        let headers = answer.headers().clone();
        let body = self.body(&mut answer).await?;
        let url = self.base.to_string();
        Ok(Reply { url, headers, body })
    }

    /// Sends a request whose answer is a stream of server-sent events.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub(crate) async fn events(&self, request: RequestBuilder) -> Result<EventStream<'_>, Error> {
        Ok(EventStream {
            client: self,
            answer: self.answer(request).await?,
            waiting: Vec::new(),
        })
    }

    /// Sends a request and hands each piece of the answer on as it comes, however long the answer is.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], and those of `each`.
    pub(crate) async fn pieces(
        &self,
        request: RequestBuilder,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut answer = self.answer(request).await?;
        while let Some(piece) = answer.chunk().await.map_err(|why| self.unreachable(why))? {
            each(&piece)?;
        }
        Ok(())
    }

    /// Reads JSON that the server sent.
    ///
    /// # Errors
    ///
    /// [`Error::NotUnderstood`] when it is not what was expected.
    pub(crate) fn understand<T: DeserializeOwned>(&self, data: &str) -> Result<T, Error> {
        serde_json::from_str(data).map_err(|why| self.not_understood(why.to_string()))
    }

    /// Says what is wrong with an answer.
    pub(crate) fn not_understood(&self, problem: impl Into<String>) -> Error {
        let (url, problem) = (self.base.to_string(), problem.into());
        Error::NotUnderstood { url, problem }
    }

    /// Sends a request; a status that is not a success is an error.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, Error> {
        let sent = request.send().await;
        let mut answer = sent.map_err(|why| self.unreachable(why))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let body = self.body(&mut answer).await?;
        let problem = ProblemBody::read(answer.status(), answer.headers(), &body);
        Err(Error::Refused(Box::new(problem)))
    }

    async fn body(&self, answer: &mut Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|why| self.unreachable(why))? {
            self.not_too_large(body.len() + chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn not_too_large(&self, bytes: usize) -> Result<(), Error> {
        if bytes > ANSWER_BYTES {
            return Err(self.not_understood(format!("it is larger than {ANSWER_BYTES} bytes")));
        }
        Ok(())
    }

    fn unreachable(&self, source: reqwest::Error) -> Error {
        let url = self.base.to_string();
        if source.is_timeout() && !source.is_connect() {
            Error::TimedOut { url, source }
        } else {
            Error::Unreachable { url, source }
        }
    }
}

// === impl EventStream ===

impl EventStream<'_> {
    /// Returns the next event; `None` at the end. Comments are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] or [`Error::TimedOut`] where the connection is lost, [`Error::NotUnderstood`] for an event that is
    /// too large.
    pub(crate) async fn next(&mut self) -> Result<Option<Sent>, Error> {
        loop {
            while let Some(end) = self.waiting.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.waiting.split_off(end + 2);
                let block = std::mem::replace(&mut self.waiting, rest);
                if let Some(sent) = Sent::read(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(sent));
                }
            }
            let piece = self.answer.chunk().await;
            let Some(piece) = piece.map_err(|why| self.client.unreachable(why))? else {
                return Ok(None);
            };
            self.client
                .not_too_large(self.waiting.len() + piece.len())?;
            self.waiting.extend_from_slice(&piece);
        }
    }
}

// === impl Sent ===

impl Sent {
    fn read(block: &str) -> Option<Self> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            id: field("id: ").unwrap_or_default().to_owned(),
            name: field("event: ")?.to_owned(),
            data: field("data: ")?.to_owned(),
        })
    }
}

// === impl Reply ===

impl Reply {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::NotUnderstood`] when it is not what was expected.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|why| Error::NotUnderstood {
            url: self.url.clone(),
            problem: why.to_string(),
        })
    }

    /// Returns a header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

// === impl ProblemBody ===

impl ProblemBody {
    fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_default();
        problem.status = status.as_u16();
        if problem.title.is_empty() {
            let title = status.canonical_reason().unwrap_or("an unknown status");
            title.clone_into(&mut problem.title);
            if problem.detail.is_empty() {
                // The AuthZEN routes answer a plain sentence; anything longer is a page of some proxy.
                let text = String::from_utf8_lossy(body);
                let text = text.trim().trim_matches('"');
                problem.detail = text.chars().filter(|c| !c.is_control()).take(300).collect();
            }
        }
        if problem.request_id.is_none() {
            problem.request_id = headers
                .get("x-request-id")
                .and_then(|id| id.to_str().ok())
                .map(str::to_owned);
        }
        problem
    }

    /// Whether another person has to agree first.
    pub(crate) fn waits_for_review(&self) -> bool {
        self.kind.ends_with(":review-required")
    }

    /// Returns the exit code for this refusal.
    pub(crate) fn exit(&self) -> Exit {
        match self.status {
            403 if self.waits_for_review() => Exit::GateFailed,
            403 if self.code == "task-denied" => Exit::Deny,
            401 | 403 => Exit::NotPermitted,
            412 => Exit::GateFailed,
            422 if self.code == "cases-failed" => Exit::CasesFailed,
            429 | 502..=504 => Exit::Unavailable,
            400..=499 => Exit::Invalid,
            _ => Exit::Unexpected,
        }
    }

    /// Returns what the reader can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        /// The most cases that are named.
        const NAMED: usize = 5;
        match self.status {
            422 if !self.cases.is_empty() => {
                let named = self.cases.iter().take(NAMED);
                let named: Vec<_> = named
                    .map(|case| format!("`{}`", plain(&case.name)))
                    .collect();
                let more = self.cases.len().saturating_sub(NAMED);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                Some(format!(
                    "`remit policy test` shows how they come out: {}{more}",
                    named.join(", ")
                ))
            }
            403 if self.waits_for_review() => Some(
                "make a draft of it with `remit policy publish`; another person runs `remit draft review <DRAFT> --approve`".to_owned(),
            ),
            401 => Some("check REMIT_KEY: the key is unknown, revoked or expired here".to_owned()),
            403 => Some(
                "use a key with the scope that this needs, of a principal with a role that may; `remit key create` and `remit principal set` make them".to_owned(),
            ),
            412 => Some("somebody else changed it; pull, merge, and push again".to_owned()),
            503 => Some("`remit doctor` says what is missing".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for ProblemBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remit answers {} {}", self.status, plain(&self.title))?;
        if !self.detail.is_empty() {
            write!(f, ": {}", plain(&self.detail))?;
        }
        match &self.request_id {
            Some(id) => write!(f, " (request {})", plain(id)),
            None => Ok(()),
        }
    }
}
