//! Outcomes: told once, of the permit and not of what renews it.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{advance, open, read, renew, world};

#[tokio::test]
async fn an_outcome_of_a_renewal_gives_nothing_back() {
    let world = world("").await;
    let test = &world.test;
    let task = open(&world, json!({ "budget": { "calls": 2 } })).await;
    let asked = read(&world, Some(&task)).await;
    let root = asked.header("x-decision-id").to_owned();
    let mut renewals = Vec::new();
    for _ in 0..3 {
        let renewed = renew(test, &test.key, &root).await;
        assert_eq!(renewed.json()["decision"], true, "{}", renewed.text);
        renewals.push(renewed.header("x-decision-id").to_owned());
    }
    for id in &renewals {
        let path = format!("/v1/decisions/{id}/outcome");
        let told = test.post(&path, json!({ "result": "not_made" })).await;
        assert_eq!(told.status, StatusCode::CONFLICT, "{}", told.text);
        assert_eq!(told.json()["why"], "renewal", "{}", told.text);
    }
    let second = read(&world, Some(&task)).await;
    assert_eq!(second.json()["decision"], true, "{}", second.text);
    let third = read(&world, Some(&task)).await;
    let answer = third.json();
    assert_eq!(answer["context"]["reason"], "budget_exhausted", "{answer}");
    // Nobody waits for an outcome of them either.
    advance(test, Duration::from_mins(10)).await;
    let orphans = test.get(&format!("/v1/orphans?task={task}")).await;
    assert_eq!(orphans.status, StatusCode::OK, "{}", orphans.text);
    assert!(orphans.text.contains(&root), "{}", orphans.text);
    for id in &renewals {
        assert!(!orphans.text.contains(id), "{}", orphans.text);
    }
    let path = format!("/v1/decisions/{root}/outcome");
    let told = test.post(&path, json!({ "result": "not_made" })).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
}
