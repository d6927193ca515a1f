//! Written cases made full: fixtures looked up, what a step leaves out taken from its case, matrices written out.

use remit_core::{Case, CaseFacts, Entity, Expectation, Question, Step};
use serde_json::{Map, Value};

use super::matrix;
use super::written::{Fixtures, Named, WrittenCase, WrittenStep};

/// The most cases that the matrices of one file stand for.
const CASES: usize = 10_000;
/// The most bytes that the cases of one file have in JSON, which is what a server takes of a whole bundle.
const BYTES: usize = 64 * 1024 * 1024;

/// How much more a file may grow to: fixtures and matrices are a short way to write much.
pub(super) struct Budget {
    cases: usize,
    bytes: usize,
}

/// Makes the cases that one written case stands for.
///
/// # Errors
///
/// What is wrong with it, naming the member.
pub(super) fn expand(
    written: WrittenCase,
    fixtures: &Fixtures,
    budget: &mut Budget,
) -> Result<Vec<Case>, String> {
    let WrittenCase {
        name,
        question,
        context,
        at,
        environment,
        approved,
        entities,
        facts,
        expect,
        steps,
        matrix,
    } = written;
    let shared = WrittenStep {
        question,
        context,
        at,
        environment,
        approved,
        entities,
        facts,
        expect,
    };
    if let Some(matrix) = matrix {
        if shared.question.is_some() || steps.is_some() {
            return Err(
                "`matrix` makes the questions; `question` and `steps` do not stand beside it"
                    .to_owned(),
            );
        }
        budget.spend_cases(matrix::size(&matrix)?)?;
        return matrix::combinations(&name, &matrix, |name, question, expect| {
            let step = WrittenStep {
                question: Some(Named::Value(question)),
                expect: expect.or_else(|| shared.expect.clone()),
                ..shared.clone()
            };
            let step = full(step, &WrittenStep::default(), fixtures)?;
            budget.spend_bytes(Case::new(name, step))
        });
    }
    // One that is written in full stands for nothing more: a bundle of many is pulled into one file.
    let steps = match steps {
        Some(steps) => steps
            .into_iter()
            .enumerate()
            .map(|(index, step)| {
                full(step, &shared, fixtures).map_err(|why| format!("step {}: {why}", index + 1))
            })
            .collect::<Result<Vec<_>, _>>()?,
        None => vec![full(WrittenStep::default(), &shared, fixtures)?],
    };
    Ok(vec![budget.spend_bytes(Case { name, steps })?])
}

/// Fills in what a step leaves out from its case.
fn full(step: WrittenStep, case: &WrittenStep, fixtures: &Fixtures) -> Result<Step, String> {
    let question = step.question.or_else(|| case.question.clone());
    let question = question.ok_or("missing field `question`")?;
    let mut question: Question = find("question", question, &fixtures.questions)?;
    for context in [case.context.clone(), step.context].into_iter().flatten() {
        let context: Map<String, Value> = find("context", context, &fixtures.contexts)?;
        question.context.extend(context);
    }
    let mut entities: Vec<Entity> = Vec::new();
    for named in [case.entities.clone(), step.entities]
        .into_iter()
        .flatten()
        .flatten()
    {
        let entity: Entity = find("entities", named, &fixtures.entities)?;
        entities.retain(|other| other.uid != entity.uid);
        entities.push(entity);
    }
    let mut facts = CaseFacts::default();
    for named in [case.facts.clone(), step.facts].into_iter().flatten() {
        for layer in named.0 {
            let layer: CaseFacts = find("facts", layer, &fixtures.facts)?;
            facts = layer.laid_over(facts);
        }
    }
    let expect: Option<Expectation> = step.expect.or_else(|| case.expect.clone());
    Ok(Step {
        question,
        at: step.at.or(case.at),
        environment: step.environment.or_else(|| case.environment.clone()),
        approved: step.approved.or(case.approved).unwrap_or(false),
        entities,
        facts,
        expect: expect.ok_or("missing field `expect`")?,
    })
}

/// Looks a name up among the fixtures.
fn find<T: Clone>(
    member: &str,
    named: Named<T>,
    fixtures: &std::collections::BTreeMap<String, T>,
) -> Result<T, String> {
    match named {
        Named::Value(value) => Ok(value),
        Named::Name(name) => fixtures.get(&name).cloned().ok_or_else(|| {
            let known: Vec<String> = fixtures.keys().map(|key| format!("`{key}`")).collect();
            let known = match known.as_slice() {
                [] => "the file has none".to_owned(),
                _ => format!("the file has {}", known.join(", ")),
            };
            format!("`{member}`: there is no fixture `{name}`; {known}")
        }),
    }
}

// === impl Budget ===

impl Budget {
    /// Returns what one file may come to.
    pub(super) fn of_one_file() -> Self {
        Self {
            cases: CASES,
            bytes: BYTES,
        }
    }

    fn spend_cases(&mut self, count: usize) -> Result<(), String> {
        let left = self.cases.checked_sub(count);
        self.cases = left
            .ok_or_else(|| format!("the matrices of the file stand for more than {CASES} cases"))?;
        Ok(())
    }

    fn spend_bytes(&mut self, case: Case) -> Result<Case, String> {
        case.check()?;
        let size = serde_json::to_vec(&case).map_or(usize::MAX, |json| json.len());
        let left = self.bytes.checked_sub(size);
        self.bytes =
            left.ok_or_else(|| format!("the cases of the file come to more than {BYTES} bytes"))?;
        Ok(case)
    }
}
