//! Exceptions: proposed by one, confirmed by another, ended by anybody who may; over by the time alone.

use remit_core::{
    ContentHash, Exception, ExceptionId, ExceptionScope, KeyId, PolicyId, PrincipalName, Revision,
    TenantId, Timestamp, canonical_json,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events;
use crate::store::Store;
use crate::tenants::{number, revision};
use crate::versions::{MESSAGE_BYTES, check_line};

/// The most exceptions of one tenant that wait or are in force at a time; each question is held against all of them.
pub const MAX_EXCEPTIONS: u64 = 200;
/// The most exceptions of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;
/// The longest text of one, in bytes.
const BODY_BYTES: usize = 16 * 1_024;
/// How long one that is over by itself is still loaded, in microseconds: the clocks of replicas differ, but not by that.
const REMEMBERED: i64 = 24 * 60 * 60 * 1_000_000;

/// All that is proposed of an exception, which another person confirms as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposedException {
    /// What is done instead: one line of at most 1,024 bytes.
    pub compensating: String,
    /// Its id.
    pub id: ExceptionId,
    /// Who answers for it.
    pub owner: PrincipalName,
    /// The control: the policy that is not to count.
    pub policy: PolicyId,
    /// Why: one line of at most 1,024 bytes.
    pub reason: String,
    /// Where it is not to count.
    pub scope: ExceptionScope,
    /// The moment from which it counts again.
    pub until: Timestamp,
}

/// That somebody did something to an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionBy {
    /// Who.
    pub name: PrincipalName,
    /// The API key that it came with.
    pub key: KeyId,
    /// When.
    pub at: Timestamp,
}

/// An exception as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredException {
    /// What was proposed.
    pub proposed: ProposedException,
    /// The hash of that.
    pub hash: ContentHash,
    /// Who proposed it.
    pub by: ExceptionBy,
    /// Until when it can be confirmed.
    pub lapses_at: Timestamp,
    /// Who confirmed it, when, and the revision that brought it into force.
    pub confirmed: Option<(PrincipalName, Timestamp, Revision)>,
    /// Who ended it, or took the proposal back, and when.
    pub ended: Option<(PrincipalName, Timestamp)>,
    /// Whether it was found to be over by the clock.
    pub over: bool,
}

type Row = (
    Uuid,
    String,
    String,
    String,
    Uuid,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
);

pub(crate) mod sql {
    statements! {
        /// Lists the exceptions that are confirmed and not ended at a revision, but for those known to be over, or so for long.
        EXCEPTIONS_IN_FORCE = "SELECT id, body, confirmed_by FROM exceptions \
            WHERE tenant = $1 AND revision <= $2 AND (ended IS NULL OR ended > $2) AND over_at IS NULL \
            AND ends_at > $3 ORDER BY id";
        /// Lists the exceptions that were in force and were ended after a revision.
        EXCEPTIONS_ENDED = "SELECT id, policy FROM exceptions WHERE tenant = $1 AND ended > $2 AND revision IS NOT NULL \
            ORDER BY id LIMIT 1000";
        /// Lists exceptions, newest first.
        EXCEPTIONS = "SELECT id, body, hash, proposed_by, proposed_key, proposed_at, lapses_at, confirmed_by, \
            confirmed_at, revision, ended_by, ended_at, over_at FROM exceptions \
            WHERE tenant = $1 AND id < $2 AND (policy = $3 OR $3 IS NULL) ORDER BY id DESC LIMIT $4";
        /// Finds an exception.
        EXCEPTION = "SELECT id, body, hash, proposed_by, proposed_key, proposed_at, lapses_at, confirmed_by, \
            confirmed_at, revision, ended_by, ended_at, over_at FROM exceptions WHERE tenant = $1 AND id = $2";
        /// Counts the exceptions that wait or are in force.
        COUNT_EXCEPTIONS = "SELECT count(*) FROM exceptions WHERE tenant = $1 AND ended_at IS NULL AND ends_at > $2 \
            AND (revision IS NOT NULL OR lapses_at > $2)";
        /// Proposes an exception.
        INSERT_EXCEPTION = "INSERT INTO exceptions (tenant, id, policy, body, hash, ends_at, proposed_by, proposed_key, \
            proposed_at, lapses_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        /// Confirms an exception that waits, as it was seen, unless who confirms has proposed it.
        CONFIRM_EXCEPTION = "UPDATE exceptions SET confirmed_by = $3, confirmed_key = $4, confirmed_at = $5, revision = $6 \
            WHERE tenant = $1 AND id = $2 AND revision IS NULL AND ended_at IS NULL AND lapses_at > $5 AND ends_at > $5 \
            AND hash = $7 AND proposed_by <> $3 AND proposed_by NOT IN (SELECT a.name FROM principals AS a \
            JOIN principals AS b ON b.tenant = a.tenant AND coalesce(b.person, b.name) = coalesce(a.person, a.name) \
            WHERE a.tenant = $1 AND b.name = $3)";
        /// Ends an exception that is in force.
        END_EXCEPTION = "UPDATE exceptions SET ended_by = $3, ended_at = $4, ended = $5 \
            WHERE tenant = $1 AND id = $2 AND ended_at IS NULL AND revision IS NOT NULL";
        /// Tells whether one that is in force is over by the clock, and nobody has noted it.
        ANY_OVER = "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM exceptions WHERE tenant = $1 AND ended_at IS NULL \
            AND over_at IS NULL AND revision IS NOT NULL AND ends_at <= $2) THEN 1 ELSE 0 END AS BIGINT)";
        /// Notes which ones are over by the clock.
        NOTE_OVER = "UPDATE exceptions SET over_at = $2 WHERE tenant = $1 AND ended_at IS NULL AND over_at IS NULL \
            AND revision IS NOT NULL AND ends_at <= $2";
        /// Takes back an exception that nobody has confirmed.
        TAKE_BACK_EXCEPTION = "UPDATE exceptions SET ended_by = $3, ended_at = $4 \
            WHERE tenant = $1 AND id = $2 AND ended_at IS NULL AND revision IS NULL";
    }
}

// === impl Store ===

impl Store {
    /// Lists the exceptions that were in force and were ended after a revision: at most a thousand, by id.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn exceptions_ended(
        &self,
        tenant: TenantId,
        after: Revision,
    ) -> Result<Vec<(ExceptionId, PolicyId)>, Error> {
        let rows: Vec<(Uuid, String)> =
            read!(self, tenant, "list exceptions that were ended", |raw| {
                sqlx::query_as(sql::EXCEPTIONS_ENDED)
                    .bind(tenant.uuid())
                    .bind(number(after))
                    .fetch_all(raw)
            })?;
        let rows = rows.into_iter();
        let read = rows.map(|(id, policy)| (ExceptionId::from_uuid(id), PolicyId::new(policy)));
        Ok(read.collect())
    }

    /// Keeps that an exception is proposed, until `lapses_at`; it changes nothing until it is confirmed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what cannot be kept; [`Error::Unfit`] when [`MAX_EXCEPTIONS`] wait or are in force;
    /// [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn propose_exception(
        &self,
        tenant: TenantId,
        proposed: &ProposedException,
        (by, lapses_at): (&ExceptionBy, Timestamp),
        change: Change<'_>,
    ) -> Result<(), Error> {
        let body = proposed.text()?;
        self.within("propose an exception", async {
            let (mut conn, head) = self.begin_aside(tenant).await?;
            let open: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_EXCEPTIONS)
                .bind(tenant.uuid())
                .bind(by.at.micros())
                .fetch_one(raw)
                .await)?;
            if u64::try_from(open).is_ok_and(|open| open >= MAX_EXCEPTIONS) {
                conn.rollback().await?;
                let problem = format!("{MAX_EXCEPTIONS} wait or are in force; end some first");
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            on!(conn, |raw| sqlx::query(sql::INSERT_EXCEPTION)
                .bind(tenant.uuid())
                .bind(proposed.id.uuid())
                .bind(proposed.policy.as_str())
                .bind(body.as_str())
                .bind(ContentHash::of(body.as_bytes()).to_string())
                .bind(proposed.until.micros())
                .bind(by.name.as_str())
                .bind(by.key.uuid())
                .bind(by.at.micros())
                .bind(lapses_at.micros())
                .execute(raw)
                .await
                .map(drop))?;
            let told = told(proposed, by);
            let subject = proposed.id.to_string();
            let at = (head, by.at);
            events::note(&mut conn, tenant, at, "exception.proposed", &subject, &told).await?;
            conn.commit().await
        })
        .await
    }

    /// Confirms an exception that waits and of which `seen` is the hash, if nothing of the tenant has changed since `checked`;
    /// it is in force from the revision that is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it does not wait, is another than was seen, or was proposed by whoever confirms it;
    /// [`Error::Moved`]; [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn confirm_exception(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (id, seen): (ExceptionId, ContentHash),
        by: &ExceptionBy,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("confirm an exception", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let confirmed = on!(conn, |raw| sqlx::query(sql::CONFIRM_EXCEPTION)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(by.name.as_str())
                .bind(by.key.uuid())
                .bind(by.at.micros())
                .bind(number(next))
                .bind(seen.to_string())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if confirmed == 0 {
                conn.rollback().await?;
                let problem = "it does not wait for this confirmation".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            let told = json!({ "id": id, "by": by.name, "at": by.at });
            let subject = id.to_string();
            let at = (next, by.at);
            events::note(&mut conn, tenant, at, "exception.in_force", &subject, &told).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Ends an exception from the revision that is returned on; of one that nobody has confirmed the proposal is taken
    /// back, which brings no revision.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when somebody has ended it, or confirmed it meanwhile; [`Error::Withdrawn`], and
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn end_exception(
        &self,
        tenant: TenantId,
        found: &StoredException,
        by: &ExceptionBy,
        change: Change<'_>,
    ) -> Result<Option<Revision>, Error> {
        let in_force = found.confirmed.is_some();
        self.within("end an exception", async {
            let (mut conn, at) = if in_force {
                self.begin_change(tenant).await?
            } else {
                self.begin_aside(tenant).await?
            };
            if in_force {
                self.accompany(&mut conn, tenant, at, change).await?;
            } else {
                self.accompany_aside(&mut conn, tenant, at, change).await?;
            }
            let id = found.proposed.id.uuid();
            let ended = on!(conn, |raw| {
                let text = if in_force {
                    sql::END_EXCEPTION
                } else {
                    sql::TAKE_BACK_EXCEPTION
                };
                let query = sqlx::query(text)
                    .bind(tenant.uuid())
                    .bind(id)
                    .bind(by.name.as_str())
                    .bind(by.at.micros());
                let query = if in_force {
                    query.bind(number(at))
                } else {
                    query
                };
                query.execute(raw).await.map(|done| done.rows_affected())
            })?;
            if ended == 0 {
                conn.rollback().await?;
                let problem = "it was ended or confirmed by another; read it again".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            let told = told(&found.proposed, by);
            let subject = found.proposed.id.to_string();
            let now = (at, by.at);
            events::note(&mut conn, tenant, now, "exception.ended", &subject, &told).await?;
            conn.commit().await?;
            Ok(in_force.then_some(at))
        })
        .await
    }

    /// Notes which exceptions of a tenant are over by the database's time, so that no clock that is set back brings one back;
    /// returns how many.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn note_exceptions_over(&self, tenant: TenantId) -> Result<u64, Error> {
        self.within("note which exceptions are over", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let any: i64 = on!(conn, |raw| sqlx::query_scalar(sql::ANY_OVER)
                .bind(tenant.uuid())
                .bind(now.micros())
                .fetch_one(raw)
                .await)?;
            conn.end().await?;
            if any == 0 {
                return Ok(0);
            }
            let mut conn = self.begin(tenant).await?;
            let noted = on!(conn, |raw| sqlx::query(sql::NOTE_OVER)
                .bind(tenant.uuid())
                .bind(now.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            conn.commit().await?;
            Ok(noted)
        })
        .await
    }

    /// Returns one exception of a tenant, whatever has become of it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn exception(
        &self,
        tenant: TenantId,
        id: ExceptionId,
    ) -> Result<Option<StoredException>, Error> {
        let row: Option<Row> = read!(self, tenant, "read an exception", |raw| {
            sqlx::query_as(sql::EXCEPTION)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_optional(raw)
        })?;
        row.as_ref().map(StoredException::read).transpose()
    }

    /// Lists exceptions, newest first: those before `before`, at most `limit` and never more than 1,001; where a policy is
    /// given, those of it alone.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn exceptions(
        &self,
        tenant: TenantId,
        policy: Option<&PolicyId>,
        before: Option<ExceptionId>,
        limit: usize,
    ) -> Result<Vec<StoredException>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list exceptions", |raw| {
            sqlx::query_as(sql::EXCEPTIONS)
                .bind(tenant.uuid())
                .bind(before.map_or(Uuid::max(), ExceptionId::uuid))
                .bind(policy.map(PolicyId::as_str))
                .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        rows.iter().map(StoredException::read).collect()
    }
}

/// Reads the exceptions that are confirmed and not ended in a tenant at a revision; those over may be missing.
pub(super) async fn read_in_force(
    conn: &mut Conn,
    tenant: TenantId,
    (upto, now): (Revision, Timestamp),
) -> Result<Vec<Exception>, Failure> {
    let rows: Vec<(Uuid, String, String)> = on!(conn, |raw| {
        sqlx::query_as(sql::EXCEPTIONS_IN_FORCE)
            .bind(tenant.uuid())
            .bind(number(upto))
            .bind(now.micros().saturating_sub(REMEMBERED))
            .fetch_all(raw)
            .await
    })?;
    let exceptions = rows.into_iter().map(|(id, body, by)| {
        let proposed = read_body(id, &body)?;
        Ok(Exception {
            compensating: proposed.compensating,
            confirmed_by: name(&by)?,
            id: proposed.id,
            owner: proposed.owner,
            policy: proposed.policy,
            reason: proposed.reason,
            scope: proposed.scope,
            until: proposed.until,
        })
    });
    Ok(exceptions.collect::<Result<_, Error>>()?)
}

/// What others are told of an exception: nothing that somebody wrote.
fn told(proposed: &ProposedException, by: &ExceptionBy) -> Value {
    json!({
        "id": proposed.id, "policy": proposed.policy, "until": proposed.until, "by": by.name, "at": by.at,
    })
}

fn read_body(id: Uuid, body: &str) -> Result<ProposedException, Error> {
    serde_json::from_str(body)
        .map_err(|error| Error::corrupt("exceptions", format!("`{id}`: {error}")))
}

fn name(text: &str) -> Result<PrincipalName, Error> {
    let name = text.parse();
    name.map_err(|error| Error::corrupt("exceptions", format!("{error}")))
}

// === impl ProposedException ===

impl ProposedException {
    /// Returns the hash by which another person says that exactly this was seen.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what cannot be kept.
    pub fn hash(&self) -> Result<ContentHash, Error> {
        Ok(ContentHash::of(self.text()?.as_bytes()))
    }

    /// Writes it as its column has it: its canonical JSON.
    fn text(&self) -> Result<String, Error> {
        check_line("reason", Some(&self.reason), MESSAGE_BYTES)?;
        check_line("compensating", Some(&self.compensating), MESSAGE_BYTES)?;
        if self.scope.is_empty() {
            return Err(Error::invalid("scope", "must have at least one member"));
        }
        let text = canonical_json(self)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Error::invalid("exception", "cannot be written as JSON"))?;
        if text.len() > BODY_BYTES {
            let problem = format!("is longer than {BODY_BYTES} bytes");
            return Err(Error::invalid("exception", problem));
        }
        Ok(text)
    }
}

// === impl StoredException ===

impl StoredException {
    /// Whether it waits for another person at `at`.
    pub fn waits(&self, at: Timestamp) -> bool {
        self.confirmed.is_none()
            && self.ended.is_none()
            && at < self.lapses_at
            && at < self.proposed.until
    }

    fn read(row: &Row) -> Result<Self, Error> {
        let (id, body, hash, by, key, at, lapses_at, ..) = row;
        let (.., confirmed_by, confirmed_at, brought, ended_by, ended_at, over_at) = row;
        let confirmed = match (confirmed_by, confirmed_at, brought) {
            (Some(by), Some(at), Some(brought)) => {
                Some((name(by)?, Timestamp::from_micros(*at), revision(*brought)?))
            }
            _ => None,
        };
        let ended = match (ended_by, ended_at) {
            (Some(by), Some(at)) => Some((name(by)?, Timestamp::from_micros(*at))),
            _ => None,
        };
        Ok(Self {
            proposed: read_body(*id, body)?,
            hash: hash
                .parse()
                .map_err(|error| Error::corrupt("exceptions", format!("`{id}`: {error}")))?,
            by: ExceptionBy {
                name: name(by)?,
                key: KeyId::from_uuid(*key),
                at: Timestamp::from_micros(*at),
            },
            lapses_at: Timestamp::from_micros(*lapses_at),
            confirmed,
            ended,
            over: over_at.is_some(),
        })
    }
}
