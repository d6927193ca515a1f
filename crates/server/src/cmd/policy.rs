//! `remit policy`: policies checked, formatted and tested where they are written, and followed through their versions.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_api::App;
use remit_core::{Bundle, Source};
use remit_engine::{Diagnostic, Snapshot};
use serde::Serialize;

use super::{draft, policy_history, policy_impact, policy_shadow, policy_test};
use crate::bundle_dir;
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Format, Output};

/// Examples in `--help`.
const VALIDATE: &str = "\
Examples:
    remit policy validate policies/starter
    remit policy validate policies/starter -o json
    remit policy validate policies/* --output github";

/// Examples in `--help`.
const FMT: &str = "\
Examples:
    remit policy fmt policies/starter
    remit policy fmt --check policies/starter
    remit policy fmt payments.cedar";

/// The commands around policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile folders of policies as the server would, and show what is wrong and where. Exit 3 on an error.
    #[command(after_help = VALIDATE)]
    Validate {
        /// Folders that hold a bundle.
        #[arg(required = true, value_name = "DIR")]
        folders: Vec<PathBuf>,
        /// Take a warning for an error.
        #[arg(long)]
        deny_warnings: bool,
    },
    /// Lay out policies in Cedar's standard form, in place.
    #[command(after_help = FMT)]
    Fmt {
        /// Folders or *.cedar files.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Change nothing; exit 3 when a file is not in standard form.
        #[arg(long)]
        check: bool,
    },
    /// Run the cases beside the policies. Exit 4 when one fails.
    Test(policy_test::Args),
    /// Ask a solver what holds for every question: that no policy fails, and that no more is permitted than before.
    #[cfg(feature = "verify")]
    #[command(after_help = super::policy_verify::EXAMPLES)]
    Verify(super::policy_verify::Args),
    /// Make recorded decisions again under a folder of policies, and tell what would have come out otherwise.
    #[command(after_help = policy_impact::EXAMPLES)]
    Impact(policy_impact::Args),
    /// Decide by a folder of policies beside those in force, enforcing nothing, and tell how far they disagree.
    #[command(subcommand)]
    Shadow(policy_shadow::Command),
    /// Put a folder in force as a draft: made, checked, and published where nobody else has to agree.
    #[command(after_help = draft::PUBLISH_FOLDER)]
    Publish(draft::Folder),
    /// List the versions of what decides: when each was put, by whom and what for.
    #[command(after_help = policy_history::HISTORY)]
    History(policy_history::History),
    /// Show how two versions differ, policy by policy.
    #[command(after_help = policy_history::DIFF)]
    Diff(policy_history::Diff),
    /// Put an older version in force again, as a new version.
    #[command(after_help = policy_history::ROLLBACK)]
    Rollback(policy_history::Rollback),
}

/// What validating one folder found.
#[derive(Debug, Serialize)]
struct Validated {
    bundle: String,
    valid: bool,
    policies: usize,
    diagnostics: Vec<Diagnostic>,
}

/// Runs one of them.
///
/// # Errors
///
/// [`Error::Invalid`] and [`Error::Io`] for a folder that cannot be read, and those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Validate {
            folders,
            deny_warnings,
        } => validate(&folders, deny_warnings, out),
        Command::Fmt { paths, check } => format(&paths, check, out),
        Command::Test(args) => policy_test::run(&args, out).await,
        #[cfg(feature = "verify")]
        Command::Verify(args) => super::policy_verify::run(&args, out).await,
        Command::Impact(args) => policy_impact::run(&args, out).await,
        Command::Shadow(command) => policy_shadow::run(command, out).await,
        Command::Publish(args) => Box::pin(draft::publish_folder(args, out)).await,
        Command::History(args) => policy_history::history(&args, out).await,
        Command::Diff(args) => policy_history::diff(&args, out).await,
        Command::Rollback(args) => policy_history::rollback(args, out).await,
    }
}

fn validate(folders: &[PathBuf], deny_warnings: bool, out: &Output) -> Result<Exit, Error> {
    let mut results = Vec::new();
    let mut exit = Exit::Ok;
    for dir in folders {
        let folder = bundle_dir::read(dir)?;
        folder.warnings.iter().for_each(|warning| out.warn(warning));
        let (valid, policies, found) = compile(&folder.bundle);
        let found = found.within(dir);
        if !valid || (deny_warnings && !found.diagnostics.is_empty()) {
            exit = Exit::Invalid;
        }
        match out.format() {
            Format::Table => out.diagnostics(&found),
            Format::Github => found.github().iter().try_for_each(|line| out.print(line))?,
            Format::Json | Format::Ndjson => {}
        }
        results.push(Validated {
            bundle: dir.display().to_string(),
            valid,
            policies,
            diagnostics: found.diagnostics,
        });
    }
    if out.format() != Format::Github {
        out.rows(
            &results,
            &["bundle", "valid", "policies", "errors", "warnings"],
            cells,
        )?;
    }
    Ok(exit)
}

fn compile(bundle: &Bundle) -> (bool, usize, Found) {
    let compiled =
        Snapshot::compile(bundle).and_then(|snapshot| Ok((snapshot, App::review_admin(bundle)?)));
    match compiled {
        Ok((snapshot, of_admin)) => {
            let mut found = snapshot.warnings().to_vec();
            let review = snapshot.review().into_iter();
            // What is stored on a server may be named by a policy, and is not known here.
            found.extend(review.filter(|one| one.code != "missing_entity"));
            found.extend(of_admin);
            (true, snapshot.policy_count(), Found::new(found, bundle))
        }
        Err(error) => (false, 0, Found::new(error.diagnostics, bundle)),
    }
}

fn cells(result: &Validated) -> Vec<String> {
    let found = Found::new(result.diagnostics.clone(), &Bundle::default());
    vec![
        result.bundle.clone(),
        if result.valid { "yes" } else { "no" }.to_owned(),
        result.policies.to_string(),
        found.errors().to_string(),
        (result.diagnostics.len() - found.errors()).to_string(),
    ]
}

fn format(paths: &[PathBuf], check: bool, out: &Output) -> Result<Exit, Error> {
    let mut changed = Vec::new();
    for path in cedar_files(paths)? {
        let text = std::fs::read_to_string(&path).map_err(|why| Error::path("read", &path, why))?;
        let formatted = remit_engine::format_policies(&text).map_err(|error| {
            let file = path.display().to_string();
            invalid(&file, &text, error.diagnostics)
        })?;
        if formatted != text {
            if !check {
                bundle_dir::replace(&path, formatted.as_bytes())?;
            }
            changed.push(path.display().to_string());
        }
    }
    out.rows(
        &changed,
        &[if check {
            "not in standard form"
        } else {
            "formatted"
        }],
        |file| vec![file.clone()],
    )?;
    Ok(if check && !changed.is_empty() {
        Exit::Invalid
    } else {
        Exit::Ok
    })
}

/// Makes an error of diagnostics in one file that is no part of a bundle.
fn invalid(file: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Error {
    for diagnostic in &mut diagnostics {
        diagnostic.file = Some(file.to_owned());
    }
    let source = Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let bundle = Bundle {
        policies: vec![source],
        ..Bundle::default()
    };
    Error::Diagnostics {
        what: format!("`{file}`"),
        found: Box::new(Found::new(diagnostics, &bundle)),
    }
}

/// Finds the *.cedar files in `paths`, in the order given and by name within a folder.
fn cedar_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |why| Error::path("list", path, why);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "cedar")
                && is_file(&file)
            {
                found.push(file);
            }
        }
        found.sort();
        files.extend(found);
    }
    if files.is_empty() {
        return Err(Error::Invalid("there is no *.cedar file there".to_owned()));
    }
    Ok(files)
}

/// A link is not followed: formatting replaces the file, and would leave what the link points to as it was.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file())
}
