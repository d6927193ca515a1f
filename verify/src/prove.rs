//! The questions to the solver.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use cedar_policy::{Effect, Policy, RequestEnv};
use cedar_policy_symcc::err::Error as Failure;
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env};
use remit_core::{Bundle, PolicyId};
use tokio::process::Command;

use crate::Error;
use crate::program::Program;
use crate::report::{Comparison, Matches, PolicyReport, Proof, Report};

/// The longest example that is kept, in characters.
const EXAMPLE: usize = 4_000;

/// The solver, and how long it may think.
#[derive(Debug, Clone)]
pub struct Solver {
    /// The program: cvc5, or what speaks SMT-LIB 2 as it does.
    pub program: OsString,
    /// How long one question may take; what takes longer is unknown.
    pub limit: Duration,
}

/// A solver that is running.
struct Running {
    solver: Solver,
    compiler: CedarSymCompiler<LocalSolver>,
}

/// Asks a solver what holds of a bundle, and of it against the one before.
///
/// Call it on a thread with [`EVALUATION_STACK`](remit_engine::EVALUATION_STACK) bytes of stack.
///
/// # Errors
///
/// [`Error`]. A question that the solver does not answer is none; it is reported as unknown.
pub async fn verify(
    before: Option<&Bundle>,
    after: &Bundle,
    solver: &Solver,
) -> Result<Report, Error> {
    let program = Program::of(after)?;
    let mut running = Running::start(solver)?;
    let environments: Vec<RequestEnv> = program.schema.request_envs().collect();
    let mut policies: BTreeMap<PolicyId, PolicyReport> = BTreeMap::new();
    for policy in program.enforced.policies() {
        let report = running.policy(policy, &program, &environments).await?;
        policies.insert(report.policy.clone(), report);
    }
    let comparison = match before {
        Some(before) => Some(
            running
                .compare(before, after, &program, &environments)
                .await?,
        ),
        None => None,
    };
    Ok(Report {
        environments: environments.len(),
        policies: policies.into_values().collect(),
        comparison,
    })
}

// === impl Running ===

impl Running {
    fn start(solver: &Solver) -> Result<Self, Error> {
        let refused = |source| Error::Solver {
            program: solver.program.to_string_lossy().into_owned(),
            source,
        };
        let mut command = Command::new(&solver.program);
        command
            .args(["--lang", "smt"])
            .arg(format!("--tlimit-per={}", solver.limit.as_millis()))
            .kill_on_drop(true);
        let local = LocalSolver::from_command(&mut command).map_err(refused)?;
        Ok(Self {
            solver: solver.clone(),
            compiler: CedarSymCompiler::new(local)
                .map_err(|error| Error::Translation(error.to_string()))?,
        })
    }

    /// Turns an answer into a proof; after one that is none, the next question goes to a fresh solver.
    fn judge(&mut self, answer: Result<Option<Env>, Failure>) -> Result<Proof, Error> {
        Ok(match answer {
            Ok(None) => Proof::Proved,
            Ok(Some(env)) => Proof::Refuted {
                example: env.to_string().chars().take(EXAMPLE).collect(),
            },
            Err(error) => {
                *self = Self::start(&self.solver)?;
                Proof::Unknown {
                    because: error.to_string(),
                }
            }
        })
    }

    async fn policy(
        &mut self,
        policy: &Policy,
        program: &Program,
        environments: &[RequestEnv],
    ) -> Result<PolicyReport, Error> {
        let mut never_errors = Proof::Proved;
        let mut matches = Matches::Never;
        for environment in environments {
            let compiled = match CompiledPolicy::compile(policy, environment, &program.schema) {
                Ok(compiled) => compiled,
                Err(error) => {
                    let because = error.to_string();
                    never_errors = never_errors.and(Proof::Unknown { because });
                    matches = matches.or(Matches::Unknown);
                    continue;
                }
            };
            let answer = self
                .compiler
                .check_never_errors_with_counterexample_opt(&compiled)
                .await;
            never_errors = never_errors.and(self.judge(answer)?);
            // One environment in which it can match is enough.
            if matches != Matches::Somewhere {
                let answer = self.compiler.check_never_matches_opt(&compiled).await;
                matches = matches.or(match answer {
                    Ok(true) => Matches::Never,
                    Ok(false) => Matches::Somewhere,
                    Err(_) => {
                        *self = Self::start(&self.solver)?;
                        Matches::Unknown
                    }
                });
            }
        }
        Ok(PolicyReport {
            policy: PolicyId::new(AsRef::<str>::as_ref(policy.id())),
            effect: match policy.effect() {
                Effect::Permit => remit_core::Effect::Permit,
                Effect::Forbid => remit_core::Effect::Forbid,
            },
            never_errors,
            matches,
        })
    }

    async fn compare(
        &mut self,
        before: &Bundle,
        after: &Bundle,
        new: &Program,
        environments: &[RequestEnv],
    ) -> Result<Comparison, Error> {
        let old = Program::of(before)?;
        let unknown = |because: String| Comparison {
            permits_no_more: Proof::Unknown {
                because: because.clone(),
            },
            permits_no_less: Proof::Unknown { because },
        };
        if before.schema != after.schema {
            return Ok(unknown("the schema is another one".to_owned()));
        }
        // Cedar skips a forbid that fails, and Remit denies: what is proved of the one says nothing of the other.
        for policy in old.enforced.policies().chain(new.enforced.policies()) {
            if policy.effect() == Effect::Forbid {
                let report = self.policy(policy, new, environments).await?;
                if report.never_errors != Proof::Proved {
                    return Ok(unknown(format!("the forbid `{}` can fail", report.policy)));
                }
            }
        }
        let (mut more, mut less) = (Proof::Proved, Proof::Proved);
        for environment in environments {
            let compile = |program: &Program| {
                CompiledPolicySet::compile(&program.enforced, environment, &new.schema)
                    .map_err(|error| error.to_string())
            };
            match (compile(&old), compile(new)) {
                (Ok(old), Ok(new)) => {
                    let compiler = &mut self.compiler;
                    let answer = compiler
                        .check_implies_with_counterexample_opt(&new, &old)
                        .await;
                    more = more.and(self.judge(answer)?);
                    let compiler = &mut self.compiler;
                    let answer = compiler
                        .check_implies_with_counterexample_opt(&old, &new)
                        .await;
                    less = less.and(self.judge(answer)?);
                }
                (Err(because), _) | (_, Err(because)) => {
                    more = more.and(Proof::Unknown {
                        because: because.clone(),
                    });
                    less = less.and(Proof::Unknown { because });
                }
            }
        }
        Ok(Comparison {
            permits_no_more: more,
            permits_no_less: less,
        })
    }
}

// === impl Proof ===

impl Proof {
    /// Joins what holds of some questions with what holds of others: one refutation is enough, then one doubt.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (refuted @ Self::Refuted { .. }, _) | (_, refuted @ Self::Refuted { .. }) => refuted,
            (unknown @ Self::Unknown { .. }, _) | (_, unknown @ Self::Unknown { .. }) => unknown,
            (Self::Proved, Self::Proved) => Self::Proved,
        }
    }
}

// === impl Matches ===

impl Matches {
    /// Joins what holds of some questions with what holds of others.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Somewhere, _) | (_, Self::Somewhere) => Self::Somewhere,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Never, Self::Never) => Self::Never,
        }
    }
}
