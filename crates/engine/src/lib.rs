//! Bundles in, decisions out: the engine of Remit, a pure function over Cedar policies.
//!
//! The only crate that knows Cedar. Policies are untrusted input: they are scanned before they are parsed, parsed on a
//! thread with a large stack, and always validated strictly against the bundle's schema.
//!
//! Invariants: same inputs, same decision (INV-4); an erroring forbid denies (INV-2); a snapshot is replaced whole (INV-5).
//!
//! Deliberately absent: async, clocks, files, the environment, randomness, tracing.

mod cases;
mod compare;
mod compile;
mod decide;
mod decode;
mod diagnostic;
mod edit;
mod engine;
mod entities;
mod entity;
mod expansion;
mod explain;
mod file;
mod finding;
mod format;
mod guard;
mod index;
mod lex;
mod link;
mod lint;
mod parts;
mod policy;
mod reach;
mod rule;
mod schema;
mod search;
mod shape;
mod snapshot;
mod stack;

pub use cases::coverage::{ClauseCoverage, Coverage, PolicyCoverage, Seen, TermCoverage};
pub use cases::mutants::{MutantKind, PolicyMutation, Survivor};
pub use cases::{CaseOutcome, Mismatch};
pub use compare::{Change, ChangeCode, Comparison};
pub use diagnostic::{CompileError, Diagnostic, Severity, Span};
pub use edit::{
    Clash, ClashKind, Differences, EditError, Edited, NEW_POLICIES, Part, WrittenPolicy,
    differences, policy_texts, put_text, rebase, remove_text,
};
pub use engine::{Engine, cedar_version};
pub use entity::EntityError;
pub use explain::{
    ClauseExplanation, ClauseKind, ClauseOutcome, Explanation, NearestPermit, PolicyExplanation,
    PolicyOutcome, ScopeExplanation, ScopePart, SeenValue,
};
pub use finding::FINDINGS;
pub use format::format_policies;
pub use schema::mcp::{McpActions, McpError, McpSchema, McpTools};
pub use schema::{FACTS_SCHEMA, Registry};
pub use snapshot::{Changing, Live, LiveChange, NotRelaxable, Snapshot};
pub use {guard::EVALUATION_STACK, search::Found};
