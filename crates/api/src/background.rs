//! Work that takes long and that no decision waits for, on threads that give way to those that decide.

use std::time::Duration;
use std::{io, thread};

use remit_engine::EVALUATION_STACK;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::problem::{Kind, Problem};

/// How much of it is done at once; what a bundle takes while it is compiled is many times its text.
static TURNS: Semaphore = Semaphore::const_new(2);

/// How much less than others a thread gets where a processor is wanted by both, as the niceness of POSIX: about a tenth.
///
/// Not less: a thread that is not run for long keeps what it holds, such as the kernel's lock of the address space.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Runs work that must not slow decisions down, such as compiling a draft of a bundle, when it is its turn.
///
/// Not for what is committed: on a busy machine this may take long, and a change must come into force soon. On Linux the
/// threads that the work starts give way as well; elsewhere it is a thread like any other.
///
/// # Errors
///
/// `internal` when there can be no thread, or the work panics.
pub(crate) async fn give_way<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let turn = TURNS
        .acquire()
        .await
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    lowered(move || {
        // It ends with the work, also where whoever asked has gone.
        let _turn = turn;
        work()
    })
    .await
}

/// Runs work as [`give_way`] does, without a turn: for whoever counts by other means how much there is of it at once.
///
/// # Errors
///
/// As [`give_way`].
pub(crate) async fn lowered<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let (done, outcome) = oneshot::channel();
    let begun = spawn_lowered("remit-background", move || {
        // Whoever asked may have gone.
        done.send(work()).ok();
    });
    begun.map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    outcome
        .await
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))
}

/// Runs a task beside those who wait for this, and again after a pause each time that it panics; what it was is in the log.
///
/// It ends where this is let go of.
pub(crate) async fn survive<F: Future<Output = ()> + Send + 'static>(
    name: &'static str,
    task: impl Fn() -> F,
) {
    /// How long it stays down.
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        let mut running = JoinSet::new();
        running.spawn(task());
        match running.join_next().await {
            Some(Err(panic)) => tracing::error!(%panic, name, "a task failed and is begun again"),
            Some(Ok(())) | None => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Starts a thread that gives way to those that decide, for as long as its work goes on.
///
/// # Errors
///
/// When there can be no thread.
pub(crate) fn spawn_lowered(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(EVALUATION_STACK);
    let begun = thread.spawn(move || {
        lower();
        work();
    });
    begun.map(drop)
}

/// Lowers the priority of this thread, for good: to raise it again would take a privilege.
fn lower() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)
    {
        tracing::warn!(%error, "a thread cannot be given a lower priority");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_the_turn_back() {
        for _ in 0..5 {
            let outcome =
                give_way(|| -> u8 { std::panic::resume_unwind(Box::new("on purpose")) }).await;
            assert!(outcome.is_err());
        }
        assert_eq!(give_way(|| 7_u8).await.ok(), Some(7));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_begun_again_and_holds_nobody_up() {
        let begun = Arc::new(AtomicUsize::new(0));
        let task = || {
            let begun = Arc::clone(&begun);
            async move {
                let before = begun.fetch_add(1, Ordering::SeqCst);
                assert!(before > 0, "on purpose");
            }
        };
        let beside = async { begun.load(Ordering::SeqCst) };
        let (seen, ()) = tokio::join!(beside, survive("test", task));
        assert_eq!((seen, begun.load(Ordering::SeqCst)), (0, 2));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn it_gives_way_and_so_do_the_threads_it_starts() {
        let niceness = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).ok();
        let here = niceness().unwrap_or_default();
        let lowered = give_way(move || {
            let started = thread::spawn(niceness).join().ok().flatten();
            (niceness(), started)
        });
        let least = here.max(NICENESS);
        assert_eq!(lowered.await.ok(), Some((Some(least), Some(least))));
        assert_eq!(niceness(), Some(here));
    }
}
