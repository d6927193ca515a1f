//! `remit serve`: what is to be run, checked before anything is opened, and what a developer is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use remit_api::App;
use remit_core::{Bundle, EntityUid, Verdict};
use remit_engine::Snapshot;

use crate::bundle_dir;
use crate::config::{Config, Layers};
use crate::dev;
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone};
use crate::serve::{self, DevPlan, Plan, Ready};
use crate::starter;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit serve --dev
    remit serve --dev --bundle policies/ours --listen 127.0.0.1:0
    remit serve --config /etc/remit.toml --migrate

A server for production wants a pepper file, and has no key until you make one:
    openssl rand -hex 32 > /etc/remit/pepper && chmod 600 /etc/remit/pepper
    export REMIT__AUTH__PEPPER_FILE=/etc/remit/pepper
    export REMIT__DATABASE__URL_FILE=/etc/remit/database-url
    remit migrate
    remit key create ops --scopes all --direct
    remit serve

It stops at SIGTERM or SIGINT: readiness goes off, requests in flight are answered, records are shipped; a second signal
ends it at once.";

/// The flags of `remit serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Try Remit on this machine: SQLite in ./.remit, starter policies, loopback only, a key made and printed.
    #[arg(long)]
    dev: bool,
    /// The folder of the bundle to decide with, put in force where it differs; without it the starter bundle.
    #[arg(long, requires = "dev", value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where /healthz, /readyz and /metrics are; a free port where --listen takes one.
    #[arg(long, value_name = "ADDRESS")]
    operations: Option<SocketAddr>,
    /// The folder of everything this process keeps on disk.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A configuration file in TOML.
    #[arg(long, env = "REMIT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bring the database's schema up to date first.
    #[arg(long)]
    migrate: bool,
    /// Write this file, a JSON object with url, operations_url and key, when the service is ready to decide.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs the service until it is told to stop.
///
/// # Errors
///
/// Whatever keeps it from starting.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    let config = configuration(&args)?;
    let key = dev::fixed_key()?;
    let dev = if args.dev {
        loopback("--listen", config.listen.http)?;
        loopback("--operations", config.listen.operations)?;
        let bundle = bundle(args.bundle.as_deref(), out)?;
        Some(DevPlan {
            bundle,
            replace: args.bundle.is_some(),
            key,
        })
    } else {
        if key.is_some() {
            return Err(Error::Config(format!(
                "  {}: is for `serve --dev` only; this server has no default credential",
                dev::KEY_VARIABLE
            )));
        }
        None
    };
    let data = config.data.dir.clone();
    let plan = Plan {
        config,
        dev,
        migrate: args.migrate,
        ready_file: args.ready_file,
    };
    let is_dev = plan.dev.is_some();
    let announce = |ready: &Ready| {
        if is_dev {
            // A banner that nobody can read any more is no reason to stop.
            let _ = out.print(&banner(ready, &data, out));
        }
    };
    Box::pin(serve::run(plan, out, announce)).await?;
    Ok(Exit::Ok)
}

fn configuration(args: &Args) -> Result<Config, Error> {
    let preset = if args.dev { dev::PRESET } else { &[] };
    // Who takes a free port for one does not want the other to collide.
    let free = args.listen.filter(|address| address.port() == 0);
    Layers::new(args.config.as_deref(), preset)?
        .flag("--listen", "listen.http", args.listen)
        .flag(
            "--operations",
            "listen.operations",
            args.operations.or(free),
        )
        .flag(
            "--data",
            "data.dir",
            args.data.as_ref().map(|dir| dir.display()),
        )
        .read()
}

/// Keeps a development server, whose key anybody on this machine may read, off the network.
fn loopback(flag: &str, address: SocketAddr) -> Result<(), Error> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{flag} {address}: --dev listens on loopback addresses only, such as 127.0.0.1:{}; for anything else run \
         `remit serve` with a configuration (see `remit serve --help`)",
        address.port()
    )))
}

/// Reads and compiles the bundle, so that one that is wrong is shown here and not in a log.
fn bundle(dir: Option<&Path>, out: &Output) -> Result<Bundle, Error> {
    let bundle = match dir {
        Some(dir) => {
            let folder = bundle_dir::read(dir)?;
            folder.warnings.iter().for_each(|warning| out.warn(warning));
            folder.bundle
        }
        None => starter::bundle()?,
    };
    let compiled = Snapshot::compile(&bundle).and_then(|snapshot| {
        App::review_admin(&bundle)?;
        Ok(snapshot)
    });
    let snapshot = compiled.map_err(|error| Error::Diagnostics {
        what: match dir {
            Some(dir) => format!("the bundle in `{}`", dir.display()),
            None => "the starter bundle".to_owned(),
        },
        found: Box::new(
            Found::new(error.diagnostics, &bundle).within(dir.unwrap_or(Path::new(""))),
        ),
    })?;
    if !snapshot.warnings().is_empty() {
        out.diagnostics(&Found::new(snapshot.warnings().to_vec(), &bundle));
    }
    Ok(bundle)
}

/// What a developer is told, once.
fn banner(ready: &Ready, data: &Path, out: &Output) -> String {
    let strong = |text: &str| out.paint(Tone::Strong, text);
    let key = ready
        .key
        .as_ref()
        .map(|key| key.text.as_str())
        .unwrap_or_default();
    let url = &ready.url;
    let mut lines = vec![
        strong("Remit is ready."),
        format!("listening on {url}"),
        String::new(),
        format!("  API page     {url}/docs"),
        format!(
            "  operations   {}/readyz  {}/metrics",
            ready.operations_url, ready.operations_url
        ),
        format!("  data         {}", data.display()),
        format!("  key          {}", strong(key)),
        String::new(),
        out.paint(
            Tone::Bad,
            "  For development: every scope, loopback only, no TLS.",
        ),
    ];
    if let Some((body, flags)) = ready.bundle.as_ref().and_then(sample) {
        lines.extend([
            String::new(),
            "Ask it something:".to_owned(),
            String::new(),
            format!("  curl -s {url}/access/v1/evaluation \\"),
            format!("    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\"),
            format!("    -d '{body}'"),
            String::new(),
            "or with the same binary:".to_owned(),
            String::new(),
            format!("  export REMIT_URL={url} REMIT_KEY={key}"),
            format!("  remit decide {flags}"),
            "  remit decisions tail".to_owned(),
        ]);
    }
    lines.join("\n")
}

/// Finds a question that the bundle's own cases permit, to show what asking looks like: as JSON and as flags.
fn sample(bundle: &Bundle) -> Option<(String, String)> {
    let permitted = bundle
        .cases
        .iter()
        .filter(|case| case.expect.decision == Verdict::Permit && !case.approved);
    let bodies = permitted.filter_map(|case| {
        let question = &case.question;
        let flags = format!(
            "-s '{}' -a '{}' -r '{}'",
            EntityUid::new(&question.subject.kind, &question.subject.id),
            question.action.name,
            EntityUid::new(&question.resource.kind, &question.resource.id)
        );
        let plain = question.context.is_empty()
            && question.subject.properties.is_empty()
            && question.action.properties.is_empty()
            && question.resource.properties.is_empty();
        let body = serde_json::to_string(question).ok()?;
        // A quote would end the shell's string; what has properties does not fit the short form.
        (plain && !body.contains('\'')).then_some((body, flags))
    });
    bodies.min_by_key(|(body, _)| body.len())
}
