//! Approver groups and delegations: who answers access requests, and in whose place.

use std::collections::{BTreeMap, BTreeSet};

use remit_core::{PrincipalName, Revision, Role, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{check_text, number, revision};
use crate::versions::{MESSAGE_BYTES, check_line};

/// The most groups of a tenant.
pub const MOST_GROUPS: usize = 200;
/// The most members of a group.
pub const MOST_MEMBERS: usize = 200;
/// The longest name of a group, in bytes.
pub const GROUP_NAME_BYTES: usize = 64;

/// A group of approvers as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGroup {
    /// Its name.
    pub name: String,
    /// The revision that made it what it is.
    pub revision: Revision,
    /// How it answers.
    pub rules: GroupRules,
    /// Who belongs to it, by name.
    pub members: Vec<GroupMember>,
}

/// How a group answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRules {
    /// After how many seconds what it has not answered goes on to another group as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_after: Option<u32>,
    /// To which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalates_to: Option<String>,
    /// The most requests that wait for it, for each of its members.
    pub most_open: u32,
    /// The most answers that one of its members gives within an hour.
    pub most_per_hour: u32,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupMember {
    /// Who.
    pub principal: PrincipalName,
    /// The moment from which they are none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// That somebody answers in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelegation {
    /// Whose part it is.
    pub from: PrincipalName,
    /// Who answers.
    pub to: PrincipalName,
    /// The moment from which they do not any more.
    pub until: Timestamp,
    /// Why, in one line.
    pub reason: String,
    /// Who said so.
    pub made_by: PrincipalName,
    /// When.
    pub at: Timestamp,
    /// The revision that brought it.
    pub revision: Revision,
}

/// For whom and what somebody answers at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mandates {
    /// The groups, each with the member whose place it is: themself, or who handed it to them.
    pub groups: BTreeMap<String, PrincipalName>,
    /// The natural person of each of those members.
    pub persons: BTreeMap<PrincipalName, PrincipalName>,
    /// Every account of the person, and of those who handed their part to any of these.
    pub accounts: BTreeSet<PrincipalName>,
    /// Every account of the person alone.
    pub own: BTreeSet<PrincipalName>,
    /// The name of the natural person: of their first account.
    pub person: Option<PrincipalName>,
    /// The most answers that they give within an hour, by the groups: the least.
    pub most_per_hour: Option<u32>,
}

type GroupRow = (String, i64, String);
type MemberRow = (String, String, Option<i64>);
type DelegationRow = (String, String, i64, String, String, i64, i64);

pub(crate) mod sql {
    statements! {
        /// Finds a group.
        GROUP = "SELECT name, revision, body FROM approver_groups WHERE tenant = $1 AND name = $2";
        /// Lists groups by name.
        GROUPS = "SELECT name, revision, body FROM approver_groups WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3";
        /// Lists the members of a run of groups.
        MEMBERS = "SELECT group_name, principal, until FROM approver_members \
            WHERE tenant = $1 AND group_name >= $2 AND group_name <= $3 ORDER BY group_name, principal";
        /// Counts groups but for one.
        COUNT_GROUPS = "SELECT count(*) FROM approver_groups WHERE tenant = $1 AND name <> $2";
        /// Makes or replaces a group.
        UPSERT_GROUP = "INSERT INTO approver_groups (tenant, name, revision, body) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (tenant, name) DO UPDATE SET revision = excluded.revision, body = excluded.body";
        /// Takes every member out of a group.
        CLEAR_MEMBERS = "DELETE FROM approver_members WHERE tenant = $1 AND group_name = $2";
        /// Puts a member into a group.
        INSERT_MEMBER = "INSERT INTO approver_members (tenant, group_name, principal, until) VALUES ($1, $2, $3, $4)";
        /// Removes a group.
        DELETE_GROUP = "DELETE FROM approver_groups WHERE tenant = $1 AND name = $2";
        /// Finds a delegation.
        DELEGATION = "SELECT from_person, to_person, until, reason, made_by, at, revision FROM approver_delegations \
            WHERE tenant = $1 AND from_person = $2";
        /// Lists delegations by whose part it is.
        DELEGATIONS = "SELECT from_person, to_person, until, reason, made_by, at, revision FROM approver_delegations \
            WHERE tenant = $1 AND from_person > $2 ORDER BY from_person LIMIT $3";
        /// Makes or replaces a delegation.
        UPSERT_DELEGATION = "INSERT INTO approver_delegations (tenant, from_person, to_person, until, reason, made_by, at, \
            revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant, from_person) DO UPDATE SET \
            to_person = excluded.to_person, until = excluded.until, reason = excluded.reason, \
            made_by = excluded.made_by, at = excluded.at, revision = excluded.revision";
        /// Removes a delegation.
        DELETE_DELEGATION = "DELETE FROM approver_delegations WHERE tenant = $1 AND from_person = $2";
        /// Lists the groups that somebody answers for at a moment, themself or in the place of another, with the roles of
        /// whose place it is.
        MANDATES = "SELECT m.group_name, m.principal, p.roles, g.body, coalesce(p.person, p.name) FROM approver_members AS m \
            JOIN approver_groups AS g ON g.tenant = m.tenant AND g.name = m.group_name \
            JOIN principals AS p ON p.tenant = m.tenant AND p.name = m.principal AND p.disabled_at IS NULL \
            WHERE m.tenant = $1 AND (m.until IS NULL OR m.until > $3) AND (m.principal = $2 OR m.principal IN \
            (SELECT d.from_person FROM approver_delegations AS d \
            WHERE d.tenant = $1 AND d.to_person = $2 AND d.until > $3)) ORDER BY m.group_name, m.principal";
        /// Lists every account of a person and of those who handed their part to any of these, with the first account of each.
        ACCOUNTS = "SELECT a.name, coalesce(a.person, a.name) FROM principals AS a WHERE a.tenant = $1 \
            AND coalesce(a.person, a.name) IN (SELECT coalesce(b.person, b.name) FROM principals AS b \
            WHERE b.tenant = $1 AND (b.name = $2 OR b.name IN (SELECT d.from_person FROM approver_delegations AS d \
            WHERE d.tenant = $1 AND d.until > $3 AND d.to_person IN (SELECT c.name FROM principals AS c \
            JOIN principals AS o ON o.tenant = c.tenant AND o.name = $2 \
            WHERE c.tenant = $1 AND coalesce(c.person, c.name) = coalesce(o.person, o.name)))))";
    }
}

// === impl Store ===

impl Store {
    /// Returns one group.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn approver_group(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<StoredGroup>, Error> {
        let row: Option<GroupRow> = read!(self, tenant, "read a group of approvers", |raw| {
            sqlx::query_as(sql::GROUP)
                .bind(tenant.uuid())
                .bind(name)
                .fetch_optional(raw)
        })?;
        let groups = self.with_members(tenant, row.into_iter().collect()).await?;
        Ok(groups.into_iter().next())
    }

    /// Lists groups by name, bytewise: those after `after`, at most `limit` and never more than [`MOST_GROUPS`] and one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn approver_groups(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredGroup>, Error> {
        let limit = i64::try_from(limit.min(MOST_GROUPS + 1)).unwrap_or(i64::MAX);
        let rows: Vec<GroupRow> = read!(self, tenant, "list the groups of approvers", |raw| {
            sqlx::query_as(sql::GROUPS)
                .bind(tenant.uuid())
                .bind(after.unwrap_or_default())
                .bind(limit)
                .fetch_all(raw)
        })?;
        self.with_members(tenant, rows).await
    }

    async fn with_members(
        &self,
        tenant: TenantId,
        rows: Vec<GroupRow>,
    ) -> Result<Vec<StoredGroup>, Error> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Vec::new());
        };
        let (first, last) = (first.0.clone(), last.0.clone());
        let members: Vec<MemberRow> = read!(self, tenant, "list the members of groups", |raw| {
            sqlx::query_as(sql::MEMBERS)
                .bind(tenant.uuid())
                .bind(first.as_str())
                .bind(last.as_str())
                .fetch_all(raw)
        })?;
        let mut of: BTreeMap<String, Vec<GroupMember>> = BTreeMap::new();
        for (group, principal, until) in members {
            let principal = name_of(&principal)?;
            let until = until.map(Timestamp::from_micros);
            let member = GroupMember { principal, until };
            of.entry(group).or_default().push(member);
        }
        let groups = rows.into_iter().map(|(name, at, body)| {
            Ok(StoredGroup {
                members: of.remove(&name).unwrap_or_default(),
                rules: rules_of(&body)?,
                revision: revision(at)?,
                name,
            })
        });
        groups.collect()
    }

    /// Makes or replaces a group, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be kept or too many members; [`Error::Unfit`] when there are
    /// [`MOST_GROUPS`]; [`Error::Moved`]; [`Error::Withdrawn`].
    pub async fn put_approver_group(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (name, rules, members): (&str, &GroupRules, &[GroupMember]),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        check_text("name", name, GROUP_NAME_BYTES)?;
        if members.len() > MOST_MEMBERS {
            let problem = format!("has more than {MOST_MEMBERS} entries");
            return Err(Error::invalid("members", problem));
        }
        let body = serde_json::to_string(rules)
            .map_err(|error| Error::invalid("group", error.to_string()))?;
        self.within("keep a group of approvers", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            let others: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_GROUPS)
                .bind(tenant.uuid())
                .bind(name)
                .fetch_one(raw)
                .await)?;
            if usize::try_from(others).is_ok_and(|others| others >= MOST_GROUPS) {
                conn.rollback().await?;
                let problem = format!("a tenant has at most {MOST_GROUPS} groups of approvers");
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::UPSERT_GROUP)
                .bind(tenant.uuid())
                .bind(name)
                .bind(number(next))
                .bind(body.as_str())
                .execute(raw)
                .await
                .map(drop))?;
            put_members(&mut conn, tenant, name, members).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Removes a group; what waits for it can then be answered by nobody of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; otherwise as [`Store::put_approver_group`].
    pub async fn delete_approver_group(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        name: &str,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.remove(tenant, checked, (sql::DELETE_GROUP, "group", name), change)
            .await
    }

    /// Returns the delegation of somebody, over or not.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn approver_delegation(
        &self,
        tenant: TenantId,
        from: &PrincipalName,
    ) -> Result<Option<StoredDelegation>, Error> {
        let row: Option<DelegationRow> = read!(self, tenant, "read a delegation", |raw| {
            sqlx::query_as(sql::DELEGATION)
                .bind(tenant.uuid())
                .bind(from.as_str())
                .fetch_optional(raw)
        })?;
        row.map(StoredDelegation::read).transpose()
    }

    /// Lists delegations by whose part it is, bytewise, those that are over included.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn approver_delegations(
        &self,
        tenant: TenantId,
        after: Option<&PrincipalName>,
        limit: usize,
    ) -> Result<Vec<StoredDelegation>, Error> {
        let limit = i64::try_from(limit.min(1_001)).unwrap_or(i64::MAX);
        let rows: Vec<DelegationRow> = read!(self, tenant, "list the delegations", |raw| {
            sqlx::query_as(sql::DELEGATIONS)
                .bind(tenant.uuid())
                .bind(after.map_or("", PrincipalName::as_str))
                .bind(limit)
                .fetch_all(raw)
        })?;
        rows.into_iter().map(StoredDelegation::read).collect()
    }

    /// Makes or replaces the delegation of somebody, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a reason that cannot be kept; [`Error::Moved`]; [`Error::Withdrawn`].
    pub async fn put_approver_delegation(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        new: &StoredDelegation,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        check_line("reason", Some(&new.reason), MESSAGE_BYTES)?;
        self.within("keep a delegation", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::UPSERT_DELEGATION)
                .bind(tenant.uuid())
                .bind(new.from.as_str())
                .bind(new.to.as_str())
                .bind(new.until.micros())
                .bind(new.reason.as_str())
                .bind(new.made_by.as_str())
                .bind(new.at.micros())
                .bind(number(next))
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Ends the delegation of somebody at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; otherwise as [`Store::put_approver_delegation`].
    pub async fn delete_approver_delegation(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        from: &PrincipalName,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        let what = (sql::DELETE_DELEGATION, "delegation", from.as_str());
        self.remove(tenant, checked, what, change).await
    }

    async fn remove(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (text, what, name): (&'static str, &'static str, &str),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("remove who answers", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            let removed = on!(conn, |raw| sqlx::query(text)
                .bind(tenant.uuid())
                .bind(name)
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if removed == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Finds for whom and what somebody answers at a moment: as a member themself, or in the place of an enabled one who has
    /// the role `approver`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn mandates(
        &self,
        tenant: TenantId,
        of: &PrincipalName,
        at: Timestamp,
    ) -> Result<Mandates, Error> {
        let rows: Vec<(String, String, String, String, String)> =
            read!(self, tenant, "find whom somebody answers for", |raw| {
                sqlx::query_as(sql::MANDATES)
                    .bind(tenant.uuid())
                    .bind(of.as_str())
                    .bind(at.micros())
                    .fetch_all(raw)
            })?;
        let accounts: Vec<(String, String)> =
            read!(self, tenant, "find the accounts of somebody", |raw| {
                sqlx::query_as(sql::ACCOUNTS)
                    .bind(tenant.uuid())
                    .bind(of.as_str())
                    .bind(at.micros())
                    .fetch_all(raw)
            })?;
        let mut found = Mandates::default();
        for (group, member, roles, body, person) in rows {
            let member = name_of(&member)?;
            let own = member == *of;
            if !own && !roles.split(' ').any(|role| role == Role::Approver.as_str()) {
                continue;
            }
            let most = rules_of(&body)?.most_per_hour;
            found.most_per_hour = Some(found.most_per_hour.map_or(most, |least| least.min(most)));
            found.persons.insert(member.clone(), name_of(&person)?);
            if own || !found.groups.contains_key(&group) {
                found.groups.insert(group, member);
            }
        }
        let own = accounts.iter().find(|(account, _)| account == of.as_str());
        found.person = own.map(|(_, person)| name_of(person)).transpose()?;
        for (account, person) in &accounts {
            let account = name_of(account)?;
            let theirs = found
                .person
                .as_ref()
                .is_some_and(|own| own.as_str() == person);
            if theirs {
                found.own.insert(account.clone());
            }
            found.accounts.insert(account);
        }
        found.own.insert(of.clone());
        found.accounts.insert(of.clone());
        Ok(found)
    }
}

async fn put_members(
    conn: &mut Conn,
    tenant: TenantId,
    name: &str,
    members: &[GroupMember],
) -> Result<(), Failure> {
    on!(conn, |raw| sqlx::query(sql::CLEAR_MEMBERS)
        .bind(tenant.uuid())
        .bind(name)
        .execute(raw)
        .await
        .map(drop))?;
    for member in members {
        on!(conn, |raw| sqlx::query(sql::INSERT_MEMBER)
            .bind(tenant.uuid())
            .bind(name)
            .bind(member.principal.as_str())
            .bind(member.until.map(Timestamp::micros))
            .execute(raw)
            .await
            .map(drop))?;
    }
    Ok(())
}

fn name_of(text: &str) -> Result<PrincipalName, Error> {
    text.parse()
        .map_err(|error| Error::corrupt("approver_members", format!("{error}")))
}

fn rules_of(body: &str) -> Result<GroupRules, Error> {
    serde_json::from_str(body).map_err(|error| Error::corrupt("approver_groups", error.to_string()))
}

// === impl StoredDelegation ===

impl StoredDelegation {
    fn read((from, to, until, reason, made_by, at, brought): DelegationRow) -> Result<Self, Error> {
        Ok(Self {
            from: name_of(&from)?,
            to: name_of(&to)?,
            until: Timestamp::from_micros(until),
            reason,
            made_by: name_of(&made_by)?,
            at: Timestamp::from_micros(at),
            revision: revision(brought)?,
        })
    }
}
