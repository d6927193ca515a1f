//! Puts the folder in order at start: what earlier runs left is made whole, or the log does not start.

use std::path::Path;

use remit_core::Timestamp;
use serde::Deserialize;

use crate::Error;
use crate::disk::Disk;
use crate::entries::by_replica;
use crate::folder;
use crate::frame::Frame;
use crate::scan::{Scan, Segment, Tail};
use crate::spool;

/// What earlier runs left to be shipped.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Closed segments with records, oldest first.
    pub(crate) segments: Vec<spool::Segment>,
    /// When the oldest of those records was made.
    pub(crate) since: Option<Timestamp>,
}

/// Checks every segment in `dir`, cuts off torn and superseded tails, and removes segments without a record.
///
/// A tail is cut off before an empty segment after it is removed: the empty one is what says that the tail does not
/// count.
///
/// # Errors
///
/// [`Error::Corrupt`] for damage to anything that was synced, [`Error::Io`] when the disk refuses.
pub(crate) fn recover(dir: &Path, disk: &dyn Disk) -> Result<Recovered, Error> {
    let mut recovered = Recovered::default();
    let mut empty = Vec::new();
    for names in by_replica(&folder::list(dir)?) {
        let scan = Scan::read(&names, |segment, bytes| {
            recovered.since = recovered.since.or_else(|| first_time(segment, bytes));
        })?;
        if let Some((segment, damage)) = scan
            .segments
            .iter()
            .find_map(|segment| Some((segment, segment.damage.first()?)))
        {
            return Err(Error::Corrupt {
                file: segment.name.path.clone(),
                offset: damage.offset as u64,
                what: damage.what.clone(),
            });
        }
        for segment in scan.segments {
            match spool::Segment::closed(&segment) {
                Some(closed) => {
                    cut(&segment, disk)?;
                    recovered.segments.push(closed);
                }
                None => empty.push(segment.name.path),
            }
        }
    }
    if !empty.is_empty() {
        for path in &empty {
            disk.remove(path).map_err(Error::io("remove", path))?;
        }
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    Ok(recovered)
}

fn cut(segment: &Segment, disk: &dyn Disk) -> Result<(), Error> {
    let path = &segment.name.path;
    if segment.tail == Tail::None {
        return Ok(());
    }
    disk.truncate(path, segment.end as u64)
        .map_err(Error::io("truncate", path))?;
    tracing::warn!(
        file = %path.display(),
        offset = segment.end,
        bytes = segment.tail_bytes(),
        tail = ?segment.tail,
        "cut off the unconfirmed end of a decision log segment"
    );
    Ok(())
}

fn first_time(segment: &Segment, bytes: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct At {
        at: Timestamp,
    }
    let frame = Frame::read(bytes.get(segment.frames.first()?.offset..)?).ok()?;
    let At { at } = serde_json::from_slice(frame.body).ok()?;
    Some(at)
}
