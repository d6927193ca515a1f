//! The bundles carried in the binary.

use remit_core::{Bundle, Source, Tool};
use remit_engine::{McpActions, McpTools};

use crate::bundle_dir;
use crate::cmd::schema;
use crate::error::Error;

/// The entity types of the baseline: who calls, for whom, and what is called on.
pub(crate) const AGENT: &str = "Agent";
const PERSON: &str = "Person";
pub(crate) const SERVICE: &str = "Service";

/// The files of a pack, by name.
type Files = &'static [(&'static str, &'static str)];

/// The files of `policies/starter`, listed by `build.rs`.
const STARTER: Files = include!(concat!(env!("OUT_DIR"), "/starter.rs"));
/// The files of `policies/agent-baseline`.
const BASELINE: Files = include!(concat!(env!("OUT_DIR"), "/agent-baseline.rs"));

/// Reads the starter bundle.
///
/// # Errors
///
/// [`Error::Invalid`] when a file of it is malformed, which its tests rule out.
pub(crate) fn bundle() -> Result<Bundle, Error> {
    read(STARTER)
}

/// Reads the baseline of controls for agents.
///
/// # Errors
///
/// As [`bundle`].
pub(crate) fn baseline() -> Result<Bundle, Error> {
    read(BASELINE)
}

/// Puts these tools in the place of those that a pack comes with.
///
/// # Errors
///
/// [`Error::Invalid`] for tools that the schema cannot take.
pub(crate) fn with_tools(
    mut pack: Bundle,
    descriptors: &McpTools,
    tools: &[Tool],
) -> Result<Bundle, Error> {
    pack.schema.retain(|source| source.file != schema::FILE);
    // The cases ask for the tools that are replaced, about the services that those act on.
    pack.cases.clear();
    pack.entities.clear();
    let actions = McpActions {
        beside: &pack.schema,
        principals: &[AGENT, PERSON],
        resources: &[SERVICE],
    };
    let made = descriptors.schema(tools, actions);
    let made = made.map_err(|why| Error::Invalid(why.to_string()))?;
    pack.schema.push(Source {
        file: schema::FILE.to_owned(),
        text: made.text,
    });
    Ok(pack)
}

fn read(files: Files) -> Result<Bundle, Error> {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    bundle_dir::assemble(&files.collect())
}
