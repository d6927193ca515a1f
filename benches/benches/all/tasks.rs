//! Decisions in a task beside the same ones outside: what labels, sinks and a declaration cost the engine.
//!
//! Both ask the same questions of the same policies, in turn; outside a task, the policies that read one find none.

use std::hint::black_box;

use remit_core::{
    Bundle, CallFacts, CaseFacts, Facts, Label, Question, Source, Verdict, canonical_json,
    trusted_sinks,
};
use remit_engine::Snapshot;
use serde_json::json;

use crate::engine::{at, facts};
use crate::measure::{Effort, Figures, cpu_each};
use crate::report::Report;

const SCHEMA: &str = r#"
@registered("agent")
entity Agent;
entity Payee;
action pay, egress;
action transfer in [pay] appliesTo {
  principal: Agent, resource: Payee,
  context: { facts: Remit::Facts, action?: { amount: Long, note?: String, to: String } },
};
"#;

/// A floor, and forbids in the manner of a baseline: those of a task say nothing where there is none.
const POLICIES: &str = r#"
@id("floor") permit (principal is Agent, action, resource)
when { context.facts has agent && context.facts.agent.roles.contains("payer") };
@id("trust") forbid (principal, action in Action::"pay", resource)
unless { context.facts has agent && context.facts has tool && context.facts.agent.trust >= context.facts.tool.min_trust };
@id("pinned") forbid (principal, action, resource) when { context.facts has tool && !context.facts.tool.pinned };
@id("two-of-three") forbid (principal, action in Action::"pay", resource)
when { context.facts has task && context.facts.task.labels.containsAll(["untrusted", "private"]) }
unless { context.facts.approved };
@id("sinks") forbid (principal, action in Action::"pay", resource)
when { context.facts has task && context.facts has call
  && !context.facts.task.trusted_sinks.containsAll(context.facts.call.sinks) };
@id("links") forbid (principal, action, resource)
when { context.facts has task && context.facts has call && context.facts.task.labels.contains("untrusted")
  && !context.facts.task.trusted_sinks.containsAll(context.facts.call.links) };
@id("classes") forbid (principal, action in Action::"egress", resource)
when { context.facts has task && context.facts has tool && context.facts.tool has clearance
  && !context.facts.tool.clearance.containsAll(context.facts.task.classes) };
@id("amount") forbid (principal, action in Action::"pay", resource)
when { context.facts has call && context.facts.call.amount > 100000 } unless { context.facts.approved };
"#;

/// Measures both, and notes the ratio.
pub fn run(effort: Effort, report: &mut Report) {
    let snapshot = snapshot();
    let questions: Vec<Question> = (0..200).map(question).collect();
    let [inside, outside] = [true, false].map(|in_task| -> Vec<Facts> {
        let each = questions.iter().map(|question| known(question, in_task));
        each.collect()
    });
    let mut figures = [(); 5].map(|()| Figures::default());
    for round in 0..=effort.pick(9, 2) {
        let [with, without, gathered, wrote, wrote_plain] = &mut figures;
        let measured = [
            (with, deciding(effort, &snapshot, &questions, &inside)),
            (without, deciding(effort, &snapshot, &questions, &outside)),
            (gathered, gathering(effort, &questions, &inside)),
            (wrote, writing(effort, &inside)),
            (wrote_plain, writing(effort, &outside)),
        ];
        for (figures, each) in measured {
            if round > 0 {
                figures.push(each);
            }
        }
    }
    let [with, without, gathered, wrote, wrote_plain] = &figures;
    println!("  in a task with labels and sinks, question -> decision      {with}");
    println!("  the same outside a task                                    {without}");
    println!("  gathering the facts of a call in a task                    {gathered}");
    println!("  writing the facts of a record: in a task {wrote}, outside {wrote_plain}");
    report.note(
        "engine in a task with labels over none".to_owned(),
        format!("{:.2} x", with.median() / without.median()),
    );
}

fn deciding(effort: Effort, snapshot: &Snapshot, questions: &[Question], facts: &[Facts]) -> f64 {
    cpu_each(effort, |run| {
        let decision = snapshot.decide(at(questions, run), at(facts, run));
        assert_eq!(decision.verdict, Verdict::Permit, "{decision:?}");
        black_box(decision);
    })
}

/// Does what an answer does before it decides: the call, its trusted sinks, the declaration into the facts.
fn gathering(effort: Effort, questions: &[Question], facts: &[Facts]) -> f64 {
    cpu_each(effort, |run| {
        let (question, known) = (at(questions, run), at(facts, run));
        let task = known.task.as_ref().expect("a task");
        let declaration = task.declaration.clone().expect("a declaration");
        let call = CallFacts::of(question, known.tool.as_ref(), Some(&task.labels));
        let candidates = call.sinks.iter().chain(&call.links);
        black_box(trusted_sinks(&declaration, &[], candidates));
        black_box((call, declaration, task.labels.clone(), known.tool.clone()));
    })
}

fn writing(effort: Effort, facts: &[Facts]) -> f64 {
    cpu_each(effort, |run| {
        black_box(canonical_json(at(facts, run)).expect("JSON"));
    })
}

fn snapshot() -> Snapshot {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let bundle = Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", POLICIES)],
        ..Bundle::default()
    };
    Snapshot::compile(&bundle).expect("a bundle that compiles")
}

fn question(number: usize) -> Question {
    let question = json!({
        "subject": { "type": "Agent", "id": format!("agent-{}", number % 20) },
        "action": { "name": "transfer", "properties": {
            "amount": 100 + number, "note": "Invoice 4711, see https://billing.example/4711", "to": format!("payee-{}@acme.example", number % 8),
        } },
        "resource": { "type": "Payee", "id": format!("payee-{}", number % 8) },
    });
    serde_json::from_value(question).expect("a question")
}

fn known(question: &Question, in_task: bool) -> Facts {
    let tool = json!({
        "effect": "pay", "integrity": "trusted", "confidentiality": "private", "min_trust": 1, "sinks": ["to"], "clearance": ["pii"],
    });
    let sinks: Vec<String> = (0..8)
        .map(|number| format!("payee-{number}@acme.example"))
        .collect();
    let mut supposed = json!({ "agent": { "trust": 2, "roles": ["payer"] }, "tool": tool });
    if in_task {
        supposed["task"] = json!({
            "purpose": "pay invoices", "actions": ["pay"], "sinks": sinks, "labels": [Label::untrusted(), "class:pii"],
            "intent": "Pay the open invoices of this week; they are at https://billing.example/4711.",
        });
    }
    let supposed: CaseFacts = serde_json::from_value(supposed).expect("facts");
    let known = supposed.over(
        Facts {
            approved: false,
            ..facts()
        },
        question,
    );
    assert!(
        known
            .tool
            .as_ref()
            .is_some_and(|tool| tool.name == "transfer")
    );
    known
}
