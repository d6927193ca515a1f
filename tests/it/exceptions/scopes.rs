//! `exception_scope`: what is decided differs only inside the scope, before the end, for the named control.

use std::fmt::Write;

use super::*;
use crate::tasks::{World as Tasks, id_of, pay, question, reason, task};

/// Every member of a scope: absent, the one that is asked about, another.
const ACTIONS: [Option<&str>; 3] = [None, Some("pay"), Some("look")];
const AGENTS: [Option<&str>; 3] = [None, Some("a"), Some("b")];
const ENVIRONMENTS: [Option<&str>; 3] = [None, Some("dev"), Some("live")];
const RESOURCES: [Option<&str>; 3] = [None, Some("x"), Some("y")];

/// One scope, for one control of its own, until one of two moments.
struct Relaxed {
    control: usize,
    action: Option<&'static str>,
    agent: Option<&'static str>,
    environment: Option<&'static str>,
    resource: Option<&'static str>,
    late: bool,
}

fn all() -> Vec<Relaxed> {
    let mut all = Vec::new();
    for action in ACTIONS {
        for agent in AGENTS {
            for environment in ENVIRONMENTS {
                for resource in RESOURCES {
                    let control = all.len();
                    all.push(Relaxed {
                        control,
                        action,
                        agent,
                        environment,
                        resource,
                        late: control % 2 == 1,
                    });
                }
            }
        }
    }
    // The first is no scope: it has no member, and stands for a control that nothing relaxes.
    all
}

fn controls(count: usize) -> Bundle {
    let mut policies = "@id(\"open\") permit (principal, action, resource);\n".to_owned();
    for control in 0..count {
        writeln!(
            policies,
            "@id(\"control-{control}\") forbid (principal, action, resource) when {{ context has amount && context.amount == {control} }};"
        )
        .unwrap();
    }
    bundle_of(&policies)
}

impl Relaxed {
    fn body(&self, ends: [Timestamp; 2]) -> Value {
        let mut scope = json!({});
        let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
        for (member, value) in [
            ("action", self.action.map(|name| json!(name))),
            ("agent", self.agent.map(|id| uid("Agent", id))),
            ("environment", self.environment.map(|name| json!(name))),
            ("resource", self.resource.map(|id| uid("Account", id))),
        ] {
            if let Some(value) = value {
                scope[member] = value;
            }
        }
        json!({
            "policy": format!("control-{}", self.control), "scope": scope, "owner": "maya", "reason": "x",
            "compensating": "x", "until": ends[usize::from(self.late)],
        })
    }

    fn is_for(&self, action: &str, agent: &str, environment: &str, resource: &str) -> bool {
        let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        self.control > 0
            && fits(self.action, action)
            && fits(self.agent, agent)
            && fits(self.environment, environment)
            && fits(self.resource, resource)
    }
}

#[tokio::test]
async fn exception_scope() {
    let mut world = World::make().await;
    let all = all();
    world.test.put(&controls(all.len())).await;
    let now = world.test.clock.now();
    let ends = [1, 2].map(|hours| now.plus(Duration::from_hours(hours)));
    for relaxed in all.iter().skip(1) {
        world.relax(&relaxed.body(ends)).await;
    }
    let live = world.test.new_key(&[Scope::Evaluate], "live", None).await;
    let keys = [("dev", world.test.key.clone()), ("live", live)];
    let (mut asked, mut permitted) = (0, 0);
    let before = |end: Timestamp| Timestamp::from_micros(end.micros() - 1);
    for moment in [now, before(ends[0]), ends[0], before(ends[1]), ends[1]] {
        if moment > world.test.clock.now() {
            world.at(moment).await;
        }
        for (environment, key) in &keys {
            for (action, agent, resource) in ["pay", "look"].into_iter().flat_map(|action| {
                let pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")];
                pairs.map(|(agent, resource)| (action, agent, resource))
            }) {
                let items = all
                    .iter()
                    .map(|relaxed| json!({ "context": { "amount": relaxed.control } }));
                let batch = json!({
                    "subject": { "type": "Agent", "id": agent }, "action": { "name": action },
                    "resource": { "type": "Account", "id": resource }, "evaluations": items.collect::<Vec<_>>(),
                });
                let reply = world.post(key, "/access/v1/evaluations", &batch).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
                let answers = reply.json()["evaluations"].as_array().unwrap().clone();
                assert_eq!(answers.len(), all.len());
                for (relaxed, answer) in all.iter().zip(answers) {
                    let expected = relaxed.is_for(action, agent, environment, resource)
                        && moment < ends[usize::from(relaxed.late)];
                    assert_eq!(
                        answer["decision"],
                        json!(expected),
                        "{action} {agent} {resource} {environment} {:?} {moment}",
                        relaxed.body(ends)
                    );
                    asked += 1;
                    permitted += usize::from(expected);
                }
            }
        }
    }
    println!(
        "exception_scope: {} exceptions, {asked} decisions, {permitted} of them changed",
        all.len() - 1
    );
    assert!(permitted > 500, "{permitted}");
}

/// A task is the scope of all below it, for everybody of its chain unless the scope names an agent.
#[tokio::test]
async fn a_task_is_a_scope_with_all_below_it() {
    let mut test = TestApp::empty(Options::default()).await;
    test.put(&crate::tasks::bundle()).await;
    let world = Tasks::over(test).await;
    let test = &world.test;
    let ana = test.person("ana", &[Role::Publisher], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Approver], Scope::ALL).await;
    let open = async |body: Value| {
        let opened = test
            .as_key(&world.ops, Method::POST, "/v1/tasks", &body)
            .await;
        assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
        id_of(&opened)
    };
    let ask = async |agent: &str, task: &str| {
        let asked = question(agent, &pay(), Some(task));
        let reply = test.post("/access/v1/evaluation", asked).await;
        reason(&reply)
    };
    let root = open(with(task("boss"), "may_delegate", json!(true))).await;
    let child = open(with(task("bot"), "parent", json!(root))).await;
    let other = open(task("boss")).await;
    let except = async |scope: Value| {
        let body = json!({
            "policy": "boss-pays-not", "scope": scope, "owner": "ana", "reason": "x", "compensating": "x",
            "until": test.clock.now().plus(Duration::from_mins(5)),
        });
        let made = test.as_key(&ana, Method::POST, PATH, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let path = format!("{PATH}/{}", id_of(&made));
        let seen = json!({ "seen": made.json()["hash"] });
        let done = test
            .as_key(&ben, Method::POST, &format!("{path}/confirm"), &seen)
            .await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text);
        path
    };
    let all = async || {
        let mut all = Vec::new();
        for (agent, task) in [("boss", &root), ("bot", &child), ("boss", &other)] {
            all.push(ask(agent, task).await);
        }
        all
    };
    let (no, hop, yes) = ("policy_forbid", "delegation_denied", "policy_permit");
    assert_eq!(all().await, [no, hop, no]);
    let boss = json!({ "type": "Agent", "id": "boss" });
    for (scope, expected) in [
        (json!({ "task": root }), [yes, yes, no]),
        (json!({ "task": child }), [no, yes, no]),
        (json!({ "task": root, "agent": boss }), [yes, hop, no]),
        (json!({ "agent": boss }), [yes, hop, yes]),
    ] {
        let path = except(scope.clone()).await;
        assert_eq!(all().await, expected, "{scope}");
        let ended = test
            .as_key(&ana, Method::POST, &format!("{path}/end"), &Value::Null)
            .await;
        assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
        assert_eq!(all().await, [no, hop, no]);
    }
}
