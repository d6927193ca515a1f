//! `Idempotency-Key`: a change that is sent again is made once and answered as it was.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{Bundle, PrincipalKind, Role, Source};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

/// The starter bundle with one file more.
fn with_file(text: &str) -> Value {
    let mut bundle: Bundle = pack("starter");
    bundle.policies.push(Source {
        file: "added.cedar".to_owned(),
        text: text.to_owned(),
    });
    serde_json::to_value(bundle).unwrap()
}

/// One request with a name, as it is sent again and again.
struct Named<'t> {
    test: &'t TestApp,
    method: Method,
    path: &'t str,
    key: &'t str,
    body: Value,
}

// === impl Named ===

impl Named<'_> {
    async fn send(&self, condition: &str) -> Reply {
        let request = self
            .test
            .request(self.method.clone(), self.path)
            .header("if-match", condition)
            .header("idempotency-key", self.key);
        if self.body.is_null() {
            return self.test.send(request, "").await;
        }
        self.test.send(request, &self.body).await
    }
}

async fn etag(test: &TestApp) -> String {
    test.get("/v1/bundle").await.header("etag").to_owned()
}

async fn versions(test: &TestApp) -> usize {
    let page = test.get("/v1/bundle/versions").await.json();
    page["versions"].as_array().unwrap().len()
}

fn same(first: &Reply, again: &Reply) {
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    assert_eq!(again.text, first.text);
    for header in ["etag", "remit-revision"] {
        assert_eq!(again.header(header), first.header(header));
    }
}

#[tokio::test]
async fn a_change_that_is_sent_again_is_made_once() {
    let test = TestApp::start(&pack("starter")).await;
    let first = etag(&test).await;
    let revision: u64 = first.trim_matches('"').parse().unwrap();
    let spare = "@id(\"spare\") @owner(\"t\") forbid (principal, action, resource) when { false };";
    let mut tag = first.clone();
    for (number, (method, path, body)) in [
        (Method::PUT, "/v1/bundle?message=one", with_file(spare)),
        (
            Method::PUT,
            "/v1/policies/spare",
            json!({ "text": spare.replace("\"t\"", "\"u\"") }),
        ),
        (Method::DELETE, "/v1/policies/spare", Value::Null),
        (
            Method::POST,
            "/v1/bundle/rollback",
            json!({ "to": revision }),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("change {number}");
        let change = Named {
            test: &test,
            method,
            path,
            key: &key,
            body,
        };
        let done = change.send(&tag).await;
        assert_eq!(done.status, StatusCode::OK, "{path}: {}", done.text);
        assert_eq!(versions(&test).await, 2 + number);
        // The state that it was made for is gone, and it is answered nevertheless.
        same(&done, &change.send(&tag).await);
        assert_eq!(versions(&test).await, 2 + number, "{path}");
        done.header("etag").clone_into(&mut tag);
    }
    assert_eq!(etag(&test).await, tag);
}

#[tokio::test]
async fn of_two_at_once_one_is_made_and_both_are_answered() {
    let test = TestApp::start(&pack("starter")).await;
    let tag = etag(&test).await;
    let change = Named {
        test: &test,
        method: Method::PUT,
        path: "/v1/bundle",
        key: "twice",
        body: with_file("// once"),
    };
    let (left, right) = tokio::join!(change.send(&tag), change.send(&tag));
    assert_eq!(left.status, StatusCode::OK, "{}", left.text);
    same(&left, &right);
    assert_eq!(versions(&test).await, 2);
}

#[tokio::test]
async fn a_shadow_is_put_and_ended_once() {
    let test = TestApp::start(&pack("starter")).await;
    let send = async |method: Method, key: &str, condition: (&str, &str), body: Value| {
        let request = test.request(method, "/v1/shadow");
        let request = request
            .header(condition.0, condition.1)
            .header("idempotency-key", key);
        if body.is_null() {
            return test.send(request, "").await;
        }
        test.send(request, body).await
    };
    let head = async || test.store.heads().await.unwrap()[0].revision;
    let (new, bundle) = (("if-none-match", "*"), with_file("// beside"));
    let first = send(Method::PUT, "put", new, bundle.clone()).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let after = head().await;
    // There is a shadow now, so that a second one would be refused.
    same(&first, &send(Method::PUT, "put", new, bundle.clone()).await);
    let other = send(Method::PUT, "put", new, with_file("// another")).await;
    assert_eq!(other.json()["code"], "idempotency-key-reused");
    assert_eq!(head().await, after);

    let tag = ("if-match", first.header("etag"));
    let ended = send(Method::DELETE, "end", tag, Value::Null).await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    let after = head().await;
    let again = send(Method::DELETE, "end", tag, Value::Null).await;
    assert_eq!((again.status, &again.text), (StatusCode::OK, &ended.text));
    // And what was put is answered as it was, though it is gone.
    same(&first, &send(Method::PUT, "put", new, bundle).await);
    assert_eq!(head().await, after);
}

/// Two different requests under one name at the same moment are as one after the other.
#[tokio::test]
async fn of_two_others_at_once_one_is_told_that_the_name_is_taken() {
    let test = TestApp::start(&pack("starter")).await;
    let send = |name: &'static str| {
        let request = test.request(Method::POST, "/v1/keys");
        let request = request.header("idempotency-key", "at once");
        let body = json!({ "name": name, "environment": "dev", "scopes": ["read"] });
        let test = &test;
        async move { test.send(request, body).await }
    };
    let (one, two) = tokio::join!(send("one"), send("two"));
    let (made, refused) = match one.status {
        StatusCode::CREATED => (one, two),
        _ => (two, one),
    };
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.text
    );
    assert_eq!(refused.json()["code"], "idempotency-key-reused");
    let keys = test.get("/v1/keys").await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_name_belongs_to_one_request_for_a_day() {
    let test = TestApp::start(&pack("starter")).await;
    let tag = etag(&test).await;
    let change = |text: &str| Named {
        test: &test,
        method: Method::PUT,
        path: "/v1/bundle",
        key: "release 7",
        body: with_file(text),
    };
    // What was refused changed nothing and is not remembered.
    let stale = change("// one").send("\"999\"").await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let broken = change("permit(").send(&tag).await;
    assert_eq!(broken.json()["code"], "policy-invalid");
    let done = change("// one").send(&tag).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);

    let now = done.header("etag");
    let other = change("// two").send(now).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json()["code"], "idempotency-key-reused");
    let noted = Named {
        path: "/v1/bundle?message=another",
        ..change("// one")
    };
    assert_eq!(
        noted.send(now).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    // Somebody else does not get the answer.
    let writer = test.new_key(&[Scope::Write], "dev", None).await;
    let theirs = http::Request::builder()
        .method(Method::PUT)
        .uri("/v1/bundle")
        .header("authorization", format!("Bearer {writer}"))
        .header("content-type", "application/json")
        .header("if-match", now)
        .header("idempotency-key", "release 7");
    let theirs = test.send(theirs, with_file("// one")).await;
    assert_eq!(theirs.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(etag(&test).await, now, "nothing was changed");

    test.clock.advance(Duration::from_hours(24));
    test.caught_up().await;
    let late = change("// one").send(&tag).await;
    assert_eq!(
        late.status,
        StatusCode::PRECONDITION_FAILED,
        "{}",
        late.text
    );
    let anew = change("// two").send(now).await;
    assert_eq!(anew.status, StatusCode::OK, "{}", anew.text);
}

#[tokio::test]
async fn a_name_is_short_printable_and_sent_once() {
    let test = TestApp::start(&pack("starter")).await;
    let send = async |keys: &[&[u8]]| {
        let mut request = test
            .request(Method::DELETE, "/v1/policies/nobody")
            .header("if-match", "*");
        for key in keys {
            request = request.header("idempotency-key", *key);
        }
        test.send(request, "").await
    };
    let long = [b'x'; 256];
    for keys in [
        vec![&b""[..]],
        vec![&b"a\tb"[..]],
        vec!["ü".as_bytes()],
        vec![&long[..]],
        vec![&b"a"[..], &b"b"[..]],
    ] {
        let refused = send(&keys).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{keys:?}");
        assert!(
            refused.text.contains("`Idempotency-Key`"),
            "{}",
            refused.text
        );
    }
    let fits = send(&[&long[1..]]).await;
    assert_eq!(fits.status, StatusCode::NOT_FOUND, "{}", fits.text);
}

/// Entities, keys and principals are no different, but for a secret, which is told once.
#[tokio::test]
async fn what_is_no_bundle_is_changed_once_as_well() {
    let test = TestApp::start(&pack("starter")).await;
    let send = async |method: Method, path: &str, name: &str, body: &Value| {
        let request = test.request(method, path).header("idempotency-key", name);
        if body.is_null() {
            return test.send(request, "").await;
        }
        test.send(request, body).await
    };
    let head = async || test.store.heads().await.unwrap()[0].revision;
    let entity = json!([{ "uid": { "type": "Team", "id": "day" } }, { "remove": { "type": "Team", "id": "none" } }]);
    let otto = json!({ "kind": "machine", "roles": ["reader"] });
    let victim = test.new_key(&[Scope::Read], "dev", None).await;
    let victim: remit_core::KeyId = victim.split('_').nth(2).unwrap().parse().unwrap();
    for (number, (method, path, body)) in [
        (Method::PUT, "/v1/entities/Team/night", json!({})),
        (Method::POST, "/v1/entities/bulk", entity),
        (Method::DELETE, "/v1/entities/Team/night", Value::Null),
        (Method::PUT, "/v1/principals/otto", otto),
        (Method::DELETE, "/v1/principals/otto", Value::Null),
        (Method::DELETE, &format!("/v1/keys/{victim}"), Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("change {number}");
        let first = send(method.clone(), path, &name, &body).await;
        assert!(first.status.is_success(), "{path}: {}", first.text);
        let after = head().await;
        let again = send(method.clone(), path, &name, &body).await;
        assert_eq!(
            (again.status, &again.text),
            (first.status, &first.text),
            "{path}"
        );
        for header in ["etag", "remit-revision"] {
            assert_eq!(again.header(header), first.header(header), "{path}");
        }
        assert_eq!(head().await, after, "{path}: nothing more was changed");
        // The same name for something else.
        let other = send(Method::PUT, "/v1/entities/Team/other", &name, &json!({})).await;
        assert_eq!(other.json()["code"], "idempotency-key-reused", "{path}");
    }
    let records = test.get("/v1/admin/actions").await.json();
    assert_eq!(
        records["actions"].as_array().unwrap().len(),
        6,
        "one a change"
    );

    let new = json!({ "name": "x", "environment": "dev", "scopes": ["read"] });
    let first = send(Method::POST, "/v1/keys", "key", &new).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let after = head().await;
    let again = send(Method::POST, "/v1/keys", "key", &new).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    assert_eq!(again.json()["key"], first.json()["id"]);
    assert!(!again.text.contains(first.json()["key"].as_str().unwrap()));
    assert_eq!(head().await, after);
}

#[tokio::test]
async fn changes_of_drafts_and_settings_are_made_once_too() {
    let test = TestApp::start(&pack("starter")).await;
    let roles = [Role::Author, Role::Admin];
    let ana = test.key_of(PrincipalKind::Person, "ana", &roles).await;
    let roles = [Role::Approver];
    let ben = test.key_of(PrincipalKind::Person, "ben", &roles).await;
    let send =
        async |key: &str, name: &str, (method, path): (Method, &str), tag: &str, body: &Value| {
            let request = test
                .request_with(key, method, path)
                .header("if-match", tag)
                .header("idempotency-key", name);
            let body = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            test.send(request, body).await
        };
    let body = json!({ "name": "once" });
    let create = (Method::POST, "/v1/drafts");
    let made = send(&ana, "make", create.clone(), "*", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let again = send(&ana, "make", create.clone(), "*", &body).await;
    assert_eq!((again.status, &again.text), (made.status, &made.text));
    assert_eq!(again.header("location"), made.header("location"));
    let other = send(&ana, "make", create, "*", &json!({ "name": "twice" })).await;
    assert_eq!(other.json()["code"], "idempotency-key-reused");

    let draft = made.header("location").to_owned();
    let policy = "@id(\"idle\") @owner(\"t\") forbid (principal, action, resource) when { false };";
    let mut tag = made.header("etag").to_owned();
    for (name, key, method, path, body) in [
        (
            "one",
            &ana,
            Method::PUT,
            "/policies/idle",
            json!({ "text": policy }),
        ),
        ("two", &ana, Method::DELETE, "/policies/idle", Value::Null),
        ("three", &ana, Method::PUT, "/bundle", with_file(policy)),
        (
            "four",
            &ben,
            Method::POST,
            "/review",
            json!({ "verdict": "approve" }),
        ),
        ("five", &ana, Method::DELETE, "", Value::Null),
    ] {
        let path = format!("{draft}{path}");
        let at = (method, path.as_str());
        let done = send(key, name, at.clone(), &tag, &body).await;
        assert!(done.status.is_success(), "{path}: {}", done.text);
        let now = test.get(&draft).await;
        let again = send(key, name, at, &tag, &body).await;
        assert_eq!(
            (again.status, &again.text),
            (done.status, &done.text),
            "{path}"
        );
        assert_eq!(again.header("etag"), done.header("etag"));
        assert_eq!(
            test.get(&draft).await.text,
            now.text,
            "{path} was done twice"
        );
        if !done.header("etag").is_empty() {
            // What it is answered is what there is.
            let (told, read) = (done.json(), now.json());
            for (member, value) in told.as_object().unwrap() {
                if !["compiles", "diagnostics"].contains(&member.as_str()) {
                    assert_eq!(&read[member], value, "{path}: {member}");
                }
            }
            done.header("etag").clone_into(&mut tag);
        }
    }

    let settings = (Method::PUT, "/v1/settings");
    let on = json!({ "second_person": true });
    let done = send(&ana, "on", settings.clone(), "\"0\"", &on).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    same(
        &done,
        &send(&ana, "on", settings.clone(), "\"0\"", &on).await,
    );
    let off = json!({ "second_person": false });
    let tag = done.header("etag").to_owned();
    let asked = send(&ana, "off", settings.clone(), &tag, &off).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    let confirm = (Method::POST, "/v1/settings/confirm");
    let done = send(&ben, "yes", confirm.clone(), "*", &off).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    same(&done, &send(&ben, "yes", confirm, "*", &off).await);
    let again = send(&ana, "off", settings, &tag, &off).await;
    assert_eq!((again.status, &again.text), (asked.status, &asked.text));
    assert_eq!(
        test.get("/v1/settings").await.json(),
        off,
        "nothing is asked again"
    );
}

/// The version before called a roll-back by another name in what it kept: it is known by that still.
#[tokio::test]
async fn a_roll_back_that_was_answered_by_the_version_before_is_found() {
    let test = TestApp::start(&pack("starter")).await;
    let tag = etag(&test).await;
    let revision: u64 = tag.trim_matches('"').parse().unwrap();
    let change = Named {
        test: &test,
        method: Method::POST,
        path: "/v1/bundle/rollback",
        key: "back",
        body: json!({ "to": revision }),
    };
    let done = change.send(&tag).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let me = test.get("/v1/whoami").await.json();
    let asked = json!({
        "caller": me["key"], "action": "roll_back_bundle", "message": null, "restores": revision,
        "asks": { "bundle": pack("starter").content_hash() },
    });
    let kept = test.store.answered(test.tenant, "back").await.unwrap();
    let hash = remit_core::ContentHash::of(&remit_core::canonical_json(&asked).unwrap());
    assert_eq!(kept.unwrap().request, hash);
}
