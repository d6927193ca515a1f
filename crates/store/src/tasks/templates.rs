//! Templates of tasks: what is declared for a purpose once, so that a task may only narrow it.

use remit_core::{Revision, TenantId};

use crate::admin_actions::Change;
use crate::error::Error;
use crate::store::Store;
use crate::tenants::{check_text, number, revision};

/// The most templates of a tenant.
const MOST_TEMPLATES: i64 = 1_000;
/// The longest name, in bytes.
const NAME_BYTES: usize = 128;
/// The most that one call returns.
const MOST: usize = 1_001;

/// A template as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTemplate {
    /// Its name.
    pub name: String,
    /// What it says, as JSON.
    pub body: String,
    /// The revision that made it what it is.
    pub revision: Revision,
}

type Row = (String, String, i64);

pub(crate) mod sql {
    statements! {
        /// Finds a template.
        TEMPLATE = "SELECT name, body, revision FROM task_templates WHERE tenant = $1 AND name = $2";
        /// Lists templates by name.
        TEMPLATES = "SELECT name, body, revision FROM task_templates WHERE tenant = $1 AND name > $2 \
            ORDER BY name LIMIT $3";
        /// Counts templates but for one.
        COUNT_TEMPLATES = "SELECT count(*) FROM task_templates WHERE tenant = $1 AND name <> $2";
        /// Makes or replaces a template.
        UPSERT_TEMPLATE = "INSERT INTO task_templates (tenant, name, revision, body) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (tenant, name) DO UPDATE SET revision = excluded.revision, body = excluded.body";
        /// Removes a template.
        DELETE_TEMPLATE = "DELETE FROM task_templates WHERE tenant = $1 AND name = $2";
    }
}

// === impl Store ===

impl Store {
    /// Returns one template.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn task_template(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<StoredTemplate>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a template", |raw| sqlx::query_as(
            sql::TEMPLATE
        )
        .bind(tenant.uuid())
        .bind(name)
        .fetch_optional(raw))?;
        row.map(StoredTemplate::read).transpose()
    }

    /// Lists templates by name, bytewise: those after `after`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn task_templates(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredTemplate>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list the templates", |raw| sqlx::query_as(
            sql::TEMPLATES
        )
        .bind(tenant.uuid())
        .bind(after.unwrap_or_default())
        .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
        .fetch_all(raw))?;
        rows.into_iter().map(StoredTemplate::read).collect()
    }

    /// Makes or replaces a template, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be kept; [`Error::Unfit`] when there are a thousand; [`Error::Moved`];
    /// [`Error::Withdrawn`].
    pub async fn put_task_template(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (name, body): (&str, &str),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        check_text("name", name, NAME_BYTES)?;
        self.within("keep a template", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            let others: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_TEMPLATES)
                .bind(tenant.uuid())
                .bind(name)
                .fetch_one(raw)
                .await)?;
            if others >= MOST_TEMPLATES {
                conn.rollback().await?;
                let problem = format!("a tenant has at most {MOST_TEMPLATES} templates");
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::UPSERT_TEMPLATE)
                .bind(tenant.uuid())
                .bind(name)
                .bind(number(next))
                .bind(body)
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Removes a template; the tasks that were made from it go on.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; otherwise as [`Store::put_task_template`].
    pub async fn delete_task_template(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        name: &str,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("remove a template", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            let removed = on!(conn, |raw| sqlx::query(sql::DELETE_TEMPLATE)
                .bind(tenant.uuid())
                .bind(name)
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if removed == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "template" }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }
}

// === impl StoredTemplate ===

impl StoredTemplate {
    fn read((name, body, at): Row) -> Result<Self, Error> {
        Ok(Self {
            name,
            body,
            revision: revision(at)?,
        })
    }
}
