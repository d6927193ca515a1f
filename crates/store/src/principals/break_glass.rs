//! Break-glass grants: more roles for one person, for minutes, because another person agreed.
//!
//! Whether one is active is told by its end and the time, each time that somebody asks: nothing has to happen for it to end.
//! Every change holds the tenant's row, so that of two who approve at once one comes second.

use std::collections::BTreeSet;

use remit_core::{BreakGlassId, KeyId, PrincipalName, Role, TenantId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::dialect;
use crate::error::Error;
use crate::store::Store;
use crate::versions::{MESSAGE_BYTES, check_line};

/// The most grants of a tenant that wait or are active.
const MOST_OPEN: i64 = 10;
/// The most grants that one call returns.
const MOST: usize = 1_001;

/// A grant that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct NewBreakGlass<'a> {
    /// Its id.
    pub id: BreakGlassId,
    /// Who is to have the roles.
    pub principal: &'a PrincipalName,
    /// The roles.
    pub roles: &'a BTreeSet<Role>,
    /// For how long, from the approval on: 1 to 60.
    pub minutes: u8,
    /// What for: one line of at most 1,024 bytes in Unicode NFC.
    pub reason: &'a str,
    /// Who asks.
    pub requested_by: &'a PrincipalName,
    /// The API key that it came with.
    pub requester_key: KeyId,
    /// When it is asked for.
    pub requested_at: Timestamp,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
}

/// A grant as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBreakGlass {
    /// Its id.
    pub id: BreakGlassId,
    /// Who is to have the roles.
    pub principal: PrincipalName,
    /// The roles.
    pub roles: BTreeSet<Role>,
    /// For how long, from the approval on.
    pub minutes: u8,
    /// What for.
    pub reason: String,
    /// Who asked.
    pub requested_by: PrincipalName,
    /// The API key that it came with.
    pub requester_key: KeyId,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Until when it could be approved.
    pub expires_at: Timestamp,
    /// Who agreed, and when.
    pub approved: Option<(PrincipalName, Timestamp)>,
    /// When it ends by itself, once it is approved.
    pub ends_at: Option<Timestamp>,
    /// When it was ended, or its end was noted.
    pub ended_at: Option<Timestamp>,
    /// Who ended it, where somebody did.
    pub ended_by: Option<PrincipalName>,
}

/// What holds for one principal at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether the tenant demands a second person.
    pub second_person: bool,
    /// The time at which this was so.
    pub at: Timestamp,
    /// The newest grant of the principal that was approved and whose end nobody has noted; it may be over.
    pub grant: Option<StandingGrant>,
}

/// A grant that was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingGrant {
    /// Its id.
    pub id: BreakGlassId,
    /// The roles.
    pub roles: BTreeSet<Role>,
    /// The first moment at which it is over.
    pub ends_at: Timestamp,
}

type Row = (
    Uuid,
    String,
    String,
    i64,
    String,
    String,
    Uuid,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

pub(crate) mod sql {
    statements! {
        /// Counts the grants that wait or are active, and those of them that one principal has.
        OPEN_BREAK_GLASS = "SELECT count(*), count(CASE WHEN principal = $3 THEN 1 END) FROM break_glass \
            WHERE tenant = $1 AND ended_at IS NULL \
            AND ((approved_at IS NULL AND expires_at > $2) OR (approved_at IS NOT NULL AND ends_at > $2))";
        /// Adds a grant that is asked for.
        INSERT_BREAK_GLASS = "INSERT INTO break_glass (tenant, id, principal, roles, minutes, reason, requested_by, \
            requester_key, requested_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        /// Finds a grant.
        BREAK_GLASS = "SELECT id, principal, roles, minutes, reason, requested_by, requester_key, requested_at, \
            expires_at, approved_by, approved_at, ends_at, ended_at, ended_by FROM break_glass \
            WHERE tenant = $1 AND id = $2";
        /// Lists grants, newest first.
        BREAK_GLASSES = "SELECT id, principal, roles, minutes, reason, requested_by, requester_key, requested_at, \
            expires_at, approved_by, approved_at, ends_at, ended_at, ended_by FROM break_glass \
            WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
        /// Lists the grants that are active.
        ACTIVE_BREAK_GLASS = "SELECT id FROM break_glass WHERE tenant = $1 AND ended_at IS NULL AND ends_at > $2 \
            ORDER BY id";
        /// Approves a grant that waits, unless who approves has asked for it or is to have it.
        APPROVE_BREAK_GLASS = "UPDATE break_glass SET approved_by = $3, approver_key = $4, approved_at = $5, ends_at = $6 \
            WHERE tenant = $1 AND id = $2 AND approved_at IS NULL AND ended_at IS NULL AND expires_at > $5 \
            AND requested_by <> $3 AND principal <> $3";
        /// Ends a grant that waits or is active.
        END_BREAK_GLASS = "UPDATE break_glass SET ended_at = $3, ended_by = $4 \
            WHERE tenant = $1 AND id = $2 AND ended_at IS NULL \
            AND ((approved_at IS NULL AND expires_at > $3) OR (approved_at IS NOT NULL AND ends_at > $3))";
        /// Notes that a grant is over.
        NOTE_END = "UPDATE break_glass SET ended_at = ends_at \
            WHERE tenant = $1 AND id = $2 AND ended_at IS NULL AND ends_at <= $3";
    }
}

// === impl Store ===

impl Store {
    /// Returns what holds for one principal, in one question to the database, by its time and never before `floor`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant; [`Error::Corrupt`] when a row cannot be read.
    pub async fn standing(
        &self,
        tenant: TenantId,
        principal: &PrincipalName,
        floor: Timestamp,
    ) -> Result<Standing, Error> {
        type Found = (bool, i64, Option<Uuid>, Option<String>, Option<i64>);
        let floor = match self.kind() {
            "sqlite" => floor.max(self.clock().now()),
            _ => floor,
        };
        let found: Option<Found> = self
            .within("read what holds for a principal", async {
                let mut conn = self.connect_to_read(tenant).await?;
                let text = dialect::standing(&conn);
                let found = on!(conn, |raw| sqlx::query_as(text)
                    .bind(tenant.uuid())
                    .bind(principal.as_str())
                    .bind(floor.micros())
                    .fetch_optional(raw)
                    .await)?;
                conn.end().await?;
                Ok(found)
            })
            .await?;
        let (second_person, at, id, roles, ends_at) =
            found.ok_or(Error::NotFound { what: "tenant" })?;
        let grant = match (id, roles, ends_at) {
            (Some(id), Some(roles), Some(ends_at)) => Some(StandingGrant {
                id: BreakGlassId::from_uuid(id),
                roles: read_roles(&roles)?,
                ends_at: Timestamp::from_micros(ends_at),
            }),
            _ => None,
        };
        Ok(Standing {
            second_person,
            at: Timestamp::from_micros(at),
            grant,
        })
    }

    /// Keeps that a grant is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what cannot be kept; [`Error::Unfit`] when the principal has one that waits or is active, or
    /// the tenant has ten.
    pub async fn request_break_glass(
        &self,
        tenant: TenantId,
        new: NewBreakGlass<'_>,
        change: Change<'_>,
    ) -> Result<(), Error> {
        check_line("reason", Some(new.reason), MESSAGE_BYTES)?;
        if !(1..=60).contains(&new.minutes) {
            return Err(Error::invalid("minutes", "must be 1 to 60"));
        }
        let roles = json!(new.roles).to_string();
        self.within("ask for break-glass", async {
            let (mut conn, head) = self.begin_aside(tenant).await?;
            let (open, theirs): (i64, i64) =
                on!(conn, |raw| sqlx::query_as(sql::OPEN_BREAK_GLASS)
                    .bind(tenant.uuid())
                    .bind(new.requested_at.micros())
                    .bind(new.principal.as_str())
                    .fetch_one(raw)
                    .await)?;
            let problem = if theirs > 0 {
                format!("`{}` has one that waits or is active", new.principal)
            } else {
                format!("{MOST_OPEN} wait or are active; end one first")
            };
            if theirs > 0 || open >= MOST_OPEN {
                conn.rollback().await?;
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            on!(conn, |raw| sqlx::query(sql::INSERT_BREAK_GLASS)
                .bind(tenant.uuid())
                .bind(new.id.uuid())
                .bind(new.principal.as_str())
                .bind(roles.as_str())
                .bind(i64::from(new.minutes))
                .bind(new.reason)
                .bind(new.requested_by.as_str())
                .bind(new.requester_key.uuid())
                .bind(new.requested_at.micros())
                .bind(new.expires_at.micros())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await
    }

    /// Returns one grant.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn break_glass(
        &self,
        tenant: TenantId,
        id: BreakGlassId,
    ) -> Result<Option<StoredBreakGlass>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a break-glass grant", |raw| {
            sqlx::query_as(sql::BREAK_GLASS)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_optional(raw)
        })?;
        row.as_ref().map(StoredBreakGlass::read).transpose()
    }

    /// Lists grants, newest first: those older than `before`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn break_glasses(
        &self,
        tenant: TenantId,
        before: Option<BreakGlassId>,
        limit: usize,
    ) -> Result<Vec<StoredBreakGlass>, Error> {
        let before = before.map_or(Uuid::max(), BreakGlassId::uuid);
        let limit = i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX);
        let rows: Vec<Row> = read!(self, tenant, "list break-glass grants", |raw| {
            sqlx::query_as(sql::BREAK_GLASSES)
                .bind(tenant.uuid())
                .bind(before)
                .bind(limit)
                .fetch_all(raw)
        })?;
        rows.iter().map(StoredBreakGlass::read).collect()
    }

    /// Lists the grants that are active at `at`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn active_break_glass(
        &self,
        tenant: TenantId,
        at: Timestamp,
    ) -> Result<Vec<BreakGlassId>, Error> {
        let rows: Vec<Uuid> = read!(self, tenant, "list active break-glass grants", |raw| {
            sqlx::query_scalar(sql::ACTIVE_BREAK_GLASS)
                .bind(tenant.uuid())
                .bind(at.micros())
                .fetch_all(raw)
        })?;
        Ok(rows.into_iter().map(BreakGlassId::from_uuid).collect())
    }

    /// Approves a grant that waits at `at`; it is active until `ends_at`.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it does not wait, or `by` has asked for it or is to have it; [`Error::Withdrawn`].
    pub async fn approve_break_glass(
        &self,
        tenant: TenantId,
        id: BreakGlassId,
        (by, key): (&PrincipalName, KeyId),
        (at, ends_at): (Timestamp, Timestamp),
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.within("approve a break-glass grant", async {
            let (mut conn, head) = self.begin_aside(tenant).await?;
            let approved = on!(conn, |raw| sqlx::query(sql::APPROVE_BREAK_GLASS)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(by.as_str())
                .bind(key.uuid())
                .bind(at.micros())
                .bind(ends_at.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if approved == 0 {
                conn.rollback().await?;
                let problem = "it does not wait for this approval".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            conn.commit().await
        })
        .await
    }

    /// Ends a grant that is active at `at`, or takes back what is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it neither waits nor is active; [`Error::Withdrawn`].
    pub async fn end_break_glass(
        &self,
        tenant: TenantId,
        id: BreakGlassId,
        by: &PrincipalName,
        at: Timestamp,
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.within("end a break-glass grant", async {
            let (mut conn, head) = self.begin_aside(tenant).await?;
            let ended = on!(conn, |raw| sqlx::query(sql::END_BREAK_GLASS)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(at.micros())
                .bind(by.as_str())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if ended == 0 {
                conn.rollback().await?;
                let problem = "it is over".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            conn.commit().await
        })
        .await
    }

    /// Notes that a grant is over by `at`, so that no clock brings it back; returns whether nobody has noted it before.
    ///
    /// # Errors
    ///
    /// Those of the database; the grant is over all the same.
    pub async fn note_break_glass_end(
        &self,
        tenant: TenantId,
        id: BreakGlassId,
        at: Timestamp,
    ) -> Result<bool, Error> {
        self.within("note the end of a break-glass grant", async {
            let mut conn = self.begin(tenant).await?;
            let noted = on!(conn, |raw| sqlx::query(sql::NOTE_END)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(at.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            conn.commit().await?;
            Ok(noted > 0)
        })
        .await
    }
}

// === impl StoredBreakGlass ===

impl StoredBreakGlass {
    /// Whether it waits for approval at `at`.
    pub fn waits(&self, at: Timestamp) -> bool {
        self.approved.is_none() && self.ended_at.is_none() && at < self.expires_at
    }

    /// Whether it is active at `at`.
    pub fn is_active(&self, at: Timestamp) -> bool {
        self.ended_at.is_none() && self.ends_at.is_some_and(|ends_at| at < ends_at)
    }

    fn read(row: &Row) -> Result<Self, Error> {
        let (
            id,
            principal,
            roles,
            minutes,
            reason,
            requested_by,
            key,
            requested_at,
            expires_at,
            ..,
        ) = &row;
        let (.., approved_by, approved_at, ends_at, ended_at, ended_by) = row;
        let approved = match (approved_by, approved_at) {
            (Some(by), Some(at)) => Some((name(by)?, Timestamp::from_micros(*at))),
            _ => None,
        };
        Ok(Self {
            id: BreakGlassId::from_uuid(*id),
            principal: name(principal)?,
            roles: read_roles(roles)?,
            minutes: u8::try_from(*minutes)
                .map_err(|error| Error::corrupt("break_glass", error.to_string()))?,
            reason: reason.clone(),
            requested_by: name(requested_by)?,
            requester_key: KeyId::from_uuid(*key),
            requested_at: Timestamp::from_micros(*requested_at),
            expires_at: Timestamp::from_micros(*expires_at),
            approved,
            ends_at: ends_at.map(Timestamp::from_micros),
            ended_at: ended_at.map(Timestamp::from_micros),
            ended_by: ended_by.as_deref().map(name).transpose()?,
        })
    }
}

fn name(text: &str) -> Result<PrincipalName, Error> {
    let name = text.parse();
    name.map_err(|error| Error::corrupt("break_glass", format!("{error}")))
}

fn read_roles(text: &str) -> Result<BTreeSet<Role>, Error> {
    serde_json::from_str(text).map_err(|error| Error::corrupt("break_glass", error.to_string()))
}
