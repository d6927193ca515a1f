//! Ten thousand tasks with a hundred thousand children: how long a replica takes to know them, and what a decision costs.

use std::time::Instant;

use remit_tests::sql;

use super::*;

/// How many tasks nobody handed on, and how many children each has.
const TASKS: usize = 10_000;
const CHILDREN: usize = 10;
/// How many decisions are timed at a time, and how often, in turn.
const TIMED: u32 = 100;
const TURNS: usize = 15;

/// Opens them in one statement each, as the store would have: a body, and the hash of it.
fn insert(parents: bool) -> String {
    let (ids, parent, depth) = if parents {
        (
            format!("generate_series(1, {TASKS}) AS made (n)"),
            "NULL",
            0,
        )
    } else {
        (
            format!(
                "tasks AS t, generate_series(1, {CHILDREN}) AS made (n) WHERE t.purpose = 'many'"
            ),
            "t.id",
            1,
        )
    };
    let name = if parents { "many" } else { "more" };
    let named = if parents {
        ""
    } else {
        r#","parent":"' || t.id || '""#
    };
    format!(
        r#"WITH declared AS (SELECT {parent}::uuid AS parent,
            '{{"agent":{{"id":"bot","type":"Agent"}},"expires_at":"2090-01-01T00:00:00.000000Z","may_delegate":true{named},"purpose":"{name}"}}' AS body
            FROM {ids})
        INSERT INTO tasks (tenant, id, revision, digest, body, agent_type, agent_id, purpose, parent, root, depth, state,
            opened_at, opened_by, last_active, idle_timeout, expires_at)
        SELECT o.id, gen_random_uuid(), o.revision + 1, 'sha256:' || encode(sha256(convert_to(d.body, 'UTF8')), 'hex'), d.body,
            'Agent', 'bot', '{name}', d.parent, d.parent, {depth}, 'active', 1, 'maya', 4000000000000000, 900000000, 4000000000000000
        FROM declared AS d, tenants AS o"#
    )
}

/// Returns the time of one decision in a task, the least of several turns.
async fn cost(app: &TestApp, task: &str) -> Duration {
    let question = question("bot", &pay(), Some(task)).to_string();
    let began = Instant::now();
    for _ in 0..TIMED {
        let asked = app.post("/access/v1/evaluation", &question).await;
        assert_eq!(reason(&asked), "policy_permit");
    }
    began.elapsed() / TIMED
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_make_no_decision_dearer() {
    let (Some((few, few_b)), Some((many, many_b))) = (
        super::fleet::pair(true).await,
        super::fleet::pair(true).await,
    ) else {
        return;
    };
    let small = few.open(task("bot")).await;
    let large = many.open(task("bot")).await;
    let url = &many.test.database.url;
    for text in [
        insert(true),
        insert(false),
        "UPDATE tenants SET revision = revision + 1".to_owned(),
    ] {
        sql::execute(url, &text).await;
    }
    let began = Instant::now();
    many.test.caught_up().await;
    let caught_up = began.elapsed();
    many_b.caught_up().await;
    // A replica that starts reads all of them.
    let began = Instant::now();
    let options = Options {
        max_staleness: Duration::from_mins(1),
        ..Options::default()
    };
    let fresh = TestApp::sharing(&many.test.database, options).await;
    fresh.caught_up().await;
    let started = began.elapsed();
    let (mut least, mut ratios) = ([Duration::MAX; 2], Vec::new());
    for _ in 0..TURNS {
        let turn = [
            cost(&few.test, &small).await,
            cost(&many.test, &large).await,
        ];
        ratios.push(turn[1].as_secs_f64() / turn[0].as_secs_f64());
        for (least, one) in least.iter_mut().zip(turn) {
            *least = one.min(*least);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[TURNS / 2];
    println!(
        "{TASKS} tasks with {} children: read in {caught_up:?} by a replica that runs, in {started:?} by one that starts; \
         a decision takes {:?} among one and {:?} among all of them, median ratio {ratio:.3}",
        TASKS * CHILDREN,
        least[0],
        least[1]
    );
    assert!(ratio < 1.5, "{ratios:?}");
    // One that was opened by the statement above decides as any.
    let one = sql::texts(
        url,
        "SELECT CAST(id AS TEXT) FROM tasks WHERE purpose = 'more' LIMIT 1",
    )
    .await;
    let asked = fresh
        .post(
            "/access/v1/evaluation",
            question("bot", &pay(), Some(&one[0][0])),
        )
        .await;
    assert_eq!(reason(&asked), "policy_permit", "{}", asked.text);
    drop((few_b, fresh));
}
