//! A case: questions with the answers their author expects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Dimension, Entity, PolicyId, Question, Reason, Timestamp, Verdict};

mod facts;

pub use facts::CaseFacts;

/// The most steps of one case.
const STEPS: usize = 50;
/// The most entities that one step supposes.
const ENTITIES: usize = 100;

/// One test of a bundle, kept beside its policies.
///
/// In JSON a case of one step has the members of that step beside its name; one of several has `steps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Case {
    /// What the case shows, in words; unique within its file.
    pub name: String,
    /// What is asked, one after another: at least one, at most 50.
    pub steps: Vec<Step>,
}

/// One question of a case, and what must come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is asked.
    pub question: Question,
    /// When it is asked; 2026-01-05T10:00:00Z, a Monday morning, where the case does not care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The environment of the asking key; `dev` where the case does not care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether a person has approved this call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// Entities that are as they stand here while this is asked, in place of the bundle's or beside them; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// What Remit has registered, counted or verified while this is asked.
    #[serde(default, skip_serializing_if = "CaseFacts::is_empty")]
    pub facts: CaseFacts,
    /// What must come out.
    pub expect: Expectation,
}

/// What a case expects; members left out are not checked, the verdict always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Permit or deny.
    pub decision: Verdict,
    /// The reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The dimension of the task that it met, where the reason is one of a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Dimension>,
    /// Exactly these determining policies, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Vec<PolicyId>>,
    /// Exactly these policies errored, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<PolicyId>>,
    /// Exactly these policies in shadow mode were satisfied or errored, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Vec<PolicyId>>,
    /// Exactly these policies oblige the enforcement point to something, each by these annotations among others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obligations: Option<BTreeMap<PolicyId, BTreeMap<String, String>>>,
    /// Whether it is permitted by the approval that `facts` suppose, and by nothing less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<bool>,
    /// Exactly these policies are satisfied and do not count because of an exception, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<Vec<PolicyId>>,
    /// Exactly these policies demand something of the enforcement point, each with these members, `type` included, among
    /// others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duties: Option<BTreeMap<PolicyId, Map<String, Value>>>,
    /// Exactly these narrowings make the call that would be permitted, in any order; none where there is no such call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modify: Option<Vec<String>>,
    /// For how many seconds the permit holds; 0 where no policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u32>,
    /// For how many seconds the permit can be acted by; 0 where no policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// A case as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question: Option<Question>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    approved: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entities: Vec<Entity>,
    #[serde(default, skip_serializing_if = "CaseFacts::is_empty")]
    facts: CaseFacts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expect: Option<Expectation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
}

// === impl Expectation ===

impl Expectation {
    /// Makes one that checks the verdict alone.
    pub fn of(decision: Verdict) -> Self {
        Self {
            decision,
            reason: None,
            limit: None,
            because: None,
            errors: None,
            shadow: None,
            obligations: None,
            approval: None,
            exceptions: None,
            duties: None,
            modify: None,
            lease: None,
            ttl: None,
        }
    }
}

// === impl Case ===

impl Case {
    /// Makes a case of one step.
    pub fn new(name: impl Into<String>, step: Step) -> Self {
        Self {
            name: name.into(),
            steps: vec![step],
        }
    }

    /// Checks how many steps there are, how many entities each supposes, and how those are spelt.
    ///
    /// # Errors
    ///
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() {
            return Err("`steps` is empty; a case asks at least once".to_owned());
        }
        if self.steps.len() > STEPS {
            return Err(format!("`steps` has more than {STEPS} steps"));
        }
        if self.steps.iter().any(|step| step.entities.len() > ENTITIES) {
            return Err(format!("`entities` has more than {ENTITIES} entities"));
        }
        for entity in self.steps.iter().flat_map(|step| &step.entities) {
            let checked = entity.check();
            checked.map_err(|invalid| format!("`entities`: `{}`: {invalid}", entity.uid))?;
        }
        for step in &self.steps {
            step.facts.check().map_err(|invalid| invalid.to_string())?;
        }
        Ok(())
    }
}

impl TryFrom<Written> for Case {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            name,
            question,
            at,
            environment,
            approved,
            entities,
            facts,
            expect,
            steps,
        } = written;
        let steps = if let Some(steps) = steps {
            let beside = [
                ("question", question.is_some()),
                ("at", at.is_some()),
                ("environment", environment.is_some()),
                ("approved", approved),
                ("entities", !entities.is_empty()),
                ("facts", !facts.is_empty()),
                ("expect", expect.is_some()),
            ];
            if let Some((member, _)) = beside.iter().find(|(_, there)| *there) {
                return Err(format!(
                    "`{member}` stands beside `steps`; each step has its own"
                ));
            }
            steps
        } else {
            vec![Step {
                question: question.ok_or("missing field `question`")?,
                at,
                environment,
                approved,
                entities,
                facts,
                expect: expect.ok_or("missing field `expect`")?,
            }]
        };
        let case = Self { name, steps };
        case.check()?;
        Ok(case)
    }
}

impl From<Case> for Written {
    fn from(case: Case) -> Self {
        let mut written = Self {
            name: case.name,
            question: None,
            at: None,
            environment: None,
            approved: false,
            entities: Vec::new(),
            facts: CaseFacts::default(),
            expect: None,
            steps: None,
        };
        match <[Step; 1]>::try_from(case.steps) {
            Ok([only]) => {
                written.question = Some(only.question);
                written.at = only.at;
                written.environment = only.environment;
                written.approved = only.approved;
                written.entities = only.entities;
                written.facts = only.facts;
                written.expect = Some(only.expect);
            }
            Err(several) => written.steps = Some(several),
        }
        written
    }
}
