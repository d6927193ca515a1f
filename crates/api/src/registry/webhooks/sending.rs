//! Sending one message: to the address that was checked, with little patience, and without following anybody anywhere.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, header};

use super::guard::Guard;

/// Who says so.
const AGENT: &str = concat!("remit/", env!("CARGO_PKG_VERSION"));

/// The two clients: one that goes where addresses were checked, one that goes where somebody has said it may.
pub(super) struct Sending {
    guard: Arc<Guard>,
    timeout: Duration,
    guarded: OnceLock<Option<Client>>,
    open: OnceLock<Option<Client>>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) id: &'a str,
    pub(super) seconds: i64,
    pub(super) signatures: &'a str,
    pub(super) kind: &'static str,
    pub(super) body: &'a str,
}

// === impl Sending ===

impl Sending {
    pub(super) fn new(guard: Arc<Guard>, timeout: Duration) -> Self {
        Self {
            guard,
            timeout,
            guarded: OnceLock::new(),
            open: OnceLock::new(),
        }
    }

    /// Sends a message and returns the status of the answer, or what went wrong.
    ///
    /// Nothing of an answer is read but its status: there is nobody to whom it would be shown.
    pub(super) async fn send(&self, url: &str, message: &Message<'_>) -> Result<u16, String> {
        let target = self
            .guard
            .read(url)
            .map_err(|refused| refused.to_string())?;
        let client = if target.named {
            self.open.get_or_init(|| client(None, self.timeout))
        } else {
            let guard = || Some(Arc::clone(&self.guard));
            self.guarded.get_or_init(|| client(guard(), self.timeout))
        };
        let Some(client) = client else {
            return Err("there are no certificates to verify a receiver with".to_owned());
        };
        let request = client
            .post(target.url)
            .header(header::CONTENT_TYPE, message.kind)
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.seconds.to_string())
            .header("webhook-signature", message.signatures)
            .body(message.body.to_owned());
        match request.send().await {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(error) => Err(told(&error).to_owned()),
        }
    }
}

/// Makes a client; none where the system has no certificates.
fn client(guard: Option<Arc<Guard>>, timeout: Duration) -> Option<Client> {
    // The process has one where it was started by the command line; then this does nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .connect_timeout(timeout)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // A connection that is kept was checked when it was made, not now.
        .pool_max_idle_per_host(0)
        .user_agent(AGENT);
    let client = match guard {
        Some(guard) => client.https_only(true).dns_resolver(guard),
        None => client,
    };
    let built = client.build();
    if let Err(error) = &built {
        tracing::error!(%error, "webhooks cannot be sent");
    }
    built.ok()
}

/// Says what went wrong, and nothing of what is inside: no address, no text of the other side.
fn told(error: &reqwest::Error) -> &'static str {
    let refused = |error: &(dyn Error + 'static)| error.is::<super::guard::Refused>();
    let mut source = error.source();
    while let Some(one) = source {
        if refused(one) {
            return "the host cannot be resolved, or has an address that is not of the internet";
        }
        source = one.source();
    }
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "no answer"
    }
}
