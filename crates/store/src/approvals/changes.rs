//! Which approvals can be used since a revision and which cannot any more, for a replica that catches up.

use remit_core::{Approval, ApprovalId, Revision, TenantId};
use uuid::Uuid;

use super::{RequestRow, StoredRequest, at, columns};
use crate::error::Error;
use crate::store::Store;

/// The most approvals that one call returns.
const MOST: usize = 10_000;

/// One page of what became of approvals since a revision: each as it is now.
#[derive(Debug, Clone, Default)]
pub struct ApprovalChanges {
    /// Those that can be used.
    pub usable: Vec<Approval>,
    /// Those that cannot any more: withdrawn, used up, over.
    pub removed: Vec<ApprovalId>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<ApprovalCursor>,
}

/// Where a page of [`ApprovalChanges`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovalCursor {
    revision: Revision,
    id: ApprovalId,
}

pub(crate) mod sql {
    use super::columns;

    statements! {
        /// Lists the approvals that changed after a revision, in the order of the changes.
        CHANGED_APPROVALS = concat!("SELECT ", columns!(narrow), " FROM access_requests WHERE tenant = $1 \
            AND scope IS NOT NULL AND (revision, id) > ($2, $3) ORDER BY revision, id LIMIT $4");
        /// Lists as CHANGED_APPROVALS for whoever has read none yet: those alone that can be used.
        USABLE_APPROVALS = concat!("SELECT ", columns!(narrow), " FROM access_requests WHERE tenant = $1 \
            AND scope IS NOT NULL AND (revision, id) > ($2, $3) AND state = 'approved' AND forgotten_at IS NULL \
            ORDER BY revision, id LIMIT $4");
    }
}

// === impl Store ===

impl Store {
    /// Returns one page of the approvals that changed after a revision, each as it is now, which may be later than any
    /// revision that the caller knows of.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn approvals_changed(
        &self,
        tenant: TenantId,
        after: Revision,
        from: Option<ApprovalCursor>,
        limit: usize,
    ) -> Result<ApprovalChanges, Error> {
        let limit = limit.clamp(1, MOST);
        let text = match after.number() {
            0 => sql::USABLE_APPROVALS,
            _ => sql::CHANGED_APPROVALS,
        };
        // No id is larger than the largest, so nothing of the revision `after` is read again.
        let (seen, id) = from.map_or((after, Uuid::max()), |at| (at.revision, at.id.uuid()));
        let rows: Vec<RequestRow> = read!(self, tenant, "read the changes of approvals", |raw| {
            sqlx::query_as(text)
                .bind(tenant.uuid())
                .bind(at(seen))
                .bind(id)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        let full = rows.len() >= limit;
        let mut changes = ApprovalChanges::default();
        let mut last = None;
        for row in rows {
            let request = StoredRequest::read(row)?;
            last = Some(ApprovalCursor {
                revision: request.revision,
                id: request.id,
            });
            match request.approval() {
                Some(approval) => changes.usable.push(approval),
                None => changes.removed.push(request.id),
            }
        }
        changes.next = last.filter(|_| full);
        Ok(changes)
    }
}
