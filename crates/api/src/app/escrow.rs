//! Escrow at work: the calls of a busy task paid for out of what this replica has reserved before.
//!
//! A task that is asked more than a threshold of times within a second has a part of its budgets reserved here. Its permits
//! are then recorded on this host, as those that take nothing. What is not used within a second or so is given back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remit_core::{Spending, TaskId, TenantId};
use remit_log::Takes;
use remit_store::Escrow;

use super::App;

/// How long an escrow is spent from; then what is left of it goes back.
const LIFE: Duration = Duration::from_secs(1);
/// How often it is looked for those whose time is over.
const LOOK: Duration = Duration::from_millis(250);
/// In which time the calls of a task are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// How long others ask the database alone, while one call takes a part for all of them.
const TAKING: Duration = Duration::from_millis(50);
/// How long nothing more is tried where there was too little to take.
const POOR: Duration = Duration::from_secs(1);

/// What this replica has in escrow.
#[derive(Default)]
pub(crate) struct Escrows(Mutex<HashMap<(TenantId, TaskId), Busy>>);

/// One task and how busy it is here.
#[derive(Default)]
struct Busy {
    /// When the counting began, in boot time.
    since: Duration,
    calls: u32,
    /// Before when no other part is asked for, in boot time.
    not_before: Duration,
    held: Option<Held>,
}

/// A part of the budgets of a chain, and what is used of it.
struct Held {
    escrow: Escrow,
    chain: Vec<TaskId>,
    used: [i64; 5],
    /// When it is over, in boot time.
    until: Duration,
}

/// One that is to be ended.
struct Over {
    tenant: TenantId,
    escrow: Escrow,
    used: [i64; 5],
}

/// How a call is paid for.
enum Paid {
    /// Out of what is in escrow.
    Yes,
    /// By asking the database for it alone.
    No,
    /// The task is busy: a part of its budgets is to be taken first.
    Take,
}

// === impl App ===

impl App {
    /// Pays for a call out of escrow, where its task is busy enough to have one; false where the database must be asked.
    ///
    /// Nothing that fails here denies anything.
    pub(super) async fn pays_from_escrow(&self, tenant: TenantId, takes: &Takes) -> bool {
        let busy_from = self.options.escrow_from;
        if busy_from == 0 || !takes.labels.is_empty() {
            return false;
        }
        let (paid, over) = self
            .escrows
            .pay(tenant, takes, self.clock.boot(), busy_from);
        if let Some(over) = over {
            self.end(over).await;
        }
        match paid {
            Paid::Yes => true,
            Paid::No => false,
            Paid::Take => {
                let whose = (self.log.replica(), self.options.reserved);
                let began = self.clock.boot();
                let part = self
                    .store
                    .take_escrow(tenant, &takes.chain, &takes.charges, whose)
                    .await;
                let Ok(Some(escrow)) = part else {
                    self.escrows.is_poor(tenant, takes, began);
                    return false;
                };
                let (paid, over) = self.escrows.put(tenant, takes, escrow, began);
                if let Some(over) = over {
                    self.end(over).await;
                }
                paid
            }
        }
    }

    /// Gives back what was not used. What the database does not hear of now counts as spent in the end.
    async fn end(&self, over: Over) {
        let ended = self
            .store
            .end_escrow(over.tenant, over.escrow.id, over.used);
        if let Err(error) = ended.await {
            tracing::warn!(%error, "a part of a budget cannot be given back, and will count as spent");
        }
    }

    /// Gives everything back, because this replica stops.
    pub(crate) async fn leave_escrows(&self) {
        for over in self.escrows.over(None) {
            self.end(over).await;
        }
    }
}

/// Gives back again and again what was not used in time.
pub(crate) async fn keep_returning(app: Arc<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        for over in app.escrows.over(Some(app.clock.boot())) {
            app.end(over).await;
        }
    }
}

// === impl Escrows ===

impl Escrows {
    fn pay(
        &self,
        tenant: TenantId,
        takes: &Takes,
        now: Duration,
        busy_from: u32,
    ) -> (Paid, Option<Over>) {
        let Some(task) = takes.chain.first() else {
            return (Paid::No, None);
        };
        let mut all = self.lock();
        let busy = all.entry((tenant, *task)).or_default();
        if now.saturating_sub(busy.since) >= WINDOW {
            (busy.since, busy.calls) = (now, 0);
        }
        busy.calls = busy.calls.saturating_add(1);
        if let Some(held) = &mut busy.held {
            if held.pays(takes, now) {
                return (Paid::Yes, None);
            }
            // It is used up or over; what is left of it goes back first.
            let over = busy.held.take().map(|held| held.over(tenant));
            busy.not_before = now + TAKING;
            return (Paid::Take, over);
        }
        if busy.calls <= busy_from || now < busy.not_before {
            return (Paid::No, None);
        }
        busy.not_before = now + TAKING;
        (Paid::Take, None)
    }

    /// Puts what was taken to use; it pays for this call first. Where another call has put some meanwhile, one of the two
    /// goes back.
    fn put(
        &self,
        tenant: TenantId,
        takes: &Takes,
        escrow: Escrow,
        began: Duration,
    ) -> (bool, Option<Over>) {
        let mut held = Held {
            escrow,
            chain: takes.chain.clone(),
            used: [0; 5],
            until: began + LIFE,
        };
        let paid = held.pays(takes, began);
        let Some(task) = takes.chain.first() else {
            return (paid, Some(held.over(tenant)));
        };
        let mut all = self.lock();
        let busy = all.entry((tenant, *task)).or_default();
        let before = busy.held.replace(held);
        (paid, before.map(|before| before.over(tenant)))
    }

    fn is_poor(&self, tenant: TenantId, takes: &Takes, now: Duration) {
        if let Some(task) = takes.chain.first() {
            let mut all = self.lock();
            all.entry((tenant, *task)).or_default().not_before = now + POOR;
        }
    }

    /// Takes out what is over at a time, or everything; and forgets tasks of which nothing is asked.
    fn over(&self, now: Option<Duration>) -> Vec<Over> {
        let mut over = Vec::new();
        let mut all = self.lock();
        all.retain(|(tenant, _), busy| {
            let ends = |held: &Held| now.is_none_or(|now| now >= held.until);
            if busy.held.as_ref().is_some_and(ends) {
                over.extend(busy.held.take().map(|held| held.over(*tenant)));
            }
            let quiet = now.is_some_and(|now| now.saturating_sub(busy.since) > 2 * WINDOW);
            busy.held.is_some() || !quiet
        });
        over
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TenantId, TaskId), Busy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Held {
    /// Uses some of it, or nothing where it has not enough, or is over, or is that of another chain.
    fn pays(&mut self, takes: &Takes, now: Duration) -> bool {
        if now >= self.until || self.chain != takes.chain {
            return false;
        }
        let Some(charges) = numbers(&takes.charges) else {
            return false;
        };
        let mut left = self.escrow.left;
        for (left, charge) in left.iter_mut().zip(charges) {
            if let Some(left) = left {
                *left = left.saturating_sub(charge);
                if *left < 0 {
                    return false;
                }
            }
        }
        self.escrow.left = left;
        for (used, charge) in self.used.iter_mut().zip(charges) {
            *used = used.saturating_add(charge);
        }
        true
    }

    fn over(self, tenant: TenantId) -> Over {
        Over {
            tenant,
            escrow: self.escrow,
            used: self.used,
        }
    }
}

/// Writes what is used as a budget counts it; `None` where that is more than any budget is.
fn numbers(spending: &Spending) -> Option<[i64; 5]> {
    let number = |value: u64| {
        let value = (value <= remit_store::MOST_CHARGED).then_some(value)?;
        i64::try_from(value).ok()
    };
    Some([
        number(spending.calls)?,
        number(spending.cost)?,
        number(spending.amount)?,
        number(spending.bytes)?,
        number(spending.irreversible)?,
    ])
}
