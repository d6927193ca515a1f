//! The settings over HTTP: demanded by one, dropped by two.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{KeyId, PrincipalKind, Role};
use remit_store::{Change, Scope};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use serde_json::json;

use super::{demand, disable};
use crate::drafts::refused;

const SETTINGS: &str = "/v1/settings";

#[tokio::test]
async fn to_demand_it_is_done_by_one_and_to_drop_it_by_two() {
    let test = TestApp::start(&pack("starter")).await;
    let admin = [Role::Admin];
    let ana = test.key_of(PrincipalKind::Person, "ana", &admin).await;
    let too = test.key_of(PrincipalKind::Person, "ana", &admin).await;
    let eve = test.key_of(PrincipalKind::Person, "eve", &admin).await;
    let ben = test
        .key_of(PrincipalKind::Person, "ben", &[Role::Approver])
        .await;
    let max = test
        .key_of(PrincipalKind::Person, "max", &[Role::Author])
        .await;
    let robot = test.key_of(PrincipalKind::Machine, "robot", &admin).await;
    let put = async |key: &str, tag: &str, second_person: bool| {
        let mut request = test.request_with(key, Method::PUT, SETTINGS);
        if !tag.is_empty() {
            request = request.header("if-match", tag);
        }
        test.send(request, json!({ "second_person": second_person }))
            .await
    };
    let confirm = async |key: &str, second_person: bool| {
        let request = test.request_with(key, Method::POST, "/v1/settings/confirm");
        test.send(request, json!({ "second_person": second_person }))
            .await
    };
    let first = test.get(SETTINGS).await;
    assert_eq!(first.json(), json!({ "second_person": false }));
    let unsaid = put(&ana, "", true).await;
    refused(
        &unsaid,
        StatusCode::PRECONDITION_REQUIRED,
        "precondition-required",
    );
    let stale = put(&ana, "\"99\"", true).await;
    refused(&stale, StatusCode::PRECONDITION_FAILED, "stale-revision");
    refused(
        &put(&max, "*", true).await,
        StatusCode::FORBIDDEN,
        "not-permitted",
    );
    let request = test.request(Method::PUT, SETTINGS).header("if-match", "*");
    let invalid = test.send(request, json!({ "second_person": 1 })).await;
    refused(&invalid, StatusCode::BAD_REQUEST, "invalid-request");

    let on = put(&ana, first.header("etag"), true).await;
    assert_eq!(on.status, StatusCode::OK, "{}", on.text);
    assert_eq!(on.json(), json!({ "second_person": true }));
    let tag = on.header("etag").to_owned();
    assert_ne!(tag, first.header("etag"));
    refused(
        &confirm(&eve, false).await,
        StatusCode::CONFLICT,
        "conflict",
    );

    let asked = put(&ana, &tag, false).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    assert_eq!(asked.json()["pending"]["asked_by"], "ana");
    let held = test.get(SETTINGS).await.json();
    assert_eq!(held["second_person"], true, "nothing is dropped yet");
    assert_eq!(held["pending"], asked.json()["pending"]);
    for (key, why) in [
        (&ana, "remit.own-review"),
        (&too, "remit.own-review"),
        (&robot, "remit.person-reviews"),
    ] {
        let problem = refused(
            &confirm(key, false).await,
            StatusCode::FORBIDDEN,
            "not-permitted",
        );
        assert_eq!(problem["policies"], json!([why]));
    }
    refused(
        &confirm(&max, false).await,
        StatusCode::FORBIDDEN,
        "not-permitted",
    );
    refused(&confirm(&ben, true).await, StatusCode::CONFLICT, "conflict");

    // Taken back, and asked again too long ago.
    let back = put(&ana, &tag, true).await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text);
    assert_eq!(
        test.get(SETTINGS).await.json(),
        json!({ "second_person": true })
    );
    refused(
        &confirm(&ben, false).await,
        StatusCode::CONFLICT,
        "conflict",
    );
    put(&ana, &tag, false).await;
    test.clock.advance(Duration::from_hours(24));
    test.caught_up().await;
    refused(
        &confirm(&ben, false).await,
        StatusCode::CONFLICT,
        "conflict",
    );
    assert_eq!(
        test.get(SETTINGS).await.json(),
        json!({ "second_person": true })
    );

    put(&ana, &tag, false).await;
    let (left, right) = tokio::join!(confirm(&ben, false), confirm(&eve, false));
    let mut statuses = [left.status, right.status];
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::OK, StatusCode::CONFLICT],
        "{} {}",
        left.text,
        right.text
    );
    assert_eq!(
        test.get(SETTINGS).await.json(),
        json!({ "second_person": false })
    );
    let page = test
        .get("/v1/admin/actions?action=confirm_settings&verdict=permit")
        .await;
    let made = page.json()["actions"].as_array().unwrap().clone();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["details"]["asked_by"], "ana");
}

#[tokio::test]
async fn where_it_is_demanded_nobody_changes_their_own_roles() {
    let test = TestApp::start(&pack("starter")).await;
    let ana = test
        .key_of(PrincipalKind::Person, "ana", &[Role::Admin])
        .await;
    let put = async |who: &str, roles: &[Role]| {
        let path = format!("/v1/principals/{who}");
        let request = test.request_with(&ana, Method::PUT, &path);
        test.send(request, json!({ "kind": "person", "roles": roles }))
            .await
    };
    let own = put("ana", &[Role::Admin, Role::Author]).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text);
    demand(&test, true).await;
    let own = put("ana", &[Role::Admin, Role::Approver]).await;
    let problem = refused(&own, StatusCode::FORBIDDEN, "not-permitted");
    assert_eq!(problem["policies"], json!(["remit.own-roles"]));
    let other = put("ben", &[Role::Approver]).await;
    assert_eq!(other.status, StatusCode::OK, "{}", other.text);
}

/// Two have to agree, so both have to be there.
#[tokio::test]
async fn what_is_asked_falls_with_whoever_asked() {
    let test = TestApp::start(&pack("starter")).await;
    let admin = [Role::Admin];
    let ana = test.key_of(PrincipalKind::Person, "ana", &admin).await;
    let ben = test
        .key_of(PrincipalKind::Person, "ben", &[Role::Approver])
        .await;
    let spare = test.key_of(PrincipalKind::Person, "ana", &admin).await;
    let unbound = test.new_key(&[Scope::Keys], "dev", None).await;
    demand(&test, true).await;
    let ask = async |key: &str| {
        let request = test
            .request_with(key, Method::PUT, SETTINGS)
            .header("if-match", "*");
        let asked = test.send(request, json!({ "second_person": false })).await;
        assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    };
    let confirm = async || {
        let request = test.request_with(&ben, Method::POST, "/v1/settings/confirm");
        test.send(request, json!({ "second_person": false })).await
    };
    let gone = async || {
        let problem = refused(&confirm().await, StatusCode::CONFLICT, "conflict");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("may not any more")
        );
    };
    // A machine does not ask, not even one with every role.
    let request = test
        .request_with(&unbound, Method::PUT, SETTINGS)
        .header("if-match", "*");
    let asked = test.send(request, json!({ "second_person": false })).await;
    let problem = refused(&asked, StatusCode::FORBIDDEN, "not-permitted");
    assert_eq!(problem["policies"], json!(["remit.person-asks"]));
    // Another role.
    ask(&ana).await;
    test.principal("ana", PrincipalKind::Person, &[Role::Reader])
        .await;
    gone().await;
    // Disabled.
    test.principal("ana", PrincipalKind::Person, &admin).await;
    disable(&test, "ana").await;
    gone().await;
    // With a key that was revoked since.
    test.principal("ana", PrincipalKind::Person, &admin).await;
    ask(&spare).await;
    let id: KeyId = spare.split('_').nth(2).unwrap().parse().unwrap();
    test.store
        .revoke_key(test.tenant, id, None, Change::default())
        .await
        .unwrap();
    test.caught_up().await;
    gone().await;
    // And as it should be.
    test.principal("ana", PrincipalKind::Person, &admin).await;
    ask(&ana).await;
    let done = confirm().await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}
