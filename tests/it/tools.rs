//! The catalogue of tools over HTTP: written one at a time and as a whole, the worst taken where nothing was said, and
//! descriptors compared.

use http::{Method, StatusCode};
use remit_core::Role;
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

const SEND: &str = "/v1/tools/mail.send";

async fn put(test: &TestApp, path: &str, body: &Value) -> Reply {
    test.send(test.request(Method::PUT, path), body).await
}

fn described(name: &str, about: &str) -> Value {
    json!({ "name": name, "description": about, "inputSchema": { "type": "object", "maximum": 1.0 } })
}

#[tokio::test]
async fn what_is_left_out_is_taken_for_the_worst() {
    let test = TestApp::start(&pack("starter")).await;
    for (effect, irreversible) in [
        ("read", false),
        ("write", false),
        ("egress", true),
        ("pay", true),
        ("destroy", true),
        ("exec", true),
        ("credential", true),
        ("delegate", true),
    ] {
        let made = put(&test, SEND, &json!({ "effect": effect })).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
        let expected = json!({
            "name": "mail.send", "effect": effect, "integrity": "untrusted", "confidentiality": "private",
            "irreversible": irreversible, "cost": 0, "min_trust": 0, "sinks": [],
        });
        assert_eq!(made.json(), expected);
    }
    let whole = json!({
        "amount": { "argument": "amount", "scale": 2 }, "classes": ["pii"], "clearance": [], "confidentiality": "public",
        "cost": 3, "descriptor": format!("sha256:{}", "0".repeat(64)), "domain": "email", "effect": "egress",
        "environment": "production", "integrity": "trusted", "irreversible": false, "min_trust": 2, "name": "mail.send",
        "owner": "maya", "roles": ["mailer"], "sinks": ["to", "cc.address"],
    });
    let made = put(&test, SEND, &whole).await;
    assert_eq!(made.json(), whole, "what was said is kept");
    let read = test.get(SEND).await;
    assert_eq!(
        (read.json(), read.header("etag")),
        (whole.clone(), made.header("etag"))
    );
    let again = put(&test, SEND, &whole).await;
    assert_eq!(again.header("etag"), made.header("etag"), "it is the same");

    let removed = test.send(test.request(Method::DELETE, SEND), "").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text);
    assert_eq!(test.get(SEND).await.status, StatusCode::NOT_FOUND);
    let absent = test.send(test.request(Method::DELETE, SEND), "").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND, "{}", absent.text);
}

#[tokio::test]
async fn a_tool_that_makes_no_sense_is_refused_by_name() {
    let test = TestApp::start(&pack("starter")).await;
    let many: Vec<String> = (0..65).map(|number| format!("n{number}")).collect();
    for (member, value) in [
        ("effect", json!("harm")),
        ("effect", json!(null)),
        ("integrity", json!("high")),
        ("confidentiality", json!(true)),
        ("irreversible", json!("no")),
        ("cost", json!(-1)),
        ("min_trust", json!(4)),
        ("name", json!("mail.read")),
        ("descriptor", json!("abc")),
        ("domain", json!("")),
        ("owner", json!("x".repeat(129))),
        ("environment", json!("a\u{7}b")),
        ("sinks", json!(many)),
        ("sinks[0]", json!([""])),
        ("sinks[1]", json!(["to", "x".repeat(257)])),
        ("classes", json!(many)),
        ("classes[0]", json!(["x".repeat(65)])),
        ("clearance", json!(many)),
        ("roles", json!(many)),
        ("amount", json!("amount")),
        ("amount.scale", json!({ "argument": "a", "scale": 10 })),
        ("amount.argument", json!({ "argument": "", "scale": 0 })),
        ("colour", json!("red")),
    ] {
        let mut sent = json!({ "effect": "read" });
        let name = member.split(['[', '.']).next().unwrap();
        sent[name] = value;
        let refused = put(&test, SEND, &sent).await;
        let detail = refused.text.clone();
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{member}: {detail}"
        );
        assert!(detail.contains(&format!("`{member}")), "{member}: {detail}");
    }
    // Beyond what every reader of JSON reads exactly.
    let dear = json!({ "effect": "read", "cost": 9_007_199_254_740_992_u64 });
    let refused = put(&test, SEND, &dear).await;
    assert!(
        refused.text.contains("too large to be exact"),
        "{}",
        refused.text
    );
    let missing = put(&test, SEND, &json!({})).await;
    assert!(
        missing.text.contains("`effect` is missing"),
        "{}",
        missing.text
    );
    let long = format!("/v1/tools/{}", "x".repeat(257));
    let refused = put(&test, &long, &json!({ "effect": "read" })).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(test.get("/v1/tools").await.json(), json!({ "tools": [] }));
}

/// Checks which tools the newest record of a catalogue names, and returns its hash.
async fn record(test: &TestApp, names: &Value) -> String {
    let records = test.get("/v1/admin/actions?limit=1").await.json();
    let record = &records["actions"][0];
    assert_eq!(record["action"], "put_tools", "{records}");
    let details = &record["details"];
    assert_eq!(&details["tools"], names);
    let hash = details["sha256"].as_str().unwrap().to_owned();
    assert!(hash.starts_with("sha256:"), "{hash}");
    hash
}

#[tokio::test]
async fn a_catalogue_is_written_at_one_revision_or_not_at_all() {
    let test = TestApp::start(&pack("starter")).await;
    let by_name = json!({ "tools": { "a": { "effect": "read" }, "b": { "effect": "pay" } } });
    let done = put(&test, "/v1/tools", &by_name).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(done.json()["written"], 2);
    let hash = record(&test, &json!(["a", "b"])).await;
    let listed = json!({ "tools": [{ "name": "c", "effect": "exec" }] });
    let more = put(&test, "/v1/tools?wait=fleet", &listed).await;
    assert_eq!(more.json()["written"], 1, "{}", more.text);
    // The catalogue of a record is told by its hash: of the same one the same, of another another.
    assert_eq!(put(&test, "/v1/tools", &by_name).await.json()["written"], 2);
    assert_eq!(record(&test, &json!(["a", "b"])).await, hash);
    let weaker = json!({ "tools": { "a": { "effect": "read", "integrity": "trusted" }, "b": { "effect": "pay", "integrity": "trusted" } } });
    put(&test, "/v1/tools", &weaker).await;
    assert_ne!(record(&test, &json!(["a", "b"])).await, hash);
    let names = |reply: &Reply| -> Vec<String> {
        let tools = reply.json()["tools"].as_array().unwrap().clone();
        let names = tools.iter().map(|one| one["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    };
    let first = test.get("/v1/tools?limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let rest = test.get(&format!("/v1/tools?limit=2&cursor={next}")).await;
    assert_eq!(names(&rest), ["c"], "what is not in a file stays");
    assert_eq!(
        test.get("/v1/tools/a").await.header("etag"),
        test.get("/v1/tools/b").await.header("etag")
    );

    let many: serde_json::Map<String, Value> = (0..1_001)
        .map(|number| (format!("t{number}"), json!({ "effect": "read" })))
        .collect();
    for (tools, told) in [
        (json!({}), "1 to 1000 tools"),
        (json!(many), "1 to 1000 tools"),
        (json!("a"), "`tools` must be"),
        (json!([{ "effect": "read" }]), "`tools[0].name` is missing"),
        (json!([1]), "`tools[0]` must be an object"),
        (
            json!({ "x": { "effect": "read" }, "y": { "effect": "harm" } }),
            "`tools.y`",
        ),
        (
            json!({ "x": { "effect": "read", "name": "y" } }),
            "`tools.x`",
        ),
        (
            json!([{ "name": "x", "effect": "read" }, { "name": "x", "effect": "pay" }]),
            "`tools[1]` names a tool that stands before",
        ),
    ] {
        let refused = put(&test, "/v1/tools", &json!({ "tools": tools })).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{told}: {detail}");
    }
    assert_eq!(names(&test.get("/v1/tools").await), ["a", "b", "c"]);
    let thousand: serde_json::Map<String, Value> = many.into_iter().take(1_000).collect();
    let done = put(&test, "/v1/tools", &json!({ "tools": thousand })).await;
    assert_eq!(done.json()["written"], 1_000, "{}", done.text);
    let metrics = test.operations("/metrics").await.text;
    assert!(metrics.contains("remit_tools 1003\n"), "{metrics}");
}

/// A forbid of one tool holds in a crowd as well.
#[tokio::test]
async fn a_policy_about_one_tool_holds_however_it_is_written() {
    let mut bundle = pack("starter");
    bundle.admin.push(remit_core::Source {
        file: "admin/own.cedar".to_owned(),
        text: "@id(\"hands-off\") forbid (principal, action == Action::\"put_tool\", resource == Tool::\"bank\");".to_owned(),
    });
    let test = TestApp::start(&bundle).await;
    let tom = test.person("tom", &[Role::Publisher], Scope::ALL).await;
    let one = json!({ "effect": "pay" });
    let path = "/v1/tools/bank";
    let alone = test.as_key(&tom, Method::PUT, path, &one).await;
    assert_eq!(
        alone.json()["policies"],
        json!(["hands-off"]),
        "{}",
        alone.text
    );
    let crowd = json!({ "tools": { "mail": { "effect": "read" }, "bank": one } });
    let hidden = test.as_key(&tom, Method::PUT, "/v1/tools", &crowd);
    let hidden = hidden.await;
    assert_eq!(hidden.status, StatusCode::FORBIDDEN, "{}", hidden.text);
    assert_eq!(test.get("/v1/tools").await.json(), json!({ "tools": [] }));
}

#[tokio::test]
async fn a_descriptor_that_changed_is_told() {
    let test = TestApp::start(&pack("starter")).await;
    let check = async |descriptors: Value| {
        let body = json!({ "descriptors": descriptors });
        test.post("/v1/tools/drift", body).await
    };
    let before = check(json!([
        described("mail.send", "Sends."),
        described("mail.read", "Reads.")
    ]))
    .await;
    assert_eq!(before.json()["drifted"], true, "{}", before.text);
    let hash = |reply: &Reply, index: usize| reply.json()["tools"][index]["presented"].clone();
    assert_eq!(before.json()["tools"][0]["name"], "mail.read");
    assert_eq!(before.json()["tools"][0]["state"], "unknown");
    for (name, descriptor) in [
        ("mail.read", hash(&before, 0)),
        ("mail.send", hash(&before, 1)),
        ("mail.drop", json!(null)),
    ] {
        let tool = json!({ "effect": "egress", "descriptor": descriptor });
        let made = put(&test, &format!("/v1/tools/{name}"), &tool).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    }
    // The same content in another order of its members, and with another spelling of a number.
    let same = json!([
        { "inputSchema": { "maximum": 1, "type": "object" }, "description": "Sends.", "name": "mail.send" },
        described("mail.read", "Reads."),
    ]);
    let same = check(same).await;
    assert_eq!(same.json()["drifted"], false, "{}", same.text);
    let told = check(json!([
        described("mail.send", "Sends, and tells us."),
        described("mail.drop", "Drops."),
        described("mail.new", "New."),
    ]))
    .await
    .json();
    assert_eq!(told["drifted"], true);
    let states: Vec<(&str, &str)> = told["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [
            ("mail.drop", "unpinned"),
            ("mail.new", "unknown"),
            ("mail.read", "missing"),
            ("mail.send", "changed"),
        ]
    );
    assert_eq!(told["tools"][3]["registered"], hash(&before, 1));
    assert_ne!(told["tools"][3]["presented"], hash(&before, 1));

    let many: Vec<Value> = (0..1_001)
        .map(|number| described(&format!("t{number}"), ""))
        .collect();
    for (descriptors, told) in [
        (json!([]), "1 to 1000"),
        (json!(many), "1 to 1000"),
        (json!([{}]), "`descriptors[0].name` must be a string"),
        (
            json!([{ "name": 1 }]),
            "`descriptors[0].name` must be a string",
        ),
        (json!([{ "name": "" }]), "`descriptors[0].name`"),
        (
            json!([described("a", ""), described("a", "")]),
            "`descriptors[1].name` stands before",
        ),
        (json!(["a"]), "`descriptors[0]` must be an object"),
    ] {
        let refused = check(descriptors).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(refused.text.contains(told), "{told}: {}", refused.text);
    }
}
