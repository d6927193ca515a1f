//! Telemetry of the process.

use tracing_subscriber::filter::{EnvFilter, ParseError};

/// Reads a filter of log lines: a level, or targets with a level each.
///
/// # Errors
///
/// [`ParseError`] for anything else.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}
