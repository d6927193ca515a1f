//! The certification of AuthZEN 1.0: the OpenID Foundation's vectors against the real binary, checked as its suite does.

use std::fmt::Write as _;
use std::fs;

use remit_tests::postgres::Postgres;
use remit_tests::server::{Remit, client};
use serde::Deserialize;
use serde_json::{Value, json};

/// One vector of `authzen/certification.json`.
#[derive(Debug, Deserialize)]
struct Vector {
    test: String,
    endpoint: String,
    method: String,
    content_type: String,
    body: Value,
    raw_body: Option<String>,
    accept_status: Vec<u16>,
    expected: Value,
    x_request_id: bool,
    skip_auth: bool,
    corrupt_auth: bool,
}

/// How often the suite asks the same question to see whether the answer is stable.
const TIMES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn authzen_certification_sqlite() {
    certify(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authzen_certification_postgres() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    certify(Some(url)).await;
}

async fn start(database_url: Option<&str>) -> Remit {
    let folder = remit_tests::root().join("policies/authzen-certification");
    let plan = Remit::dev(env!("CARGO_BIN_EXE_remit")).bundle(&folder);
    match database_url {
        Some(url) => plan.variable("REMIT__DATABASE__URL", url).start().await,
        None => plan.start().await,
    }
}

fn vectors() -> Option<Vec<Vector>> {
    let path = remit_tests::vectors("authzen/certification.json")?;
    let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    Some(serde_json::from_value(file["vectors"].take()).unwrap())
}

async fn certify(database_url: Option<String>) {
    let Some(vectors) = vectors() else { return };
    let database = if database_url.is_some() {
        "Postgres"
    } else {
        "SQLite"
    };
    let remit = start(database_url.as_deref()).await;

    let mut failures = String::new();
    let mut failed = 0;
    for vector in &vectors {
        if let Err(problem) = check(&remit, vector).await {
            failed += 1;
            writeln!(failures, "{}: {problem}", vector.test).unwrap();
        }
    }
    let passed = vectors.len() - failed;
    println!(
        "AuthZEN certification on {database}: {passed} of {} vectors pass, {failed} fail",
        vectors.len()
    );
    assert_eq!(
        vectors.len(),
        127,
        "the vectors are not the ones this test was written for"
    );
    assert!(failed == 0, "{failures}\n{}", remit.output());
}

/// A replayer that cannot fail proves nothing: with another key nearly everything must.
#[tokio::test(flavor = "multi_thread")]
async fn the_certification_fails_where_it_should() {
    let Some(vectors) = vectors() else { return };
    let mut remit = start(None).await;
    remit.key = "not-the-key-of-this-server".to_owned();
    let mut failed = 0;
    for vector in &vectors {
        failed += usize::from(check(&remit, vector).await.is_err());
    }
    println!(
        "with a wrong key {failed} of {} vectors fail",
        vectors.len()
    );
    assert!(failed > 100);
}

async fn check(remit: &Remit, vector: &Vector) -> Result<(), String> {
    let first = send(remit, vector, &vector.body).await?;
    if vector.expected.is_null() {
        return Ok(());
    }
    let first = first.ok_or("no JSON body")?;
    match &vector.expected {
        expected if expected.get("decision").is_some() => {
            same("decision", &expected["decision"], &first["decision"])?;
            if first.get("evaluations").is_some() {
                return Err("a single answer has `evaluations`".to_owned());
            }
        }
        expected if expected.get("evaluations").is_some() => {
            let decisions = |body: &Value| -> Vec<Value> {
                let items = body["evaluations"].as_array().cloned().unwrap_or_default();
                items.iter().map(|item| item["decision"].clone()).collect()
            };
            same(
                "decisions",
                &json!(decisions(expected)),
                &json!(decisions(&first)),
            )?;
        }
        expected => {
            let results =
                if vector.body.get("page").and_then(|page| page.get("limit")) == Some(&json!(1)) {
                    walk(remit, vector).await?
                } else {
                    array(&first["results"])?
                };
            for wanted in expected["results"].as_array().unwrap() {
                if !results.contains(wanted) {
                    return Err(format!("{wanted} is not among {results:?}"));
                }
            }
            if expected["results"] == json!([]) && !results.is_empty() {
                return Err(format!("nothing was to be found, but {results:?} was"));
            }
        }
    }
    for _ in 1..TIMES {
        let again = send(remit, vector, &vector.body)
            .await?
            .ok_or("no JSON body")?;
        if vector.endpoint.ends_with("/evaluation") {
            same(
                "the decision, asked again",
                &first["decision"],
                &again["decision"],
            )?;
        } else {
            same("the body, asked again", &first, &again)?;
        }
    }
    Ok(())
}

/// Walks all pages of length one and returns everything they hold.
async fn walk(remit: &Remit, vector: &Vector) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    let mut body = vector.body.clone();
    for _ in 0..100 {
        let page = send(remit, vector, &body).await?.ok_or("no JSON body")?;
        let results = array(&page["results"])?;
        if results.len() > 1 {
            return Err(format!("a page of length 1 has {} results", results.len()));
        }
        all.extend(results);
        let token = page["page"]["next_token"]
            .as_str()
            .ok_or("`page.next_token` is missing")?;
        if token.is_empty() {
            return Ok(all);
        }
        body["page"]["token"] = json!(token);
    }
    Err("the pages do not end".to_owned())
}

/// Sends a vector with this body, checks what holds for every vector, and returns the JSON body of a success.
async fn send(remit: &Remit, vector: &Vector, body: &Value) -> Result<Option<Value>, String> {
    let method = vector.method.parse().unwrap();
    let mut request = client().request(method, format!("{}{}", remit.url, vector.endpoint));
    if vector.corrupt_auth {
        request = request.bearer_auth(format!("{}-corrupt", remit.key));
    } else if !vector.skip_auth {
        request = request.bearer_auth(&remit.key);
    }
    let request_id = "certification-0042";
    if vector.x_request_id {
        request = request.header("X-Request-ID", request_id);
    }
    request = request.header("content-type", &vector.content_type);
    if vector.method != "GET" {
        request = request.body(vector.raw_body.clone().unwrap_or_else(|| body.to_string()));
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let headers = answer.headers().clone();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !vector.accept_status.contains(&status) {
        return Err(format!(
            "status {status} is not among {:?}: {text}",
            vector.accept_status
        ));
    }
    if vector.x_request_id
        && headers
            .get("x-request-id")
            .is_none_or(|id| id != request_id)
    {
        return Err("the request id is not echoed".to_owned());
    }
    if status == 401 && !headers.contains_key("www-authenticate") {
        return Err("a 401 without WWW-Authenticate".to_owned());
    }
    if headers
        .get("content-type")
        .is_none_or(|media| media != "application/json")
    {
        return Err(format!(
            "the content type is {:?}",
            headers.get("content-type")
        ));
    }
    let json: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    if status >= 400 {
        return if json.is_string() {
            Ok(None)
        } else {
            Err(format!("the error is not a string: {text}"))
        };
    }
    // `page` is to come first, and only where it was asked for.
    if let Some(page) = json.get("page") {
        if !text.starts_with(r#"{"page":"#) || vector.body.get("page").is_none() {
            return Err(format!("`page` is in the wrong place: {text}"));
        }
        page["next_token"]
            .as_str()
            .ok_or("`page.next_token` is missing")?;
    }
    Ok(Some(json))
}

fn array(value: &Value) -> Result<Vec<Value>, String> {
    value
        .as_array()
        .cloned()
        .ok_or_else(|| format!("`results` is {value}"))
}

fn same(what: &str, expected: &Value, found: &Value) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: {expected} was expected, {found} came"))
}
