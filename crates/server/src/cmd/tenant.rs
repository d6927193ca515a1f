//! `remit tenant`: the tenants of an installation, for who runs it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_core::{TenantId, Timestamp};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the tenants are.
const PATH: &[&str] = &["v1", "tenants"];
/// How much of the end of an export is kept to see that it is whole, in bytes: more than its last line has.
const TAIL: usize = 8 * 1024;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Every one needs a key with the scope `tenants`. The first is made on the host, and gives it on from there:
    remit key create operator --scopes tenants --direct --config /etc/remit.toml";

/// Examples in `--help`.
const CREATE: &str = "\
Examples:
    export REMIT_KEY=$(remit tenant create acme)
    remit bundle push policies/acme";

/// Examples in `--help`.
const EXPORT: &str = "\
Examples:
    remit tenant suspend 019aa8d0-0000-7a30-8f52-6d1c7b9e4f01
    remit tenant export 019aa8d0-0000-7a30-8f52-6d1c7b9e4f01 --out acme.ndjson --timeout 3600";

/// Examples in `--help`.
const DELETE: &str = "\
Examples:
    remit tenant suspend 019aa8d0-0000-7a30-8f52-6d1c7b9e4f01
    remit tenant delete 019aa8d0-0000-7a30-8f52-6d1c7b9e4f01 --name acme

There is no way back. What is still being removed when the answer comes has the state `deleting`.";

/// The commands around tenants.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    /// Make a tenant. Its first key is printed on stdout, this once.
    #[command(after_help = CREATE)]
    Create {
        /// What it is called.
        name: String,
        /// The environment of its first key; policies read it as a fact.
        #[arg(long = "env", default_value = "live", value_name = "NAME")]
        environment: String,
        #[command(flatten)]
        server: Server,
    },
    /// List tenants and their states.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Refuse every key of a tenant until it is resumed; nothing is lost.
    Suspend {
        #[command(flatten)]
        which: Which,
    },
    /// Take a suspension back.
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Write everything that belongs to a tenant, a JSON object a line. Exit 1 when it was cut off.
    #[command(after_help = EXPORT)]
    Export {
        /// The file to write; stdout without it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// Remove a suspended tenant with everything that belongs to it.
    #[command(after_help = DELETE)]
    Delete {
        /// The name of the tenant, so that no other is removed by mistake.
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        which: Which,
    },
}

/// One tenant of a server.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Which {
    /// The id of the tenant, as `remit tenant list` shows it.
    id: TenantId,
    #[command(flatten)]
    server: Server,
}

/// A tenant as the API shows it.
#[derive(Debug, Serialize, Deserialize)]
struct Tenant {
    id: TenantId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    state: String,
    revision: u64,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    second_person: bool,
}

/// A tenant that was just made.
#[derive(Debug, Serialize, Deserialize)]
struct Created {
    #[serde(flatten)]
    tenant: Tenant,
    /// Its first key, secret included.
    key: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    tenants: Vec<Tenant>,
    #[serde(default)]
    next: Option<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client; [`Error::Io`] when the file of an export cannot be written.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Create {
            name,
            environment,
            server,
        } => {
            let client = server.client()?;
            let body = serde_json::json!({ "name": name, "environment": environment });
            let request = client.request(Method::POST, PATH)?.json(&body);
            let created: Created = client.send(request).await?.json()?;
            out.value(&created, |created| created.key.clone())?;
            if !out.is_machine() {
                let id = created.tenant.id;
                out.note(&format!(
                    "the tenant {id}; keep its key: it is shown this once"
                ));
            }
        }
        Command::List { server } => {
            let tenants = list(&server.client()?).await?;
            let columns = ["id", "name", "state", "revision", "created"];
            out.rows(&tenants, &columns, |tenant| cells(tenant, out))?;
        }
        Command::Suspend { which } => which.change("suspend", out).await?,
        Command::Resume { which } => which.change("resume", out).await?,
        Command::Export { out: file, which } => export(&which, file.as_deref(), out).await?,
        Command::Delete { name, which } => {
            let client = which.server.client()?;
            let request = which.request(&client, Method::DELETE, &[])?;
            let tenant: Tenant = client
                .send(request.query(&[("name", name)]))
                .await?
                .json()?;
            which.tell(&tenant, out)?;
        }
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client) -> Result<Vec<Tenant>, Error> {
    let mut tenants = Vec::new();
    let mut cursor = String::new();
    loop {
        let query = [("limit", "1000".to_owned()), ("cursor", cursor)];
        let page: Page = client.get(PATH, &query).await?;
        tenants.extend(page.tenants);
        match page.next {
            Some(next) => cursor = next,
            None => return Ok(tenants),
        }
    }
}

/// Writes an export as it comes, and sees that it is whole.
async fn export(which: &Which, file: Option<&Path>, out: &Output) -> Result<(), Error> {
    let client = which.server.client()?;
    let mut sink: Box<dyn Write + Send> = match file {
        Some(path) => {
            let made = File::create(path).map_err(|why| Error::path("write", path, why))?;
            Box::new(BufWriter::new(made))
        }
        None => Box::new(io::stdout()),
    };
    let failed = |why| Error::io("write the export", why);
    let mut tail: Vec<u8> = Vec::new();
    let request = which.request(&client, Method::GET, &["export"])?;
    client
        .pieces(request, |piece| {
            sink.write_all(piece).map_err(failed)?;
            tail.extend_from_slice(piece);
            let over = tail.len().saturating_sub(TAIL);
            tail.drain(..over);
            Ok(())
        })
        .await?;
    sink.flush().map_err(failed)?;
    let last = tail.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    let whole = last.is_some_and(|line| {
        serde_json::from_slice::<serde_json::Value>(line)
            .is_ok_and(|line| line.get("end").is_some())
    });
    if !whole {
        return Err(client.not_understood("the export was cut off: its last line is not `end`"));
    }
    out.note("the export is whole");
    Ok(())
}

fn cells(tenant: &Tenant, out: &Output) -> Vec<String> {
    let tone = if tenant.state == "active" {
        Tone::Good
    } else {
        Tone::Warn
    };
    vec![
        tenant.id.to_string(),
        plain(&tenant.name),
        out.paint(tone, &plain(&tenant.state)),
        tenant.revision.to_string(),
        tenant.created_at.to_string(),
    ]
}

// === impl Which ===

impl Which {
    /// Asks for a change of state.
    async fn change(&self, verb: &str, out: &Output) -> Result<(), Error> {
        let client = self.server.client()?;
        let request = self.request(&client, Method::POST, &[verb])?;
        let tenant: Tenant = client.send(request).await?.json()?;
        self.tell(&tenant, out)
    }

    fn tell(&self, tenant: &Tenant, out: &Output) -> Result<(), Error> {
        out.value(tenant, |tenant| {
            format!("{} is {}", self.id, plain(&tenant.state))
        })
    }

    /// Begins a request about the tenant.
    fn request(
        &self,
        client: &Client,
        method: Method,
        rest: &[&str],
    ) -> Result<RequestBuilder, Error> {
        let id = self.id.to_string();
        let path: Vec<&str> = PATH
            .iter()
            .copied()
            .chain([id.as_str()])
            .chain(rest.iter().copied())
            .collect();
        client.request(method, &path)
    }
}
