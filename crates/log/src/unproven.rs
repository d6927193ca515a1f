//! A log that does not keep its promise: what [`DecisionLog::append`] becomes with its protections off, and only then.

use std::time::Duration;

use remit_core::DecisionRecord;
use remit_core::controls::{Protection, holds};

use crate::frame::NO_HASH;
use crate::{DecisionLog, Error, Receipt};

/// How long a record then waits in memory, as it would in a log that is written in the background.
const LATER: Duration = Duration::from_millis(100);

/// Gives receipts for records that are not on the disk yet, or that were refused.
pub(crate) async fn append(
    log: &DecisionLog,
    records: &[DecisionRecord],
) -> Result<Vec<Receipt>, Error> {
    let replica = log.replica();
    let receipts = records
        .iter()
        .map(|record| Receipt::new(record.id, replica, 0, NO_HASH))
        .collect();
    if holds(Protection::RecordBeforeAnswer) {
        // Refused or not, it is answered.
        let _ = log.record(records).await;
        return Ok(receipts);
    }
    let (log, records) = (log.clone(), records.to_vec());
    tokio::spawn(async move {
        tokio::time::sleep(LATER).await;
        log.record(&records).await
    });
    Ok(receipts)
}
