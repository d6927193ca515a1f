//! Kills: set by one, lifted by two. One of everything is in force in every tenant, and moves each of them on.

use remit_core::{
    KeyId, Kill, KillId, KillTarget, PrincipalName, Revision, TenantId, Timestamp, canonical_json,
};
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::reach::Across;
use crate::store::Store;
use crate::tenants::{number, revision};
use crate::versions::{MESSAGE_BYTES, check_line};

/// The most kills of one tenant that are in force at a time; one of the tenant or of everything always finds room.
pub const MAX_KILLS: u64 = 1_000;
/// The most kills of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;
/// The longest target, in bytes.
const TARGET_BYTES: usize = 2_048;

/// A kill to be set.
#[derive(Debug, Clone, Copy)]
pub struct NewKill<'a> {
    /// The id.
    pub id: KillId,
    /// What must stop.
    pub target: &'a KillTarget,
    /// Why, in one line of at most 1,024 bytes.
    pub reason: &'a str,
    /// Who sets it.
    pub by: &'a PrincipalName,
    /// The API key that it came with.
    pub key: KeyId,
    /// The time.
    pub at: Timestamp,
}

/// A kill as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKill {
    /// The kill.
    pub kill: Kill,
    /// The revision that brought it; 0 where another tenant set it.
    pub revision: Revision,
    /// Who asked that it is lifted.
    pub asked: Option<LiftAsked>,
    /// How it was lifted.
    pub lifted: Option<Lifted>,
}

/// That somebody asked for a kill to be lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiftAsked {
    /// Who.
    pub by: PrincipalName,
    /// The API key that it came with.
    pub key: KeyId,
    /// When.
    pub at: Timestamp,
}

/// That a kill was lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// Who agreed.
    pub by: PrincipalName,
    /// When.
    pub at: Timestamp,
    /// The revision from which it is not in force.
    pub revision: Revision,
}

/// Tenant, id, target, reason, who set it and when.
pub(super) type InForce = (Uuid, Uuid, String, String, String, i64);

type Row = (
    Uuid,
    Uuid,
    String,
    String,
    String,
    i64,
    i64,
    Option<String>,
    Option<Uuid>,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
);

pub(crate) mod sql {
    statements! {
        /// Lists the kills in force in a tenant at a revision, with those of everything.
        KILLS_IN_FORCE = "SELECT tenant, id, target, reason, set_by, at FROM kills \
            WHERE (tenant = $1 AND revision <= $2 AND (lifted IS NULL OR lifted > $2)) \
            OR (tenant <> $1 AND kind = 'everything' AND lifted IS NULL) ORDER BY id";
        /// Lists the kills of a tenant and those of everything that are in force, newest first.
        KILLS = "SELECT tenant, id, target, reason, set_by, at, revision, asked_by, asked_key, asked_at, lifted_by, \
            lifted_at, lifted FROM kills WHERE id < $2 AND ((lifted IS NOT NULL) = $3 OR $3 IS NULL) \
            AND (tenant = $1 OR (kind = 'everything' AND lifted IS NULL)) ORDER BY id DESC LIMIT $4";
        /// Finds a kill.
        KILL = "SELECT tenant, id, target, reason, set_by, at, revision, asked_by, asked_key, asked_at, lifted_by, \
            lifted_at, lifted FROM kills WHERE tenant = $1 AND id = $2";
        /// Finds the kill of a target that is in force.
        KILL_OF = "SELECT tenant, id, target, reason, set_by, at, revision, asked_by, asked_key, asked_at, lifted_by, \
            lifted_at, lifted FROM kills WHERE tenant = $1 AND target = $2 AND lifted IS NULL";
        /// Counts the kills in force.
        COUNT_KILLS = "SELECT count(*) FROM kills WHERE tenant = $1 AND lifted IS NULL";
        /// Sets a kill.
        INSERT_KILL = "INSERT INTO kills (tenant, id, kind, target, reason, set_by, set_key, at, revision) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        /// Notes who asks for a kill to be lifted, or that nobody does, in place of whoever asked before.
        NOTE_LIFT = "UPDATE kills SET asked_by = $3, asked_key = $4, asked_at = $5 \
            WHERE tenant = $1 AND id = $2 AND lifted IS NULL";
        /// Lifts a kill as one person asked and another agrees.
        LIFT_KILL = "UPDATE kills SET lifted_by = $3, lifted_at = $4, lifted = $5 \
            WHERE tenant = $1 AND id = $2 AND lifted IS NULL AND asked_by = $6 AND asked_at = $7 AND asked_by <> $3";
        /// Locks the first tenant there ever was, deleted or not: whoever moves all of them on waits here for whoever else does.
        LOCK_FIRST = "UPDATE tenants SET revision = revision WHERE id = (SELECT id FROM tenants ORDER BY id LIMIT 1)";
        /// Moves every other tenant on: what stops all of them has changed.
        BUMP_OTHERS = "UPDATE tenants SET revision = revision + 1 WHERE id <> $1 AND deleted_at IS NULL";
    }
}

// === impl Store ===

impl Store {
    /// Sets a kill, and returns it; one of the same target that is in force is returned as it is, and nothing is written
    /// ([`Store::keep_kill`] notes that somebody wants it all the same).
    ///
    /// One of everything brings a revision to every tenant, in the same transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a reason or a target that cannot be kept; [`Error::Unfit`] when the tenant has
    /// [`MAX_KILLS`]; [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn set_kill(
        &self,
        tenant: TenantId,
        new: NewKill<'_>,
        change: Change<'_>,
    ) -> Result<StoredKill, Error> {
        check_line("reason", Some(new.reason), MESSAGE_BYTES)?;
        let target = text_of(new.target)?;
        self.within("set a kill", async {
            let (mut conn, next) = self.begin_kill(tenant, new.target).await?;
            if let Some(there) = find(&mut conn, tenant, &target).await? {
                conn.rollback().await?;
                return Ok(StoredKill::read(tenant, there)?);
            }
            if let Some(problem) = too_many(&mut conn, tenant, new.target).await? {
                conn.rollback().await?;
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::INSERT_KILL)
                .bind(tenant.uuid())
                .bind(new.id.uuid())
                .bind(new.target.kind())
                .bind(target.as_str())
                .bind(new.reason)
                .bind(new.by.as_str())
                .bind(new.key.uuid())
                .bind(new.at.micros())
                .bind(number(next))
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(StoredKill {
                kill: Kill {
                    at: new.at,
                    by: new.by.clone(),
                    id: new.id,
                    reason: new.reason.into(),
                    target: new.target.clone(),
                },
                revision: next,
                asked: None,
                lifted: None,
            })
        })
        .await
    }

    /// Notes that somebody sets a kill that is in force already: whatever was asked about lifting it is taken back.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when none of this id is in force in the tenant; [`Error::Withdrawn`].
    pub async fn keep_kill(
        &self,
        tenant: TenantId,
        id: KillId,
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.note_lift(tenant, id, None, change).await
    }

    /// Keeps that somebody asks for a kill to be lifted, in place of whoever asked before.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when none of this id is in force in the tenant; [`Error::Withdrawn`].
    pub async fn ask_lift(
        &self,
        tenant: TenantId,
        id: KillId,
        asked: &LiftAsked,
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.note_lift(tenant, id, Some(asked), change).await
    }

    /// Notes who asks for a kill in force to be lifted, or that nobody does.
    async fn note_lift(
        &self,
        tenant: TenantId,
        id: KillId,
        asked: Option<&LiftAsked>,
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.within("note who asks to lift a kill", async {
            let (mut conn, head) = self.begin_aside(tenant).await?;
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            let found = on!(conn, |raw| sqlx::query(sql::NOTE_LIFT)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(asked.map(|asked| asked.by.as_str()))
                .bind(asked.map(|asked| asked.key.uuid()))
                .bind(asked.map(|asked| asked.at.micros()))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if found == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "kill" }.into());
            }
            conn.commit().await
        })
        .await
    }

    /// Lifts a kill as somebody asked, because `by` agrees; it is not in force from the revision that is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when that is not asked any more, or `by` asked it; [`Error::Withdrawn`], and [`Error::NotFound`]
    /// when there is no such tenant.
    pub async fn lift_kill(
        &self,
        tenant: TenantId,
        kill: &Kill,
        asked: &LiftAsked,
        (by, at): (&PrincipalName, Timestamp),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        if *by == asked.by {
            let problem = "whoever asked for it cannot agree to it".to_owned();
            return Err(Error::Unfit { problem });
        }
        self.within("lift a kill", async {
            let (mut conn, next) = self.begin_kill(tenant, &kill.target).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let lifted = on!(conn, |raw| sqlx::query(sql::LIFT_KILL)
                .bind(tenant.uuid())
                .bind(kill.id.uuid())
                .bind(by.as_str())
                .bind(at.micros())
                .bind(number(next))
                .bind(asked.by.as_str())
                .bind(asked.at.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if lifted == 0 {
                conn.rollback().await?;
                let problem = "it is not asked for any more".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Returns one kill of a tenant, lifted or not.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn kill(&self, tenant: TenantId, id: KillId) -> Result<Option<StoredKill>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a kill", |raw| sqlx::query_as(sql::KILL)
            .bind(tenant.uuid())
            .bind(id.uuid())
            .fetch_optional(raw))?;
        row.map(|row| StoredKill::read(tenant, row)).transpose()
    }

    /// Returns the kill of a target that is in force, of those that the tenant has set.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a target that cannot be kept; [`Error::Corrupt`] when the row cannot be read.
    pub async fn kill_of(
        &self,
        tenant: TenantId,
        target: &KillTarget,
    ) -> Result<Option<StoredKill>, Error> {
        let target = text_of(target)?;
        let row: Option<Row> = read!(self, tenant, "find a kill", |raw| sqlx::query_as(
            sql::KILL_OF
        )
        .bind(tenant.uuid())
        .bind(target.as_str())
        .fetch_optional(raw))?;
        row.map(|row| StoredKill::read(tenant, row)).transpose()
    }

    /// Lists the kills of a tenant and those of everything, newest first: those before `before`, at most `limit` and never
    /// more than 1,001; where `lifted` is given, those alone that are lifted or are not.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn kills(
        &self,
        tenant: TenantId,
        lifted: Option<bool>,
        before: Option<KillId>,
        limit: usize,
    ) -> Result<Vec<StoredKill>, Error> {
        let rows: Vec<Row> = read!(self, Across::Kills, "list the kills", |raw| {
            sqlx::query_as(sql::KILLS)
                .bind(tenant.uuid())
                .bind(before.map_or(Uuid::max(), KillId::uuid))
                .bind(lifted)
                .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        let kills = rows.into_iter().map(|row| StoredKill::read(tenant, row));
        kills.collect()
    }

    /// Begins a change of what stops a target: one of everything moves every tenant on.
    async fn begin_kill(
        &self,
        tenant: TenantId,
        target: &KillTarget,
    ) -> Result<(Conn, Revision), Failure> {
        if *target != KillTarget::Everything {
            return self.begin_change(tenant).await;
        }
        let mut conn = self.begin(Across::Kills).await?;
        on!(conn, |raw| sqlx::query(sql::LOCK_FIRST)
            .execute(raw)
            .await
            .map(drop))?;
        let (mut conn, next) = self.change_begun(conn, tenant, None).await?;
        on!(conn, |raw| sqlx::query(sql::BUMP_OTHERS)
            .bind(tenant.uuid())
            .execute(raw)
            .await
            .map(drop))?;
        Ok((conn, next))
    }
}

/// Reads the kills in force in a tenant at a revision, within a reach across tenants.
pub(super) async fn read_in_force(
    conn: &mut Conn,
    tenant: TenantId,
    upto: Revision,
) -> Result<Vec<InForce>, Failure> {
    Ok(on!(conn, |raw| sqlx::query_as(sql::KILLS_IN_FORCE)
        .bind(tenant.uuid())
        .bind(number(upto))
        .fetch_all(raw)
        .await)?)
}

/// Finds the kill of a target, as its column has it, that is in force.
async fn find(conn: &mut Conn, tenant: TenantId, target: &str) -> Result<Option<Row>, Failure> {
    Ok(on!(conn, |raw| sqlx::query_as(sql::KILL_OF)
        .bind(tenant.uuid())
        .bind(target)
        .fetch_optional(raw)
        .await)?)
}

/// Whether the tenant has set a kill of exactly this target that is in force, within a transaction that has locked its row.
pub(crate) async fn stands(
    conn: &mut Conn,
    tenant: TenantId,
    target: &KillTarget,
) -> Result<bool, Failure> {
    let target = text_of(target)?;
    Ok(find(conn, tenant, &target).await?.is_some())
}

/// Says why there can be no more kills, where that is so.
async fn too_many(
    conn: &mut Conn,
    tenant: TenantId,
    target: &KillTarget,
) -> Result<Option<String>, Failure> {
    if matches!(target, KillTarget::Everything | KillTarget::Tenant) {
        return Ok(None);
    }
    let there: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_KILLS)
        .bind(tenant.uuid())
        .fetch_one(raw)
        .await)?;
    let full = u64::try_from(there).is_ok_and(|there| there >= MAX_KILLS);
    Ok(full.then(|| format!("{MAX_KILLS} kills are in force; lift some, or kill the tenant")))
}

/// Reads a kill in force as a tenant is told of it: who stops every tenant is no business of the others.
pub(super) fn in_force(
    tenant: TenantId,
    (of, id, target, reason, by, at): InForce,
) -> Result<Kill, Error> {
    let id = KillId::from_uuid(id);
    let corrupt = |what: String| Error::corrupt("kills", format!("`{id}`: {what}"));
    Ok(Kill {
        at: Timestamp::from_micros(at),
        by: if of == tenant.uuid() {
            by.parse().map_err(|error| corrupt(format!("{error}")))?
        } else {
            PrincipalName::itself()
        },
        id,
        reason: reason.into(),
        target: serde_json::from_str(&target).map_err(|error| corrupt(error.to_string()))?,
    })
}

/// Writes a target as its column has it: its canonical JSON.
fn text_of(target: &KillTarget) -> Result<String, Error> {
    let text = canonical_json(target)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("target", "cannot be written as JSON"))?;
    if text.len() > TARGET_BYTES {
        let problem = format!("is longer than {TARGET_BYTES} bytes");
        return Err(Error::invalid("target", problem));
    }
    Ok(text)
}

// === impl StoredKill ===

impl StoredKill {
    fn read(tenant: TenantId, row: Row) -> Result<Self, Error> {
        let (
            of,
            id,
            target,
            reason,
            set_by,
            at,
            brought,
            asked_by,
            asked_key,
            asked_at,
            by,
            on,
            end,
        ) = row;
        let ours = of == tenant.uuid();
        let corrupt = |error| Error::corrupt("kills", format!("{error}"));
        let name = |text: String| text.parse::<PrincipalName>().map_err(corrupt);
        let asked = match (asked_by, asked_key, asked_at) {
            (Some(by), Some(key), Some(at)) if ours => Some(LiftAsked {
                by: name(by)?,
                key: KeyId::from_uuid(key),
                at: Timestamp::from_micros(at),
            }),
            _ => None,
        };
        let lifted = match (by, on, end) {
            (Some(by), Some(at), Some(end)) => Some(Lifted {
                by: name(by)?,
                at: Timestamp::from_micros(at),
                revision: revision(end)?,
            }),
            _ => None,
        };
        Ok(Self {
            kill: in_force(tenant, (of, id, target, reason, set_by, at))?,
            // A revision of another tenant means nothing here.
            revision: if ours {
                revision(brought)?
            } else {
                Revision::default()
            },
            asked,
            lifted,
        })
    }
}
