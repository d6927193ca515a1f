//! Why: the closed set of reason codes.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)*) => {
        /// Why a decision came out as it did; a closed set, so that a reader must notice a new one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// Returns the stable code, as it stands in answers, records and metrics.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code),* }
            }

            /// Returns one sentence for a person.
            pub fn sentence(self) -> &'static str {
                match self { $(Reason::$name => [$($doc),+][0].trim_ascii()),* }
            }
        }
    };
}

reasons! {
    /// A policy permits it and none forbids it.
    PolicyPermit = "policy_permit";
    /// A policy forbids it.
    PolicyForbid = "policy_forbid";
    /// No policy permits it.
    NoPermit = "no_permit";
    /// It needs a person's approval of exactly this call.
    ApprovalRequired = "approval_required";
    /// A forbidding policy could not be evaluated, so it is taken to forbid.
    PolicyError = "policy_error";
    /// Somebody has stopped it, whatever the policies say.
    Killed = "killed";
    /// The key that asks is an agent's own, and the subject is another.
    SubjectNotYours = "subject_not_yours";
    /// The agent is not in the registry.
    AgentUnregistered = "agent_unregistered";
    /// The agent is suspended.
    AgentSuspended = "agent_suspended";
    /// The agent was retired, or its end date has passed.
    AgentExpired = "agent_expired";
    /// The person who answered for the agent is not there any more.
    AgentOwnerless = "agent_ownerless";
    /// Nobody has reviewed the agent in time.
    AgentReviewOverdue = "agent_review_overdue";
    /// There is no such task, or it ended long ago.
    TaskUnknown = "task_unknown";
    /// The task is another agent's.
    TaskNotYours = "task_not_yours";
    /// The task, or one above it, is suspended.
    TaskSuspended = "task_suspended";
    /// The task, or one above it, is completed.
    TaskCompleted = "task_completed";
    /// The task, or one above it, was revoked.
    TaskRevoked = "task_revoked";
    /// The time of the task, or of one above it, is over.
    TaskExpired = "task_expired";
    /// The task may not act at this time.
    TaskOutsideWindow = "task_outside_window";
    /// The task was not declared to do this.
    OutsideTask = "outside_task";
    /// It would exceed a budget of the task, or of one above it.
    BudgetExhausted = "budget_exhausted";
    /// Somebody on whose authority it is done may not do it.
    DelegationDenied = "delegation_denied";
    /// The enforcement point cannot do what the permit would oblige it to.
    ObligationUnsupported = "obligation_unsupported";
    /// The schema has no entity type of the subject's type.
    UnknownSubjectType = "unknown_subject_type";
    /// The schema has no entity type of the resource's type.
    UnknownResourceType = "unknown_resource_type";
    /// The schema has no action of this name.
    UnknownAction = "unknown_action";
    /// The schema does not let a subject of this type do this to a resource of this type.
    ActionNotApplicable = "action_not_applicable";
    /// A declared property or context member has the wrong type.
    MistypedProperty = "mistyped_property";
    /// A context member that the schema requires is missing.
    MissingContext = "missing_context";
    /// More policies match than one decision may evaluate.
    TooManyCandidates = "too_many_candidates";
    /// The engine failed in a way it should not; nothing is permitted on that ground.
    EngineFault = "engine_fault";
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::str::FromStr for Reason {
    type Err = crate::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == text)
            .ok_or_else(|| crate::ParseIdError {
                text: text.chars().take(80).collect(),
                expected: "Reason, such as `no_permit`",
            })
    }
}
