//! Whether this replica can decide, and what keeps it from that.

use std::sync::Arc;
use std::time::Duration;

use remit_engine::Snapshot;

use super::App;

// === impl App ===

impl App {
    /// Returns how many tenants have policies that are older than allowed.
    pub(crate) fn stale_tenants(&self) -> usize {
        let now = self.clock.boot();
        let stale = |age: Duration| age > self.options.max_staleness;
        let standings = self.progress.all();
        standings
            .iter()
            .filter(|(_, standing)| standing.age(now).is_some_and(stale))
            .count()
    }

    /// Returns every reason why this replica cannot decide; none when it can.
    ///
    /// A single tenant that cannot be loaded is no reason: the others are served.
    pub(crate) fn unready(&self) -> Vec<String> {
        let mut causes = Vec::new();
        if self.is_retired() {
            causes.push("this process is stopping".to_owned());
        }
        let now = self.clock.boot();
        match self.progress.age(now) {
            None => causes.push("the database has not been read yet".to_owned()),
            Some(age) if age > self.options.max_staleness => {
                causes.push(format!(
                    "the database has not answered for {} ms",
                    age.as_millis()
                ));
            }
            Some(_) => {}
        }
        if !causes.is_empty() {
            causes.extend(self.progress.failure());
        }
        let standings = self.progress.all();
        for (tenant, standing) in &standings {
            if let Some(revision) = standing.set_back() {
                causes.push(format!(
                    "the database was set back to revision {revision} of the tenant {tenant}"
                ));
            }
        }
        let stopped =
            |age: Option<Duration>| age.is_none_or(|age| age > self.options.max_staleness);
        if !standings.is_empty()
            && standings
                .iter()
                .all(|(_, standing)| stopped(standing.age(now)))
        {
            causes.push("no tenant has policies that are confirmed to be the newest".to_owned());
        }
        let log = self.log.status();
        if log.poisoned {
            causes.push("the decision log cannot write".to_owned());
            // Kept after the disk recovered, and no reason then.
            causes.extend(
                log.disk_error
                    .map(|error| format!("the decision log: {error}")),
            );
        }
        causes
    }

    /// Returns how many tenants are decided no more because the database was set back.
    pub(crate) fn tenants_set_back(&self) -> usize {
        let standings = self.progress.all();
        standings
            .iter()
            .filter(|(_, standing)| standing.set_back().is_some())
            .count()
    }

    /// Returns every snapshot in force.
    pub(crate) fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.progress
            .all()
            .iter()
            .filter_map(|(tenant, _)| self.engine.snapshot(*tenant))
            .collect()
    }
}
