//! Cedar's own integration tests, handwritten and generated, through [`Snapshot`].
//!
//! What Cedar decides we decide, with the same reasons and the same errors. Where our design differs, the difference
//! must fall into one of the named classes below, each checked against Cedar itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use cedar_policy::{
    Entities, PolicySet, Schema, ValidationMode, ValidationResult, ValidationWarning, Validator,
};
use remit_core::{
    Action, Bundle, Decision, Entity, Facts, KeyId, PolicyId, Question, Reason, Resource, Source,
    Subject, Timestamp, Verdict,
};
use remit_engine::{CompileError, Snapshot};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The stack of a thread that decides, as in production.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Diagnostic codes of the pre-scan, which refuses text before Cedar sees it.
const GUARDS: &[&str] = &[
    "nesting_too_deep",
    "chain_too_long",
    "expression_too_deep",
    "policy_too_large",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    policies: PathBuf,
    entities: PathBuf,
    schema: PathBuf,
    should_validate: bool,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    description: String,
    principal: Uid,
    action: Uid,
    resource: Uid,
    context: Map<String, Value>,
    decision: String,
    reason: BTreeSet<PolicyId>,
    errors: BTreeSet<PolicyId>,
}

#[derive(Deserialize)]
struct Uid {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// What one test came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Decision, reasons and errors are Cedar's.
    Equal,
    /// INV-2: a forbid that cannot be evaluated denies; Cedar skips it.
    ErroringForbidDenies,
    /// As [`Class::Equal`], for a policy that can never apply: older validators refused it, ours warns.
    NeverApplies,
    /// Strict validation is mandatory here; Cedar's own validator refuses the same set.
    NotStrictlyValid,
    /// The guards refuse text that is too deep or too long before it is parsed.
    Guarded,
    /// An id is not in Unicode normal form C, which is refused here.
    Misspelt,
}

// === impl Class ===

impl Class {
    fn why(self) -> &'static str {
        match self {
            Self::Equal => "decision, reasons and errors equal Cedar's",
            Self::NeverApplies => {
                "equal too; the policy never applies, which was an error and is a warning since"
            }
            Self::ErroringForbidDenies => {
                "an erroring forbid denies here and is skipped by Cedar (INV-2)"
            }
            Self::NotStrictlyValid => "refused: Cedar's strict validator refuses the same set",
            Self::Guarded => "refused by the guards before parsing: too deep or too long",
            Self::Misspelt => "refused: an id is not in Unicode normal form C",
        }
    }
}

#[test]
fn cedar_integration_corpus() {
    let Some(folder) = remit_tests::vectors("cedar-integration-tests") else {
        return;
    };
    let started = Instant::now();
    let unpacked = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("xzf")
        .arg(folder.join("corpus-tests.tar.gz"))
        .arg("-C")
        .arg(unpacked.path())
        .status()
        .unwrap();
    assert!(status.success(), "tar could not unpack the corpus");

    let handwritten = tests_below(&folder.join("tests"));
    let generated = tests_below(&unpacked.path().join("corpus-tests"));
    assert!(
        handwritten.len() >= 21,
        "only {} handwritten tests",
        handwritten.len()
    );
    assert!(
        generated.len() >= 7_000,
        "only {} generated tests",
        generated.len()
    );
    let mut files: Vec<(&Path, &Path)> = Vec::new();
    files.extend(
        handwritten
            .iter()
            .map(|file| (folder.as_path(), file.as_path())),
    );
    files.extend(
        generated
            .iter()
            .map(|file| (unpacked.path(), file.as_path())),
    );

    let counts = run_all(&files);
    println!("{} tests in {:.0?}", files.len(), started.elapsed());
    for (class, (tests, requests)) in &counts {
        println!(
            "{requests:>7} requests in {tests:>5} tests  {}",
            class.why()
        );
    }
    let requests = |class| counts.get(&class).map_or(0, |(_, requests)| *requests);
    let total: usize = counts.values().map(|(_, requests)| requests).sum();
    let equal = requests(Class::Equal) + requests(Class::NeverApplies);
    println!("{total} requests, {equal} of them equal");
    assert!(
        equal >= 45_000,
        "only {equal} of {total} requests came out as Cedar's"
    );
    assert!(
        (requests(Class::Guarded) + requests(Class::Misspelt)) * 100 < total,
        "the guards refuse more than 1 % of what is reasonable"
    );
}

/// Runs the tests on every core and counts tests and requests by class.
fn run_all(files: &[(&Path, &Path)]) -> BTreeMap<Class, (usize, usize)> {
    let next = AtomicUsize::new(0);
    let counts: Mutex<BTreeMap<Class, (usize, usize)>> = Mutex::default();
    let problems: Mutex<Vec<String>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || {
                    while let Some((root, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match run(root, file) {
                            Ok(found) => {
                                let mut counts = counts.lock().unwrap();
                                for (class, requests) in found {
                                    let count = counts.entry(class).or_default();
                                    count.0 += 1;
                                    count.1 += requests;
                                }
                            }
                            Err(problem) => {
                                problems
                                    .lock()
                                    .unwrap()
                                    .push(format!("{}: {problem}", file.display()));
                            }
                        }
                    }
                })
                .unwrap();
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(
        problems.is_empty(),
        "{} tests differ without a reason; the first are:\n{}",
        problems.len(),
        problems[..problems.len().min(8)].join("\n")
    );
    counts.into_inner().unwrap()
}

/// Runs one test and says, by class, how many of its requests came to what.
fn run(root: &Path, file: &Path) -> Result<BTreeMap<Class, usize>, String> {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let test: Test = serde_json::from_str(&read(file)).map_err(|error| error.to_string())?;
    let schema_text = read(&root.join(&test.schema));
    let (schema, _) =
        Schema::from_cedarschema_str(&schema_text).map_err(|error| error.to_string())?;
    let policies = PolicySet::from_str(&read(&root.join(&test.policies)))
        .map_err(|error| error.to_string())?;
    let validated = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    let strict = validated.validation_passed();
    // The corpus remembers the verdict of the validator of its day.
    let moved = strict != test.should_validate;
    if moved && !(strict && never_applies(&validated)) {
        return Err(format!(
            "Cedar's validator says {strict}, the test {}",
            test.should_validate
        ));
    }

    let bundle = Bundle {
        schema: vec![source("schema.cedarschema", schema_text)],
        policies: vec![source("policies.cedar", named(&policies))],
        entities: entities(&read(&root.join(&test.entities)), &schema)?,
        ..Bundle::default()
    };
    let all = |class| Ok(BTreeMap::from([(class, test.requests.len())]));
    let snapshot = match (Snapshot::compile(&bundle), strict) {
        (Ok(snapshot), true) => snapshot,
        (Ok(_), false) => return Err("we accept what Cedar's validator refuses".to_owned()),
        (Err(error), _) if only(&error, GUARDS) => return all(Class::Guarded),
        (Err(error), _) if only(&error, &["not_nfc"]) => return all(Class::Misspelt),
        (Err(_), false) => return all(Class::NotStrictlyValid),
        (Err(error), true) => {
            return Err(format!("we refuse what Cedar's validator accepts: {error}"));
        }
    };
    let mut found = BTreeMap::new();
    for request in &test.requests {
        let decision = snapshot.decide(&question(request), &facts());
        let class = compare(request, &decision, &policies)
            .map_err(|problem| format!("{}: {problem}: {decision:?}", request.description))?;
        let class = if moved && class == Class::Equal {
            Class::NeverApplies
        } else {
            class
        };
        *found.entry(class).or_default() += 1;
    }
    Ok(found)
}

fn never_applies(validated: &ValidationResult) -> bool {
    validated
        .validation_warnings()
        .any(|warning| matches!(warning, ValidationWarning::ImpossiblePolicy(_)))
}

/// Compares one decision with Cedar's, whole.
fn compare(request: &Request, decision: &Decision, policies: &PolicySet) -> Result<Class, String> {
    let errors: BTreeSet<PolicyId> = decision
        .errors
        .iter()
        .map(|error| error.policy.clone())
        .collect();
    if errors != request.errors {
        return Err(format!("the errors should be {:?}", request.errors));
    }
    let determining: BTreeSet<PolicyId> = decision.determining.iter().cloned().collect();
    let forbids = |id: &PolicyId| {
        let policy = policies.policy(&cedar_policy::PolicyId::new(id.as_str()));
        policy.is_some_and(|policy| policy.effect() == cedar_policy::Effect::Forbid)
    };
    let erroring: BTreeSet<PolicyId> = errors.iter().filter(|id| forbids(id)).cloned().collect();
    let allowed = request.decision == "allow";
    if !erroring.is_empty() {
        // Denied, by the forbids that Cedar found satisfied and those it skipped.
        let mut because = erroring;
        if !allowed {
            because.extend(request.reason.iter().cloned());
        }
        let right = (decision.verdict, decision.reason) == (Verdict::Deny, Reason::PolicyError);
        return if right && determining == because {
            Ok(Class::ErroringForbidDenies)
        } else {
            Err(format!(
                "an erroring forbid should deny because of {because:?}"
            ))
        };
    }
    let reason = match (allowed, request.reason.is_empty()) {
        (true, _) => Reason::PolicyPermit,
        (false, true) => Reason::NoPermit,
        (false, false) => Reason::PolicyForbid,
    };
    let verdict = if allowed {
        Verdict::Permit
    } else {
        Verdict::Deny
    };
    if (decision.verdict, decision.reason) == (verdict, reason) && determining == request.reason {
        Ok(Class::Equal)
    } else {
        Err(format!(
            "should be {verdict:?}, {reason:?}, because of {:?}",
            request.reason
        ))
    }
}

/// Writes a set with the ids that Cedar gives by position as `@id` annotations.
fn named(policies: &PolicySet) -> String {
    let mut text = String::new();
    for policy in policies.policies() {
        writeln!(text, "@id(\"{}\")\n{policy}", policy.id()).unwrap();
    }
    text
}

/// Reads entities as Cedar reads them, by the schema, and writes them in the one explicit form.
fn entities(text: &str, schema: &Schema) -> Result<Vec<Entity>, String> {
    let entities =
        Entities::from_json_str(text, Some(schema)).map_err(|error| error.to_string())?;
    let mut json = Vec::new();
    entities
        .write_to_json(&mut json)
        .map_err(|error| error.to_string())?;
    let entities: Vec<Entity> = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let is_action = |entity: &Entity| entity.uid.kind.rsplit("::").next() == Some("Action");
    Ok(entities
        .into_iter()
        .filter(|entity| !is_action(entity))
        .collect())
}

fn question(request: &Request) -> Question {
    let (principal, action, resource) = (&request.principal, &request.action, &request.resource);
    let type_name = cedar_policy::EntityTypeName::from_str(&action.kind).unwrap();
    let action = cedar_policy::EntityUid::from_type_name_and_id(
        type_name,
        cedar_policy::EntityId::new(&action.id),
    );
    Question {
        subject: Subject {
            kind: principal.kind.clone(),
            id: principal.id.clone(),
            properties: Map::new(),
        },
        action: Action {
            name: action.to_string(),
            properties: Map::new(),
        },
        resource: Resource {
            kind: resource.kind.clone(),
            id: resource.id.clone(),
            properties: Map::new(),
        },
        context: request.context.clone(),
    }
}

fn facts() -> Facts {
    Facts::plain(KeyId::nil(), "test", Timestamp::from_micros(0))
}

fn only(error: &CompileError, codes: &[&str]) -> bool {
    error
        .diagnostics
        .iter()
        .all(|diagnostic| codes.contains(&diagnostic.code.as_str()))
}

fn source(file: &str, text: String) -> Source {
    Source {
        file: file.to_owned(),
        text,
    }
}

/// Finds the test files below a folder: JSON that is not entities.
fn tests_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(tests_below(&path));
        } else if path.extension().is_some_and(|ending| ending == "json")
            && !name.contains(".entities.")
        {
            found.push(path);
        }
    }
    found.sort();
    found
}
