//! What `remit doctor` sees of a running server: does it answer, is it ready, what may the key do, is its clock right.

use remit_core::{Clock, Revision};
use reqwest::Method;
use serde::Deserialize;

use super::{Check, reason};
use crate::client::{Client, Reply, Server};
use crate::error::Error;

/// How far two clocks may be apart before somebody should look, in seconds.
const SKEW_SECONDS: i64 = 2;

/// What the server says of the key that was presented.
#[derive(Debug, Deserialize)]
struct WhoAmI {
    environment: String,
    scopes: Vec<String>,
    revision: Revision,
}

/// What of the settings is looked at.
#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(default)]
    break_glass: Vec<String>,
}

/// Asks the server at the configured URL.
pub(super) async fn server(server: &Server, clock: &Clock) -> Vec<Check> {
    let client = match server.client() {
        Ok(client) => client,
        Err(error) => {
            return vec![Check::failed(
                "server",
                reason(&error),
                "set REMIT_URL and REMIT_KEY",
            )];
        }
    };
    let metadata = client.open(Method::GET, &[".well-known", "authzen-configuration"]);
    let reply = match client.send(metadata).await {
        Ok(reply) => reply,
        Err(Error::Unreachable { .. }) => {
            let fix = "`remit serve --dev` starts one; REMIT_URL says where to look";
            return vec![Check::warning(
                "server",
                format!("nobody answers at {}", server.url),
                fix,
            )];
        }
        Err(error) => {
            let found = format!(
                "{} answers, but not as Remit does: {}",
                server.url,
                reason(&error)
            );
            return vec![Check::failed(
                "server",
                found,
                "another program has that port, or REMIT_URL is wrong",
            )];
        }
    };
    if reply
        .json::<serde_json::Map<_, _>>()
        .is_ok_and(|body| !body.contains_key("access_evaluation_endpoint"))
    {
        let found = format!("{} answers, but is no Remit", server.url);
        return vec![Check::failed(
            "server",
            found,
            "another program has that port, or REMIT_URL is wrong",
        )];
    }
    let mut checks = vec![Check::ok(
        "server",
        format!("Remit answers at {}", server.url),
    )];
    checks.extend(skew(&reply, clock));
    checks.extend(key(&client).await);
    checks.extend(break_glass(&client).await);
    checks
}

/// Compares the server's clock with this machine's, to the second that HTTP gives.
fn skew(reply: &Reply, clock: &Clock) -> Option<Check> {
    let theirs = http_date(reply.header("date")?)?;
    let ours = clock.now().millis() / 1_000;
    let apart = (theirs - ours).abs();
    Some(if apart <= SKEW_SECONDS {
        Check::ok("clock", format!("{apart} s from the server's"))
    } else {
        Check::warning(
            "clock",
            format!("{apart} s from the server's"),
            "keys and approvals expire by the clock: let NTP set both",
        )
    })
}

/// Asks what the key may do and whether the server decides.
async fn key(client: &Client) -> Vec<Check> {
    let who: WhoAmI = match client.get(&["v1", "whoami"], &[]).await {
        Ok(who) => who,
        Err(Error::NoKey) => {
            return vec![Check::warning(
                "key",
                "REMIT_KEY is not set",
                "`remit serve --dev` prints one; else `remit key create`",
            )];
        }
        Err(error) => {
            let fix = error
                .help()
                .unwrap_or_else(|| "`remit key list` shows the keys there are".to_owned());
            return vec![Check::failed("key", reason(&error), fix)];
        }
    };
    let scopes = if who.scopes.is_empty() {
        "nothing".to_owned()
    } else {
        who.scopes.join(", ")
    };
    let mut checks = vec![Check::ok(
        "key",
        format!("valid in `{}`, and may {scopes}", who.environment),
    )];
    checks.push(if who.revision.number() == 0 {
        Check::failed(
            "readiness",
            "no policies are in force",
            "remit bundle push DIR",
        )
    } else {
        Check::ok("readiness", format!("decides at revision {}", who.revision))
    });
    checks
}

/// Tells of break-glass grants that are active, where the key may read the settings.
async fn break_glass(client: &Client) -> Option<Check> {
    let settings: Settings = client.get(&["v1", "settings"], &[]).await.ok()?;
    if settings.break_glass.is_empty() {
        return Some(Check::ok("break-glass", "no grant is active"));
    }
    let found = format!("active: {}", settings.break_glass.join(", "));
    let fix = "`remit break-glass list` tells whose; `remit break-glass end ID` ends one";
    Some(Check::warning("break-glass", found, fix))
}

/// Reads a date as HTTP writes it (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`; seconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let rfc3339 = format!("{year}-{month:02}-{day}T{time}Z");
    let time: remit_core::Timestamp = rfc3339.parse().ok()?;
    Some(time.millis() / 1_000)
}
