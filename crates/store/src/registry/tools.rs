//! Tools: every version of each, written many at a time as one catalogue.

use std::collections::BTreeMap;

use remit_core::{KillTarget, Revision, TenantId, Tool, canonical_json};
use serde::Serialize;

use super::kills;
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect::Rows;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{check_text, number, revision};

/// The most tools of one tenant.
pub const MAX_TOOLS: u64 = 10_000;
/// The most tools of one page, and one more that tells whether there is another.
const MOST: usize = 10_001;
/// The longest name of a tool, in bytes.
const NAME_BYTES: usize = 256;

/// A tool as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTool {
    /// The tool.
    pub tool: Tool,
    /// The revision that made it what it is.
    pub revision: Revision,
}

/// One page of what became of the tools between two revisions: each once, as it is at the later one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolPage {
    /// Tools that are new or different.
    pub tools: Vec<Tool>,
    /// Tools that are gone.
    pub removed: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<ToolCursor>,
}

/// Where a page of tools ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCursor {
    revision: Revision,
    name: String,
}

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

pub(crate) mod sql {
    statements! {
        /// Finds the current version of one tool.
        TOOL = "SELECT name, revision, body FROM tools \
            WHERE tenant = $1 AND name = $2 AND superseded IS NULL AND body IS NOT NULL";
        /// Lists current tools by name.
        TOOLS = "SELECT name, revision, body FROM tools \
            WHERE tenant = $1 AND name > $2 AND superseded IS NULL AND body IS NOT NULL ORDER BY name LIMIT $3";
        /// Lists the version at $3 of each tool that changed after $2, in the order of the changes.
        TOOL_CHANGES = "SELECT name, revision, body FROM tools \
            WHERE tenant = $1 AND revision > $2 AND revision <= $3 \
            AND (superseded IS NULL OR superseded > $3) AND (revision, name) > ($4, $5) \
            ORDER BY revision, name LIMIT $6";
        /// Counts tools.
        COUNT_TOOLS = "SELECT count(*) FROM tools WHERE tenant = $1 AND superseded IS NULL AND body IS NOT NULL";
        /// Adds new tools, and ends the current versions that differ from what is given.
        INSERT_OR_SUPERSEDE_TOOLS = "INSERT INTO tools (tenant, name, revision, body) \
            SELECT t.id, change.value ->> 'name', t.revision, change.value ->> 'body' \
            FROM tenants AS t CROSS JOIN json_each($2) AS change WHERE t.id = $1 \
            ON CONFLICT (tenant, name) WHERE superseded IS NULL \
            DO UPDATE SET superseded = excluded.revision WHERE tools.body IS DISTINCT FROM excluded.body";
        /// Adds the new versions of those that were ended.
        INSERT_TOOL_VERSIONS = "INSERT INTO tools (tenant, name, revision, body) \
            SELECT t.id, change.value ->> 'name', t.revision, change.value ->> 'body' \
            FROM tenants AS t CROSS JOIN json_each($2) AS change WHERE t.id = $1 ON CONFLICT DO NOTHING";
    }
}

type Row = (String, i64, Option<String>);

// === impl Store ===

impl Store {
    /// Writes tools, all at the one revision that is returned; others stay as they are.
    ///
    /// Of two with the same name the last counts. A tool that is stored exactly so keeps its revision. With `checked`,
    /// nothing of the tenant may have changed since that revision.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be kept; [`Error::Unfit`] when the tenant would have more than
    /// [`MAX_TOOLS`]; [`Error::Moved`], [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn put_tools(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        tools: &[Tool],
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        let mut bodies = BTreeMap::new();
        for tool in tools {
            check_text("tool.name", &tool.name, NAME_BYTES)?;
            bodies.insert(tool.name.as_str(), body_of(tool)?);
        }
        let rows = Rows::of(bodies.iter().map(|(name, body)| Written {
            name,
            body: Some(body),
        }))?;
        self.write_tools(tenant, checked, (&rows, None), change)
            .await
    }

    /// Removes a tool; one that is not there is none to remove.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the tenant has no such tool; [`Error::Killed`] while a kill names it; otherwise as [`Store::put_tools`].
    pub async fn delete_tool(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        name: &str,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        if self.tool(tenant, name).await?.is_none() {
            return Err(Error::NotFound { what: "tool" });
        }
        let rows = Rows::of([Written { name, body: None }])?;
        self.write_tools(tenant, checked, (&rows, Some(name)), change)
            .await
    }

    async fn write_tools(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (rows, removed): (&Rows, Option<&str>),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("change tools", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            if let Some(name) = removed {
                let tool = name.into();
                if kills::stands(&mut conn, tenant, &KillTarget::Tool { tool }).await? {
                    conn.rollback().await?;
                    let what = format!("the tool `{name}`");
                    return Err(Error::Killed { what }.into());
                }
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            write(&mut conn, sql::INSERT_OR_SUPERSEDE_TOOLS, tenant, rows).await?;
            write(&mut conn, sql::INSERT_TOOL_VERSIONS, tenant, rows).await?;
            let there: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_TOOLS)
                .bind(tenant.uuid())
                .fetch_one(raw)
                .await)?;
            if u64::try_from(there).is_ok_and(|there| there > MAX_TOOLS) {
                conn.rollback().await?;
                let problem = format!("the tenant would have more than {MAX_TOOLS} tools");
                return Err(Error::Unfit { problem }.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Returns one tool.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be stored; [`Error::Corrupt`] when the row cannot be read.
    pub async fn tool(&self, tenant: TenantId, name: &str) -> Result<Option<StoredTool>, Error> {
        check_text("tool.name", name, NAME_BYTES)?;
        let row: Option<Row> = read!(self, tenant, "read a tool", |raw| sqlx::query_as(sql::TOOL)
            .bind(tenant.uuid())
            .bind(name)
            .fetch_optional(raw))?;
        row.map(StoredTool::read).transpose()
    }

    /// Lists tools by name, bytewise: those after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn tools(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredTool>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list tools", |raw| sqlx::query_as(sql::TOOLS)
            .bind(tenant.uuid())
            .bind(after.unwrap_or_default())
            .bind(page(limit))
            .fetch_all(raw))?;
        rows.into_iter().map(StoredTool::read).collect()
    }

    /// Returns one page of what became of the tools after one revision and up to another.
    ///
    /// Each tool that changed is told once, as it was at `upto`, whatever was written since. Call again with `next` until
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn tool_changes(
        &self,
        tenant: TenantId,
        after: Revision,
        upto: Revision,
        from: Option<&ToolCursor>,
        limit: usize,
    ) -> Result<ToolPage, Error> {
        let (seen, name) = from.map_or((after, ""), |cursor| (cursor.revision, &*cursor.name));
        let limit = page(limit);
        let rows: Vec<Row> = read!(self, tenant, "read the changes of tools", |raw| {
            sqlx::query_as(sql::TOOL_CHANGES)
                .bind(tenant.uuid())
                .bind(number(after))
                .bind(number(upto))
                .bind(number(seen))
                .bind(name)
                .bind(limit)
                .fetch_all(raw)
        })?;
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
        let mut page = ToolPage::default();
        if let Some((name, at, _)) = rows.last().filter(|_| full) {
            page.next = Some(ToolCursor {
                revision: revision(*at)?,
                name: name.clone(),
            });
        }
        for row in rows {
            if row.2.is_some() {
                page.tools.push(StoredTool::read(row)?.tool);
            } else {
                page.removed.push(row.0);
            }
        }
        Ok(page)
    }
}

async fn write(
    conn: &mut Conn,
    text: &'static str,
    tenant: TenantId,
    rows: &Rows,
) -> Result<(), Failure> {
    Ok(on!(conn, |raw| sqlx::query(text)
        .bind(tenant.uuid())
        .bind(rows)
        .execute(raw)
        .await
        .map(drop))?)
}

fn body_of(tool: &Tool) -> Result<String, Error> {
    canonical_json(tool)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("tool", "cannot be written as JSON"))
}

fn page(limit: usize) -> i64 {
    i64::try_from(limit.clamp(1, MOST)).unwrap_or(1)
}

// === impl StoredTool ===

impl StoredTool {
    fn read((name, at, body): Row) -> Result<Self, Error> {
        let corrupt = |what: String| Error::corrupt("tools", format!("`{name}`: {what}"));
        let tool: Tool = serde_json::from_str(&body.unwrap_or_default())
            .map_err(|error| corrupt(error.to_string()))?;
        if tool.name != name {
            return Err(corrupt(format!("its body is that of `{}`", tool.name)));
        }
        Ok(Self {
            tool,
            revision: revision(at)?,
        })
    }
}
