//! Consuming on Postgres: one call of a function, which is a transaction where none is open.

use remit_core::{DecisionId, PolicyId, TaskId, TenantId};
use uuid::Uuid;

use crate::approvals::using;
use crate::budgets::{Consumption, Step, dimension_of, micros, state_of};
use crate::db::{Conn, Either};
use crate::error::{Error, Failure};
use crate::shipping::{DecisionRow, indexed, verdict};

/// The function is made by the migrations `0023_outcomes` and `0029_ends_take_turns`.
const CONSUME: &str = "SELECT outcome, of_task, detail FROM remit_consume(\
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
/// The function is made by the migration `0024_approvals`.
const TAKE: &str = "SELECT outcome, of_task, detail FROM remit_take(\
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

/// Consumes by the function `remit_consume`, or `remit_take` where an approval is used; only for Postgres.
pub(crate) async fn consume(
    conn: &mut Conn,
    tenant: TenantId,
    consumption: &Consumption<'_>,
    charges: [i64; 5],
) -> Result<Step, Failure> {
    let Either::Postgres(raw) = &mut conn.raw else {
        return Err(Error::corrupt("schema", "SQLite has no functions").into());
    };
    let record = DecisionRow::of_shared(consumption.record, consumption.chain.first().copied())?;
    let head = record.head;
    let question = &head.question;
    let text = |text: &str| indexed(text).into_owned();
    let chain: Vec<Uuid> = consumption.chain.iter().map(|task| task.uuid()).collect();
    let policies = head.decision.determining.iter().map(PolicyId::as_str);
    let subject = vec![text(&question.subject.kind), text(&question.subject.id)];
    let resource = vec![text(&question.resource.kind), text(&question.resource.id)];
    let approval = consumption.approval;
    let query = sqlx::query_as(if approval.is_some() { TAKE } else { CONSUME });
    let query = query
        .bind(tenant.uuid())
        .bind(chain)
        .bind(charges.to_vec())
        .bind(micros(consumption.hold))
        .bind(head.id.uuid())
        .bind(head.at.micros())
        .bind(verdict(head.decision.verdict))
        .bind(head.decision.reason.code())
        .bind(subject)
        .bind(text(&question.action.name))
        .bind(resource)
        .bind(head.caller.key.uuid())
        .bind(record.revision)
        .bind(record.replica)
        .bind(record.sequence)
        .bind(record.body)
        .bind(policies.map(text).collect::<Vec<String>>());
    let query = match approval {
        Some(used) => query
            .bind(used.id.uuid())
            .bind(used.name)
            .bind(used.amount.map(using::column)),
        None => query,
    };
    let (outcome, found, detail): (String, Option<Uuid>, Option<String>) =
        query.fetch_one(&mut **raw).await?;
    let found = found.unwrap_or_default();
    let task = TaskId::from_uuid(found);
    let detail = detail.unwrap_or_default();
    match outcome.as_str() {
        "done" => Ok(Step::Done),
        "again" => Ok(Step::Again),
        "exhausted" => Ok(Step::Exhausted(task, dimension_of(&detail)?)),
        "ended" => Ok(Step::Ended(task, state_of(&detail)?)),
        "approval" => Ok(Step::Approval(using::state_of(&detail)?)),
        "named" => Ok(Step::Named(DecisionId::from_uuid(found))),
        other => Err(Error::corrupt("schema", format!("consuming said `{other}`")).into()),
    }
}
