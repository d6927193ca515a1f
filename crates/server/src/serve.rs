//! The service: its parts opened, wired, run until a signal, and closed in an order that loses nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remit_api::{App, AppParts, DevKey};
use remit_core::controls::{Protection, holds};
use remit_core::{Bundle, Clock, TenantId};
use remit_engine::Engine;
use remit_log::DecisionLog;
use remit_store::{Pepper, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cmd::direct;
use crate::config::{Config, read_small};
use crate::dev;
use crate::error::Error;
use crate::output::Output;
use crate::telemetry::{self, Telemetry};

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every setting.
    pub(crate) config: Config,
    /// What `--dev` adds.
    pub(crate) dev: Option<DevPlan>,
    /// Bring the database up to date first.
    pub(crate) migrate: bool,
    /// Where to say that the service is ready.
    pub(crate) ready_file: Option<PathBuf>,
}

/// What a development server is to decide with; it has been compiled.
#[derive(Debug)]
pub(crate) struct DevPlan {
    /// The bundle.
    pub(crate) bundle: Bundle,
    /// Put it over another one that is in force.
    pub(crate) replace: bool,
    /// The text of the key, where the developer chose one.
    pub(crate) key: Option<String>,
}

/// A service that is ready, for the banner and the ready file.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The base URL of the API.
    pub(crate) url: String,
    /// The base URL of the operations port.
    pub(crate) operations_url: String,
    /// The key of a development server.
    pub(crate) key: Option<dev::Key>,
    /// The bundle in force on a development server.
    pub(crate) bundle: Option<Bundle>,
}

/// What is open once everything that can refuse to start has agreed.
struct Parts {
    api: TcpListener,
    operations: TcpListener,
    log: DecisionLog,
    store: Store,
    /// The same database as the role that owns its tables, where that is another one.
    owner: Option<Store>,
    tenant: Option<TenantId>,
    app: Arc<App>,
    ready: Ready,
}

/// Runs the service until SIGTERM or SIGINT; `announce` is called once it is ready.
///
/// # Errors
///
/// Whatever keeps it from starting; what happens later is answered, logged and survived.
pub(crate) async fn run(plan: Plan, out: &Output, announce: impl Fn(&Ready)) -> Result<(), Error> {
    let (stop, stopping) = watch::channel(false);
    watch_signals(stop)?;
    run_until(plan, stopping, out, announce).await
}

/// Runs the service until `stopping` is raised; `announce` is called once it is ready.
///
/// # Errors
///
/// As [`run`].
pub(crate) async fn run_until(
    plan: Plan,
    stopping: watch::Receiver<bool>,
    out: &Output,
    announce: impl Fn(&Ready),
) -> Result<(), Error> {
    let telemetry = telemetry::start(&plan.config.telemetry)?;
    let result = match open(&plan, &telemetry).await {
        Ok(parts) => until_stopped(&plan, parts, stopping, out, announce).await,
        Err(error) => Err(error),
    };
    telemetry.stop().await;
    result
}

/// Opens everything, the cheapest to refuse first.
async fn open(plan: &Plan, telemetry: &Telemetry) -> Result<Parts, Error> {
    let config = &plan.config;
    let dir = &config.data.dir;
    let pepper = config.pepper()?;
    if pepper.is_none() && plan.dev.is_none() {
        return Err(no_pepper());
    }
    let api = listen(config.listen.http, "--listen").await?;
    let operations = listen(config.listen.operations, "--operations").await?;
    let (url, operations_url) = (url_of(&api)?, url_of(&operations)?);
    dev::make_folder(dir)?;
    let pepper = match pepper {
        Some(pepper) => pepper,
        None => dev::pepper(dir)?,
    };
    let pepper = Pepper::new(pepper.as_bytes()).map_err(|source| Error::Store {
        what: "use the pepper",
        source,
    })?;
    let clock = Clock::system();
    let log = open_log(config, clock.clone()).await?;
    let store = direct::open(config, clock.clone()).await?;
    let owner = direct::open_as_owner(config, clock.clone()).await?;
    let tenant = prepare(plan, &store, owner.as_ref()).await?;
    let (key, bundle) = match (&plan.dev, tenant) {
        (Some(dev), Some(tenant)) => {
            let put = dev::load(&store, tenant, &dev.bundle, dev.replace).await?;
            tracing::info!(put, hash = %dev.bundle.content_hash(), "the bundle of this development server");
            let key = dev::key(dir, &store, tenant, &pepper, dev.key.clone()).await?;
            (Some(key), dev::in_force(&store, tenant).await?)
        }
        _ => (None, None),
    };
    let dev_key = key.as_ref().filter(|key| key.fixed);
    let app = App::new(AppParts {
        engine: Engine::new(),
        store: store.clone(),
        log: log.clone(),
        clock,
        pepper,
        dev_key: dev_key.map(|key| DevKey {
            text: key.text.clone(),
            stands_for: key.id,
        }),
        options: options(config, &url, telemetry),
    });
    let ready = Ready {
        url,
        operations_url,
        key,
        bundle,
    };
    Ok(Parts {
        api,
        operations,
        log,
        store,
        owner,
        tenant,
        app,
        ready,
    })
}

/// Runs what was opened, and closes it again.
async fn until_stopped(
    plan: &Plan,
    parts: Parts,
    stopping: watch::Receiver<bool>,
    out: &Output,
    announce: impl Fn(&Ready),
) -> Result<(), Error> {
    let Parts {
        api,
        operations,
        log,
        store,
        owner,
        tenant,
        app,
        ready,
    } = parts;
    let (end, ending) = watch::channel(false);
    let limits = limits(&plan.config);
    let routes = (
        remit_api::router(Arc::clone(&app)),
        remit_api::operations(Arc::clone(&app)),
    );
    let serving = tokio::spawn(remit_api::serve(
        api,
        routes.0,
        limits.clone(),
        raised(stopping.clone()),
    ));
    let probes = tokio::spawn(remit_api::serve(
        operations,
        routes.1,
        limits,
        raised(ending.clone()),
    ));
    let background = tokio::spawn(keep_up(
        plan.config.auth.tenant.clone(),
        (plan.migrate, tenant.is_some()),
        (Arc::clone(&app), store.clone(), log.clone()),
        owner,
        ending,
    ));
    if plan.dev.is_none() {
        out.print(&format!("listening on {}", ready.url))?;
    }
    tracing::info!(
        url = ready.url,
        operations_url = ready.operations_url,
        "listening"
    );
    let became_ready = tokio::select! {
        () = wait_until_ready(&ready.operations_url) => true,
        () = raised(stopping.clone()) => false,
    };
    if became_ready {
        announce(&ready);
        if let Some(path) = &plan.ready_file {
            write_ready_file(path, &ready)?;
        }
    }
    raised(stopping).await;
    if !holds(Protection::Drain) {
        return Ok(());
    }
    tracing::info!("stopping: no new connections, requests in flight are answered");
    app.retire();
    let served = serving.await;
    // Shipping goes on until the log is closed: what was answered reaches the database now, if it can.
    log.close().await;
    end.send_replace(true);
    let _ = tokio::join!(probes, background);
    store.close().await;
    if let Some(path) = &plan.ready_file {
        // It is gone already where the process never became ready.
        let _ = std::fs::remove_file(path);
    }
    tracing::info!("stopped");
    match served {
        Ok(served) => served.map_err(|why| Error::io("accept connections", why)),
        Err(crashed) => Err(Error::Crashed(crashed)),
    }
}

/// Keeps policies current and ships decisions, once the database is there and fits.
async fn keep_up(
    tenant: String,
    (migrate, prepared): (bool, bool),
    (app, store, log): (Arc<App>, Store, DecisionLog),
    owner: Option<Store>,
    ending: watch::Receiver<bool>,
) {
    let mut wait = Duration::from_millis(250);
    let mut prepared = prepared;
    while !prepared {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = raised(ending.clone()) => return,
        }
        match bring_up(&store, owner.as_ref(), &tenant, migrate).await {
            Ok(_) => prepared = true,
            Err(error) => {
                wait = (wait * 2).min(Duration::from_secs(2));
                tracing::warn!(error = %error, cause = std::error::Error::source(&error).map(ToString::to_string), "not ready: waiting for the database");
            }
        }
    }
    if let Some(owner) = owner {
        owner.close().await;
    }
    tokio::join!(
        remit_api::sync::run(app, raised(ending.clone())),
        log.ship(store.ahead(), raised(ending)),
    );
}

/// Prepares the database; `None` when it is away and the process starts without it.
async fn prepare(
    plan: &Plan,
    store: &Store,
    owner: Option<&Store>,
) -> Result<Option<TenantId>, Error> {
    let migrate = plan.migrate || plan.dev.is_some();
    match bring_up(store, owner, &plan.config.auth.tenant, migrate).await {
        Ok(tenant) => Ok(Some(tenant)),
        Err(Error::Store { source, .. })
            if source.is_outage()
                && plan.dev.is_none()
                && holds(Protection::StartWithoutDatabase) =>
        {
            tracing::warn!(cause = %source, "the database is away; starting without it, not ready until it is there");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Checks the database's schema, or brings it up to date, and finds the tenant.
async fn bring_up(
    store: &Store,
    owner: Option<&Store>,
    tenant: &str,
    migrate: bool,
) -> Result<TenantId, Error> {
    let failed = |source| Error::Store {
        what: "prepare the database",
        source,
    };
    if migrate {
        for name in direct::migrate(store, owner, "prepare the database").await? {
            tracing::info!(name, "migrated");
        }
    } else {
        let pending = store.pending_migrations().await.map_err(failed)?;
        if !pending.is_empty() {
            return Err(Error::Pending(pending));
        }
    }
    store.ensure_tenant(tenant).await.map_err(failed)
}

async fn open_log(config: &Config, clock: Clock) -> Result<DecisionLog, Error> {
    let options = remit_log::Options {
        segment_bytes: config.log.segment_bytes,
        queue: config.log.queue,
        max_unshipped_bytes: config.log.max_unshipped_bytes,
        ..remit_log::Options::new(config.log_dir())
    };
    // Recovery reads everything that waits to be shipped.
    let opened = tokio::task::spawn_blocking(move || DecisionLog::open(options, clock)).await;
    match opened.map_err(Error::Crashed)? {
        Err(remit_log::Error::Locked { .. }) => Err(Error::FolderBusy(config.log_dir())),
        opened => opened.map_err(|source| Error::Log {
            what: "open the decision log",
            source,
        }),
    }
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|why| match why.kind() {
            std::io::ErrorKind::AddrInUse => Error::PortBusy { address, flag },
            _ => Error::io(format!("listen on `{address}` ({flag})"), why),
        })
}

/// Returns the URL under which this machine reaches a listener.
fn url_of(listener: &TcpListener) -> Result<String, Error> {
    let mut address = listener
        .local_addr()
        .map_err(|why| Error::io("read the address of a socket", why))?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{address}"))
}

fn options(config: &Config, url: &str, telemetry: &Telemetry) -> remit_api::Options {
    let public_url = config.listen.public_url.as_deref().unwrap_or(url);
    remit_api::Options {
        public_url: public_url.trim_end_matches('/').to_owned(),
        max_staleness: Duration::from_millis(config.policy.max_staleness_ms),
        poll: Duration::from_millis(config.policy.poll_ms),
        task_idle_timeout: Duration::from_millis(config.tasks.idle_timeout_ms),
        reserved: Duration::from_millis(config.tasks.reserved_ms),
        longest_lease: Duration::from_secs(config.leases.longest_hours * 3_600),
        longest_exception: Duration::from_secs(config.exceptions.longest_days * 86_400),
        escrow_from: config.tasks.escrow_from,
        orphan_after: Duration::from_millis(config.tasks.orphan_after_ms),
        approvals: config.approvals.options(),
        drafts: config.drafts.options(),
        webhooks: config.webhooks.options(),
        deadline: Duration::from_millis(config.limits.request_deadline_ms),
        body_bytes: config.limits.body_bytes,
        body_deadline: Duration::from_millis(config.limits.body_deadline_ms),
        concurrency: config.limits.requests,
        replica: replica(config, url),
        commit: crate::cmd::version::COMMIT.to_owned(),
        adopt: telemetry.adopt(),
        ..remit_api::Options::default()
    }
}

/// Returns what this replica is called: as configured, or by its host and port.
fn replica(config: &Config, url: &str) -> String {
    config.replica.name.clone().unwrap_or_else(|| {
        let host = read_small(std::path::Path::new("/proc/sys/kernel/hostname"))
            .ok()
            .or_else(|| std::env::var("HOSTNAME").ok());
        let host = host.as_deref().map_or("localhost", str::trim);
        let port = url.rsplit(':').next().unwrap_or_default();
        format!("{host}:{port}")
    })
}

fn limits(config: &Config) -> remit_api::Limits {
    let limits = &config.limits;
    remit_api::Limits {
        connections: limits.connections,
        head: Duration::from_millis(limits.header_deadline_ms),
        idle: Duration::from_millis(limits.idle_deadline_ms),
        write: Duration::from_millis(limits.write_deadline_ms),
        grace: Duration::from_millis(limits.drain_ms),
        ..remit_api::Limits::default()
    }
}

/// Stops at the first signal, gives up at the second.
///
/// # Errors
///
/// [`Error::Io`] when the signals cannot be watched.
pub(crate) fn watch_signals(stop: watch::Sender<bool>) -> Result<(), Error> {
    let failed = |why| Error::io("watch for signals", why);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                stop.send_replace(true);
            }
        }
        give_up();
    });
    Ok(())
}

#[expect(
    clippy::exit,
    reason = "who signals twice does not want to wait for what the first signal began"
)]
fn give_up() {
    std::process::exit(130);
}

/// Ends when the flag is raised, or when nobody is left to raise it.
pub(crate) async fn raised(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// Asks the operations port until it answers that this replica can decide; what a load balancer would see.
async fn wait_until_ready(operations_url: &str) {
    let Ok(http) = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
    else {
        return;
    };
    let url = format!("{operations_url}/readyz");
    loop {
        if http
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says in a file that the service is ready, for whoever started it.
fn write_ready_file(path: &std::path::Path, ready: &Ready) -> Result<(), Error> {
    let body = serde_json::json!({
        "url": ready.url,
        "operations_url": ready.operations_url,
        "key": ready.key.as_ref().map(|key| &key.text),
        "pid": std::process::id(),
    });
    dev::write_private(path, &body.to_string())
}

fn no_pepper() -> Error {
    Error::Config(
        "  auth.pepper_file: is not set, and API keys cannot be checked without it\n\
         \x20   make one:     openssl rand -hex 32 > pepper && chmod 600 pepper\n\
         \x20   then say so:  REMIT__AUTH__PEPPER_FILE=$PWD/pepper\n\
         \x20   or try Remit without any preparation: remit serve --dev"
            .to_owned(),
    )
}
