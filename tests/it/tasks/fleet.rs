//! What is revoked on one replica, on the other.

use std::time::Instant;

use http::StatusCode;
use remit_tests::postgres::Postgres;

use super::*;

/// How long anything may take on a machine that compiles something meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a revocation is raced.
const RACES: usize = 12;

/// Two replicas on one Postgres; `None` where there is none.
pub(super) async fn pair(hints: bool) -> Option<(World, TestApp)> {
    let url = Postgres::database().await?;
    let database = remit_store::Options {
        hints,
        ..remit_tests::sql::patient(url)
    };
    let named = |name: &str| Options {
        replica: name.to_owned(),
        deadline: PATIENCE,
        max_staleness: Duration::from_secs(30),
        revision_wait: Duration::from_secs(20),
        poll: Duration::from_millis(100),
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, named("a")).await;
    a.put(&bundle()).await;
    let world = World::over(a).await;
    let b = TestApp::sharing(&database, named("b")).await;
    b.caught_up().await;
    Some((world, b))
}

/// Asks a replica at a revision or later, where one is given; returns the reason and the revision of the answer.
pub(super) async fn ask_at(app: &TestApp, task: &str, at_least: Option<&str>) -> (String, u64) {
    let mut request = app.request(Method::POST, "/access/v1/evaluation");
    if let Some(revision) = at_least {
        request = request.header("remit-revision", revision);
    }
    let asked = app.send(request, question("bot", &pay(), Some(task))).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    (
        reason(&asked),
        asked.header("remit-revision").parse().unwrap(),
    )
}

/// With the revision of the revocation, the very next question on another replica is denied; without it, every question
/// after the other replica has reached it, which is soon, and never a permit again after a denial.
async fn a_revocation_reaches_the_other_replica(hints: bool) {
    let Some((world, b)) = pair(hints).await else {
        return;
    };
    let mut longest = Duration::ZERO;
    for race in 0..RACES {
        let opened = world.open_by(&world.ops, &task("bot")).await;
        let (id, revision) = (id_of(&opened), opened.header("remit-revision").to_owned());
        let (first, _) = ask_at(&b, &id, Some(&revision)).await;
        assert_eq!(first, "policy_permit");
        let asking = async {
            let mut seen: Vec<(String, u64)> = Vec::new();
            let began = Instant::now();
            while seen
                .last()
                .is_none_or(|(reason, _)| reason == "policy_permit")
            {
                assert!(began.elapsed() < PATIENCE, "it never arrived");
                seen.push(ask_at(&b, &id, None).await);
            }
            seen
        };
        let revoking = async {
            tokio::time::sleep(Duration::from_millis(u64::try_from(race).unwrap())).await;
            let reply = world.turn(&id, "revoke").await;
            let at = Instant::now();
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            (reply.header("remit-revision").to_owned(), at)
        };
        let (seen, (revoked, at)) = tokio::join!(asking, revoking);
        longest = longest.max(at.elapsed());
        let bound: u64 = revoked.parse().unwrap();
        for (reason, revision) in &seen {
            assert!(
                reason != "policy_permit" || *revision < bound,
                "a permit at {revision}, revoked at {bound}"
            );
        }
        let (now, _) = ask_at(&b, &id, Some(&revoked)).await;
        assert_eq!(now, "task_revoked");
    }
    println!("hints {hints}: {RACES} races, at most {longest:?} until the other replica denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_reaches_the_other_replica_by_hint() {
    a_revocation_reaches_the_other_replica(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_reaches_the_other_replica_by_poll() {
    a_revocation_reaches_the_other_replica(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_in_force_everywhere_when_that_is_waited_for() {
    let Some((world, b)) = pair(true).await else {
        return;
    };
    let reply = world
        .send(&world.ops, "/v1/tasks?wait=fleet", &task("bot"))
        .await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let id = id_of(&reply);
    assert_eq!(ask_at(&b, &id, None).await.0, "policy_permit");
    let path = format!("/v1/tasks/{id}/revoke?wait=fleet");
    let reply = world.send(&world.ops, &path, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(ask_at(&b, &id, None).await.0, "task_revoked");
}
