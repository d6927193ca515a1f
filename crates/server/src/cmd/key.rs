//! `remit key`: API keys made, listed and revoked; the first one straight in the database.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use remit_core::{AdminActionId, Clock, KeyId, PrincipalName, Timestamp};
use remit_store::{ApiKey, Change, NewKey, Pepper, Scope, Store};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::direct;
use crate::client::Server;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the keys are.
const PATH: &[&str] = &["v1", "keys"];

/// Examples in `--help`.
const CREATE: &str = "\
Examples:
    remit key create payments-gateway --scopes evaluate --env live
    export REMIT_KEY=$(remit key create ops --scopes all --expires-in 90d)
    remit key create maya-laptop --scopes read,write --principal maya
    remit key create first --scopes all --direct --config /etc/remit.toml
    remit key create operator --scopes tenants --direct --config /etc/remit.toml

A new installation has no key, and no default one. `--direct` makes the first without a server, straight in the database:
it needs the server's own configuration, above all auth.pepper_file, so only who administers the server can do it. Start
`remit serve --migrate` or run `remit migrate` once before.";

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit key list
    remit key list -o json | jq '.[] | select(.revoked_at == null) | .name'";

/// Examples in `--help`.
const REVOKE: &str = "\
Examples:
    remit key revoke 019aa8e0-11d4-7a30-8f52-6d1c7b9e4f01";

/// The commands around keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key. It is printed on stdout, this once.
    #[command(after_help = CREATE)]
    Create(Create),
    /// List keys, without their secrets.
    #[command(after_help = LIST)]
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Revoke a key, for good.
    #[command(after_help = REVOKE)]
    Revoke {
        /// The id of the key, as `remit key list` shows it.
        id: KeyId,
        #[command(flatten)]
        server: Server,
    },
}

/// The flags of `remit key create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// What or who the key is for.
    name: String,
    /// What it may do: evaluate, search, read, write, approve, keys, or all of these; tenants, which `all` is without.
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Vec<String>,
    /// The environment it is used in; policies read it as a fact.
    #[arg(long = "env", default_value = "live", value_name = "NAME")]
    environment: String,
    /// Who acts through it, by the name of the principal; without it the key acts for itself.
    #[arg(long, value_name = "NAME")]
    principal: Option<PrincipalName>,
    /// When it stops working: 12h, 90d. Never, without it.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires_in: Option<Duration>,
    /// Make it straight in the database and not through a server.
    #[arg(long)]
    direct: bool,
    /// The file with the server's pepper; over the configuration.
    #[arg(long, requires = "direct", value_name = "FILE")]
    pepper_file: Option<PathBuf>,
    #[command(flatten)]
    database: direct::Args,
    #[command(flatten)]
    server: Server,
}

/// A key as the API lists it.
#[derive(Debug, Serialize, Deserialize)]
struct Key {
    id: KeyId,
    name: String,
    environment: String,
    scopes: Vec<Scope>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<PrincipalName>,
}

/// A key that was just made.
#[derive(Debug, Serialize, Deserialize)]
struct Created {
    /// The whole key, secret included.
    key: String,
    #[serde(flatten)]
    about: Key,
}

#[derive(Debug, Deserialize)]
struct List {
    keys: Vec<Key>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client, or of the database with `--direct`.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Create(args) => {
            let created = create(&args).await?;
            out.value(&created, |created| created.key.clone())?;
            if !out.is_machine() {
                out.note("keep it: it is shown this once, and Remit does not have it");
            }
        }
        Command::List { server } => {
            let list: List = server.client()?.get(PATH, &[]).await?;
            let now = Clock::system().now();
            let columns = [
                "id",
                "name",
                "env",
                "scopes",
                "principal",
                "created",
                "state",
            ];
            out.rows(&list.keys, &columns, |key| cells(key, now, out))?;
        }
        Command::Revoke { id, server } => {
            let client = server.client()?;
            client
                .send(client.request(Method::DELETE, &["v1", "keys", &id.to_string()])?)
                .await?;
            out.note(&format!("{id} is revoked"));
        }
    }
    Ok(Exit::Ok)
}

async fn create(args: &Create) -> Result<Created, Error> {
    let new = NewKey {
        name: args.name.clone(),
        environment: args.environment.clone(),
        scopes: scopes(&args.scopes)?,
        expires_at: args
            .expires_in
            .map(|after| Clock::system().now().plus(after)),
        principal: args.principal.clone(),
    };
    if args.direct {
        return direct(args, &new).await;
    }
    if args.database.database.is_some() || args.database.data.is_some() {
        return Err(Error::Usage(
            "--database and --data go with --direct, which makes the key without a server"
                .to_owned(),
        ));
    }
    let client = args.server.client()?;
    let mut body = serde_json::json!({
        "name": new.name, "environment": new.environment, "scopes": new.scopes,
    });
    if let (Some(body), Some(at)) = (body.as_object_mut(), new.expires_at) {
        body.insert("expires_at".to_owned(), at.to_string().into());
    }
    if let (Some(body), Some(principal)) = (body.as_object_mut(), &new.principal) {
        body.insert("principal".to_owned(), principal.as_str().into());
    }
    client
        .send(client.request(Method::POST, PATH)?.json(&body))
        .await?
        .json()
}

/// Makes a key in the database itself.
async fn direct(args: &Create, new: &NewKey) -> Result<Created, Error> {
    let mut config = args.database.config()?;
    if args.pepper_file.is_some() {
        config.auth.pepper_file.clone_from(&args.pepper_file);
        config.auth.pepper = None;
    }
    let pepper = config.pepper()?.ok_or_else(|| {
        Error::Usage(
            "the server's pepper is needed: --pepper-file, or auth.pepper_file in --config"
                .to_owned(),
        )
    })?;
    let failed = |source| Error::Store {
        what: "make the key",
        source,
    };
    let pepper = Pepper::new(pepper.as_bytes()).map_err(failed)?;
    let store = direct::open(&config, Clock::system()).await?;
    let created = insert(&store, &config.auth.tenant, new, &pepper).await;
    store.close().await;
    created
}

async fn insert(
    store: &Store,
    tenant: &str,
    new: &NewKey,
    pepper: &Pepper,
) -> Result<Created, Error> {
    let failed = |source| Error::Store {
        what: "make the key",
        source,
    };
    let pending = store.pending_migrations().await.map_err(failed)?;
    if !pending.is_empty() {
        return Err(Error::Pending(pending));
    }
    let tenant = store.ensure_tenant(tenant).await.map_err(failed)?;
    let clock = Clock::system();
    let id = KeyId::from_uuid(clock.id());
    let key = ApiKey::generate(&new.environment, id).map_err(failed)?;
    let record = AdminActionId::from_uuid(clock.id());
    let record = new.record(record, clock.now(), tenant, id);
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let stored = store
        .insert_key(tenant, &key, new, pepper, change)
        .await
        .map_err(failed)?;
    Ok(Created {
        key: key.reveal(),
        about: Key {
            id: stored.id,
            name: stored.name,
            environment: stored.environment,
            scopes: stored.scopes.into_iter().collect(),
            created_at: stored.created_at,
            expires_at: stored.expires_at,
            revoked_at: stored.revoked_at,
            principal: new.principal.clone(),
        },
    })
}

fn cells(key: &Key, now: Timestamp, out: &Output) -> Vec<String> {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => out.paint(Tone::Bad, &format!("revoked {at}")),
        (None, Some(end)) if end <= now => out.paint(Tone::Warn, &format!("expired {end}")),
        (None, Some(end)) => format!("until {end}"),
        (None, None) => "no end".to_owned(),
    };
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    vec![
        key.id.to_string(),
        plain(&key.name),
        plain(&key.environment),
        scopes.join(","),
        key.principal
            .as_ref()
            .map_or_else(|| "-".to_owned(), |name| plain(name.as_str())),
        key.created_at.to_string(),
        state,
    ]
}

/// Reads scopes by name; `all` is every one that concerns the key's own tenant.
fn scopes(names: &[String]) -> Result<BTreeSet<Scope>, Error> {
    let mut found = BTreeSet::new();
    for name in names {
        match name.as_str() {
            "all" => found.extend(Scope::ALL),
            name => {
                found.insert(
                    name.parse::<Scope>()
                        .map_err(|why| Error::Usage(format!("--scopes: {why}, or all")))?,
                );
            }
        }
    }
    Ok(found)
}

/// Reads `30m`, `12h` or `90d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 30m, 12h or 90d");
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let seconds = match text.strip_prefix(digits) {
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = count
        .checked_mul(seconds)
        .filter(|seconds| (1..=3_153_600_000).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}
