//! Work in the background of a service.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The background tasks of one service: started anywhere, stopped together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskGroup {
    tracker: TaskTracker,
    token: CancellationToken,
    failures: mpsc::UnboundedSender<anyhow::Error>,
}

impl TaskGroup {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<anyhow::Error>) {
        let (failures, failed) = mpsc::unbounded_channel();
        (Self { tracker: TaskTracker::new(), token: CancellationToken::new(), failures }, failed)
    }

    /// Returns a token that is cancelled when tasks should stop, which is after the servers have stopped.
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Starts a task. `name` is for logs and errors.
    ///
    /// The task gets the token and should end soon after it is cancelled. If it returns an error or panics, the service
    /// shuts down with that error: a service whose endpoint refresh is dead answers, but lies.
    pub fn spawn<F>(&self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let work = tokio::spawn(task(self.token()));
        let failures = self.failures.clone();
        self.tracker.spawn(async move {
            let error = match work.await {
                Ok(Ok(())) => return,
                Ok(Err(e)) => e.context(format!("background task {name}")),
                Err(e) if e.is_cancelled() => return,
                Err(_) => anyhow::anyhow!("background task {name} panicked"),
            };
            // Nobody listens once the service is stopping; the error is then of no use.
            let _ = failures.send(error);
        });
    }

    /// Tells all tasks to stop and waits for them, at most for `patience`; tells whether all have ended.
    pub(crate) async fn stop(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
