//! Callbacks: the end of an access request is told to whom the request names, where a webhook allows for that.

use remit_core::{TenantId, WebhookId, canonical_json};
use remit_store::{Callback, Error, Hook, MOST_WEBHOOKS, NewDelivery, StoredEvent, StoredWebhook};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::approvals::handle::{status, status_endpoint, together};
use crate::problem::{Kind, Problem};

/// The longest `state`, in bytes.
const STATE_BYTES: usize = 1_024;
/// What the end of a request can be.
const ENDS: [&str; 6] = [
    "approved",
    "denied",
    "expired",
    "cancelled",
    "failed",
    "partial",
];

/// Who wants to be called, as a request says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    endpoint: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    events: Option<Vec<String>>,
}

/// Who wants to be called, as it is kept with the request.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<Vec<String>>,
    /// Which webhook allows for it, and signs it.
    webhook: WebhookId,
}

/// Checks the callback of an access request, and returns how it is kept.
///
/// # Errors
///
/// `invalid-request` names the member: the endpoint must be a webhook of the tenant with `callbacks`, or below one, and at
/// an address of the internet.
pub(crate) async fn check(
    app: &App,
    tenant: TenantId,
    callback: &Value,
) -> Result<String, Problem> {
    let asked: Asked = serde_json::from_value(callback.clone())
        .map_err(|error| invalid(&format!("`callback`: {error}")))?;
    if asked
        .state
        .as_ref()
        .is_some_and(|state| state.len() > STATE_BYTES)
    {
        return Err(invalid(&format!(
            "`callback.state`: at most {STATE_BYTES} bytes were expected"
        )));
    }
    if let Some(events) = &asked.events {
        let known = |event: &String| ENDS.contains(&event.as_str());
        if events.is_empty() || events.len() > ENDS.len() || !events.iter().all(known) {
            let ends = ENDS.join("`, `");
            return Err(invalid(&format!(
                "`callback.events`: some of `{ends}` were expected"
            )));
        }
    }
    let refused = |why| invalid(&format!("`callback.endpoint`: {why}"));
    let target = app.webhooks.guard.read(&asked.endpoint);
    let target = target.map_err(refused)?;
    let limit = usize::try_from(MOST_WEBHOOKS).unwrap_or(usize::MAX);
    let webhooks = app.store.webhooks(tenant, None, limit).await?;
    let webhook = webhooks
        .iter()
        .find(|webhook| webhook.disabled.is_none() && allows(webhook, &target.url));
    let Some(webhook) = webhook else {
        return Err(invalid(
            "`callback.endpoint`: the URL of a webhook with `callbacks`, or one below it, was expected",
        ));
    };
    // A name is looked up only where a webhook allows it: nobody asks this server what names mean.
    let checked = app.webhooks.guard.check(&asked.endpoint).await;
    checked.map_err(refused)?;
    let kept = Kept {
        endpoint: target.url.to_string(),
        state: asked.state,
        events: asked.events,
        webhook: webhook.id,
    };
    canonical_json(&kept)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Kind::INTERNAL.into())
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}

/// Returns whom an event has called that this webhook allows for.
pub(super) async fn of_event(
    app: &App,
    due: Hook,
    (webhook, event): (&StoredWebhook, &StoredEvent),
) -> Result<Vec<NewDelivery>, Error> {
    let ended = event
        .kind
        .strip_prefix("access_request.")
        .filter(|end| ENDS.contains(end));
    let (Some(_), Ok(request)) = (ended, event.subject.parse()) else {
        return Ok(Vec::new());
    };
    let mut new = Vec::new();
    for callback in app.store.ahead().callbacks_of(due.tenant, request).await? {
        new.extend(call(app, due, webhook, callback).await?);
    }
    Ok(new)
}

/// Tells one end; nothing where it is none yet, or is not wanted.
async fn call(
    app: &App,
    due: Hook,
    webhook: &StoredWebhook,
    callback: Callback,
) -> Result<Option<NewDelivery>, Error> {
    let Ok(kept) = serde_json::from_value::<Kept>(callback.wanted) else {
        return Ok(None);
    };
    // It may have been changed since.
    let still = kept.endpoint.parse().is_ok_and(|url| allows(webhook, &url));
    if kept.webhook != due.webhook || !still {
        return Ok(None);
    }
    let store = app.store.ahead();
    let mut ends = Vec::new();
    let own = [callback.task];
    let requests = if callback.items.is_empty() {
        &own[..]
    } else {
        &callback.items
    };
    for id in requests {
        let Some(request) = store.request(due.tenant, *id).await? else {
            return Ok(None);
        };
        ends.push(status(&request, app.now()));
    }
    let end = together(ends.into_iter());
    let wanted = kept
        .events
        .as_ref()
        .is_none_or(|events| events.iter().any(|event| event == end));
    if !ENDS.contains(&end) || !wanted {
        return Ok(None);
    }
    let mut body = json!({
        "task": {
            "id": callback.task,
            "status": end,
            "status_endpoint": status_endpoint(&app.options, callback.task),
        },
    });
    if let (Some(state), Some(members)) = (kept.state, body.as_object_mut()) {
        members.insert("state".to_owned(), json!(state));
    }
    Ok(Some(NewDelivery {
        id: app.clock.id(),
        about: callback.about,
        kind: format!("callback.{end}"),
        subject: callback.task.to_string(),
        url: Some(kept.endpoint),
        body: body.to_string(),
    }))
}

/// Whether a webhook allows callbacks to a URL: to its own, and to what is below it, by whole segments of the path.
fn allows(webhook: &StoredWebhook, url: &Url) -> bool {
    let base = webhook.target.url.parse::<Url>();
    webhook.target.callbacks && base.is_ok_and(|base| covers(&base, url))
}

fn covers(base: &Url, url: &Url) -> bool {
    if base == url {
        return true;
    }
    let origin = |url: &Url| {
        let host = url.host_str().map(str::to_owned);
        (url.scheme().to_owned(), host, url.port_or_known_default())
    };
    // What one takes for a part of a name is a boundary to another.
    let path = url.path().to_ascii_lowercase();
    let hidden = ["%2f", "%5c", "%2e", ";"]
        .iter()
        .any(|text| path.contains(text));
    let stem = base.path().trim_end_matches('/');
    let below = url.path().strip_prefix(stem);
    let below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    origin(base) == origin(url) && below && !hidden && base.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_at_or_below_the_url_is_covered() {
        let covered = |base: &str, url: &str| match (base.parse(), url.parse()) {
            (Ok(base), Ok(url)) => covers(&base, &url),
            _ => false,
        };
        for url in [
            "https://a.test/cb",
            "https://a.test/cb/",
            "https://a.test/cb/1",
            "https://a.test/cb/1/2?x=1",
            "https://a.test:443/cb",
        ] {
            assert!(covered("https://a.test/cb", url), "{url}");
            assert!(covered("https://a.test/cb/", url), "{url}");
        }
        for url in [
            "https://a.test/cba",
            "https://a.test/c",
            "https://a.test/",
            "https://a.test/CB",
            "https://b.test/cb",
            "https://a.test.b/cb",
            "http://a.test/cb",
            "https://a.test:8443/cb",
            "https://a.test/cb/../other",
            "https://a.test/cb/%2e%2e/other",
            "https://a.test/cb/..%2fother",
            "https://a.test/cb/..;/other",
            "https://a.test/cb%5c..%5cother",
        ] {
            assert!(!covered("https://a.test/cb", url), "{url}");
        }
        assert!(!covered(
            "https://a.test/cb?key=1",
            "https://a.test/cb?key=2"
        ));
        assert!(covered(
            "https://a.test/cb?key=1",
            "https://a.test/cb?key=1"
        ));
        assert!(covered("https://a.test/", "https://a.test/anything"));
    }
}
