//! The `system` bundle: what each role may do, and what a tenant's own policies make of it.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Access;
use remit_core::{Bundle, Role, Source};
use remit_store::Scope;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use serde_json::{Value, json};

use crate::serve::Server;

const EVERY: &[Scope] = Scope::ALL;

fn admin(text: &str) -> Vec<Source> {
    vec![Source {
        file: "admin/own.cedar".to_owned(),
        text: text.to_owned(),
    }]
}

/// The starter bundle with policies of the administration.
fn governed(text: &str) -> Bundle {
    Bundle {
        admin: admin(text),
        ..pack("starter")
    }
}

fn body(bundle: &Bundle) -> Value {
    serde_json::to_value(bundle).unwrap()
}

/// Nothing is routed that the cases say nothing about: each operation, in each role and in none.
#[test]
fn every_operation_has_a_case_in_every_role() {
    let cases = pack("system").cases;
    let shown: BTreeSet<(String, String)> = cases
        .iter()
        .flat_map(|case| &case.steps)
        .filter(|step| step.question.context["second_person"] == false)
        .map(|step| {
            let roles = step.question.subject.properties["roles"]
                .as_array()
                .unwrap();
            let roles: Vec<&str> = roles
                .iter()
                .map(|role| role["id"].as_str().unwrap())
                .collect();
            (step.question.action.name.clone(), roles.join(" "))
        })
        .collect();
    let mut operations = 0;
    for endpoint in remit_api::endpoints() {
        let Access::May(_, action) = endpoint.access else {
            continue;
        };
        operations += 1;
        for role in Role::ALL.iter().map(|role| role.as_str()).chain([""]) {
            let wanted = (action.name().to_owned(), role.to_owned());
            assert!(shown.contains(&wanted), "no case shows {wanted:?}");
        }
    }
    assert!(operations >= 29, "{operations}");
}

#[tokio::test]
async fn a_bundle_without_policies_of_its_own_keeps_its_hash() {
    let bundle = pack("starter");
    assert!(body(&bundle).get("admin").is_none());
    let governed = governed("");
    assert_ne!(governed.content_hash(), bundle.content_hash());
    let two = |first: &str, second: &str| {
        let source = |name: &str| Source {
            file: format!("admin/{name}.cedar"),
            text: format!("// {name}"),
        };
        Bundle {
            admin: vec![source(first), source(second)],
            ..Bundle::default()
        }
    };
    assert_eq!(two("a", "b").content_hash(), two("b", "a").content_hash());
}

#[tokio::test]
async fn a_tenants_permit_gives_and_its_forbid_takes_away() {
    let mut test = TestApp::start(&pack("starter")).await;
    let maya = test.person("maya", &[Role::Reader], EVERY).await;
    let tom = test.person("tom", &[Role::Publisher], EVERY).await;
    let entity = "/v1/entities/Team/night";
    let put = async |test: &TestApp, key: &str, path: &str| {
        let request = http::Request::builder()
            .method(Method::PUT)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        test.send(request, json!({})).await
    };
    assert_eq!(
        put(&test, &maya, entity).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(put(&test, &tom, entity).await.status, StatusCode::OK);

    test.put(&governed(
        "@id(\"teams\") permit (principal == Person::\"maya\", action == Action::\"put_entity\", resource)\n\
         when { resource.kind == \"Team\" };\n\
         @id(\"no-night\") forbid (principal, action == Action::\"put_entity\", resource == LiveEntity::\"Team::\\\"night\\\"\");",
    ))
    .await;
    let gives = put(&test, &maya, "/v1/entities/Team/day").await;
    assert_eq!(gives.status, StatusCode::OK, "{}", gives.text);
    let other = put(&test, &maya, "/v1/entities/PayeeList/all").await;
    assert_eq!(other.json()["code"], "not-permitted");
    assert_eq!(other.json()["roles"], json!(["publisher"]));
    assert_eq!(other.json()["policies"], json!([]));
    let takes = put(&test, &tom, entity).await;
    assert_eq!(takes.status, StatusCode::FORBIDDEN);
    assert_eq!(takes.json()["policies"], json!(["no-night"]));
    assert_eq!(takes.json()["roles"], json!([]), "no role would help");
    // Not in a crowd either; and what is not forbidden goes through.
    let crowd = |name: &str| json!([{ "uid": { "type": "Team", "id": "day" } }, { "uid": { "type": "Team", "id": name } }]);
    let path = "/v1/entities/bulk";
    let hidden = test.as_key(&tom, Method::POST, path, &crowd("night")).await;
    assert_eq!(
        hidden.json()["policies"],
        json!(["no-night"]),
        "{}",
        hidden.text
    );
    assert_eq!(hidden.json()["resource"]["id"], "Team::\"night\"");
    let removal = json!([{ "remove": { "type": "Team", "id": "night" } }]);
    let removed = test.as_key(&tom, Method::POST, path, &removal).await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text);
    let open = test.as_key(&tom, Method::POST, path, &crowd("noon")).await;
    assert_eq!(open.status, StatusCode::OK, "{}", open.text);
    let detail = takes.json()["detail"].as_str().unwrap().to_owned();
    for part in ["`tom`", "`put_entity`", "`no-night`"] {
        assert!(detail.contains(part), "{detail}");
    }

    test.put(&pack("starter")).await;
    assert_eq!(put(&test, &tom, entity).await.status, StatusCode::OK);
    assert_eq!(
        put(&test, &maya, entity).await.status,
        StatusCode::FORBIDDEN
    );
}

/// What a thing is called is read from the address as the handler reads it.
#[tokio::test]
async fn a_forbid_of_one_thing_holds_however_its_name_is_written() {
    let test = TestApp::start(&governed(
        "@id(\"hidden\") forbid (principal, action == Action::\"get_entity\", resource == LiveEntity::\"Team::\\\"n/t ü\\\"\");\n\
         @id(\"mine\") forbid (principal, action == Action::\"get_policy\", resource == Policy::\"reader-tools\");",
    ))
    .await;
    for path in [
        "/v1/entities/Team/n%2Ft%20%C3%BC",
        "/v1/entities/%54eam/n%2ft%20%c3%bc",
        "/v1/policies/reader-tools",
        "/v1/policies/%72eader%2Dtools",
    ] {
        let reply = test.get(path).await;
        assert_eq!(
            reply.json()["code"],
            "not-permitted",
            "{path}: {}",
            reply.text
        );
    }
    let other = test.get("/v1/entities/Team/n%2Ft").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "{}", other.text);
    assert_eq!(
        test.get("/v1/policies/reader-data").await.status,
        StatusCode::OK
    );
    let broken = test.get("/v1/policies/%ff").await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST, "{}", broken.text);
}

/// A permit for all of it is enough, also where one for a single thing would wait for an approval.
#[tokio::test]
async fn a_bulk_change_is_permitted_by_itself() {
    let mut test = TestApp::start(&pack("starter")).await;
    let maya = test.person("maya", &[], EVERY).await;
    test.put(&governed(
        "@id(\"crowds\") permit (principal == Person::\"maya\", action == Action::\"change_entities\", resource);\n\
         @id(\"asked\") permit (principal == Person::\"maya\", action == Action::\"put_entity\", resource)\n\
         when { context.facts.approved };",
    ))
    .await;
    let team = json!([{ "uid": { "type": "Team", "id": "day" } }]);
    let path = "/v1/entities/bulk";
    let done = test.as_key(&maya, Method::POST, path, &team).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let single = "/v1/entities/Team/day";
    let alone = test.as_key(&maya, Method::PUT, single, &json!({})).await;
    assert_eq!(alone.status, StatusCode::FORBIDDEN, "{}", alone.text);
}

/// Numbers and ids have more than one spelling, and a policy about one is a policy about all of them.
#[tokio::test]
async fn a_forbid_of_a_number_or_an_id_holds_in_every_spelling() {
    let mut test = TestApp::start(&pack("starter")).await;
    let whoami = test.get("/v1/whoami").await.json();
    let (key, version) = (whoami["key"].as_str().unwrap(), whoami["revision"].clone());
    test.put(&governed(&format!(
        "@id(\"key\") forbid (principal, action == Action::\"get_key\", resource == Key::\"{key}\");\n\
         @id(\"version\") forbid (principal, action == Action::\"get_version\", resource == Version::\"{version}\");",
    )))
    .await;
    for path in [
        format!("/v1/keys/{key}"),
        format!("/v1/keys/{}", key.to_uppercase()),
        format!("/v1/keys/{}", key.replace('-', "")),
        format!("/v1/bundle/versions/{version}"),
        format!("/v1/bundle/versions/0{version}"),
    ] {
        let reply = test.get(&path).await;
        let code = reply.json()["code"].clone();
        assert_eq!(code, "not-permitted", "{path}: {}", reply.text);
    }
}

/// What no database can keep is refused before anybody decides or records it.
#[tokio::test]
async fn a_nul_in_a_path_is_refused_and_recorded_nowhere() {
    let test = TestApp::start(&pack("starter")).await;
    let tom = test.person("tom", &[Role::Reader], EVERY).await;
    let asked = test
        .as_key(&tom, Method::DELETE, "/v1/principals/a%00b", &Value::Null)
        .await;
    assert_eq!(asked.status, StatusCode::BAD_REQUEST, "{}", asked.text);
    assert!(asked.text.contains("`name` in the path"), "{}", asked.text);
    let records = test.get("/v1/admin/actions?principal=tom").await.json();
    assert_eq!(records["actions"], json!([]));
}

/// A replica that has not heard for too long changes nothing by what it knew; it still reads.
#[tokio::test]
async fn nothing_is_changed_by_policies_that_may_be_old() {
    let mut test = TestApp::start(&pack("starter")).await;
    let ben = "/v1/principals/ben";
    let reader = json!({ "kind": "person", "roles": ["reader"] });
    test.pause().await;
    test.clock.advance(Duration::from_secs(6));
    let late = test.as_key(&test.key, Method::PUT, ben, &reader).await;
    assert_eq!(
        late.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        late.text
    );
    assert_eq!(late.json()["code"], "stale-policy");
    assert_eq!(test.get("/v1/policies").await.status, StatusCode::OK);
    test.resume();
    test.caught_up().await;
    assert_eq!(test.get(ben).await.status, StatusCode::NOT_FOUND);
    let done = test.as_key(&test.key, Method::PUT, ben, &reader).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}

/// A replica that does not know what the bundle says of the administration lets nobody in.
#[tokio::test]
async fn nobody_administers_by_a_bundle_that_is_not_loaded() {
    let mut test = TestApp::empty(remit_api::Options::default()).await;
    assert_eq!(
        test.get("/v1/keys").await.status,
        StatusCode::OK,
        "there is none"
    );
    test.pause().await;
    let own =
        governed("@id(\"none\") forbid (principal, action == Action::\"list_keys\", resource);");
    test.store
        .put_bundle(test.tenant, remit_store::Expected::Absent, &own, None)
        .await
        .unwrap();
    for path in ["/v1/keys", "/v1/admin/actions", "/v1/entities"] {
        let early = test.get(path).await;
        assert_eq!(early.json()["code"], "not-ready", "{path}: {}", early.text);
    }
    test.resume();
    test.caught_up().await;
    assert_eq!(
        test.get("/v1/keys").await.json()["policies"],
        json!(["none"])
    );
    assert_eq!(test.get("/v1/entities").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_forbid_that_errors_denies() {
    let mut test = TestApp::start(&pack("starter")).await;
    let tom = test.person("tom", &[Role::Publisher], EVERY).await;
    test.put(&governed(
        "@id(\"counts\") forbid (principal == Person::\"tom\", action == Action::\"put_bundle\", resource)\n\
         when { context.facts.minute_of_day * 9223372036854775807 > 1 };",
    ))
    .await;
    let reply = test
        .as_key(&tom, Method::PUT, "/v1/bundle", &body(&pack("starter")))
        .await;
    assert_eq!(reply.json()["code"], "not-permitted", "{}", reply.text);
    assert_eq!(reply.json()["policies"], json!(["counts"]));
}

#[tokio::test]
async fn what_does_not_fit_the_administration_is_refused_and_placed() {
    let test = TestApp::start(&pack("starter")).await;
    let before = test.get("/v1/bundle").await;
    let named = |file: &str| Bundle {
        admin: vec![Source {
            file: file.to_owned(),
            text: String::new(),
        }],
        ..pack("starter")
    };
    for (bundle, code) in [
        (
            governed("@id(\"remit.mine\") permit (principal, action, resource);"),
            "reserved_id",
        ),
        (
            governed("permit (principal, action, resource);"),
            "missing_id",
        ),
        (
            governed("@id(\"x\") permit (principal, action == Action::\"fly\", resource);"),
            "unknown_action",
        ),
        (
            governed(
                "@id(\"x\") permit (principal, action, resource) when { principal.roles.contains(Role::\"king\") };",
            ),
            "",
        ),
        (governed("permit ("), ""),
        (named("own.cedar"), "admin_file"),
        (named("admin/a/b.cedar"), "admin_file"),
        (named("admin/.cedar"), "admin_file"),
        (named("remit/roles.cedar"), "admin_file"),
    ] {
        let reply = test
            .as_key(&test.key, Method::PUT, "/v1/bundle", &body(&bundle))
            .await;
        assert_eq!(reply.json()["code"], "policy-invalid", "{}", reply.text);
        let found = reply.json()["diagnostics"][0].clone();
        assert!(
            code.is_empty() || code == "unknown_action" || found["code"] == code,
            "{found}"
        );
        if code != "admin_file" {
            assert_eq!(found["file"], "admin/own.cedar", "{found}");
            assert!(found["span"].is_object(), "{found}");
        }
        let checked = test.post("/v1/bundle/check", body(&bundle)).await;
        assert_eq!(checked.json()["valid"], json!(false), "{}", checked.text);
    }
    assert_eq!(test.get("/v1/bundle").await.text, before.text);
}

#[tokio::test]
async fn who_may_administer_counts_in_what_loosens() {
    let test = TestApp::start(&pack("starter")).await;
    let put = async |text: &str| {
        let reply = test
            .as_key(&test.key, Method::PUT, "/v1/bundle", &body(&governed(text)))
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()["loosens"].clone()
    };
    let forbid = "@id(\"f\") forbid (principal == Person::\"maya\", action, resource);";
    let permit = "@id(\"p\") permit (principal == Person::\"maya\", action, resource);";
    assert_eq!(put(forbid).await, json!(false));
    assert_eq!(put(forbid).await, json!(false), "the same again");
    let checked = test.post("/v1/bundle/check", body(&governed(permit))).await;
    let changes = checked.json()["comparison"]["changes"].clone();
    assert_eq!(changes[0]["file"], "admin/own.cedar", "{changes}");
    assert_eq!(put(permit).await, json!(true));
    assert_eq!(put("").await, json!(false));
}

#[tokio::test]
async fn nobody_is_locked_out_by_a_publish() {
    let test = TestApp::start(&pack("starter")).await;
    let before = test.get("/v1/bundle").await;
    let all = "@id(\"none\") forbid (principal, action, resource);";
    let put = async |text: &str| {
        test.as_key(&test.key, Method::PUT, "/v1/bundle", &body(&governed(text)))
            .await
    };
    let refused = put(all).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["code"], "lock-out");
    assert_eq!(
        refused.json()["nobody_may"],
        json!(["put_bundle", "put_principal"])
    );
    assert_eq!(test.get("/v1/bundle").await.text, before.text);
    // Whoever says who may gives roles, and no role helps against this one.
    let publishing =
        "@id(\"none\") forbid (principal, action in Action::\"publishing\", resource);";
    let refused = put(publishing).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text.contains("whatever their roles"));
    // One that leaves it to people is cured by making one.
    let people = "@id(\"people\") forbid (principal is Machine, action in Action::\"publishing\", resource);";
    assert_eq!(put(people).await.status, StatusCode::OK);
    assert_eq!(put("").await.json()["code"], "not-permitted");
}

/// The file of a tenant's policies travels with the bundle, and a roll back takes it back.
#[tokio::test]
async fn a_roll_back_takes_back_who_may_administer() {
    let mut test = TestApp::start(&pack("starter")).await;
    let maya = test.person("maya", &[], EVERY).await;
    let permit = "@id(\"p\") permit (principal == Person::\"maya\", action == Action::\"list_keys\", resource);";
    test.put(&governed(permit)).await;
    let governed = test.get("/v1/bundle").await.header("etag").to_owned();
    let list = async || {
        test.as_key(&maya, Method::GET, "/v1/keys", &Value::Null)
            .await
            .status
    };
    assert_eq!(list().await, StatusCode::OK);
    let versions = test.get("/v1/bundle/versions").await.json();
    let first = versions["versions"][1]["revision"].clone();
    let back = test
        .as_key(
            &test.key,
            Method::POST,
            "/v1/bundle/rollback",
            &json!({ "to": first }),
        )
        .await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text);
    assert_eq!(list().await, StatusCode::FORBIDDEN);
    let number: u64 = governed.trim_matches('"').parse().unwrap();
    let again = test
        .as_key(
            &test.key,
            Method::POST,
            "/v1/bundle/rollback",
            &json!({ "to": number }),
        )
        .await;
    assert_eq!(again.json()["loosens"], json!(true), "{}", again.text);
    assert_eq!(list().await, StatusCode::OK);
}

#[test]
fn a_folder_says_who_may_administer() {
    let server = Server::dev();
    server.run(&["bundle", "pull", "own"]).succeeds(&[]);
    let before =
        server.run(&["bundle", "push", "own", "-o", "json"]).json()["revision"].to_string();
    let folder = server.path().join("own/admin");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("own.cedar");
    let reserved = "@id(\"remit.mine\") permit (principal, action, resource);\n";
    std::fs::write(&file, reserved).unwrap();
    for command in [
        &["policy", "validate", "own"][..],
        &["policy", "test", "own"],
        &["bundle", "push", "own", "--dry-run"],
        &["bundle", "push", "own"],
    ] {
        server.run(command).fails(3, &["admin/own.cedar:1"]);
    }
    let permit = "@id(\"p\") permit (principal == Person::\"maya\", action == Action::\"put_entity\", resource);\n";
    std::fs::write(&file, permit).unwrap();
    server
        .run(&["policy", "validate", "own"])
        .succeeds(&["yes"]);
    server
        .run(&["bundle", "push", "own", "--dry-run"])
        .succeeds(&["would be accepted"]);
    server
        .run(&["bundle", "push", "own"])
        .succeeds(&["in force at revision"]);
    server
        .run(&["policy", "diff", &before])
        .succeeds(&["added administration admin/own.cedar", "+@id(\"p\")"]);
    server
        .run(&["bundle", "pull", "copy"])
        .succeeds(&["added    admin/own.cedar"]);
    let copied = std::fs::read_to_string(server.path().join("copy/admin/own.cedar")).unwrap();
    assert_eq!(copied, permit);
}
