//! Work that is finished even when nobody waits for it any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that goes on in a task of its own when it is dropped before it is done.
///
/// As long as somebody waits it is part of the waiter's task: to spawn each one would cost every request for the sake of
/// the few whose client goes away.
pub(crate) struct Finishing<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

// === impl Finishing ===

impl<T: Send + 'static> Finishing<T> {
    /// Wraps `work`, which begins when this is first polled.
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is not tried again.
        let Some(mut work) = self.0.take() else {
            return Poll::Pending;
        };
        let outcome = work.as_mut().poll(cx);
        if outcome.is_pending() {
            self.0 = Some(work);
        }
        outcome
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::future::poll_fn;
    use std::panic::AssertUnwindSafe;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::Finishing;

    #[tokio::test]
    async fn is_done_where_it_is_waited_for() {
        let waiter = tokio::spawn(async {
            let work = Finishing::new(async { tokio::task::id() });
            (tokio::task::id(), work.await)
        });
        let (waiting, working) = waiter.await.unwrap();
        assert_eq!(waiting, working);
    }

    #[tokio::test]
    async fn goes_on_when_it_is_dropped() {
        let (go, gone) = oneshot::channel::<()>();
        let (done, seen) = oneshot::channel();
        let mut work = Finishing::new(async move {
            gone.await.unwrap();
            done.send("done").unwrap();
        });
        assert_eq!((&mut work).now_or_never(), None);
        drop(work);
        go.send(()).unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
        assert_eq!(seen.unwrap().unwrap(), "done");
    }

    #[tokio::test]
    async fn is_not_tried_again_after_a_panic() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let work = Finishing::new(poll_fn(move |_| -> Poll<()> {
            assert_ne!(counted.fetch_add(1, Ordering::SeqCst), 0, "the panic");
            Poll::Ready(())
        }));
        let caught = AssertUnwindSafe(work).catch_unwind().await;
        assert!(caught.is_err());
        // Had it been left over, it would be in a task now.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1);
    }
}
