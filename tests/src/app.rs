//! The API in this process: SQLite in a folder of its own, a clock that stands still, no sockets.
//!
//! When a test lets go of it, every decision that it recorded is made again from what is stored ([`replay`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use remit_api::{App, AppParts, Options};
use remit_core::{Bundle, Clock, Principal, PrincipalKind, Revision, Role, TenantId, Timestamp};
use remit_engine::Engine;
use remit_log::DecisionLog;
use remit_store::{Change, Expected, NewKey, Pepper, Scope, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use self::stream::Stream;
use crate::replay::{self, Remains};

pub mod stream;

/// How long anything that happens in the background may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API with one tenant, its bundle in force, and a key with every scope.
pub struct TestApp {
    /// The application.
    pub app: Arc<App>,
    /// Its clock; it moves when the test moves it.
    pub clock: Clock,
    /// Its database.
    pub store: Store,
    /// Its decision log; nothing ships it unless the test does.
    pub log: DecisionLog,
    /// The tenant.
    pub tenant: TenantId,
    /// What its keys are hashed with.
    pub pepper: Pepper,
    /// A key with every scope.
    pub key: String,
    /// Where its database is.
    pub database: remit_store::Options,
    /// Why its records are not made again when the test is over.
    excuse: Option<&'static str>,
    router: Router,
    operations: Router,
    /// What ends the installing of new states, and that task.
    installing: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    dir: TempDir,
    _database: Option<TempDir>,
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
}

/// A body that is read as it comes.
#[derive(Debug)]
pub struct Unread(Body);

// === impl Unread ===

impl Unread {
    /// Returns the next part of it; `None` at its end.
    pub async fn part(&mut self) -> Option<String> {
        let frame = self.0.frame().await.transpose().unwrap()?;
        let bytes = frame.into_data().unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

// === impl TestApp ===

impl TestApp {
    /// Starts the API with a bundle in force.
    pub async fn start(bundle: &Bundle) -> Self {
        let mut app = Self::empty(Options::default()).await;
        app.put(bundle).await;
        app
    }

    /// Starts the API with a bundle in force, and its log shipping to its store.
    pub async fn shipping(bundle: &Bundle) -> Self {
        let test = Self::start(bundle).await;
        let (log, store) = (test.log.clone(), test.store.clone());
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
        test
    }

    /// Starts the API with a tenant that has no bundle.
    pub async fn empty(options: Options) -> Self {
        let clock = Clock::manual("2026-01-05T10:00:00Z".parse::<Timestamp>().unwrap());
        let options = Options {
            poll: Duration::from_millis(5),
            ..options
        };
        let dir = quick_folder();
        let url = format!("sqlite:{}", dir.path().join("remit.db").display());
        let database = crate::sql::patient(url);
        let mut test = Self::by(&database, &clock, &clock, options).await;
        test._database = Some(dir);
        test
    }

    /// Starts the API over a database that others share, by the time of this machine.
    pub async fn sharing(database: &remit_store::Options, options: Options) -> Self {
        let clock = Clock::system();
        Self::by(database, &clock, &clock, options).await
    }

    /// Starts the API over a database that others share, by a clock of its own; `of_database` is the time of the database,
    /// where that is SQLite, which has none.
    pub async fn by(
        database: &remit_store::Options,
        clock: &Clock,
        of_database: &Clock,
        options: Options,
    ) -> Self {
        let (clock, of_database) = (clock.clone(), of_database.clone());
        let store = Store::open(database, of_database).await.unwrap();
        store.migrate().await.unwrap();
        let tenant = store.ensure_tenant("default").await.unwrap();
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let dir = TempDir::new().unwrap();
        let spool = remit_log::Options {
            deadline: PATIENCE,
            grace: PATIENCE,
            ..remit_log::Options::new(dir.path().join("spool"))
        };
        let log = DecisionLog::open(spool, clock.clone()).unwrap();
        let app = App::new(AppParts {
            engine: Engine::new(),
            store: store.clone(),
            log: log.clone(),
            clock: clock.clone(),
            pepper: pepper.clone(),
            dev_key: None,
            options,
        });
        let mut test = Self {
            router: remit_api::router(Arc::clone(&app)),
            operations: remit_api::operations(Arc::clone(&app)),
            app,
            clock,
            store,
            log,
            tenant,
            pepper,
            key: String::new(),
            database: database.clone(),
            excuse: None,
            installing: None,
            dir,
            _database: None,
        };
        test.resume();
        test.key = test.new_key(Scope::ALL, "dev", None).await;
        test
    }

    /// Leaves the records as they are when the test is over, because it has damaged what they are made again from.
    pub fn is_not_replayed(&mut self, because: &'static str) {
        self.excuse = Some(because);
    }

    /// Opens the database once more, by another clock.
    pub async fn store_by(&self, clock: Clock) -> Store {
        Store::open(&self.database, clock).await.unwrap()
    }

    /// Returns the folder of the decision log.
    pub fn spool(&self) -> std::path::PathBuf {
        self.dir.path().join("spool")
    }

    /// Puts a bundle in force.
    pub async fn put(&mut self, bundle: &Bundle) {
        let revision = self
            .store
            .put_bundle(self.tenant, Expected::Any, bundle, None)
            .await
            .unwrap();
        self.reached(revision).await;
    }

    /// Makes a key and returns its text once it is accepted.
    pub async fn new_key(
        &self,
        scopes: &[Scope],
        environment: &str,
        expires_at: Option<Timestamp>,
    ) -> String {
        let new = NewKey {
            name: "test".to_owned(),
            environment: environment.to_owned(),
            scopes: scopes.iter().copied().collect::<BTreeSet<_>>(),
            expires_at,
            principal: None,
        };
        let (_, key) = self
            .store
            .create_key(self.tenant, &new, &self.pepper)
            .await
            .unwrap();
        self.caught_up().await;
        key.reveal()
    }

    /// Makes a person in these roles and a key bound to it, and returns the text of the key once it is accepted.
    pub async fn person(&self, name: &str, roles: &[Role], scopes: &[Scope]) -> String {
        self.principal(name, PrincipalKind::Person, roles).await;
        self.bound_key(name, scopes).await
    }

    /// Makes a key with every scope for a principal, which gets these roles.
    pub async fn key_of(&self, kind: PrincipalKind, name: &str, roles: &[Role]) -> String {
        self.principal(name, kind, roles).await;
        self.bound_key(name, Scope::ALL).await
    }

    async fn bound_key(&self, name: &str, scopes: &[Scope]) -> String {
        let new = NewKey {
            name: format!("of {name}"),
            environment: "dev".to_owned(),
            scopes: scopes.iter().copied().collect(),
            expires_at: None,
            principal: Some(name.parse().unwrap()),
        };
        let (_, key) = self
            .store
            .create_key(self.tenant, &new, &self.pepper)
            .await
            .unwrap();
        self.caught_up().await;
        key.reveal()
    }

    /// Makes a principal, or gives it these roles.
    pub async fn principal(&self, name: &str, kind: PrincipalKind, roles: &[Role]) {
        let principal = Principal {
            kind,
            name: name.parse().unwrap(),
            roles: roles.iter().copied().collect(),
        };
        self.store
            .put_principal(self.tenant, None, &principal, Change::default())
            .await
            .unwrap();
        self.caught_up().await;
    }

    /// Sends a request with another key; `null` for no body.
    pub async fn as_key(&self, key: &str, method: Method, path: &str, body: &Value) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("if-match", "*")
            .header("content-type", "application/json");
        if body.is_null() {
            return self.send(request, "").await;
        }
        self.send(request, body).await
    }

    /// Stops the installing of new states, and waits until that has ended.
    pub async fn pause(&mut self) {
        if let Some((stop, installing)) = self.installing.take() {
            let _ = stop.send(());
            installing.await.unwrap();
        }
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Arc::clone(&self.app);
        let installing = tokio::spawn(remit_api::sync::run(app, async {
            let _ = stopped.await;
        }));
        self.installing = Some((stop, installing));
    }

    /// Waits until everything that is committed is in force.
    pub async fn caught_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        let heads = loop {
            match self.store.heads().await {
                Ok(heads) => break heads,
                // It comes back where a test had it go away.
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let head = heads.iter().find(|head| head.tenant == self.tenant);
        self.reached(head.unwrap().revision).await;
    }

    /// Waits until a revision is in force.
    ///
    /// # Panics
    ///
    /// When it is not after 30 seconds.
    pub async fn reached(&self, revision: Revision) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = self.operations("/readyz").await;
            let reached = ready.json()["tenants"][0]["revision"].as_u64();
            // Also confirmed anew, where the clock was moved on.
            if reached >= Some(revision.number()) && ready.status == StatusCode::OK {
                return;
            }
            assert!(Instant::now() < deadline, "not reached: {}", ready.text);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Sends a JSON body with the key that may do everything.
    pub async fn post(&self, path: &str, body: impl ToString) -> Reply {
        self.send(self.request(Method::POST, path), body).await
    }

    /// Reads a path with the key that may do everything.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path), "").await
    }

    /// Starts a request with the key that may do everything and a JSON content type.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        self.request_with(&self.key, method, path)
    }

    /// Starts a request with another key and a JSON content type.
    pub fn request_with(&self, key: &str, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
    }

    /// Sends a request.
    ///
    /// # Panics
    ///
    /// When the answer is not one that the OpenAPI document describes.
    pub async fn send(&self, request: http::request::Builder, body: impl ToString) -> Reply {
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let reply = Reply::of(self.router.clone().oneshot(request).await.unwrap()).await;
        crate::contract::check(
            method.as_str(),
            &path,
            reply.status,
            &reply.headers,
            &reply.text,
        );
        reply
    }

    /// Sends a request without a body, and returns the status and how long it took; nothing else is looked at.
    pub async fn time(&self, request: http::request::Builder) -> (StatusCode, Duration) {
        let request = request.body(Body::empty()).unwrap();
        let router = self.router.clone();
        let began = Instant::now();
        let answer = router.oneshot(request).await.unwrap();
        (answer.status(), began.elapsed())
    }

    /// Sends a request without a body that is answered 200, and says whether the answer ends before it is whole.
    pub async fn is_cut_off(&self, request: http::request::Builder) -> bool {
        let request = request.body(Body::empty()).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.is_err()
    }

    /// Sends a request without a body, and returns its status and its body as it comes; nothing is held against the document.
    pub async fn unread(&self, request: http::request::Builder) -> (StatusCode, Unread) {
        let request = request.body(Body::empty()).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        (answer.status(), Unread(answer.into_body()))
    }

    /// Sends a request without a body whose answer has no end, and returns it with its head held against the document.
    ///
    /// # Panics
    ///
    /// When the head is not one that the OpenAPI document describes.
    pub async fn open(&self, request: http::request::Builder) -> Stream {
        let request = request.body(Body::empty()).unwrap();
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        crate::contract::check(method.as_str(), &path, parts.status, &parts.headers, "");
        assert_eq!(parts.status, StatusCode::OK);
        Stream::of(body)
    }

    /// Reads a path of the operations port.
    pub async fn operations(&self, path: &str) -> Reply {
        self.operations_accepting(path, "*/*").await
    }

    /// Reads a path of the operations port with an `Accept` header.
    pub async fn operations_accepting(&self, path: &str, accept: &str) -> Reply {
        let request = Request::builder().uri(path).header("accept", accept);
        let request = request.body(Body::empty()).unwrap();
        Reply::of(self.operations.clone().oneshot(request).await.unwrap()).await
    }
}

impl Drop for TestApp {
    /// Makes every decision again that was recorded, under its own revision, and fails the test where one differs.
    fn drop(&mut self) {
        if thread::panicking() || self.excuse.is_some() {
            return;
        }
        let operations = self.operations.clone();
        let remains = Remains {
            database: self.database.clone(),
            spool: self.spool(),
            least: count(operations),
        };
        if let Err(wrong) = replay::all(remains) {
            panic!("{wrong}");
        }
    }
}

// === impl Reply ===

impl Reply {
    async fn of(response: http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text))
    }

    /// Returns a header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Counts the decisions that were recorded, as the process tells them in its metrics.
fn count(operations: Router) -> u64 {
    let asked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let request = Request::builder().uri("/metrics").body(Body::empty());
        runtime.block_on(async {
            Reply::of(operations.oneshot(request.unwrap()).await.unwrap()).await
        })
    });
    let metrics = asked.join().unwrap();
    assert_eq!(metrics.status, StatusCode::OK, "{}", metrics.text);
    let counts = metrics
        .text
        .lines()
        .filter(|line| line.starts_with("remit_decisions_total{") && line.contains("\"enforce\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

/// Makes a folder where writing is quick, in memory where there is such a place.
fn quick_folder() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}
