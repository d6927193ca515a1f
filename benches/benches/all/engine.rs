//! The engine in process: CPU per decision, alone, against Cedar's own `Authorizer`, and against regorus.
//!
//! Everything compared decides the same questions in one process and in turn, A B A B …, so that whatever else the
//! machine does hits all of it; every pair of answers is compared. For Cedar the request and its entities are built
//! beforehand and not counted; for the engine everything from the AuthZEN question on is.

use std::hint::black_box;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};

use cedar_policy::{Authorizer, Decision, Response};
use regorus::utils::limits::PolicyLengthConfig;
use remit_core::{Facts, KeyId, Question, Timestamp, Verdict};
use remit_engine::Snapshot;

use crate::measure::{Effort, Figures, count, cpu_each};
use crate::report::Report;
use crate::rules::Rules;
use crate::tasks;
use crate::translate::{REGO_OVER_DATA, bundle, rego, rego_data};
use crate::world::World;

/// Different questions, asked in turn.
const QUESTIONS: usize = 2_000;

/// Measures the engine and notes its targets.
///
/// # Errors
///
/// Never; the sections are alike.
pub fn run(effort: Effort, report: &mut Report) -> io::Result<()> {
    println!("\nEngine, CPU us a decision, medians (least-most)");
    let small = World::new(10, 1_000, "p");
    let figures = alone(effort, "10 policies, question -> decision", &small);
    report.at_most(
        "engine, question -> decision, 10 policies",
        figures.median(),
        5.0,
        "us",
    );

    let many = World::new(10_000, 10_000, "p");
    let (parsed, bytes, ratio) = against_cedar(effort, &many);
    println!("  10,000 policies, bytes -> question -> decision             {bytes}");
    println!("  10,000 policies, question -> decision                      {parsed}");
    report.at_most(
        "engine, bytes -> decision, 10,000 policies",
        bytes.median(),
        25.0,
        "us",
    );
    report.at_least(
        "engine over plain Authorizer, 10,000 policies",
        ratio,
        1_000.0,
        "x",
    );
    drop(many);

    let (policies, entities) = effort.pick((100_000, 1_000_000), (1_000, 10_000));
    let world = World::new(policies, entities, "p");
    let name = format!("{policies} policies, {entities} entities, question -> decision");
    let figures = alone(effort, &name, &world);
    report.at_most(
        format!("engine, {policies} policies, {entities} entities"),
        figures.median(),
        20.0,
        "us",
    );
    tasks::run(effort, report);
    Ok(())
}

/// Measures Remit's engine, Cedar's Authorizer and regorus on the rule sets that HTTP is measured with.
///
/// # Errors
///
/// When one answers wrongly.
pub fn peers(effort: Effort, report: &mut Report) -> io::Result<()> {
    println!("\nIn process on the rules of HTTP, CPU us a decision, medians (least-most)");
    for size in effort.pick(&[10, 1_000, 10_000][..], &[10, 100][..]) {
        let rules = Rules::new(*size);
        let snapshot = Snapshot::compile(&bundle(&rules, "r")).expect("a bundle that compiles");
        let calls: Vec<_> = rules
            .calls(1_000)
            .into_iter()
            .map(|(call, allowed)| (call.parsed(), rego_input(&call.parsed()), allowed))
            .collect();
        let mut as_rules = regorus::Engine::new();
        let mut as_data = regorus::Engine::new();
        let text = rego(&rules);
        // Its limits are for text from outside; 10,000 rules are beyond them.
        as_rules.set_policy_length_config(PolicyLengthConfig {
            max_col: NonZeroU32::MAX,
            max_file_bytes: NonZeroUsize::MAX,
            max_lines: NonZeroUsize::MAX,
        });
        as_rules
            .add_policy("bench.rego".to_owned(), text)
            .map_err(io::Error::other)?;
        as_data
            .add_policy("bench.rego".to_owned(), REGO_OVER_DATA.to_owned())
            .map_err(io::Error::other)?;
        as_data
            .add_data(regorus::Value::from(rego_data(&rules)))
            .map_err(io::Error::other)?;
        let mut figures = [(); 3].map(|()| Figures::default());
        for round in 0..effort.pick(5, 2) {
            let [ours, rules, data] = &mut figures;
            ours.push(cpu_each(effort, |run| {
                let (question, _, allowed) = at(&calls, run + round);
                let decision = snapshot.decide(question, &facts());
                assert_eq!(
                    decision.verdict == Verdict::Permit,
                    *allowed,
                    "{question:?}"
                );
            }));
            for (engine, figures) in [(&mut as_rules, rules), (&mut as_data, data)] {
                figures.push(cpu_each(effort, |run| {
                    let (question, input, allowed) = at(&calls, run + round);
                    engine.set_input(input.clone());
                    let answer = engine.eval_rule("data.bench.allow".to_owned());
                    let right = answer.is_ok_and(|it| it == regorus::Value::from(*allowed));
                    assert!(right, "regorus on {question:?}");
                }));
            }
        }
        let [ours, rules, data] = &figures;
        println!(
            "  {size:>6} rules: Remit's engine {ours}, regorus, rules as Rego {rules}, as data {data}"
        );
        report.note(
            format!("regorus in process, {size} rules: CPU over our engine, as Rego / as data"),
            format!(
                "{:.0} / {:.1} x",
                rules.median() / ours.median(),
                data.median() / ours.median()
            ),
        );
    }
    Ok(())
}

/// Measures the engine alone, on questions that meet ten policies or fewer.
fn alone(effort: Effort, name: &str, world: &World) -> Figures {
    let mut figures = Figures::default();
    let (mut candidates, mut permits) = (Figures::default(), 0);
    // A round that is not counted warms it up.
    for round in 0..=effort.pick(9, 2) {
        let questions = world.narrow_questions(round, QUESTIONS);
        let each = cpu_each(effort, |run| {
            black_box(world.snapshot.decide(at(&questions, run), &facts()));
        });
        if round > 0 {
            figures.push(each);
        }
        for question in &questions {
            candidates.push(count(world.candidates(question)));
            let decision = world.snapshot.decide(question, &facts());
            permits += usize::from(decision.verdict == Verdict::Permit);
        }
    }
    let asked = count(QUESTIONS * (effort.pick(9, 2) + 1));
    println!(
        "  {name:<58} {figures}; candidates {candidates}; {:.0} % permitted; compiled in {:.1} s",
        100.0 * count(permits) / asked,
        world.compiled
    );
    figures
}

/// Measures the engine and Cedar's Authorizer in turn: from the question, from bytes, and the ratio.
fn against_cedar(effort: Effort, world: &World) -> (Figures, Figures, f64) {
    let plain = world.plain();
    let (mut ours, mut theirs, mut bytes) =
        (Figures::default(), Figures::default(), Figures::default());
    for round in 0..=effort.pick(5, 1) {
        let questions = world.questions(round, QUESTIONS);
        let requests: Vec<_> = questions
            .iter()
            .take(8)
            .map(|it| plain.request(it))
            .collect();
        let texts: Vec<String> = questions
            .iter()
            .map(|question| serde_json::to_string(question).expect("JSON"))
            .collect();
        let one = cpu_each(effort, |run| {
            black_box(world.snapshot.decide(at(&questions, run), &facts()));
        });
        let parsed = cpu_each(effort, |run| {
            let question: Question =
                serde_json::from_slice(at(&texts, run).as_bytes()).expect("a question");
            question.check().expect("a question that can be asked");
            black_box(world.snapshot.decide(&question, &facts()));
        });
        let authorizer = Authorizer::new();
        let cedar = cpu_each(effort, |run| {
            let request = at(&requests, run);
            black_box(authorizer.is_authorized(request, &plain.policies, &plain.entities));
        });
        for (question, request) in questions.iter().zip(&requests) {
            let response = authorizer.is_authorized(request, &plain.policies, &plain.entities);
            compare(
                question,
                &world.snapshot.decide(question, &facts()),
                &response,
            );
        }
        if round > 0 {
            ours.push(one);
            bytes.push(parsed);
            theirs.push(cedar);
        }
    }
    println!("  10,000 policies, Cedar's Authorizer, request built         {theirs}");
    let ratio = theirs.median() / ours.median();
    (ours, bytes, ratio)
}

/// Checks that both gave the same answer for the same policies.
fn compare(question: &Question, decision: &remit_core::Decision, response: &Response) {
    let permitted = response.decision() == Decision::Allow;
    assert_eq!(
        decision.verdict == Verdict::Permit,
        permitted,
        "{question:?}"
    );
    let reasons = response.diagnostics().reason();
    let mut reasons: Vec<String> = reasons.map(ToString::to_string).collect();
    reasons.sort();
    let determining = decision.determining.iter();
    let determining: Vec<String> = determining.map(ToString::to_string).collect();
    assert_eq!(determining, reasons, "{question:?}");
}

fn rego_input(question: &Question) -> regorus::Value {
    regorus::Value::from(serde_json::to_value(question).expect("JSON"))
}

/// The facts of every question.
pub fn facts() -> Facts {
    Facts {
        approved: true,
        ..Facts::plain(
            KeyId::from_uuid(uuid::Uuid::nil()),
            "live",
            Timestamp::from_micros(1_700_000_000_000_000),
        )
    }
}

/// Returns one after the other, from the first again after the last.
pub fn at<T>(items: &[T], run: usize) -> &T {
    items.get(run % items.len()).expect("a place within")
}
