//! The OpenAPI document: true to the router, to the JSON it shows, and to what was published before.

use std::collections::BTreeSet;

use remit_api::Access;
use remit_core::Role;
use remit_store::Scope;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::contract::DOCUMENT;
use remit_tests::golden;
use remit_tests::schema::misfits;
use serde_json::{Value, json};

fn operations() -> Vec<(String, String, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        })
        .collect()
}

#[test]
fn the_document_is_the_published_one() {
    golden::compare(
        "tests/golden/openapi.json",
        &format!("{}\n", serde_json::to_string_pretty(&*DOCUMENT).unwrap()),
    );
}

#[test]
fn the_document_has_exactly_the_routes() {
    let routed: BTreeSet<(String, String)> = remit_api::endpoints()
        .iter()
        .map(|endpoint| (endpoint.method.to_owned(), endpoint.path.to_owned()))
        .collect();
    let described: BTreeSet<(String, String)> = operations()
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    assert_eq!(routed, described);
}

#[test]
fn the_document_tells_the_scope_that_the_router_demands() {
    for endpoint in remit_api::endpoints() {
        let operation = &DOCUMENT["paths"][endpoint.path][endpoint.method.to_lowercase()];
        let security = match endpoint.access {
            Access::Anybody => json!([]),
            Access::AnyKey => json!([{ "key": [] }]),
            Access::Key(scope) | Access::May(scope, _) => json!([{ "key": [scope.as_str()] }]),
        };
        assert_eq!(
            operation["security"], security,
            "{} {}",
            endpoint.method, endpoint.path
        );
    }
}

/// Nothing of the administration is left to the scope of a key alone.
#[test]
fn the_administration_is_decided_by_the_name_of_the_operation() {
    for endpoint in remit_api::endpoints() {
        let operation = &DOCUMENT["paths"][endpoint.path][endpoint.method.to_lowercase()];
        let (of_admin, named) = match endpoint.access {
            Access::May(_, action) => (true, action.name()),
            Access::Anybody | Access::AnyKey | Access::Key(_) => (false, ""),
        };
        // What an enforcement point tells, asks again or is told is no act of administration.
        let told = [
            "/v1/whoami",
            "/v1/decisions/{id}/outcome",
            "/v1/leases/{id}",
            "/v1/revocations",
        ]
        .contains(&endpoint.path);
        let expected = endpoint.path.starts_with("/v1/") && !told;
        assert_eq!(of_admin, expected, "{} {}", endpoint.method, endpoint.path);
        assert!(!of_admin || operation["operationId"] == named, "{named}");
        let changes = match endpoint.access {
            Access::May(_, action) => action.changes(),
            _ => false,
        };
        let reads = ["check", "impact", "explain", "case", "drift"];
        // What is found out about a draft is kept in it.
        let keeps = endpoint.path.starts_with("/v1/drafts/");
        // An export changes nothing, but everything that a tenant has goes out with it.
        let reads = (endpoint.method == "GET" && named != "export_tenant")
            || (!keeps && reads.iter().any(|end| endpoint.path.ends_with(end)));
        assert!(
            !of_admin || changes != reads,
            "{named} changes something: {changes}"
        );
    }
}

#[test]
fn every_operation_is_named_once_and_said_in_full() {
    let mut ids = BTreeSet::new();
    let tags: BTreeSet<&str> = DOCUMENT["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    for (method, path, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} names two operations");
        for member in ["summary", "description"] {
            assert!(
                !operation[member].as_str().unwrap().is_empty(),
                "{method} {path} has no {member}"
            );
        }
        assert!(
            tags.contains(operation["tags"][0].as_str().unwrap()),
            "{method} {path}"
        );
        for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = part.trim_end_matches('}');
            let parameters = operation["parameters"].as_array().unwrap();
            let found = parameters
                .iter()
                .any(|one| one["in"] == "path" && one["name"] == name);
            assert!(found, "{method} {path} does not describe `{name}`");
        }
    }
}

#[test]
fn every_example_fits_its_schema() {
    let mut seen = 0;
    examples(&DOCUMENT, &mut |schema, example| {
        let misfits = misfits(&DOCUMENT, schema, example);
        assert!(misfits.is_empty(), "{misfits:#?}\n{example:#}");
        seen += 1;
    });
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        if let Some(example) = schema.get("example") {
            let misfits = misfits(&DOCUMENT, schema, example);
            assert!(misfits.is_empty(), "{name}: {misfits:#?}");
        }
    }
    assert!(seen > 60, "only {seen} examples were found");
}

/// Calls `check` with every example below `value` that stands beside a schema.
fn examples(value: &Value, check: &mut impl FnMut(&Value, &Value)) {
    match value {
        Value::Object(members) => {
            // An empty cursor stands for "the first page", which is what one leaves out.
            if let (Some(schema), Some(example)) = (members.get("schema"), members.get("example")) {
                check(schema, example);
            }
            members.values().for_each(|member| examples(member, check));
        }
        Value::Array(items) => items.iter().for_each(|item| examples(item, check)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                found.extend(
                    members
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                members
                    .values()
                    .for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(&DOCUMENT, &mut found);
    for reference in &found {
        assert!(
            DOCUMENT
                .pointer(reference.trim_start_matches('#'))
                .is_some(),
            "{reference}"
        );
    }
    for name in DOCUMENT["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let used = found.contains(&format!("#/components/schemas/{name}"));
        assert!(used, "the schema {name} is used nowhere");
    }
}

/// The published schemas of AuthZEN are an opinion that is not ours: examples of questions and answers fit them.
#[test]
fn the_examples_fit_the_schemas_of_authzen() {
    for (file, schema) in [
        ("evaluation-request", "Question"),
        ("evaluation-response", "Answer"),
    ] {
        let Some(path) = remit_tests::vectors(&format!("authzen/schemas/{file}.schema.json"))
        else {
            return;
        };
        let published: Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let name = format!("#/components/schemas/{schema}");
        let mut seen = 0;
        examples(&DOCUMENT, &mut |schema, example| {
            if schema["$ref"] == name.as_str() {
                let found = misfits(&published, &published, example);
                assert!(found.is_empty(), "{found:#?}");
                seen += 1;
            }
        });
        assert!(seen > 0, "no example of {schema}");
        for example in published["examples"].as_array().unwrap_or(&Vec::new()) {
            let ours = misfits(&DOCUMENT, &json!({ "$ref": name }), example);
            assert!(
                ours.is_empty(),
                "what AuthZEN shows does not fit ours: {ours:#?}"
            );
        }
    }
}

/// A parameter that nobody knows is refused wherever it is sent, and nothing is done.
#[tokio::test]
async fn an_unknown_parameter_of_a_query_is_refused_by_every_operation() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = test.new_key(&[Scope::Tenants], "dev", None).await;
    // What a person agrees to, no machine may ask for.
    let person = test.person("maya", Role::ALL, Scope::ALL).await;
    let before = test
        .get("/v1/whoami")
        .await
        .header("remit-revision")
        .to_owned();
    for (method, path, operation) in operations() {
        if !path.starts_with("/v1/") {
            continue;
        }
        let mut address = path.clone();
        for one in operation["parameters"].as_array().unwrap() {
            if one["in"] == "path" {
                let example = match &one["example"] {
                    Value::String(example) => example.replace('/', "%2F"),
                    other => other.to_string(),
                };
                let name = one["name"].as_str().unwrap();
                address = address.replace(&format!("{{{name}}}"), &example);
            }
        }
        let key = if path.starts_with("/v1/tenants") {
            &operator
        } else if ["/confirm", "/lift", "/endorse"]
            .iter()
            .any(|end| path.ends_with(end))
        {
            &person
        } else {
            &test.key
        };
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let address = format!("{address}?nonsense=1");
        let request = test.request_with(key, method.clone(), &address);
        let reply = test.send(request, "").await;
        assert_eq!(reply.status, 400, "{method} {address}: {}", reply.text);
        assert!(
            reply.text.contains("nonsense"),
            "{method} {address}: {}",
            reply.text
        );
    }
    assert_eq!(
        test.get("/v1/whoami").await.header("remit-revision"),
        before
    );
}
