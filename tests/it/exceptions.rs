//! Exceptions over HTTP: proposed by one person, confirmed by another, and for nothing outside their scope and time.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, PrincipalKind, Role, Timestamp};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

mod commands;
mod kept;
mod refused;
mod scopes;

const PATH: &str = "/v1/exceptions";

const SCHEMA: &str = r"
entity Agent;
entity Account;
action pay, look appliesTo { principal: [Agent], resource: [Account], context: { amount?: Long, facts: Remit::Facts } };
";

const POLICIES: &str = r#"
@id("open") permit (principal, action, resource);
@id("limit") forbid (principal, action == Action::"pay", resource)
when { context has amount && context.amount > 100 };
@id("ceiling") @relax("never") forbid (principal, action == Action::"pay", resource)
when { context has amount && context.amount > 10000 };
@id("trial") @mode("shadow") forbid (principal, action == Action::"look", resource);
"#;

fn bundle_of(policies: &str) -> Bundle {
    serde_json::from_value(json!({
        "schema": [{ "file": "schema.cedarschema", "text": SCHEMA }],
        "policies": [{ "file": "pay.cedar", "text": policies }],
    }))
    .unwrap()
}

/// The API, with who proposes, who confirms, and who answers.
struct World {
    test: TestApp,
    /// A publisher.
    ana: String,
    /// An approver.
    ben: String,
}

// === impl World ===

impl World {
    async fn make() -> Self {
        let options = Options {
            // The clock is moved by more than the usual.
            max_staleness: Duration::from_hours(24 * 400),
            ..Options::default()
        };
        let mut test = TestApp::empty(options).await;
        let (log, store) = (test.log.clone(), test.store.clone());
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
        test.put(&bundle_of(POLICIES)).await;
        let ana = test.person("ana", &[Role::Publisher], Scope::ALL).await;
        let ben = test.person("ben", &[Role::Approver], Scope::ALL).await;
        test.principal("maya", PrincipalKind::Person, &[]).await;
        Self { test, ana, ben }
    }

    /// An exception of the policy `limit` for paying by one agent, until a time from now.
    fn body(&self, lasts: Duration) -> Value {
        let until = self.test.clock.now().plus(lasts);
        json!({
            "policy": "limit", "scope": { "agent": { "type": "Agent", "id": "bot" }, "action": "pay" }, "owner": "maya",
            "reason": "quarter end", "compensating": "maya looks at each", "until": until,
        })
    }

    async fn post(&self, key: &str, path: &str, body: &Value) -> Reply {
        self.test.as_key(key, Method::POST, path, body).await
    }

    /// Proposes as Ana, and returns what was proposed.
    async fn propose(&self, body: &Value) -> Value {
        let proposed = self.post(&self.ana, PATH, body).await;
        assert_eq!(proposed.status, StatusCode::CREATED, "{}", proposed.text);
        proposed.json()
    }

    /// Confirms as Ben what is shown.
    async fn confirm(&self, shown: &Value) -> Reply {
        let path = format!("{PATH}/{}/confirm", text(&shown["id"]));
        self.post(&self.ben, &path, &json!({ "seen": shown["hash"] }))
            .await
    }

    /// Proposes and confirms, and returns the id.
    async fn relax(&self, body: &Value) -> String {
        let proposed = self.propose(body).await;
        let confirmed = self.confirm(&proposed).await;
        assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.text);
        text(&proposed["id"]).to_owned()
    }

    async fn shown(&self, id: &str) -> Value {
        let shown = self.test.get(&format!("{PATH}/{id}")).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
        shown.json()
    }

    async fn pays(&self, agent: &str, amount: u64) -> Reply {
        let question = json!({
            "subject": { "type": "Agent", "id": agent }, "action": { "name": "pay" },
            "resource": { "type": "Account", "id": "one" }, "context": { "amount": amount },
        });
        let asked = self.test.post("/access/v1/evaluation", question).await;
        assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
        asked
    }

    async fn may_pay(&self, agent: &str, amount: u64) -> bool {
        self.pays(agent, amount).await.json()["decision"] == json!(true)
    }

    /// The record of an answer.
    async fn record(&self, answer: &Reply) -> Value {
        let path = format!("/v1/decisions/{}", answer.header("x-decision-id"));
        let record = self.test.get(&path).await;
        assert_eq!(record.status, StatusCode::OK, "{}", record.text);
        record.json()
    }

    /// Moves the clock to a moment, and waits until the time is told.
    async fn at(&self, moment: Timestamp) {
        let now = self.test.clock.now();
        let ahead = u64::try_from(moment.micros() - now.micros()).unwrap();
        self.test.clock.advance(Duration::from_micros(ahead));
        self.test.caught_up().await;
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

#[tokio::test]
async fn an_exception_is_proposed_by_one_and_confirmed_by_another() {
    let world = World::make().await;
    let test = &world.test;
    let body = world.body(Duration::from_hours(1));
    let proposed = world.post(&world.ana, PATH, &body).await;
    assert_eq!(proposed.status, StatusCode::CREATED, "{}", proposed.text);
    let shown = proposed.json();
    let id = text(&shown["id"]).to_owned();
    assert_eq!(proposed.header("location"), format!("{PATH}/{id}"));
    assert_eq!(
        (&shown["state"], &shown["proposed_by"]),
        (&json!("proposed"), &json!("ana"))
    );
    assert!(!world.may_pay("bot", 500).await, "nobody has agreed");

    let confirm = format!("{PATH}/{id}/confirm");
    let seen = json!({ "seen": shown["hash"] });
    // The one who proposed it has the role, too: it takes another person all the same.
    test.principal(
        "ana",
        PrincipalKind::Person,
        &[Role::Publisher, Role::Approver],
    )
    .await;
    let own = world.post(&world.ana, &confirm, &seen).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{}", own.text);
    assert_eq!(own.json()["policies"], json!(["remit.own-review"]));
    let machine = test
        .key_of(
            PrincipalKind::Machine,
            "robot",
            &[Role::Approver, Role::Publisher],
        )
        .await;
    let by_machine = world.post(&machine, &confirm, &seen).await;
    assert_eq!(
        by_machine.json()["policies"],
        json!(["remit.person-reviews"])
    );
    let proposed_by_machine = world.post(&machine, PATH, &body).await;
    assert_eq!(
        proposed_by_machine.json()["policies"],
        json!(["remit.person-excepts"])
    );

    let path = format!("{confirm}?wait=fleet");
    let done = world.post(&world.ben, &path, &seen).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(
        (&done.json()["state"], &done.json()["confirmed_by"]),
        (&json!("in_force"), &json!("ben"))
    );
    assert_eq!(
        done.json()["revision"].to_string(),
        done.header("remit-revision")
    );
    let again = world.post(&world.ben, &confirm, &seen).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);

    let permitted = world.pays("bot", 500).await;
    assert_eq!(
        permitted.json()["decision"],
        json!(true),
        "{}",
        permitted.text
    );
    let record = world.record(&permitted).await;
    assert_eq!(
        record["decision"]["exceptions"],
        json!([id]),
        "it is named where it changed something"
    );
    assert_eq!(record["facts"]["exceptions"][0]["policy"], "limit");
    // Neither another agent, nor what may never be relaxed.
    assert!(!world.may_pay("other", 500).await);
    assert!(!world.may_pay("bot", 50_000).await);
    let unchanged = world.pays("bot", 50).await;
    let record = world.record(&unchanged).await;
    assert_eq!(
        record["decision"].get("exceptions"),
        None,
        "it changed nothing"
    );

    let ended = world
        .post(
            &world.ana,
            &format!("{PATH}/{id}/end?wait=fleet"),
            &Value::Null,
        )
        .await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    assert_eq!(
        (&ended.json()["state"], &ended.json()["ended_by"]),
        (&json!("ended"), &json!("ana"))
    );
    assert!(!world.may_pay("bot", 500).await);
    let late = world
        .post(&world.ben, &format!("{PATH}/{id}/end"), &Value::Null)
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
    let listed = test.get(&format!("{PATH}?policy=limit")).await.json();
    assert_eq!(listed["exceptions"], json!([world.shown(&id).await]));
    assert_eq!(listed["exceptions"][0]["state"], "ended");
    let none = test.get(&format!("{PATH}?policy=ceiling")).await.json();
    assert_eq!(none["exceptions"], json!([]));
    let records = test
        .get("/v1/admin/actions?action=confirm_exception&verdict=permit")
        .await
        .json();
    assert_eq!(records["actions"][0]["details"]["hash"], shown["hash"]);
    assert_eq!(records["actions"][0]["principal"], "ben");
}

/// Two accounts of one person are one, and so is a machine of theirs.
#[tokio::test]
async fn a_second_account_confirms_nothing() {
    let world = World::make().await;
    let test = &world.test;
    let all = [Role::Admin, Role::Approver];
    let second = test.key_of(PrincipalKind::Person, "ana-2", &all).await;
    let behind = json!({ "kind": "person", "roles": ["admin", "approver"], "person": "ana" });
    let put = test.as_key(&test.key, Method::PUT, "/v1/principals/ana-2", &behind);
    let put = put.await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let proposed = world.propose(&world.body(Duration::from_hours(1))).await;
    let confirm = format!("{PATH}/{}/confirm", text(&proposed["id"]));
    let seen = json!({ "seen": proposed["hash"] });
    let own = world.post(&second, &confirm, &seen).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{}", own.text);
    assert_eq!(own.json()["policies"], json!(["remit.own-review"]));
    // Nor a kill lifted, nor break-glass given.
    let kill = json!({ "target": { "kind": "tenant" }, "reason": "x" });
    let kill = world.post(&test.key, "/v1/kills", &kill).await.json();
    let kill = format!("/v1/kills/{}/lift", text(&kill["id"]));
    let operator = [Role::Operator, Role::Publisher, Role::Approver];
    test.principal("ana", PrincipalKind::Person, &operator)
        .await;
    let lift = world
        .post(&world.ana, &kill, &json!({ "reason": "x" }))
        .await;
    assert!(lift.status.is_success(), "{}", lift.text);
    let own = world
        .post(&second, &format!("{kill}/confirm"), &json!({}))
        .await;
    assert_eq!(
        own.json()["policies"],
        json!(["remit.own-review"]),
        "{}",
        own.text
    );
    let done = world.confirm(&proposed).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}

/// The end is a moment: one microsecond before it counts not, at it the policy counts.
#[tokio::test]
async fn it_is_over_to_the_microsecond() {
    let world = World::make().await;
    let lasts = Duration::from_hours(1);
    let until = world.test.clock.now().plus(lasts);
    let id = world.relax(&world.body(lasts)).await;
    world.at(Timestamp::from_micros(until.micros() - 1)).await;
    assert!(world.may_pay("bot", 500).await);
    assert_eq!(world.shown(&id).await["state"], "in_force");
    world.at(until).await;
    assert!(!world.may_pay("bot", 500).await);
    assert_eq!(world.shown(&id).await["state"], "over");
    // Nothing that happens afterwards brings it back.
    world
        .test
        .principal("late", PrincipalKind::Person, &[])
        .await;
    assert!(!world.may_pay("bot", 500).await);
}

#[tokio::test]
async fn a_proposal_lapses_after_seven_days() {
    let world = World::make().await;
    let proposed = world
        .propose(&world.body(Duration::from_hours(24 * 30)))
        .await;
    let lapses_at: Timestamp = text(&proposed["lapses_at"]).parse().unwrap();
    let week = world.test.clock.now().plus(Duration::from_hours(24 * 7));
    assert_eq!(lapses_at, week);
    world.at(lapses_at).await;
    let late = world.confirm(&proposed).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
    let id = text(&proposed["id"]);
    assert_eq!(world.shown(id).await["state"], "lapsed");
    assert!(!world.may_pay("bot", 500).await);
}
