//! How much the open drafts of a tenant may hold together; those that are published or discarded hold nothing.

use remit_core::{DraftId, TenantId};

use crate::db::Conn;
use crate::error::Failure;

/// The most drafts of a tenant that are open.
const MOST_OPEN: i64 = 100;
/// The most that their bundles may have together, in bytes.
const MOST_BYTES: i64 = 256 << 20;

pub(crate) mod sql {
    statements! {
        /// Counts the open drafts beside one, and the bytes of their bundles.
        OPEN_DRAFTS = "SELECT count(*), CAST(coalesce(sum(octet_length(body)), 0) AS BIGINT) FROM drafts \
            WHERE tenant = $1 AND state = 'open' AND id <> $2";
    }
}

/// Says why there is no room for a draft with this body beside the others; `None` where there is. The tenant's row is
/// locked.
pub(super) async fn lacking(
    conn: &mut Conn,
    tenant: TenantId,
    id: DraftId,
    body: &str,
) -> Result<Option<String>, Failure> {
    let (open, bytes): (i64, i64) = on!(conn, |raw| sqlx::query_as(sql::OPEN_DRAFTS)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_one(raw)
        .await)?;
    let bytes = i64::try_from(body.len())
        .ok()
        .and_then(|more| bytes.checked_add(more));
    Ok(if open >= MOST_OPEN {
        Some(format!(
            "{MOST_OPEN} drafts are open; publish or discard one first"
        ))
    } else if bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
        Some(format!(
            "the open drafts would have more than {MOST_BYTES} bytes together; publish or discard one first"
        ))
    } else {
        None
    })
}
