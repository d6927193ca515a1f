//! From what a case supposes to the facts of a decision, and back.

use smol_str::SmolStr;

use super::{
    CaseAgent, CaseApproval, CaseCall, CaseException, CaseFacts, CaseHop, CaseTask, CaseTool, Named,
};
use crate::{
    Agent, AgentFacts, AgentStatus, ApprovalState, CallFacts, Declaration, EntityUid, Facts, Hop,
    Invalid, Kill, KillId, MOST_DEPTH, PrincipalName, Question, Standing, TaskFacts, TaskId,
    TaskState, Timestamp, Tool, trusted_sinks,
};

/// When a supposed agent ends and is reviewed: at the end of the year 9999, the last that RFC 3339 can write.
const FAR: i64 = 253_402_300_799_000_000;

/// The most exceptions that one case supposes.
const EXCEPTIONS: usize = 100;

/// When and for which call facts are made.
struct At<'c> {
    now: Timestamp,
    call: &'c CallFacts,
}

// === impl CaseFacts ===

impl CaseFacts {
    /// Returns the facts with which a question of the case is decided: these laid over `plain`.
    pub fn over(&self, plain: Facts, question: &Question) -> Facts {
        let subject = EntityUid::new(&question.subject.kind, &question.subject.id);
        let tool = self.tool.as_ref().map(|tool| tool.tool(question));
        let labels = self.task.as_ref().map(|task| &task.labels);
        let known = tool.is_some() || labels.is_some() || self.call.is_some();
        let call = known.then(|| {
            let mut call = CallFacts::of(question, tool.as_ref(), labels);
            let own = self.call.clone().unwrap_or_default();
            call.sinks = own.sinks.unwrap_or(call.sinks);
            call.links = own.links.unwrap_or(call.links);
            call.presented_tool = own.presented_tool.or(call.presented_tool);
            call.charges = own.charges.or(call.charges);
            call
        });
        let nothing = CallFacts::default();
        let at = At {
            now: plain.now,
            call: call.as_ref().unwrap_or(&nothing),
        };
        let mut hops: Vec<Hop> = self
            .hops
            .iter()
            .enumerate()
            .map(|(place, hop)| hop.hop(&at, self.tasks_above(place + 1)))
            .collect();
        let task = self
            .task
            .as_ref()
            .map(|task| task.facts(&at, &subject, question.task(), self.tasks_above(0)));
        let person = task
            .as_ref()
            .and_then(|task| task.declaration.as_ref()?.on_behalf_of.clone());
        if let Some(principal) = person
            && hops.last().is_none_or(|last| last.principal != principal)
        {
            hops.push(Hop {
                agent: None,
                principal,
                task: None,
            });
        }
        let approval = self.approval.as_ref();
        let exceptions = self.exceptions.iter().enumerate();
        Facts {
            agent: self
                .agent
                .as_ref()
                .map(|agent| agent.facts(&subject, question.build())),
            approval: approval.map(|approval| approval.facts(question, plain.now)),
            approved: approval.map_or(plain.approved, |approval| {
                approval.state == ApprovalState::Valid
            }),
            call,
            exceptions: exceptions
                .map(|(place, one)| one.facts(place, plain.now))
                .collect(),
            hop: self.hop,
            hops,
            kill: self.kill.clone().map(|target| Kill {
                at: plain.now,
                by: PrincipalName::itself(),
                id: KillId::nil(),
                reason: SmolStr::default(),
                target,
            }),
            subject_not_yours: self.subject_not_yours,
            task,
            tool,
            ..plain
        }
    }

    /// Returns these members, and of the others those of `under`.
    #[must_use]
    pub fn laid_over(self, under: Self) -> Self {
        Self {
            agent: self.agent.or(under.agent),
            task: self.task.or(under.task),
            tool: self.tool.or(under.tool),
            call: self.call.or(under.call),
            hops: if self.hops.is_empty() {
                under.hops
            } else {
                self.hops
            },
            approval: self.approval.or(under.approval),
            exceptions: if self.exceptions.is_empty() {
                under.exceptions
            } else {
                self.exceptions
            },
            kill: self.kill.or(under.kill),
            hop: self.hop || under.hop,
            subject_not_yours: self.subject_not_yours || under.subject_not_yours,
        }
    }

    /// Whether it supposes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts the tasks of the hops from one on.
    fn tasks_above(&self, from: usize) -> u16 {
        let tasks = self.hops.iter().skip(from).filter(|hop| hop.task.is_some());
        u16::try_from(tasks.count()).unwrap_or(u16::MAX)
    }

    /// Checks the names, and the numbers of hops and exceptions.
    ///
    /// # Errors
    ///
    /// [`Invalid`] names the member.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.exceptions.len() > EXCEPTIONS {
            return Err(Invalid {
                member: "facts.exceptions",
                problem: "has more than 100 exceptions",
            });
        }
        let most = usize::from(MOST_DEPTH) + 1;
        if self.hops.len() > most {
            let problem = "has more than 9 hops: 8 tasks above one, and a person";
            return Err(Invalid {
                member: "facts.hops",
                problem,
            });
        }
        let scopes = self.exceptions.iter().filter_map(|one| one.agent.as_ref());
        let names = self.hops.iter().map(|hop| &hop.principal).chain(scopes);
        let tasks = self
            .hops
            .iter()
            .filter_map(|hop| hop.task.as_ref())
            .chain(&self.task);
        let within = tasks.flat_map(|task| {
            task.agent
                .iter()
                .chain(&task.on_behalf_of)
                .chain(task.resources.iter().flatten())
        });
        let mut names = names.chain(within);
        names.try_for_each(|name| name.0.check("facts: type", "facts: id"))
    }
}

impl From<Facts> for CaseFacts {
    /// Writes recorded facts as a case supposes them; what no policy can read of them is left out.
    fn from(facts: Facts) -> Self {
        Self {
            agent: facts.agent.map(CaseAgent::from),
            task: facts.task.map(CaseTask::from),
            tool: facts.tool.map(CaseTool::from),
            call: facts.call.map(|call| CaseCall {
                sinks: Some(call.sinks),
                links: Some(call.links),
                presented_tool: call.presented_tool,
                charges: call.charges,
            }),
            hops: facts
                .hops
                .into_iter()
                .map(|hop| CaseHop {
                    principal: Named(hop.principal),
                    agent: hop.agent.map(CaseAgent::from),
                    task: hop.task.map(CaseTask::from),
                })
                .collect(),
            approval: facts.approval.map(CaseApproval::from),
            exceptions: facts
                .exceptions
                .into_iter()
                .map(CaseException::from)
                .collect(),
            kill: facts.kill.map(|kill| kill.target),
            hop: facts.hop,
            subject_not_yours: facts.subject_not_yours,
        }
    }
}

// === impl CaseHop ===

impl CaseHop {
    fn hop(&self, at: &At<'_>, above: u16) -> Hop {
        let principal = self.principal.0.clone();
        Hop {
            agent: self
                .agent
                .as_ref()
                .map(|agent| agent.facts(&principal, None)),
            task: self
                .task
                .as_ref()
                .map(|task| task.facts(at, &principal, None, above)),
            principal,
        }
    }
}

// === impl CaseAgent ===

impl CaseAgent {
    fn facts(&self, uid: &EntityUid, presented: Option<&str>) -> AgentFacts {
        let registered = (self.standing != Standing::Unregistered).then(|| Agent {
            build: self.build,
            ends_at: Timestamp::from_micros(FAR),
            environment: self.environment.clone(),
            model: self.model.clone(),
            owner: self
                .owner
                .parse()
                .unwrap_or_else(|_| PrincipalName::itself()),
            principal: None,
            purpose: self.purpose.clone(),
            review_at: Timestamp::from_micros(FAR),
            roles: self.roles.clone(),
            status: AgentStatus::Active,
            trust: self.trust,
            uid: uid.clone(),
        });
        AgentFacts {
            standing: self.standing,
            presented_build: self
                .presented_build
                .clone()
                .or_else(|| presented.map(SmolStr::new)),
            registered,
            revision: None,
        }
    }
}

impl From<AgentFacts> for CaseAgent {
    fn from(facts: AgentFacts) -> Self {
        let (standing, presented_build) = (facts.standing, facts.presented_build);
        let agent = facts.registered.map(|agent| Self {
            standing,
            trust: agent.trust,
            roles: agent.roles,
            environment: agent.environment,
            model: agent.model,
            owner: SmolStr::new(agent.owner.as_str()),
            purpose: agent.purpose,
            build: agent.build,
            presented_build: presented_build.clone(),
        });
        agent.unwrap_or_else(|| Self {
            standing,
            presented_build,
            ..Self::default()
        })
    }
}

// === impl CaseTask ===

impl CaseTask {
    fn facts(
        &self,
        at: &At<'_>,
        agent: &EntityUid,
        named: Option<TaskId>,
        above: u16,
    ) -> TaskFacts {
        const DAY: std::time::Duration = std::time::Duration::from_hours(24);
        let works = matches!(self.state, TaskState::Active | TaskState::Suspended);
        let declared = works || self.purpose.is_some();
        let declaration = declared.then(|| Declaration {
            actions: self.actions.clone(),
            agent: self
                .agent
                .as_ref()
                .map_or_else(|| agent.clone(), |agent| agent.0.clone()),
            budget: self.budget,
            data_classes: self.data_classes.clone(),
            expires_at: self.expires_at.unwrap_or_else(|| at.now.plus(DAY)),
            intent: self.intent.clone(),
            may_delegate: self.may_delegate,
            on_behalf_of: self.on_behalf_of.as_ref().map(|person| person.0.clone()),
            parent: self.parent,
            purpose: self
                .purpose
                .clone()
                .unwrap_or_else(|| SmolStr::new_static("test")),
            resources: self
                .resources
                .as_ref()
                .map(|all| all.iter().map(|one| one.0.clone()).collect()),
            sinks: self.sinks.clone(),
            template: self.template.clone(),
            window: self.window.clone(),
        });
        let declaration = declaration.map(Declaration::in_one_spelling);
        let computed = || {
            let candidates = at.call.sinks.iter().chain(&at.call.links);
            declaration
                .as_ref()
                .map(|declaration| trusted_sinks(declaration, &[], candidates))
        };
        TaskFacts {
            depth: self.depth.unwrap_or(above),
            digest: declaration.as_ref().map(Declaration::digest),
            exhausted: self.exhausted,
            id: self.id.or(named).unwrap_or(TaskId::NIL),
            labels: self.labels.clone(),
            state: self.state,
            trusted_sinks: self
                .trusted_sinks
                .clone()
                .or_else(computed)
                .unwrap_or_default(),
            declaration,
        }
    }
}

impl From<TaskFacts> for CaseTask {
    fn from(facts: TaskFacts) -> Self {
        let task = Self {
            state: facts.state,
            depth: Some(facts.depth),
            exhausted: facts.exhausted,
            id: Some(facts.id),
            labels: facts.labels,
            trusted_sinks: Some(facts.trusted_sinks),
            ..Self::default()
        };
        let Some(declared) = facts.declaration else {
            return task;
        };
        Self {
            purpose: Some(declared.purpose),
            actions: declared.actions,
            agent: Some(Named(declared.agent)),
            budget: declared.budget,
            data_classes: declared.data_classes,
            expires_at: Some(declared.expires_at),
            intent: declared.intent,
            may_delegate: declared.may_delegate,
            on_behalf_of: declared.on_behalf_of.map(Named),
            parent: declared.parent,
            resources: declared
                .resources
                .map(|all| all.into_iter().map(Named).collect()),
            sinks: declared.sinks,
            template: declared.template,
            window: declared.window,
            ..task
        }
    }
}

// === impl CaseTool ===

impl CaseTool {
    fn tool(&self, question: &Question) -> Tool {
        Tool {
            amount: self.amount.clone(),
            classes: self.classes.clone(),
            clearance: self.clearance.clone(),
            confidentiality: self.confidentiality,
            cost: self.cost,
            descriptor: self.descriptor,
            domain: self.domain.clone(),
            effect: self.effect,
            environment: self.environment.clone(),
            integrity: self.integrity,
            irreversible: self.irreversible,
            min_trust: self.min_trust,
            name: self
                .name
                .clone()
                .unwrap_or_else(|| SmolStr::new(&question.action.name)),
            owner: self.owner.clone(),
            roles: self.roles.clone(),
            sinks: self.sinks.clone(),
        }
    }
}

impl From<Tool> for CaseTool {
    fn from(tool: Tool) -> Self {
        Self {
            effect: tool.effect,
            name: Some(tool.name),
            amount: tool.amount,
            classes: tool.classes,
            clearance: tool.clearance,
            confidentiality: tool.confidentiality,
            cost: tool.cost,
            descriptor: tool.descriptor,
            domain: tool.domain,
            environment: tool.environment,
            integrity: tool.integrity,
            irreversible: tool.irreversible,
            min_trust: tool.min_trust,
            owner: tool.owner,
            roles: tool.roles,
            sinks: tool.sinks,
        }
    }
}
