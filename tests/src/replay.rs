//! Replay equality: every record that a test leaves behind is decided again under its own revision, from what is stored.
//!
//! What is read is what an auditor would have: the versions of the bundle, the history of the entities, the records in
//! the spool and in the database. Nothing of the process that decided is used.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use remit_core::{Clock, ContentHash, DecisionId, DecisionRecord, Revision, TenantId, Timestamp};
use remit_engine::{EVALUATION_STACK, Snapshot};
use remit_store::{MAX_ENTITIES, Store};

/// How many records are read at once.
const PAGE: usize = 1_000;
/// How many differences are told.
const TOLD: usize = 5;

/// What a test leaves: a database, and a folder of records that are not shipped yet.
#[derive(Debug, Clone)]
pub struct Remains {
    /// Where the database is.
    pub database: remit_store::Options,
    /// The folder of the decision log.
    pub spool: PathBuf,
    /// How many records there are at least.
    pub least: u64,
}

/// Decides every record that is left again, on a thread and a runtime of its own, and returns how many there were.
///
/// Where `REMIT_REPLAYED` names a file, the number is written there as a line.
///
/// # Errors
///
/// What came out otherwise, or could not be decided again; or that there are fewer records than there should be.
pub fn all(remains: Remains) -> Result<usize, String> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(left(&remains))
    };
    let thread = thread::Builder::new()
        .name(thread::current().name().unwrap_or("test").to_owned())
        .stack_size(EVALUATION_STACK);
    let count = thread
        .spawn(work)
        .unwrap()
        .join()
        .unwrap_or_else(|_| Err("replaying failed".to_owned()))?;
    if let Some(file) = std::env::var_os("REMIT_REPLAYED") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .unwrap();
        let name = thread::current().name().unwrap_or("test").to_owned();
        // One write, so that lines of tests that end at once do not mix.
        file.write_all(format!("{count} {name}\n").as_bytes())
            .unwrap();
    }
    Ok(count)
}

async fn left(remains: &Remains) -> Result<usize, String> {
    // The spool first: what is shipped meanwhile is then in both.
    let mut records = spooled(&remains.spool)?;
    let store = Store::open(&remains.database, Clock::system())
        .await
        .map_err(|error| error.to_string())?;
    for head in store.heads().await.map_err(|error| error.to_string())? {
        records.extend(shipped(&store, head.tenant).await?);
    }
    let records: BTreeMap<DecisionId, DecisionRecord> =
        records.into_iter().map(|one| (one.id, one)).collect();
    if (records.len() as u64) < remains.least {
        return Err(format!(
            "{} decisions were given, and {} records are left",
            remains.least,
            records.len()
        ));
    }
    let records: Vec<DecisionRecord> = records.into_values().collect();
    let wrong = replay(&store, &records).await?;
    store.close().await;
    if wrong.is_empty() {
        return Ok(records.len());
    }
    let shown: Vec<&str> = wrong.iter().take(TOLD).map(String::as_str).collect();
    Err(format!(
        "{} of {} records do not come out the same: {}",
        wrong.len(),
        records.len(),
        shown.join("; ")
    ))
}

/// Decides records again and returns what is to be said of those that do not come out the same.
///
/// # Errors
///
/// When the database cannot be read.
pub async fn replay(store: &Store, records: &[DecisionRecord]) -> Result<Vec<String>, String> {
    let mut compiled: HashMap<ContentHash, Arc<Snapshot>> = HashMap::new();
    let mut order: Vec<&DecisionRecord> = records.iter().collect();
    order.sort_by_key(|one| (one.tenant, one.decision.revision));
    let mut state: Option<(TenantId, Revision, Snapshot)> = None;
    let mut wrong = Vec::new();
    let mut deleted: HashMap<TenantId, bool> = HashMap::new();
    for record in order {
        let (tenant, revision) = (record.tenant, record.decision.revision);
        // Nothing is left of a deleted tenant to decide by.
        let gone = match deleted.get(&tenant) {
            Some(gone) => *gone,
            None => {
                let found = store.tenant(tenant).await;
                let found = found.map_err(|error| error.to_string())?;
                let gone = found.is_some_and(|tenant| tenant.deleted_at.is_some());
                *deleted.entry(tenant).or_insert(gone)
            }
        };
        if gone {
            continue;
        }
        let known = matches!(&state, Some((at, of, _)) if (*at, *of) == (tenant, revision));
        if !known {
            let stored = store.bundle_in_force(tenant, revision).await;
            let stored = stored.map_err(|error| error.to_string())?;
            let Some(stored) = stored.filter(|stored| stored.hash == record.decision.bundle) else {
                wrong.push(format!(
                    "{}: its bundle is not the one in force at its revision",
                    record.id
                ));
                continue;
            };
            let bundle = compiled.entry(stored.hash).or_insert_with(|| {
                // What was in force compiles.
                Arc::new(Snapshot::compile(&stored.bundle).unwrap())
            });
            let snapshot = with_entities(store, bundle, tenant, revision).await?;
            state = Some((tenant, revision, snapshot.at(revision)));
        }
        let Some((_, _, snapshot)) = &state else {
            continue;
        };
        let again = snapshot.decide(&record.question, &record.facts);
        if again != record.decision {
            wrong.push(format!(
                "{} of revision {revision}: recorded {:?}, made again {again:?}",
                record.id, record.decision
            ));
        }
    }
    Ok(wrong)
}

/// Puts the live entities over a bundle as they were at a revision.
async fn with_entities(
    store: &Store,
    bundle: &Snapshot,
    tenant: TenantId,
    revision: Revision,
) -> Result<Snapshot, String> {
    let mut changing = bundle.change();
    let mut cursor = None;
    loop {
        let page = store
            .entity_changes(
                tenant,
                Revision::default(),
                revision,
                cursor.as_ref(),
                MAX_ENTITIES,
            )
            .await
            .map_err(|error| error.to_string())?;
        changing
            .apply(&page.upserts, &[])
            .map_err(|error| error.to_string())?;
        cursor = page.next;
        if cursor.is_none() {
            return changing.finish().map_err(|error| error.to_string());
        }
    }
}

/// Reads every record of a tenant from the database.
async fn shipped(store: &Store, tenant: TenantId) -> Result<Vec<DecisionRecord>, String> {
    let ever = (Timestamp::from_micros(0), Timestamp::from_micros(i64::MAX));
    let mut found: Vec<DecisionRecord> = Vec::new();
    loop {
        let after = found.last().map(|last| last.id);
        let page = store
            .decisions_in_order(tenant, ever, after, PAGE)
            .await
            .map_err(|error| error.to_string())?;
        let full = page.len() == PAGE;
        found.extend(page.into_iter().map(|stored| stored.record));
        if !full {
            return Ok(found);
        }
    }
}

/// Reads every record of a spool; a segment that is shipped and removed meanwhile makes it read again.
fn spooled(folder: &Path) -> Result<Vec<DecisionRecord>, String> {
    const TRIES: usize = 10;
    let mut wrong = String::new();
    for _ in 0..TRIES {
        match read_spool(folder) {
            Ok(records) => return Ok(records),
            Err(error) => wrong = error,
        }
    }
    Err(wrong)
}

fn read_spool(folder: &Path) -> Result<Vec<DecisionRecord>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = remit_log::entries(folder).map_err(|error| error.to_string())?;
    entries
        .map(|entry| {
            let entry = entry.map_err(|error| error.to_string())?;
            entry.record().map_err(|error| error.to_string())
        })
        .collect()
}
