//! What a solver proves of a bundle: whether policies can fail or match, and whether one bundle permits more than another.
//!
//! Start at [`verify`]. Policies are translated to SMT by Cedar's own symbolic compiler; cvc5 answers. A proof holds for
//! every question that fits the schema, whatever the stored entities are, as long as each entity that a policy looks at
//! is stored.
//!
//! Invariants: what could not be shown is never called proved; a solver that is missing, slow or broken ends in an error
//! or in `unknown`. Cedar skips a forbid that fails where Remit denies, so a comparison says nothing where one can fail.
//!
//! Deliberately absent: a part in decisions, and in any build that does not ask for it
//! (`docs/adr/0008-a-solver-beside-the-engine.md`).

mod program;
mod prove;
mod report;

pub use prove::{Solver, verify};
pub use report::{Comparison, Matches, PolicyReport, Proof, Report};

/// Why nothing could be proved at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle does not compile.
    #[error(transparent)]
    Bundle(#[from] remit_engine::CompileError),
    /// The solver cannot be started.
    #[error("the solver `{program}` cannot be started")]
    Solver {
        /// What was to be started.
        program: String,
        /// Why not.
        source: cedar_policy_symcc::err::SolverError,
    },
    /// What Remit compiles is not what Cedar's library reads.
    #[error("the bundle cannot be translated: {0}")]
    Translation(String),
}
