//! Groups of approvers and delegations: kept, checked, and never joined alone where a second person is demanded.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use serde_json::{Value, json};

use super::{World, payment, refused};
use crate::second_person::demand;

#[tokio::test]
async fn a_group_is_kept_as_it_was_put() {
    let world = World::make().await;
    let body = json!({
        "members": [{ "principal": "cy", "until": "2026-02-01T00:00:00.000000Z" }, { "principal": "ben" }],
        "escalates_to": "board", "escalate_after": 3_600, "most_open": 5, "most_per_hour": 6,
    });
    let path = "/v1/approver-groups/finance";
    let stale = world
        .test
        .request_with(&world.ada, Method::PUT, path)
        .header("if-match", "\"1\"");
    assert_eq!(
        world.test.send(stale, &body).await.status,
        StatusCode::PRECONDITION_FAILED
    );
    let put = world.send(&world.ada, Method::PUT, path, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let got = world.test.get(path).await;
    assert_eq!(got.json()["members"][0]["principal"], "ben");
    assert_eq!(got.json(), put.json());
    let unchanged = world
        .test
        .request(Method::GET, path)
        .header("if-none-match", got.header("etag"));
    assert_eq!(
        world.test.send(unchanged, "").await.status,
        StatusCode::NOT_MODIFIED
    );
    let listed = world.test.get("/v1/approver-groups").await.json();
    assert_eq!(listed["groups"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed["groups"][1], got.json());
    let gone = world
        .send(&world.ada, Method::DELETE, path, &Value::Null)
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    assert_eq!(world.test.get(path).await.status, StatusCode::NOT_FOUND);
    let gone = world
        .send(&world.ada, Method::DELETE, path, &Value::Null)
        .await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.text);
}

#[tokio::test]
async fn bad_groups_are_told_what_is_wrong() {
    let world = World::make().await;
    let many: Vec<Value> = (0..201)
        .map(|n| json!({ "principal": format!("p{n}") }))
        .collect();
    for (name, body, why) in [
        ("any", json!({ "members": [] }), "stands for any approver"),
        ("-a", json!({ "members": [] }), "the name of a group"),
        (
            "a",
            json!({ "members": [{ "principal": "nobody" }] }),
            "no enabled principal",
        ),
        (
            "a",
            json!({ "members": [{ "principal": "ben" }, { "principal": "ben" }] }),
            "twice",
        ),
        ("a", json!({ "members": many }), "at most 200"),
        (
            "a",
            json!({ "members": [], "escalates_to": "board" }),
            "go together",
        ),
        (
            "a",
            json!({ "members": [], "escalates_to": "a", "escalate_after": 60 }),
            "another group",
        ),
        (
            "a",
            json!({ "members": [], "escalates_to": "b", "escalate_after": 60 }),
            "there is no group",
        ),
        (
            "a",
            json!({ "members": [], "escalates_to": "board", "escalate_after": 59 }),
            "escalate_after",
        ),
        ("a", json!({ "members": [], "most_open": 0 }), "most_open"),
        (
            "a",
            json!({ "members": [], "most_per_hour": 10_001 }),
            "most_per_hour",
        ),
        ("a", json!({ "members": [], "quorum": 2 }), "quorum"),
    ] {
        let path = format!("/v1/approver-groups/{name}");
        let put = world.send(&world.ada, Method::PUT, &path, &body).await;
        refused(&put, StatusCode::BAD_REQUEST, why);
    }
}

#[tokio::test]
async fn nobody_joins_a_group_alone_where_a_second_person_is_demanded() {
    let world = World::make().await;
    let all = [Role::Admin, Role::Approver];
    world
        .test
        .principal("ada", PrincipalKind::Person, &all)
        .await;
    world.person("ada-2", &[Role::Approver]).await;
    let put = world
        .behind("ada-2", "person", &json!(["approver"]), "ada")
        .await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    demand(&world.test, true).await;
    for name in ["ada", "ada-2"] {
        let body = json!({ "members": [{ "principal": "ben" }, { "principal": name }] });
        let put = world
            .send(
                &world.ada,
                Method::PUT,
                "/v1/approver-groups/finance",
                &body,
            )
            .await;
        refused(&put, StatusCode::FORBIDDEN, "remit.own-group");
    }
    // Nor is a second account cut loose alone, nor somebody's part taken.
    let cut = json!({ "kind": "person", "roles": ["approver"], "person": "" });
    let put = world
        .send(&world.ada, Method::PUT, "/v1/principals/ada-2", &cut)
        .await;
    refused(&put, StatusCode::FORBIDDEN, "remit.own-roles");
    let taken = json!({ "to": "ada-2", "until": "2026-01-06T00:00:00Z", "reason": "x" });
    let put = world
        .send(
            &world.ada,
            Method::PUT,
            "/v1/approver-delegations/ben",
            &taken,
        )
        .await;
    refused(&put, StatusCode::FORBIDDEN, "remit.own-part");
    let body = json!({ "members": [{ "principal": "ben" }, { "principal": "dan" }] });
    world.group("finance", &body).await;
}

/// Whoever answers in the place of another comes to a say with them.
#[tokio::test]
async fn nobody_puts_whom_they_stand_in_for_into_a_group_alone() {
    let world = World::make().await;
    let all = [Role::Admin, Role::Approver];
    let person = PrincipalKind::Person;
    world.test.principal("ada", person, &all).await;
    let fay = world.person("fay", &[Role::Approver]).await;
    let part = json!({ "to": "ada", "until": "2026-01-06T00:00:00Z", "reason": "On leave" });
    let path = "/v1/approver-delegations/fay";
    let put = world.send(&fay, Method::PUT, path, &part).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    world
        .group("heirs", &json!({ "members": [{ "principal": "fay" }] }))
        .await;
    demand(&world.test, true).await;
    let members = json!([{ "principal": "ben" }, { "principal": "fay" }]);
    let joined = json!({ "members": members });
    let followed = json!({ "members": [{ "principal": "ben" }], "escalates_to": "heirs", "escalate_after": 60 });
    for body in [joined, followed] {
        let path = "/v1/approver-groups/finance";
        let put = world.send(&world.ada, Method::PUT, path, &body).await;
        refused(&put, StatusCode::FORBIDDEN, "remit.own-group");
    }
}

#[tokio::test]
async fn nobody_comes_after_a_group_alone_nor_by_a_machine() {
    let world = World::make().await;
    let admin = [Role::Admin];
    let robot = world.test.key_of(PrincipalKind::Machine, "robot", &admin);
    let robot = robot.await;
    let heirs = json!({ "members": [{ "principal": "ada" }] });
    world.group("heirs", &heirs).await;
    demand(&world.test, true).await;
    let members = json!([{ "principal": "ben" }, { "principal": "cy" }]);
    let heir = json!({ "members": members, "escalates_to": "heirs", "escalate_after": 60 });
    let path = "/v1/approver-groups/finance";
    let put = world.send(&world.ada, Method::PUT, path, &heir).await;
    refused(&put, StatusCode::FORBIDDEN, "remit.own-group");
    let put = world.send(&robot, Method::PUT, path, &heir).await;
    refused(&put, StatusCode::FORBIDDEN, "remit.person-groups");
    let part = json!({ "to": "dan", "until": "2026-01-06T00:00:00Z", "reason": "x" });
    let part = world.send(&robot, Method::PUT, "/v1/approver-delegations/ben", &part);
    refused(&part.await, StatusCode::FORBIDDEN, "remit.person-groups");
    // To others it may go on.
    let other = json!({ "members": members, "escalates_to": "board", "escalate_after": 60 });
    world.group("finance", &other).await;
}

#[tokio::test]
async fn no_machine_says_who_is_behind_an_account_where_a_second_person_is_demanded() {
    let world = World::make().await;
    let robot = world
        .test
        .key_of(PrincipalKind::Machine, "robot", &[Role::Admin])
        .await;
    let put = async |body: Value| {
        world
            .send(&robot, Method::PUT, "/v1/principals/dan", &body)
            .await
    };
    let behind = json!({ "kind": "person", "roles": ["approver"], "person": "cy" });
    demand(&world.test, true).await;
    let denied = put(behind.clone()).await;
    refused(&denied, StatusCode::FORBIDDEN, "remit.person-tells-persons");
    let roles = put(json!({ "kind": "person", "roles": ["approver", "reader"] })).await;
    assert_eq!(roles.status, StatusCode::OK, "{}", roles.text);
    demand(&world.test, false).await;
    let given = put(behind).await;
    assert_eq!(given.status, StatusCode::OK, "{}", given.text);
}

#[tokio::test]
async fn a_delegation_ends_exactly() {
    let world = World::make().await;
    let path = "/v1/approver-delegations/ben";
    let body = json!({ "to": "dan", "until": "2026-01-05T10:30:00Z", "reason": "On leave" });
    let put = world.send(&world.ben, Method::PUT, path, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    assert_eq!(put.json()["in_force"], true);
    let id = world.requested(&payment(None)).await;
    let mut other = payment(None);
    other["action"]["properties"]["amount"] = json!(7);
    let second = world.requested(&other).await;
    world
        .test
        .clock
        .advance(Duration::from_mins(30) - Duration::from_micros(1));
    let reply = world.approve(&world.dan, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(world.shown(&id).await["answers"][0]["for_person"], "ben");
    world.test.clock.advance(Duration::from_micros(1));
    refused(
        &world.approve(&world.dan, &second).await,
        StatusCode::FORBIDDEN,
        "you stand for none",
    );
    assert_eq!(world.test.get(path).await.json()["in_force"], false);
    let gone = world
        .send(&world.ben, Method::DELETE, path, &Value::Null)
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    assert_eq!(world.test.get(path).await.status, StatusCode::NOT_FOUND);
}

/// What was handed on to somebody they do not hand on: their own part is what others get of them.
#[tokio::test]
async fn a_delegation_goes_no_second_hop() {
    let world = World::make().await;
    let eve = world.person("eve", &[Role::Approver]).await;
    for (key, from, to) in [(&world.ben, "ben", "dan"), (&world.dan, "dan", "eve")] {
        let path = format!("/v1/approver-delegations/{from}");
        let body = json!({ "to": to, "until": "2026-01-06T00:00:00Z", "reason": "On leave" });
        let put = world.send(key, Method::PUT, &path, &body).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    }
    let id = world.requested(&payment(None)).await;
    let reply = world.approve(&eve, &id).await;
    refused(&reply, StatusCode::FORBIDDEN, "you stand for none");
    let reply = world.deny(&eve, &id).await;
    refused(&reply, StatusCode::FORBIDDEN, "deny_request");
    let reply = world.approve(&world.dan, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    // Of the board, which is Dan's own part, she answers.
    let mut large = payment(None);
    large["resource"]["id"] = json!("large");
    let id = world.requested(&large).await;
    let reply = world.approve(&eve, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = world.shown(&id).await["answers"][0].clone();
    assert_eq!(answer["for_person"], "dan", "{answer}");
    assert_eq!(answer["groups"], json!(["board"]), "{answer}");
}

/// Nobody answers for a group that is gone; whoever is in it when it is made again does, also of what waited.
#[tokio::test]
async fn what_waits_for_a_group_that_is_gone_waits_until_it_is_made_again() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let path = "/v1/approver-groups/finance";
    let gone = world.send(&world.ada, Method::DELETE, path, &Value::Null);
    let gone = gone.await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    for key in [&world.ben, &world.cy, &world.dan] {
        let reply = world.approve(key, &id).await;
        refused(&reply, StatusCode::FORBIDDEN, "you stand for none");
    }
    // It is asked for as before.
    let mut other = payment(None);
    other["action"]["properties"]["amount"] = json!(7);
    let second = world.requested(&other).await;
    assert_eq!(world.shown(&second).await["wants"], json!({ "finance": 1 }));
    let members = json!({ "members": [{ "principal": "dan" }] });
    world.group("finance", &members).await;
    for id in [&id, &second] {
        let reply = world.approve(&world.ben, id).await;
        refused(&reply, StatusCode::FORBIDDEN, "you stand for none");
        let reply = world.approve(&world.dan, id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.json()["state"], "approved", "{}", reply.text);
    }
}

#[tokio::test]
async fn bad_delegations_are_told_what_is_wrong() {
    let world = World::make().await;
    world.person("eve", &[Role::Reader]).await;
    world
        .test
        .key_of(PrincipalKind::Machine, "runner", &[Role::Approver])
        .await;
    let until = "2026-01-06T00:00:00Z";
    for (body, why) in [
        (
            json!({ "to": "ben", "until": until, "reason": "x" }),
            "somebody else",
        ),
        (
            json!({ "to": "eve", "until": until, "reason": "x" }),
            "with the role",
        ),
        (
            json!({ "to": "runner", "until": until, "reason": "x" }),
            "an enabled person",
        ),
        (
            json!({ "to": "nobody", "until": until, "reason": "x" }),
            "an enabled person",
        ),
        (
            json!({ "to": "dan", "until": "2026-01-05T10:00:00Z", "reason": "x" }),
            "in the future",
        ),
        (
            json!({ "to": "dan", "until": "2026-04-06T10:00:01Z", "reason": "x" }),
            "90 days",
        ),
        (
            json!({ "to": "dan", "until": until, "reason": "" }),
            "reason",
        ),
    ] {
        let put = world
            .send(
                &world.ben,
                Method::PUT,
                "/v1/approver-delegations/ben",
                &body,
            )
            .await;
        refused(&put, StatusCode::BAD_REQUEST, why);
    }
    let body = json!({ "to": "dan", "until": until, "reason": "x" });
    let put = world
        .send(
            &world.ben,
            Method::PUT,
            "/v1/approver-delegations/cy",
            &body,
        )
        .await;
    refused(&put, StatusCode::FORBIDDEN, "put_approver_delegation");
    let put = world
        .send(
            &world.test.key,
            Method::PUT,
            "/v1/approver-delegations/ben",
            &body,
        )
        .await;
    assert_eq!(
        put.status,
        StatusCode::OK,
        "an admin hands on the part of anybody: {}",
        put.text
    );
    let listed = world.test.get("/v1/approver-delegations").await.json();
    assert_eq!(listed["delegations"][0]["from"], "ben", "{listed}");
}

#[tokio::test]
async fn a_person_is_the_first_account_of_one() {
    let world = World::make().await;
    world.person("ben-2", &[Role::Approver]).await;
    world.person("ben-3", &[Role::Approver]).await;
    for person in ["nobody", "bot", "ben-2"] {
        let put = world
            .behind("ben-2", "person", &json!(["approver"]), person)
            .await;
        refused(&put, StatusCode::BAD_REQUEST, "`person`");
    }
    let roles = json!(["approver"]);
    assert_eq!(
        world.behind("ben-2", "person", &roles, "ben").await.status,
        StatusCode::OK
    );
    refused(
        &world.behind("ben-3", "person", &roles, "ben-2").await,
        StatusCode::BAD_REQUEST,
        "person",
    );
    refused(
        &world.behind("ben", "person", &roles, "cy").await,
        StatusCode::CONFLICT,
        "first account",
    );
    // Without the member it stays as it was.
    let body = json!({ "kind": "person", "roles": ["approver", "reader"] });
    let put = world
        .send(&world.test.key, Method::PUT, "/v1/principals/ben-2", &body)
        .await;
    assert_eq!(put.json()["person"], "ben", "{}", put.text);
    assert_eq!(
        world.test.get("/v1/principals/ben-2").await.json()["person"],
        "ben"
    );
    let put = world.behind("ben-2", "person", &roles, "").await;
    assert_eq!(put.json()["person"], Value::Null, "{}", put.text);
}
