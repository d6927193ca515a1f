//! Entities: every version of each, so that what a tenant looked like at a revision can be told exactly.

use std::collections::{BTreeMap, BTreeSet};

use remit_core::{Entity, EntityUid, Revision, TenantId, canonical_json};
use serde::Serialize;

use crate::admin_actions::Change as Accompanied;
use crate::db::Conn;
use crate::dialect::{Rows, deadline_of};
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{check_text, number, revision};

/// The most entities of one page.
pub const MAX_ENTITIES: usize = 10_000;
/// The longest entity type, in bytes.
const KIND_BYTES: usize = 256;
/// The longest entity id, in bytes.
const ID_BYTES: usize = 1_024;
/// How many rows one statement writes.
const CHUNK: usize = 2_000;

/// An entity as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntity {
    /// The entity.
    pub entity: Entity,
    /// The revision that made it what it is.
    pub revision: Revision,
}

/// One page of what became of the entities between two revisions: each entity once, as it is at the later one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityChanges {
    /// Entities that are new or different.
    pub upserts: Vec<Entity>,
    /// Entities that are gone.
    pub removals: Vec<EntityUid>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<EntityCursor>,
}

/// Where a page of [`EntityChanges`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityCursor {
    revision: Revision,
    uid: EntityUid,
}

/// What a change of entities came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntitiesChanged {
    /// The revision that it made.
    pub revision: Revision,
    /// How many entities were there and are gone.
    pub removed: u64,
}

type Row = (String, String, i64, Option<String>);

#[derive(Serialize)]
struct Change<'a> {
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

pub(crate) mod sql {
    statements! {
        /// Finds the current version of one entity.
        ENTITY = "SELECT kind, id, revision, body FROM entities \
            WHERE tenant = $1 AND kind = $2 AND id = $3 AND superseded IS NULL AND body IS NOT NULL";
        /// Lists current entities by name.
        ENTITIES = "SELECT kind, id, revision, body FROM entities \
            WHERE tenant = $1 AND (kind, id) > ($2, $3) AND superseded IS NULL AND body IS NOT NULL \
            ORDER BY kind, id LIMIT $4";
        /// Lists current entities of one type by id.
        ENTITIES_OF_KIND = "SELECT kind, id, revision, body FROM entities \
            WHERE tenant = $1 AND kind = $2 AND id > $3 AND superseded IS NULL AND body IS NOT NULL \
            ORDER BY kind, id LIMIT $4";
        /// Lists the version at $3 of each entity that changed after $2, in the order of the changes.
        ENTITY_CHANGES = "SELECT kind, id, revision, body FROM entities \
            WHERE tenant = $1 AND revision > $2 AND revision <= $3 \
            AND (superseded IS NULL OR superseded > $3) AND (revision, kind, id) > ($4, $5, $6) \
            ORDER BY revision, kind, id LIMIT $7";
        // The four writing statements find the current version through `ON CONFLICT` and scalar subqueries, which look
        // one row up by the index whatever the planner believes; joins were planned as nested scans of all entities.
        /// Adds new entities, and ends the current versions that differ from what is given.
        INSERT_OR_SUPERSEDE = "INSERT INTO entities (tenant, kind, id, revision, body) \
            SELECT t.id, change.value ->> 'kind', change.value ->> 'id', t.revision, change.value ->> 'body' \
            FROM tenants AS t CROSS JOIN json_each($2) AS change WHERE t.id = $1 \
            ON CONFLICT (tenant, kind, id) WHERE superseded IS NULL \
            DO UPDATE SET superseded = excluded.revision WHERE entities.body IS DISTINCT FROM excluded.body";
        /// Adds the new versions of those that were ended.
        INSERT_VERSIONS = "INSERT INTO entities (tenant, kind, id, revision, body) \
            SELECT t.id, change.value ->> 'kind', change.value ->> 'id', t.revision, change.value ->> 'body' \
            FROM tenants AS t CROSS JOIN json_each($2) AS change WHERE t.id = $1 ON CONFLICT DO NOTHING";
        /// Ends the current versions of entities that are to go: each is there, so each meets its conflict.
        SUPERSEDE_REMOVED = "INSERT INTO entities (tenant, kind, id, revision) \
            SELECT t.id, change.value ->> 'kind', change.value ->> 'id', t.revision \
            FROM tenants AS t CROSS JOIN json_each($2) AS change \
            WHERE t.id = $1 AND (SELECT e.body FROM entities AS e WHERE e.tenant = $1 \
            AND e.kind = change.value ->> 'kind' AND e.id = change.value ->> 'id' \
            AND e.superseded IS NULL) IS NOT NULL \
            ON CONFLICT (tenant, kind, id) WHERE superseded IS NULL \
            DO UPDATE SET superseded = excluded.revision";
        /// Notes the removal of those that were ended.
        INSERT_REMOVALS = "INSERT INTO entities (tenant, kind, id, revision) \
            SELECT t.id, change.value ->> 'kind', change.value ->> 'id', t.revision \
            FROM tenants AS t CROSS JOIN json_each($2) AS change \
            WHERE t.id = $1 AND (SELECT e.id FROM entities AS e WHERE e.tenant = $1 \
            AND e.kind = change.value ->> 'kind' AND e.id = change.value ->> 'id' \
            AND e.superseded = t.revision) IS NOT NULL ON CONFLICT DO NOTHING";
    }
}

// === impl Store ===

impl Store {
    /// Changes entities, all at the one revision that is returned: writes `upserts`, then removes `removals`.
    ///
    /// Of two with the same name the last counts, and one that is also written is not removed. An entity that is stored
    /// already exactly so keeps its revision; removing one that is not stored is no error. With `checked`, nothing may
    /// have changed since that revision: what was checked against the state of then is written over no other.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a type or id that is empty, too long (256 and 1,024 bytes) or has a NUL character, and
    /// [`Error::Moved`] or [`Error::Withdrawn`]; then nothing is written. [`Error::NotFound`] when there is no such tenant.
    pub async fn change_entities(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        upserts: &[Entity],
        removals: &[EntityUid],
        change: Accompanied<'_>,
    ) -> Result<EntitiesChanged, Error> {
        change.check()?;
        let mut bodies = BTreeMap::new();
        for entity in upserts {
            check_uid(&entity.uid)?;
            bodies.insert(&entity.uid, body_of(entity)?);
        }
        removals.iter().try_for_each(check_uid)?;
        let upserts: Vec<Change<'_>> = bodies
            .iter()
            .map(|(uid, body)| Change::of(uid, Some(body)))
            .collect();
        let removals: BTreeSet<&EntityUid> = removals
            .iter()
            .filter(|uid| !bodies.contains_key(uid))
            .collect();
        let removals: Vec<Change<'_>> = removals.iter().map(|uid| Change::of(uid, None)).collect();
        let deadline = deadline_of(upserts.len() + removals.len(), self.deadline());
        self.within_time("change entities", deadline, async {
            let (mut conn, revision) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, revision, change).await?;
            for chunk in upserts.chunks(CHUNK) {
                let rows = Rows::of(chunk)?;
                write(&mut conn, sql::INSERT_OR_SUPERSEDE, tenant, &rows).await?;
                write(&mut conn, sql::INSERT_VERSIONS, tenant, &rows).await?;
            }
            let mut removed = 0;
            for chunk in removals.chunks(CHUNK) {
                let rows = Rows::of(chunk)?;
                removed += write(&mut conn, sql::SUPERSEDE_REMOVED, tenant, &rows).await?;
                write(&mut conn, sql::INSERT_REMOVALS, tenant, &rows).await?;
            }
            conn.commit().await?;
            Ok(EntitiesChanged { revision, removed })
        })
        .await
    }

    /// Stores entities, whatever else has changed; see [`Store::change_entities`].
    pub async fn upsert_entities(
        &self,
        tenant: TenantId,
        entities: &[Entity],
    ) -> Result<Revision, Error> {
        let none = Accompanied::default();
        let changed = self
            .change_entities(tenant, None, entities, &[], none)
            .await?;
        Ok(changed.revision)
    }

    /// Removes entities, whatever else has changed, and says how many there were; see [`Store::change_entities`].
    pub async fn delete_entities(
        &self,
        tenant: TenantId,
        uids: &[EntityUid],
    ) -> Result<(Revision, u64), Error> {
        let none = Accompanied::default();
        let changed = self.change_entities(tenant, None, &[], uids, none).await?;
        Ok((changed.revision, changed.removed))
    }

    /// Returns one entity.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be stored; [`Error::Corrupt`] when the row cannot be read.
    pub async fn entity(
        &self,
        tenant: TenantId,
        uid: &EntityUid,
    ) -> Result<Option<StoredEntity>, Error> {
        check_uid(uid)?;
        let row: Option<Row> = read!(self, "read an entity", |raw| sqlx::query_as(sql::ENTITY)
            .bind(tenant.uuid())
            .bind(uid.kind.as_str())
            .bind(uid.id.as_str())
            .fetch_optional(raw))?;
        row.map(StoredEntity::read).transpose()
    }

    /// Lists entities by type and id, bytewise: those of `kind` if given, those after `after` if given.
    ///
    /// At most `limit` of them, and at most [`MAX_ENTITIES`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be stored; [`Error::Corrupt`] when a row cannot be read.
    pub async fn entities(
        &self,
        tenant: TenantId,
        kind: Option<&str>,
        after: Option<&EntityUid>,
        limit: usize,
    ) -> Result<Vec<StoredEntity>, Error> {
        if let Some(kind) = kind {
            check_text("entity.type", kind, KIND_BYTES)?;
        }
        after.map(check_uid).transpose()?;
        let (mut after_kind, mut after_id) =
            after.map_or(("", ""), |uid| (uid.kind.as_str(), uid.id.as_str()));
        let mut text = sql::ENTITIES;
        if let Some(kind) = kind {
            text = sql::ENTITIES_OF_KIND;
            match after_kind.cmp(kind) {
                // Everything of this type comes before where the page begins.
                std::cmp::Ordering::Greater => return Ok(Vec::new()),
                std::cmp::Ordering::Less => after_id = "",
                std::cmp::Ordering::Equal => {}
            }
            after_kind = kind;
        }
        let rows: Vec<Row> = read!(self, "list entities", |raw| sqlx::query_as(text)
            .bind(tenant.uuid())
            .bind(after_kind)
            .bind(after_id)
            .bind(page(limit))
            .fetch_all(raw))?;
        rows.into_iter().map(StoredEntity::read).collect()
    }

    /// Returns one page of what changed after one revision and up to another.
    ///
    /// Each entity that changed is told once, as it was at `upto`, whatever was written since; so all pages together,
    /// applied to the state at `after`, give exactly the state at `upto`. Call again with `next` until there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn entity_changes(
        &self,
        tenant: TenantId,
        after: Revision,
        upto: Revision,
        from: Option<&EntityCursor>,
        limit: usize,
    ) -> Result<EntityChanges, Error> {
        let (seen, kind, id) = match from {
            Some(cursor) => (
                cursor.revision,
                cursor.uid.kind.as_str(),
                cursor.uid.id.as_str(),
            ),
            None => (after, "", ""),
        };
        let limit = page(limit);
        let rows: Vec<Row> = read!(self, "read the changes of entities", |raw| {
            sqlx::query_as(sql::ENTITY_CHANGES)
                .bind(tenant.uuid())
                .bind(number(after))
                .bind(number(upto))
                .bind(number(seen))
                .bind(kind)
                .bind(id)
                .bind(limit)
                .fetch_all(raw)
        })?;
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
        let mut changes = EntityChanges::default();
        if let Some((kind, id, at, _)) = rows.last().filter(|_| full) {
            changes.next = Some(EntityCursor {
                revision: revision(*at)?,
                uid: EntityUid::new(kind, id),
            });
        }
        for row in rows {
            if row.3.is_some() {
                changes.upserts.push(StoredEntity::read(row)?.entity);
            } else {
                changes.removals.push(EntityUid::new(row.0, row.1));
            }
        }
        Ok(changes)
    }
}

/// Runs one writing statement, and returns how many rows it wrote.
async fn write(
    conn: &mut Conn,
    text: &'static str,
    tenant: TenantId,
    rows: &Rows,
) -> Result<u64, Failure> {
    Ok(on!(conn, |raw| sqlx::query(text)
        .bind(tenant.uuid())
        .bind(rows)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?)
}

fn check_uid(uid: &EntityUid) -> Result<(), Error> {
    check_text("entity.type", &uid.kind, KIND_BYTES)?;
    check_text("entity.id", &uid.id, ID_BYTES)
}

fn body_of(entity: &Entity) -> Result<String, Error> {
    canonical_json(entity)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("entity", "cannot be written as JSON"))
}

fn page(limit: usize) -> i64 {
    i64::try_from(limit.clamp(1, MAX_ENTITIES)).unwrap_or(1)
}

// === impl Change ===

impl<'a> Change<'a> {
    fn of(uid: &'a EntityUid, body: Option<&'a String>) -> Self {
        Self {
            kind: &uid.kind,
            id: &uid.id,
            body: body.map(String::as_str),
        }
    }
}

// === impl StoredEntity ===

impl StoredEntity {
    fn read((kind, id, at, body): Row) -> Result<Self, Error> {
        let uid = EntityUid::new(kind, id);
        let corrupt = |what: String| Error::corrupt("entities", format!("`{uid}`: {what}"));
        let entity: Entity = serde_json::from_str(&body.unwrap_or_default())
            .map_err(|error| corrupt(error.to_string()))?;
        if entity.uid != uid {
            return Err(corrupt(format!("its body is that of `{}`", entity.uid)));
        }
        Ok(Self {
            entity,
            revision: revision(at)?,
        })
    }
}
