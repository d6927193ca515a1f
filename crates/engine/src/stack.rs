//! The threads with a large stack on which policy text is parsed and validated.

use std::thread;

use crate::diagnostic::{CompileError, Diagnostic};
use crate::guard::PARSE_STACK;

/// Runs `work` on a thread of its own with a stack of [`PARSE_STACK`] bytes and waits for it.
///
/// # Errors
///
/// A [`CompileError`] when the thread cannot be started, or when the work panics.
pub(crate) fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, CompileError> + Send,
) -> Result<T, CompileError> {
    let fault = |message: &str| CompileError {
        diagnostics: vec![Diagnostic::error("internal", message)],
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .name("remit-compile".to_owned())
            .stack_size(PARSE_STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| fault(&format!("no thread to compile on: {error}")))?
            .join()
            .unwrap_or_else(|_| {
                Err(fault(
                    "the compiler failed on this bundle; nothing was changed",
                ))
            })
    })
}

/// The most threads that read policies at once.
const THREADS: usize = 4;
/// The least policies that are worth a thread.
const LEAST: usize = 64;

/// Applies `work` to each item, in the order of the items, on several threads with large stacks when there are many.
///
/// A chunk whose thread cannot be started or panics is cut short; the caller sees fewer results than items.
pub(crate) fn in_chunks<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    if items.len() < 2 * LEAST {
        return items.iter().map(work).collect();
    }
    let work = &work;
    let size = items.len().div_ceil(THREADS).max(LEAST);
    thread::scope(|scope| {
        let started: Vec<_> = items
            .chunks(size)
            .map(|chunk| {
                thread::Builder::new()
                    .name("remit-compile".to_owned())
                    .stack_size(PARSE_STACK)
                    .spawn_scoped(scope, move || chunk.iter().map(work).collect::<Vec<_>>())
            })
            .collect();
        let mut results = Vec::with_capacity(items.len());
        for thread in started {
            match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(chunk)) => results.extend(chunk),
                // What follows would be taken for the results of other items.
                _ => break,
            }
        }
        results
    })
}
