//! The `system` bundle: the policies that decide who may administer, part of the program, and what a tenant adds to them.

use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use remit_core::{Bundle, ContentHash, Source, TenantId};
use remit_engine::{Comparison, CompileError, Diagnostic, Severity, Snapshot};

use super::Action;
use crate::app::App;
use crate::background::give_way;
use crate::problem::{Kind, Problem};

mod kept;

use kept::Kept;

/// The folder of a bundle in which a tenant's own policies of the administration stand.
const FOLDER: &str = "admin/";
/// What the ids of the built-in policies begin with, and no others do.
const RESERVED: &str = "remit.";

const SCHEMA: &str = include_str!("../../../../policies/system/schema.cedarschema");
const ROLES: &str = include_str!("../../../../policies/system/roles.cedar");
const RULES: &str = include_str!("../../../../policies/system/rules.cedar");

/// What is built in and nothing else.
static BUILT_IN: OnceLock<Arc<Snapshot>> = OnceLock::new();
/// What tenants that added something have in force. What is only looked at never gets in.
static COMPILED: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// Returns what decides who may administer the tenant now.
///
/// # Errors
///
/// `not-ready` while this replica has not loaded the tenant's bundle, which may say more than what is built in.
pub(crate) async fn in_force(app: &App, tenant: TenantId) -> Result<Arc<Snapshot>, Problem> {
    let fault = |error: CompileError| Problem::caused(Kind::INTERNAL, error);
    let Some(snapshot) = app.engine.snapshot(tenant) else {
        return match app.store.bundle_revision(tenant).await? {
            Some(_) => Err(Kind::NOT_READY.into()),
            None => built_in().map_err(fault),
        };
    };
    if let Some(known) = known(snapshot.admin()) {
        return Ok(known);
    }
    give_way(move || keep(snapshot.admin()))
        .await?
        .map_err(fault)
}

/// Returns what decides an operation now: the ways out of a lock-out are decided by what is built in alone.
///
/// # Errors
///
/// As [`in_force`].
pub(super) async fn deciding(
    app: &App,
    tenant: TenantId,
    action: Action,
) -> Result<Arc<Snapshot>, Problem> {
    if action.is_a_way_out() {
        return alone();
    }
    in_force(app, tenant).await
}

/// Returns what is built in.
pub(super) fn alone() -> Result<Arc<Snapshot>, Problem> {
    built_in().map_err(|error| Problem::caused(Kind::INTERNAL, error))
}

/// Compiles what a tenant adds together with what is built in, and keeps nothing: anybody may send it.
///
/// # Errors
///
/// [`CompileError`] with every error in the tenant's files: one in another folder, an id that is reserved, and whatever
/// does not fit the schema of the administration.
pub(crate) fn compiled(admin: &[Source]) -> Result<Arc<Snapshot>, CompileError> {
    if let Some(known) = known(admin) {
        return Ok(known);
    }
    if admin.is_empty() {
        return built_in();
    }
    misplaced(admin)?;
    let snapshot = Snapshot::compile(&bundle(admin))?;
    usurped(&snapshot)?;
    Ok(Arc::new(snapshot))
}

/// Compiles what a tenant has in force, and keeps it for the next time.
fn keep(admin: &[Source]) -> Result<Arc<Snapshot>, CompileError> {
    let snapshot = compiled(admin)?;
    if !admin.is_empty() {
        let texts = admin.iter();
        let bytes = texts.map(|one| one.file.len() + one.text.len()).sum();
        let mut kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        kept.keep(hash(admin), Arc::clone(&snapshot), bytes);
    }
    Ok(snapshot)
}

/// Compiles what is built in, once.
fn built_in() -> Result<Arc<Snapshot>, CompileError> {
    if let Some(known) = BUILT_IN.get() {
        return Ok(Arc::clone(known));
    }
    let snapshot = Arc::new(Snapshot::compile(&bundle(&[]))?);
    Ok(Arc::clone(BUILT_IN.get_or_init(|| snapshot)))
}

/// Whether two tenants add the same.
pub(crate) fn same(one: &[Source], other: &[Source]) -> bool {
    hash(one) == hash(other)
}

/// Whether a tenant adds nothing to what is built in.
pub(crate) fn is_built_in(system: &Arc<Snapshot>) -> bool {
    built_in().is_ok_and(|built_in| Arc::ptr_eq(&built_in, system))
}

impl App {
    /// Compiles what a bundle says of the administration, and returns what somebody should look at in it.
    ///
    /// # Errors
    ///
    /// [`CompileError`] with every error in its files of the folder `admin/`.
    pub fn review_admin(bundle: &Bundle) -> Result<Vec<Diagnostic>, CompileError> {
        Ok(warnings(&*compiled(&bundle.admin)?))
    }
}

/// Returns what somebody should look at in a tenant's files.
pub(crate) fn warnings(system: &Snapshot) -> Vec<Diagnostic> {
    let mut found = system.warnings().to_vec();
    found.extend(system.review());
    found.retain(|one| one.file.as_deref().is_some_and(is_theirs));
    found
}

/// Adds what changes in the administration to what changes in the decisions.
pub(crate) fn joined(mut of_bundle: Comparison, of_admin: Comparison) -> Comparison {
    of_bundle.loosens |= of_admin.loosens;
    of_bundle.more += of_admin.more;
    of_bundle.changes.extend(of_admin.changes);
    of_bundle.changes.sort_by_key(|change| !change.loosens);
    of_bundle
}

fn bundle(admin: &[Source]) -> Bundle {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let mut policies = vec![
        source("remit/roles.cedar", ROLES),
        source("remit/rules.cedar", RULES),
    ];
    policies.extend_from_slice(admin);
    Bundle {
        schema: vec![source("schema.cedarschema", SCHEMA)],
        policies,
        ..Bundle::default()
    }
}

fn hash(admin: &[Source]) -> ContentHash {
    let bundle = Bundle {
        admin: admin.to_vec(),
        ..Bundle::default()
    };
    bundle.content_hash()
}

/// Finds what is compiled already.
fn known(admin: &[Source]) -> Option<Arc<Snapshot>> {
    if admin.is_empty() {
        return BUILT_IN.get().cloned();
    }
    let hash = hash(admin);
    let mut kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get(hash)
}

/// Whether a file is one of the tenant's: `admin/` and a plain name that ends in `.cedar`.
fn is_theirs(file: &str) -> bool {
    file.strip_prefix(FOLDER)
        .and_then(|name| name.strip_suffix(".cedar"))
        .is_some_and(|name| !name.is_empty() && !name.contains(['/', '\\']))
}

fn misplaced(admin: &[Source]) -> Result<(), CompileError> {
    let wrong = admin.iter().filter(|source| !is_theirs(&source.file));
    refuse(wrong.map(|source| {
        let file = source.file.escape_debug();
        let message = format!(
            "a file of policies of the administration is named `{file}`; `admin/` and a plain name ending in .cedar was expected"
        );
        error("admin_file", message)
    }))
}

/// Finds the tenant's policies that have an id of the kind that is reserved.
fn usurped(snapshot: &Snapshot) -> Result<(), CompileError> {
    let wrong = snapshot
        .written()
        .filter(|policy| is_theirs(policy.file()) && policy.id().as_str().starts_with(RESERVED));
    refuse(wrong.map(|policy| Diagnostic {
        policy: Some(policy.id().clone()),
        file: Some(policy.file().to_owned()),
        span: Some(policy.span()),
        ..error(
            "reserved_id",
            format!("ids that begin with `{RESERVED}` are those of the built-in policies"),
        )
    }))
}

fn refuse(wrong: impl Iterator<Item = Diagnostic>) -> Result<(), CompileError> {
    let diagnostics: Vec<Diagnostic> = wrong.collect();
    if diagnostics.is_empty() {
        Ok(())
    } else {
        Err(CompileError { diagnostics })
    }
}

fn error(code: &str, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: code.to_owned(),
        message,
        help: None,
        policy: None,
        file: None,
        span: None,
    }
}

#[cfg(test)]
mod tests;
