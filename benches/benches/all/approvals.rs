//! Approvals on Postgres: how fast they are consumed, what 100,000 that wait cost, and how soon another replica knows of one.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use remit_core::{Bundle, Source};
use serde_json::{Value, json};

use crate::load::{answer, once, request};
use crate::measure::{Effort, Figures, count};
use crate::postgres::Postgres;
use crate::report::Report;
use crate::servers::{Core, Installation, Server};

const SCHEMA: &str = r#"
entity Agent; entity Desk; entity Purpose;
action open_task appliesTo { principal: Agent, resource: Purpose, context: { facts: Remit::Facts } };
action pay, spend appliesTo { principal: Agent, resource: Desk, context: { facts: Remit::Facts, number: Long } };
"#;
const POLICIES: &str = r#"
@id("agents") permit (principal is Agent, action, resource);
@id("asks") @cure("approval:desk") forbid (principal, action == Action::"pay", resource) unless { context.facts.approved };
"#;
/// How many agents ask: no more than 100 requests of one may wait.
const AGENTS: usize = 40;
/// How many connections ask at a time.
const LANES: usize = 32;
/// How many persons approve; none may answer more than 10,000 within an hour.
const PERSONS: usize = 3;
/// More calls than a run can make.
const ENDLESS: u64 = 1 << 50;

/// One server, and a key to it.
#[derive(Clone, Copy)]
struct Api<'a> {
    address: SocketAddr,
    key: &'a str,
}

/// A request that was made, and the question that it is about.
struct Asked {
    question: Value,
    id: String,
    card: String,
}

/// Measures, and notes the targets.
///
/// # Errors
///
/// When a server does not start, or answers wrongly.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    println!("\nApprovals on Postgres");
    let Some(postgres) = Postgres::start()? else {
        report.missing("approvals", "there is no Postgres");
        return Ok(());
    };
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let bundle = Bundle {
        schema: vec![source("bench.cedarschema", SCHEMA)],
        policies: vec![source("bench.cedar", POLICIES)],
        ..Bundle::default()
    };
    let folder = folder.join("approvals");
    let first = Installation::make_at(
        &folder.join("one"),
        postgres.url(),
        Some(&bundle),
        std::iter::empty(),
    )?;
    let second = Installation::beside(&folder.join("two"), &first.key)?;
    let settings = [
        ("REMIT__DATABASE__URL".to_owned(), postgres.url()),
        // Each decision with a budget in a transaction of its own, as each that uses an approval is.
        ("REMIT__TASKS__ESCROW_FROM".to_owned(), "0".to_owned()),
        // What is measured asks far more often than an agent does.
        (
            "REMIT__APPROVALS__ASKED_PER_MINUTE".to_owned(),
            "1000000".to_owned(),
        ),
    ];
    let one = Server::remit(&first, Core::Any, &settings)?;
    let api = Api {
        address: one.address,
        key: &first.key,
    };
    let persons = people(api)?;
    let persons: Vec<&str> = persons.iter().map(String::as_str).collect();
    consume(effort, &postgres, api, &persons, report)?;
    let two = Server::remit(&second, Core::Any, &settings)?;
    let other = Api {
        address: two.address,
        key: &first.key,
    };
    across(effort, [api, other], &persons, report)?;
    drop(two);
    crowd(effort, &postgres, api, &persons, report)
}

/// Consumes approvals, each once, beside decisions with a budget.
fn consume(
    effort: Effort,
    postgres: &Postgres,
    api: Api<'_>,
    persons: &[&str],
    report: &mut Report,
) -> io::Result<()> {
    let number = effort.pick(3_000, 60);
    let mut with_approval = VecDeque::new();
    for (place, person) in (0..number).zip(persons.iter().cycle()) {
        let asked = api.ask(place)?;
        api.as_key(person).approve(&asked)?;
        with_approval.push_back(api.evaluation(&approved(&asked)));
    }
    let tasks = tasks(api)?;
    let with_budget: VecDeque<Vec<u8>> = (0..number)
        .map(|place| {
            let mut question = question("spend", place);
            let task = tasks.get(place % AGENTS);
            if let Some(context) = question.get_mut("context") {
                context["task"] = json!(task);
            }
            api.evaluation(&question)
        })
        .collect();
    // In turn, so that the ratio survives a noisy neighbour.
    let (mut ratio, mut rate) = (Figures::default(), Figures::default());
    // The last part is asked while it is counted.
    let part = number / 6;
    let (mut approvals, mut budgets) = (with_approval, with_budget);
    // Nobody pays for opening connections.
    drain(api.address, budgets.drain(..part).collect())?;
    for _ in 0..5 {
        let budget = drain(api.address, budgets.drain(..part).collect())?;
        let approval = drain(api.address, approvals.drain(..part).collect())?;
        rate.push(approval);
        ratio.push(approval / budget);
    }
    println!("  consumed: {rate} a second, {ratio} times the decisions with a budget");
    report.at_least(
        "approvals consumed on Postgres",
        rate.median(),
        300.0,
        "a second",
    );
    report.note(
        "approvals consumed over decisions with a budget",
        format!("{:.2} times", ratio.median()),
    );
    let (calls, statements) = trips(postgres, api, approvals)?;
    println!("  for each: {calls:.2} calls of `remit_take`, {statements:.2} statements in all");
    report.note("statements for an approval", format!("{statements:.2}"));
    Ok(())
}

/// Counts in the log of Postgres what the rest of the questions ask of it, after what it is asked at rest.
fn trips(postgres: &Postgres, api: Api<'_>, asks: VecDeque<Vec<u8>>) -> io::Result<(f64, f64)> {
    let logging = |what: &str| {
        let sql = format!("ALTER SYSTEM SET log_statement = '{what}'");
        postgres.run("postgres", &sql)?;
        postgres.run("postgres", "SELECT pg_reload_conf()")?;
        thread::sleep(Duration::from_millis(500));
        io::Result::Ok(fs::read_to_string(postgres.log())?.lines().count())
    };
    let number = count(asks.len());
    let before = logging("all")?;
    let began = Instant::now();
    thread::sleep(Duration::from_secs(2));
    let at_rest = fs::read_to_string(postgres.log())?;
    let idle = asked(&at_rest, before, "").max(1.0) / began.elapsed().as_secs_f64();
    let from = at_rest.lines().count();
    let start = Instant::now();
    drain(api.address, asks)?;
    let took = start.elapsed().as_secs_f64();
    let log = fs::read_to_string(postgres.log())?;
    logging("none")?;
    let all = asked(&log, from, "") - idle * took;
    Ok((asked(&log, from, "remit_take") / number, all / number))
}

/// Counts the statements from a line on that hold a word.
fn asked(log: &str, from: usize, word: &str) -> f64 {
    let lines = log.lines().skip(from);
    let asked = lines.filter(|line| {
        let is_one = line.contains(" execute ") || line.contains(" statement: ");
        is_one && line.contains(word)
    });
    count(asked.count())
}

/// Approves on one replica and asks the other until it knows.
fn across(
    effort: Effort,
    [api, other]: [Api<'_>; 2],
    persons: &[&str],
    report: &mut Report,
) -> io::Result<()> {
    let mut seen = Figures::default();
    let rounds = effort.pick(50, 5);
    for (place, person) in (0..rounds).zip(persons.iter().cycle()) {
        let asked = api.ask(1_000_000 + place)?;
        let ask = other.evaluation(&approved(&asked));
        api.as_key(person).approve(&asked)?;
        let start = Instant::now();
        while !once(other.address, &ask)?.1.contains(PERMIT) {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(io::Error::other("the other replica never knows"));
            }
        }
        seen.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("  approved on one replica, permitted on the other after {seen} ms");
    report.at_most(
        "approved here, permitted on the other replica: median",
        seen.median(),
        100.0,
        "ms",
    );
    Ok(())
}

/// Lists, counts, shows and answers requests, and decides what wants one, while a hundred wait, and while 100,000 do.
fn crowd(
    effort: Effort,
    postgres: &Postgres,
    api: Api<'_>,
    persons: &[&str],
    report: &mut Report,
) -> io::Result<()> {
    let rounds = effort.pick(100, 5);
    let mut asked = VecDeque::new();
    for place in 0..rounds * 4 {
        asked.push_back(api.ask(2_000_000 + place)?);
    }
    let person = |place: usize| {
        persons
            .get(place % persons.len())
            .copied()
            .unwrap_or_default()
    };
    let mut before = Vec::new();
    for crowd in [false, true] {
        if crowd {
            copies(postgres, effort.pick(100_000, 500))?;
        }
        let mut rows: Vec<(&str, Figures)> = Vec::new();
        for (what, path) in [
            ("list", "/v1/approvals?limit=50"),
            ("list of mine", "/v1/approvals?mine=true&limit=50"),
            ("facets", "/v1/approvals/facets"),
        ] {
            let mut times = Figures::default();
            for place in 0..rounds {
                let ask = api.as_key(person(place)).bytes("GET", path, "");
                times.push(timed(api.address, &ask)?);
            }
            rows.push((what, times));
        }
        let (mut shown, mut approve, mut deny) =
            (Figures::default(), Figures::default(), Figures::default());
        for place in 0..rounds {
            let api = api.as_key(person(place));
            let mut next = || {
                asked
                    .pop_front()
                    .ok_or_else(|| io::Error::other("none left"))
            };
            let (one, other) = (next()?, next()?);
            let path = format!("/v1/approvals/{}", one.id);
            shown.push(timed(api.address, &api.bytes("GET", &path, ""))?);
            let seen = json!({ "seen": one.card }).to_string();
            let ask = api.bytes("POST", &format!("{path}/approve"), &seen);
            approve.push(timed(api.address, &ask)?);
            let seen = json!({ "seen": other.card, "reason": "a benchmark" }).to_string();
            let path = format!("/v1/approvals/{}/deny", other.id);
            deny.push(timed(api.address, &api.bytes("POST", &path, &seen))?);
        }
        rows.extend([("get", shown), ("approve", approve), ("deny", deny)]);
        let from = 3_000_000 + if crowd { rounds } else { 0 };
        rows.push(("decide", decided(api, from..from + rounds)?));
        if !crowd {
            before = rows;
            continue;
        }
        told(&before, &rows, report);
    }
    Ok(())
}

/// Decides calls that are denied because nobody has approved them; returns how long each took, in milliseconds.
fn decided(api: Api<'_>, places: Range<usize>) -> io::Result<Figures> {
    let mut times = Figures::default();
    for place in places {
        let ask = api.evaluation(&question("pay", place));
        let start = Instant::now();
        let (status, body) = once(api.address, &ask)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if !body.contains("\"approval_required\"") {
            return Err(io::Error::other(format!("{status}: {body}")));
        }
    }
    Ok(times)
}

/// Prints how long each took without the crowd and with it, and notes the targets.
fn told(before: &[(&str, Figures)], after: &[(&str, Figures)], report: &mut Report) {
    for ((what, few), (_, many)) in before.iter().zip(after) {
        let [few, many] = [few, many].map(|times| (times.median(), times.at(0.99)));
        println!(
            "  {what}: p50 {:.1} ms, p99 {:.1} ms; with the crowd p50 {:.1} ms, p99 {:.1} ms",
            few.0, few.1, many.0, many.1
        );
        report.at_most(
            format!("{what} among 100,000 that wait: p99"),
            many.1,
            50.0,
            "ms",
        );
        report.at_most(
            format!("{what} among 100,000 that wait: p99 over that without them"),
            (many.1 - few.1).max(0.0),
            50.0,
            "ms",
        );
    }
}

/// Copies one request that waits, under other ids and of other agents, as often as that; tidies up as Postgres does by itself
/// within a minute.
fn copies(postgres: &Postgres, number: usize) -> io::Result<()> {
    let sql = format!(
        "SET session_replication_role = replica;
         CREATE TEMP TABLE ids AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, {number}) AS n;
         CREATE TEMP TABLE last AS SELECT id FROM access_requests WHERE state = 'pending' ORDER BY id DESC LIMIT 1;
         INSERT INTO access_requests SELECT made.* FROM access_requests AS one JOIN last USING (id), ids,
             jsonb_populate_record(one, jsonb_build_object(
                 'id', ids.id, 'bound', 'copy-' || ids.n, 'subject_id', 'crowd-' || ids.n % 1000)) AS made;
         INSERT INTO access_request_groups SELECT made.* FROM access_request_groups AS one JOIN last ON last.id = one.request,
             ids, jsonb_populate_record(one, jsonb_build_object('request', ids.id)) AS made;
         VACUUM ANALYZE access_requests; VACUUM ANALYZE access_request_groups;"
    );
    postgres.run("remit", &sql).map(drop)
}

/// What a permit has in it.
const PERMIT: &str = "\"decision\":true";

fn question(action: &str, place: usize) -> Value {
    json!({
        "subject": { "type": "Agent", "id": format!("agent-{}", place % AGENTS) },
        "action": { "name": action },
        "resource": { "type": "Desk", "id": "desk" },
        "context": { "number": place },
    })
}

/// Presents the approval of a request with its question.
fn approved(asked: &Asked) -> Value {
    let mut question = asked.question.clone();
    question["context"]["approval"] = json!({ "id": asked.id });
    question
}

/// Brings in the persons who approve; returns their keys.
fn people(api: Api<'_>) -> io::Result<Vec<String>> {
    let (mut keys, mut members) = (Vec::new(), Vec::new());
    for number in 0..PERSONS {
        let name = format!("person-{number}");
        let body = json!({ "kind": "person", "roles": ["approver"] });
        api.send("PUT", &format!("/v1/principals/{name}"), &body)?;
        let body = json!({
            "name": name, "environment": "bench", "scopes": ["approve", "read"], "principal": name,
        });
        let made = api.send("POST", "/v1/keys", &body)?;
        keys.push(made["key"].as_str().unwrap_or_default().to_owned());
        members.push(json!({ "principal": name }));
    }
    let group = json!({ "members": members, "most_open": 10_000, "most_per_hour": 10_000 });
    api.send("PUT", "/v1/approver-groups/desk", &group)?;
    Ok(keys)
}

/// Opens a task with a budget for each agent.
fn tasks(api: Api<'_>) -> io::Result<Vec<Value>> {
    let mut tasks = Vec::new();
    for agent in 0..AGENTS {
        let body = json!({
            "agent": { "type": "Agent", "id": format!("agent-{agent}") },
            "purpose": "a benchmark", "intent": "spend", "budget": { "calls": ENDLESS },
        });
        tasks.push(api.send("POST", "/v1/tasks", &body)?["id"].clone());
    }
    Ok(tasks)
}

/// Sends each request once, as fast as they are answered; returns how many a second were permitted.
fn drain(address: SocketAddr, asks: VecDeque<Vec<u8>>) -> io::Result<f64> {
    let number = count(asks.len());
    let asks = Mutex::new(asks);
    let next = || {
        asks.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let lane = || -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        while let Some(ask) = next() {
            stream.write_all(&ask)?;
            let (status, body) = answer(&mut stream)?;
            if !body.contains(PERMIT) {
                return Err(io::Error::other(format!("{status}: {body}")));
            }
        }
        Ok(())
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| {
            let ended = lane.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a lane ended early")))
        })
    })?;
    Ok(number / start.elapsed().as_secs_f64())
}

/// Sends one request and returns how long the answer took, in milliseconds.
fn timed(address: SocketAddr, ask: &[u8]) -> io::Result<f64> {
    let start = Instant::now();
    let (status, body) = once(address, ask)?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    if status == 200 {
        Ok(took)
    } else {
        Err(io::Error::other(format!("{status}: {body}")))
    }
}

// === impl Api ===

impl<'a> Api<'a> {
    /// The same server with another key.
    fn as_key(self, key: &'a str) -> Self {
        Self { key, ..self }
    }

    fn bytes(self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let bearer = format!("Bearer {}", self.key);
        let headers = [("Authorization", bearer.as_str())];
        request(method, path, self.address, &headers, body)
    }

    fn send(self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let (status, told) = once(self.address, &self.bytes(method, path, &body.to_string()))?;
        if (200..300).contains(&status) {
            Ok(serde_json::from_str(&told)?)
        } else {
            Err(io::Error::other(format!(
                "{method} {path}: {status}: {told}"
            )))
        }
    }

    fn evaluation(self, question: &Value) -> Vec<u8> {
        self.bytes("POST", "/access/v1/evaluation", &question.to_string())
    }

    /// Asks a question that wants an approval, and for the approval.
    fn ask(self, place: usize) -> io::Result<Asked> {
        let question = question("pay", place);
        let denied = self.send("POST", "/access/v1/evaluation", &question)?;
        let context = &denied["context"];
        let mut body = question.clone();
        body["denial"] = json!({
            "evaluation_id": context["evaluation_id"],
            "reason": context["reason"],
            "expires_at": context["access_request"]["expires_at"],
        });
        let handle = self.send("POST", "/access/v1/requests", &body)?;
        let id = handle["task"]["id"].as_str().unwrap_or_default().to_owned();
        let path = format!("/v1/approvals/{id}");
        let (_, told) = once(self.address, &self.bytes("GET", &path, ""))?;
        let shown: Value = serde_json::from_str(&told)?;
        Ok(Asked {
            question,
            id,
            card: shown["card_hash"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn approve(self, asked: &Asked) -> io::Result<()> {
        let path = format!("/v1/approvals/{}/approve", asked.id);
        self.send("POST", &path, &json!({ "seen": asked.card }))
            .map(drop)
    }
}
