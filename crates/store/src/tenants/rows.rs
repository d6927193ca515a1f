//! Everything that belongs to a tenant, table by table: to be exported, and to be erased.
//!
//! One list serves both, and a test holds it against the catalogue of the database: a table or a column that is not in it
//! fails that test. What must not leave, such as the hash of a key, is listed as withheld.

use remit_core::TenantId;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use crate::error::Error;
use crate::store::Store;

/// One table with rows of tenants.
struct Table {
    name: &'static str,
    /// The columns of its key after `tenant`, in order.
    key: &'static [&'static str],
    columns: &'static [(&'static str, Column)],
    withheld: &'static [&'static str],
    /// How many rows one page has.
    page: usize,
    first: &'static str,
    next: &'static str,
    erase: &'static str,
    left: &'static str,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Number,
    Text,
}

/// Declares the tables: name, rows a page, columns of the key with their parameters, columns, and what is withheld.
macro_rules! tables {
    ($($name:literal $page:literal by [$first_key:literal $(, $key:literal)*] after $after:literal
        { $first:literal: $first_kind:ident $(, $column:literal: $kind:ident)* } without [$($withheld:literal),*];)*) => {
        const TABLES: &[Table] = &[$(Table {
            name: $name,
            key: &[$first_key $(, $key)*],
            columns: &[($first, Column::$first_kind) $(, ($column, Column::$kind))*],
            withheld: &[$($withheld),*],
            page: $page,
            first: concat!("SELECT ", $first $(, ", ", $column)*, " FROM ", $name, " WHERE tenant = $1 \
                ORDER BY ", $first_key $(, ", ", $key)*, " LIMIT ", $page),
            next: concat!("SELECT ", $first $(, ", ", $column)*, " FROM ", $name, " WHERE tenant = $1 \
                AND (", $first_key $(, ", ", $key)*, ") > (", $after, ") \
                ORDER BY ", $first_key $(, ", ", $key)*, " LIMIT ", $page),
            erase: concat!("DELETE FROM ", $name, " WHERE tenant = $1 \
                AND (", $first_key $(, ", ", $key)*, ") IN (SELECT ", $first_key $(, ", ", $key)*, " \
                FROM ", $name, " WHERE tenant = $1 LIMIT 1000)"),
            left: concat!("SELECT count(*) FROM (SELECT 1 FROM ", $name, " WHERE tenant = $1 LIMIT 1) AS one"),
        }),*];
    };
}

// Erased in this order: what refers to another table stands before it. What a running replica writes by itself stands
// last, so that nothing of it is written when the others are gone.
tables! {
    "decision_policies" 500 by ["policy", "decision"] after "$2, $3"
        { "policy": Text, "decision": Id } without [];
    "decisions" 500 by ["id"] after "$2"
        { "id": Id, "at": Number, "verdict": Text, "reason": Text, "subject_type": Text, "subject_id": Text,
          "action": Text, "resource_type": Text, "resource_id": Text, "caller": Id, "revision": Number,
          "replica": Id, "sequence": Number, "body": Text, "task": Id, "renews": Id } without [];
    "events" 500 by ["revision", "place"] after "$2, $3"
        { "revision": Number, "place": Number, "kind": Text, "subject": Text, "at": Number, "body": Text } without [];
    "webhook_deliveries" 100 by ["id"] after "$2"
        { "id": Id, "webhook": Id, "about": Text, "kind": Text, "subject": Text, "url": Text, "body": Text,
          "state": Text, "attempts": Number, "at": Number, "next_at": Number, "last_at": Number,
          "last_status": Number, "last_problem": Text } without [];
    "webhooks" 100 by ["id"] after "$2"
        { "id": Id, "revision": Number, "url": Text, "kinds": Text, "callbacks": Number, "old_until": Number,
          "created_by": Text, "created_at": Number, "disabled_at": Number, "disabled_why": Text,
          "seen_revision": Number, "seen_place": Number } without ["secret", "old_secret"];
    "outcomes" 500 by ["decision"] after "$2"
        { "decision": Id, "task": Id, "at": Number, "result": Text, "bytes": Number, "source": Text,
          "destination": Text, "request": Text, "revision": Number, "body": Text } without [];
    "reservations" 500 by ["decision", "task"] after "$2, $3"
        { "decision": Id, "task": Id, "calls": Number, "cost": Number, "amount": Number, "bytes": Number,
          "irreversible": Number, "expires_at": Number, "replica": Id, "kind": Text } without [];
    "task_budgets" 500 by ["task"] after "$2"
        { "task": Id, "calls_allowed": Number, "calls_reserved": Number, "calls_spent": Number,
          "cost_allowed": Number, "cost_reserved": Number, "cost_spent": Number, "amount_allowed": Number,
          "amount_reserved": Number, "amount_spent": Number, "bytes_allowed": Number, "bytes_reserved": Number,
          "bytes_spent": Number, "irreversible_allowed": Number, "irreversible_reserved": Number,
          "irreversible_spent": Number } without [];
    "entities" 500 by ["kind", "id", "revision"] after "$2, $3, $4"
        { "kind": Text, "id": Text, "revision": Number, "superseded": Number, "body": Text } without [];
    "idempotency" 500 by ["key"] after "$2"
        { "key": Text, "request": Text, "revision": Number, "answer": Text, "at": Number } without [];
    "approval_uses" 500 by ["approval", "name"] after "$2, $3"
        { "approval": Id, "name": Text, "decision": Id, "at": Number } without [];
    "approval_answers" 500 by ["request", "principal"] after "$2, $3"
        { "request": Id, "principal": Text, "by_key": Id, "answer": Text, "for_groups": Text, "for_person": Text,
          "scope": Text, "card_hash": Text, "reason": Text, "at": Number } without [];
    "access_request_names" 500 by ["requested_by", "name"] after "$2, $3"
        { "requested_by": Text, "name": Text, "request": Text, "task": Id, "at": Number } without [];
    "bulk_requests" 500 by ["id"] after "$2"
        { "id": Id, "items": Text, "requested_by": Text, "requested_key": Id, "at": Number, "expires_at": Number,
          "callback": Text } without [];
    "access_request_joins" 500 by ["request", "decision"] after "$2, $3"
        { "request": Id, "decision": Id, "joined_by": Text, "at": Number, "callback": Text } without [];
    "access_request_groups" 500 by ["name", "state", "request"] after "$2, $3, $4"
        { "name": Text, "state": Text, "request": Id } without [];
    "access_requests" 100 by ["id"] after "$2"
        { "id": Id, "revision": Number, "state": Text, "decision": Id, "digest": Text, "bundle": Text,
          "violations": Text, "environment": Text, "bound": Text, "subject_type": Text, "subject_id": Text,
          "action": Text, "resource_type": Text, "resource_id": Text, "task": Id, "root": Id, "sinks": Text,
          "currency": Text, "wants": Text, "requested_by": Text, "requested_key": Id, "requested_at": Number, "expires_at": Number,
          "escalates_at": Number, "escalated_at": Number, "card": Text, "card_hash": Text, "question": Text,
          "said": Text, "callback": Text, "ended_at": Number, "ended_by": Text, "ended_why": Text, "scope": Text,
          "approvers": Text, "approved_until": Number, "uses_left": Number, "amount_left": Number,
          "forgotten_at": Number } without [];
    "task_labels" 500 by ["task", "label"] after "$2, $3"
        { "task": Id, "label": Text, "decision": Id, "revision": Number } without [];
    "task_sinks" 500 by ["task", "hash"] after "$2, $3"
        { "task": Id, "hash": Id } without [];
    "tasks" 500 by ["id"] after "$2"
        { "id": Id, "revision": Number, "digest": Text, "body": Text, "agent_type": Text, "agent_id": Text,
          "purpose": Text, "parent": Id, "root": Id, "depth": Number, "state": Text, "decision": Id, "opened_at": Number,
          "opened_by": Text, "last_active": Number, "idle_timeout": Number, "expires_at": Number, "ended_at": Number,
          "ended_by": Text, "ended_why": Text, "forgotten_at": Number } without [];
    "task_templates" 500 by ["name"] after "$2"
        { "name": Text, "revision": Number, "body": Text } without [];
    "draft_reviews" 500 by ["id"] after "$2"
        { "id": Id, "draft": Id, "principal": Text, "key": Id, "verdict": Text, "about": Text, "message": Text,
          "at": Number } without [];
    "drafts" 1 by ["id"] after "$2"
        { "id": Id, "name": Text, "message": Text, "base": Number, "hash": Text, "body": Text, "authors": Text,
          "state": Text, "version": Number, "reviews": Number, "created_at": Number, "updated_at": Number,
          "published_as": Number, "results": Text } without [];
    "break_glass" 500 by ["id"] after "$2"
        { "id": Id, "principal": Text, "roles": Text, "minutes": Number, "reason": Text, "requested_by": Text,
          "requester_key": Id, "requested_at": Number, "expires_at": Number, "approved_by": Text, "approver_key": Id,
          "approved_at": Number, "ends_at": Number, "ended_at": Number, "ended_by": Text } without [];
    "agents" 500 by ["kind", "id", "revision"] after "$2, $3, $4"
        { "kind": Text, "id": Text, "revision": Number, "superseded": Number, "status": Text, "owner": Text,
          "body": Text } without [];
    "tools" 500 by ["name", "revision"] after "$2, $3"
        { "name": Text, "revision": Number, "superseded": Number, "body": Text } without [];
    "kills" 500 by ["id"] after "$2"
        { "id": Id, "kind": Text, "target": Text, "reason": Text, "set_by": Text, "set_key": Id, "at": Number,
          "revision": Number, "asked_by": Text, "asked_key": Id, "asked_at": Number, "lifted_by": Text,
          "lifted_at": Number, "lifted": Number } without [];
    "lease_ends" 500 by ["decision"] after "$2"
        { "decision": Id, "at": Number } without [];
    "exceptions" 500 by ["id"] after "$2"
        { "id": Id, "policy": Text, "body": Text, "hash": Text, "ends_at": Number, "proposed_by": Text,
          "proposed_key": Id, "proposed_at": Number, "lapses_at": Number, "confirmed_by": Text, "confirmed_key": Id,
          "confirmed_at": Number, "revision": Number, "ended_by": Text, "ended_at": Number, "ended": Number,
          "over_at": Number } without [];
    "approver_members" 500 by ["group_name", "principal"] after "$2, $3"
        { "group_name": Text, "principal": Text, "until": Number } without [];
    "approver_groups" 500 by ["name"] after "$2"
        { "name": Text, "revision": Number, "body": Text } without [];
    "approver_delegations" 500 by ["from_person"] after "$2"
        { "from_person": Text, "to_person": Text, "until": Number, "reason": Text, "made_by": Text, "at": Number,
          "revision": Number } without [];
    "pending_settings" 500 by ["key"] after "$2"
        { "settings": Text, "asked_by": Text, "key": Id, "at": Number } without [];
    "bundles" 1 by ["revision"] after "$2"
        { "revision": Number, "hash": Text, "body": Text, "at": Number, "author": Id, "message": Text,
          "restores": Number, "evidence": Text } without [];
    "api_keys" 500 by ["id"] after "$2"
        { "id": Id, "name": Text, "environment": Text, "scopes": Text, "created_at": Number, "expires_at": Number,
          "revoked_at": Number, "principal": Text } without ["mac"];
    "principals" 500 by ["name"] after "$2"
        { "name": Text, "kind": Text, "roles": Text, "created_at": Number, "disabled_at": Number,
          "person": Text } without [];
    "admin_actions" 500 by ["id"] after "$2"
        { "id": Id, "at": Number, "principal": Text, "key": Id, "action": Text, "resource_type": Text,
          "resource_id": Text, "verdict": Text, "reason": Text, "revision": Number, "request_id": Text,
          "body": Text } without [];
    "shadow_disagreements" 500 by ["shadow", "decision"] after "$2, $3"
        { "shadow": Number, "decision": Id, "kind": Text, "outcome": Text, "action": Text, "was": Text,
          "would_be": Text, "at": Number } without [];
    "shadow_groups" 500 by ["shadow", "kind", "replica"] after "$2, $3, $4"
        { "shadow": Number, "kind": Text, "replica": Id, "outcome": Text, "action": Text, "was": Text,
          "would_be": Text, "number": Number } without [];
    "shadow_counts" 500 by ["shadow", "replica"] after "$2, $3"
        { "shadow": Number, "replica": Id, "decided": Number, "same": Number, "differing": Number, "dropped": Number,
          "failed": Number, "failure": Text, "totals": Text } without [];
    "shadows" 1 by ["revision"] after "$2"
        { "revision": Number, "hash": Text, "body": Text, "at": Number, "author": Id } without [];
    "replica_revisions" 500 by ["replica"] after "$2"
        { "replica": Id, "revision": Number, "failure": Text } without [];
}

/// A page of everything that belongs to a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// The table that the rows stand in.
    pub table: &'static str,
    /// The rows, each as the text of one JSON object without a line break in it.
    pub rows: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<ExportCursor>,
}

/// Where a page of an export ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportCursor {
    /// The place of the table in the list.
    table: usize,
    /// The key of the last row; empty at the beginning of a table.
    after: Vec<Cell>,
}

/// What stands in one column of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Cell {
    Id(Option<Uuid>),
    Number(Option<i64>),
    Text(Option<String>),
}

/// Lists every table with rows of tenants and its columns, exported or withheld.
///
/// For the test that holds it against what a database has.
pub fn exported_columns() -> Vec<(&'static str, Vec<&'static str>)> {
    TABLES
        .iter()
        .map(|table| (table.name, table.names()))
        .collect()
}

/// Returns the statements that were put together here.
pub(crate) fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.iter().flat_map(|table| {
        [table.first, table.next, table.erase, table.left].map(|text| (table.name, text))
    })
}

// === impl Store ===

impl Store {
    /// Returns a page of everything that belongs to a tenant, from the beginning or from where another page ended.
    ///
    /// The pages together are no state of one moment: suspend the tenant first for that.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`].
    pub async fn export_tenant(
        &self,
        tenant: TenantId,
        from: Option<&ExportCursor>,
    ) -> Result<ExportPage, Error> {
        let cursor = from.cloned().unwrap_or_default();
        let Some(table) = TABLES.get(cursor.table) else {
            return Err(Error::invalid("cursor", "is beyond the last table"));
        };
        let text = if cursor.after.is_empty() {
            table.first
        } else {
            table.next
        };
        let rows: Vec<Vec<Cell>> = read!(self, tenant, "export a tenant", |raw| {
            let mut query = sqlx::query(text).bind(tenant.uuid());
            for cell in &cursor.after {
                query = match cell {
                    Cell::Id(id) => query.bind(*id),
                    Cell::Number(number) => query.bind(*number),
                    Cell::Text(text) => query.bind(text.as_deref()),
                };
            }
            async {
                let rows = query.fetch_all(raw).await?;
                rows.iter()
                    .map(|row| table.cells(row))
                    .collect::<Result<Vec<_>, sqlx::Error>>()
            }
        })?;
        Ok(table.page(cursor.table, rows))
    }

    /// Removes every row of a tenant, a thousand at a time, and returns how many that were.
    pub(super) async fn erase_rows(&self, tenant: TenantId) -> Result<u64, Error> {
        let mut erased: u64 = 0;
        for table in TABLES {
            // One that found nothing may have been overtaken by another that removes the same.
            loop {
                let (batch, left) = self.erase_batch(tenant, table).await?;
                erased = erased.saturating_add(batch);
                if left == 0 {
                    break;
                }
            }
        }
        Ok(erased)
    }

    async fn erase_batch(&self, tenant: TenantId, table: &Table) -> Result<(u64, i64), Error> {
        self.within("erase what is left of a tenant", async {
            let mut conn = self.begin(tenant).await?;
            let erased = on!(conn, |raw| sqlx::query(table.erase)
                .bind(tenant.uuid())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            let left: i64 = on!(conn, |raw| sqlx::query_scalar(table.left)
                .bind(tenant.uuid())
                .fetch_one(raw)
                .await)?;
            conn.commit().await?;
            Ok((erased, left))
        })
        .await
    }
}

// === impl Table ===

impl Table {
    /// Lists its columns but for `tenant`.
    fn names(&self) -> Vec<&'static str> {
        let exported = self.columns.iter().map(|(name, _)| *name);
        exported.chain(self.withheld.iter().copied()).collect()
    }

    /// Reads one row.
    fn cells<'r, R>(&self, row: &'r R) -> Result<Vec<Cell>, sqlx::Error>
    where
        R: Row,
        usize: ColumnIndex<R>,
        Option<Uuid>: Decode<'r, R::Database> + Type<R::Database>,
        Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
        Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    {
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(index, (_, column))| match column {
                Column::Id => row.try_get(index).map(Cell::Id),
                Column::Number => row.try_get(index).map(Cell::Number),
                Column::Text => row.try_get(index).map(Cell::Text),
            })
            .collect()
    }

    /// Makes a page of rows, and says where the next begins: in this table, or in the one after it.
    fn page(&self, place: usize, rows: Vec<Vec<Cell>>) -> ExportPage {
        let next = match rows.last().filter(|_| rows.len() >= self.page) {
            Some(last) => Some(ExportCursor {
                table: place,
                after: self.key_of(last),
            }),
            None => (place + 1 < TABLES.len()).then_some(ExportCursor {
                table: place + 1,
                after: Vec::new(),
            }),
        };
        ExportPage {
            table: self.name,
            rows: rows.into_iter().map(|row| self.line(row)).collect(),
            next,
        }
    }

    /// Returns the columns of its key from a row.
    fn key_of(&self, row: &[Cell]) -> Vec<Cell> {
        let named = |key: &str| self.columns.iter().position(|(name, _)| *name == key);
        let cells = self.key.iter().filter_map(|key| row.get(named(key)?));
        cells.cloned().collect()
    }

    /// Writes a row as one JSON object: the name of the table, then the columns that have a value.
    fn line(&self, row: Vec<Cell>) -> String {
        let mut object = Map::new();
        object.insert("table".to_owned(), self.name.into());
        for ((name, _), cell) in self.columns.iter().zip(row) {
            if let Ok(value) = serde_json::to_value(cell)
                && !value.is_null()
            {
                object.insert((*name).to_owned(), value);
            }
        }
        Value::Object(object).to_string()
    }
}
