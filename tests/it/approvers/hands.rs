//! Nobody approves what they have a hand in, by whichever road.

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use serde_json::{Value, json};

use super::{World, payment, refused, task};

/// Checks that somebody cannot approve a request, is told why, and that another can.
async fn cannot(world: &World, key: &str, id: &str) {
    let shown = world.shown_to(key, id).await;
    assert_eq!(shown["mine"]["may"], false, "{shown:#}");
    let why = shown["mine"]["why"].as_str().unwrap();
    assert!(why.contains("a hand in it"), "{why}");
    let reply = world.approve(key, id).await;
    refused(&reply, StatusCode::FORBIDDEN, "remit.own-approval");
    assert!(
        reply.json()["why"]
            .as_str()
            .unwrap()
            .contains("a hand in it"),
        "{}",
        reply.text
    );
    assert_eq!(world.shown(id).await["state"], "pending");
    let reply = world.approve(&world.cy, id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn not_whoever_asked_for_it() {
    let world = World::make().await;
    let id = world.requested_by(&world.ben, &payment(None)).await;
    // They may refuse it; somebody of another group may not, nor anybody once it is decided.
    let may = async |key: &str| {
        let mine = world.shown_to(key, &id).await["mine"].clone();
        (mine["may"] == true, mine["may_deny"] == true)
    };
    assert_eq!(may(&world.ben).await, (false, true));
    assert_eq!(may(&world.cy).await, (true, true));
    assert_eq!(may(&world.dan).await, (false, false));
    cannot(&world, &world.ben, &id).await;
    assert_eq!(may(&world.ben).await, (false, false));
}

#[tokio::test]
async fn not_whoever_joined_it() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    assert_eq!(
        world.requested_by(&world.ben, &payment(None)).await,
        id,
        "it is joined"
    );
    cannot(&world, &world.ben, &id).await;
}

#[tokio::test]
async fn not_by_a_second_account() {
    let world = World::make().await;
    let second = world.person("ben-2", &[Role::Approver]).await;
    let put = world
        .behind("ben-2", "person", &json!(["approver"]), "ben")
        .await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    assert_eq!(put.json()["person"], "ben");
    let members = json!({ "members": [{ "principal": "ben-2" }, { "principal": "cy" }] });
    world.group("finance", &members).await;
    let id = world.requested_by(&world.ben, &payment(None)).await;
    cannot(&world, &second, &id).await;
}

#[tokio::test]
async fn not_the_person_behind_the_agent() {
    let world = World::make().await;
    let put = world.behind("bot", "machine", &json!([]), "ben").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let id = world.requested(&payment(None)).await;
    cannot(&world, &world.ben, &id).await;
}

#[tokio::test]
async fn not_whoever_opened_the_task_or_one_above_it() {
    let world = World::make().await;
    let roles = [Role::Approver, Role::Operator];
    world
        .test
        .principal("ben", PrincipalKind::Person, &roles)
        .await;
    let opened = world.task(&world.ben, &task()).await;
    let id = world.requested(&payment(Some(&opened))).await;
    cannot(&world, &world.ben, &id).await;

    let world = World::make().await;
    world
        .test
        .principal("ben", PrincipalKind::Person, &roles)
        .await;
    world.agent("boss", Some("boss")).await;
    let mut above = task();
    above["agent"]["id"] = json!("boss");
    above["may_delegate"] = json!(true);
    let above = world.task(&world.ben, &above).await;
    let mut below = task();
    below["parent"] = json!(above);
    let below = world.task(&world.test.key, &below).await;
    let id = world.requested(&payment(Some(&below))).await;
    cannot(&world, &world.ben, &id).await;
}

#[tokio::test]
async fn not_the_person_behind_an_agent_of_the_chain() {
    let world = World::make().await;
    world.agent("boss", Some("boss")).await;
    let put = world.behind("boss", "machine", &json!([]), "ben").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let mut above = task();
    above["agent"]["id"] = json!("boss");
    above["may_delegate"] = json!(true);
    let above = world.task(&world.test.key, &above).await;
    let mut below = task();
    below["parent"] = json!(above);
    let below = world.task(&world.test.key, &below).await;
    let id = world.requested(&payment(Some(&below))).await;
    cannot(&world, &world.ben, &id).await;
}

#[tokio::test]
async fn not_the_person_for_whom_it_is_done() {
    let world = World::make().await;
    let mut body = task();
    body["on_behalf_of"] = json!({ "type": "Person", "id": "ben" });
    let opened = world.task(&world.test.key, &body).await;
    let id = world.requested(&payment(Some(&opened))).await;
    cannot(&world, &world.ben, &id).await;
}

#[tokio::test]
async fn not_by_a_delegate() {
    let world = World::make().await;
    let body = json!({ "to": "dan", "until": "2026-01-06T00:00:00Z", "reason": "On leave" });
    let path = "/v1/approver-delegations/ben";
    let put = world.send(&world.ben, Method::PUT, path, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let id = world.requested_by(&world.ben, &payment(None)).await;
    cannot(&world, &world.dan, &id).await;
}

#[tokio::test]
async fn not_by_another_account_of_a_delegate() {
    let world = World::make().await;
    let second = world.person("dan-2", &[Role::Approver]).await;
    let roles = json!(["approver"]);
    let put = world.behind("dan-2", "person", &roles, "dan").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let body = json!({ "to": "dan", "until": "2026-01-06T00:00:00Z", "reason": "On leave" });
    let path = "/v1/approver-delegations/ben";
    let put = world.send(&world.ben, Method::PUT, path, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let members = json!({ "members": [{ "principal": "dan-2" }, { "principal": "cy" }] });
    world.group("finance", &members).await;
    let id = world.requested_by(&world.ben, &payment(None)).await;
    cannot(&world, &second, &id).await;
}

#[tokio::test]
async fn whoever_has_a_hand_in_it_does_not_choose_who_answers() {
    let world = World::make().await;
    let body = json!({ "members": [{ "principal": "ben" }, { "principal": "cy" }], "escalates_to": "board",
        "escalate_after": 60 });
    world.group("finance", &body).await;
    let id = world.requested_by(&world.ben, &payment(None)).await;
    let reply = world.answer(&world.ben, &id, "escalate", Value::Null).await;
    refused(&reply, StatusCode::FORBIDDEN, "remit.own-approval");
    let reply = world.answer(&world.cy, &id, "escalate", Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn not_a_machine_unless_a_policy_of_the_tenant_permits_it() {
    let permit = "@id(\"runner\") @owner(\"tests\") permit (principal == Machine::\"runner\", action == Action::\"approve_request\", \
        resource) when { context has effect && context.effect == \"pay\" && context has amount && context.amount <= 10000 };";
    for (admin, status) in [("", StatusCode::FORBIDDEN), (permit, StatusCode::OK)] {
        let world = World::governed(admin).await;
        let runner = world
            .test
            .key_of(PrincipalKind::Machine, "runner", &[Role::Approver])
            .await;
        world
            .group(
                "finance",
                &json!({ "members": [{ "principal": "runner" }] }),
            )
            .await;
        let id = world.requested(&payment(None)).await;
        let reply = world.approve(&runner, &id).await;
        assert_eq!(reply.status, status, "{}", reply.text);
    }
}

/// What a tenant permits to whoever answers, and to every machine.
const ANYBODY: &str = "@id(\"anybody\") @owner(\"tests\") permit (principal, action == Action::\"approve_request\", resource);";

/// A group of finance with machines in it, and with Cy.
async fn with_machines(world: &World, names: &[&str]) {
    let members = names.iter().chain(&["cy"]);
    let members: Vec<Value> = members.map(|name| json!({ "principal": name })).collect();
    world.group("finance", &json!({ "members": members })).await;
}

#[tokio::test]
async fn not_the_agent_itself_whatever_a_policy_of_the_tenant_permits() {
    let world = World::governed(ANYBODY).await;
    let machine = PrincipalKind::Machine;
    let bot = world.test.key_of(machine, "bot", &[Role::Approver]).await;
    let runner = world.test.key_of(machine, "runner", &[Role::Approver]);
    let runner = runner.await;
    with_machines(&world, &["bot", "runner"]).await;
    // It asks by itself, or another asks for it.
    for asks in [&bot, &world.test.key] {
        let id = world.requested_by(asks, &payment(None)).await;
        cannot(&world, &bot, &id).await;
    }
    // A machine that has no hand in it may, by that policy.
    let id = world.requested(&payment(None)).await;
    let reply = world.approve(&runner, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn not_an_agent_whose_task_its_task_is_a_part_of() {
    let world = World::governed(ANYBODY).await;
    world.agent("boss", Some("boss")).await;
    let machine = PrincipalKind::Machine;
    let boss = world.test.key_of(machine, "boss", &[Role::Approver]).await;
    with_machines(&world, &["boss"]).await;
    let mut above = task();
    above["agent"]["id"] = json!("boss");
    above["may_delegate"] = json!(true);
    let above = world.task(&world.test.key, &above).await;
    let mut below = task();
    below["parent"] = json!(above);
    let below = world.task(&world.test.key, &below).await;
    let id = world.requested(&payment(Some(&below))).await;
    cannot(&world, &boss, &id).await;
    // Of what is no part of its task it may, by the policy of the tenant.
    let id = world.requested(&payment(None)).await;
    let reply = world.approve(&boss, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn a_policy_of_the_tenant_permits_nobody_their_own() {
    let world = World::governed(ANYBODY).await;
    let id = world.requested_by(&world.ben, &payment(None)).await;
    cannot(&world, &world.ben, &id).await;
    // Dan stands for no group that is wanted, and is permitted by that policy nevertheless.
    let id = world.requested_by(&world.dan, &payment(None)).await;
    let reply = world.approve(&world.dan, &id).await;
    refused(&reply, StatusCode::FORBIDDEN, "remit.own-approval");
    let reply = world.approve(&world.ben, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn whoever_has_a_hand_in_it_may_refuse_it() {
    for admin in ["", ANYBODY] {
        let world = World::governed(admin).await;
        let id = world.requested_by(&world.ben, &payment(None)).await;
        let reply = world.approve(&world.ben, &id).await;
        refused(&reply, StatusCode::FORBIDDEN, "remit.own-approval");
        let reply = world.deny(&world.ben, &id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.json()["state"], "denied", "{}", reply.text);
        assert_eq!(world.shown(&id).await["state"], "denied");
        let late = world.approve(&world.cy, &id).await;
        refused(&late, StatusCode::CONFLICT, "");
        assert_eq!(world.ask_by(&payment(None), &id).await["decision"], false);
    }
}

#[tokio::test]
async fn only_who_stands_for_a_group_that_is_wanted() {
    let world = World::make().await;
    let reader = world.person("eve", &[Role::Reader, Role::Auditor]).await;
    world
        .group(
            "finance",
            &json!({ "members": [{ "principal": "ben" }, { "principal": "eve" }] }),
        )
        .await;
    let id = world.requested(&payment(None)).await;
    for (key, why) in [
        (&world.dan, "you stand for none"),
        (&reader, "it takes the role `approver`"),
    ] {
        let reply = world.approve(key, &id).await;
        refused(&reply, StatusCode::FORBIDDEN, why);
        let reply = world.deny(key, &id).await;
        refused(&reply, StatusCode::FORBIDDEN, "deny_request");
    }
    // Where no group is named, any approver.
    let look = json!({
        "subject": { "type": "Agent", "id": "bot" }, "action": { "name": "look" }, "resource": { "type": "Payee", "id": "secret" },
        "context": {},
    });
    let id = world.requested(&look).await;
    assert_eq!(world.shown(&id).await["wants"], json!({ "any": 1 }));
    let reply = world.approve(&world.dan, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn whoever_answers_for_the_agent_is_its_owner() {
    let world = World::make().await;
    let look = json!({
        "subject": { "type": "Agent", "id": "bot" }, "action": { "name": "look" }, "resource": { "type": "Payee", "id": "owned" },
        "context": {},
    });
    let id = world.requested(&look).await;
    refused(
        &world.approve(&world.ben, &id).await,
        StatusCode::FORBIDDEN,
        "you stand for none",
    );
    let roles = [Role::Admin, Role::Approver];
    world
        .test
        .principal("ada", PrincipalKind::Person, &roles)
        .await;
    let reply = world.approve(&world.ada, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn a_policy_of_the_tenant_separates_more() {
    let forbid = "@id(\"not-the-owner\") @owner(\"tests\") forbid (principal, action == Action::\"approve_request\", resource) \
        when { context has owner && context.owner };";
    let world = World::governed(forbid).await;
    let roles = [Role::Admin, Role::Approver];
    world
        .test
        .principal("ada", PrincipalKind::Person, &roles)
        .await;
    world
        .group(
            "finance",
            &json!({ "members": [{ "principal": "ada" }, { "principal": "ben" }] }),
        )
        .await;
    let id = world.requested(&payment(None)).await;
    refused(
        &world.approve(&world.ada, &id).await,
        StatusCode::FORBIDDEN,
        "not-the-owner",
    );
    assert_eq!(world.approve(&world.ben, &id).await.status, StatusCode::OK);
}
