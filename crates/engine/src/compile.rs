//! Compiling: a bundle in, a program that can be decided with out.

use std::sync::Arc;

use remit_core::{Bundle, ContentHash, Entity};

use crate::diagnostic::{CompileError, Diagnostic};
use crate::policy::CompiledPolicy;
use crate::schema::CompiledSchema;

/// A compiled bundle.
#[derive(Debug)]
pub(crate) struct Program {
    /// The schema every policy was validated against.
    pub(crate) schema: Arc<CompiledSchema>,
    /// Static policies and links in the order of their ids; a template itself is not among them.
    pub(crate) policies: Vec<Arc<CompiledPolicy>>,
    /// The bundle's own entities, as given.
    pub(crate) entities: Vec<Entity>,
    /// What somebody should look at.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The hash of the bundle.
    pub(crate) content_hash: ContentHash,
    /// How many policies, templates and links were validated for this program; the others came from the one before.
    pub(crate) validated: usize,
}

/// Compiles a bundle, taking from `previous` whatever has the same text under the same schema.
///
/// # Errors
///
/// [`CompileError`] with every error in the bundle.
pub(crate) fn compile(
    bundle: &Bundle,
    previous: Option<&Program>,
) -> Result<Program, CompileError> {
    let _ = (bundle, previous);
    Err(CompileError {
        diagnostics: vec![Diagnostic::error("internal", "not built yet")],
    })
}
