//! The operations and schemas of tasks and their templates.

use serde_json::{Map, Value, json};

use super::examples::HASH;
use super::lifecycle::{once, paged};
use super::{Operation, reference};
use crate::problem::Kind;

/// The ids of the examples.
const TASK: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20";
const DECISION: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
const ALL: &str = "/v1/tasks";
const ONE: &str = "/v1/tasks/{id}";
const TEMPLATES: &str = "/v1/task-templates";
const TEMPLATE: &str = "/v1/task-templates/{name}";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        create(),
        list(),
        get(),
        narrow(),
        turn("complete", "complete_task", "Complete a task", COMPLETE),
        turn("revoke", "revoke_task", "Revoke a task", REVOKE),
        turn("suspend", "suspend_task", "Suspend a task", SUSPEND),
        turn("resume", "resume_task", "Resume a task", RESUME),
        endorse(),
        list_templates(),
        get_template(),
        put_template(),
        delete_template(),
    ]
}

const COMPLETE: &str = "Ends it as done, for good, and everything below it with it. The agent's own principal can, and \
     whoever has the role `operator`. 409 where it is over.";
const REVOKE: &str = "Ends it for good, and everything below it with it: nothing is permitted in any of them from the \
     revision of the answer on. 409 where it is over.";
const SUSPEND: &str =
    "Stops it, and everything below it, until it is resumed. 409 where it is not active.";
const RESUME: &str = "Lets it go on. 409 where it is not suspended.";

fn of_task(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Tasks").part("id", "The task.", TASK)
}

fn create() -> Operation {
    once(Operation::new("POST", ALL, "create_task", "Tasks"))
        .says(
            "Open a task",
            "Opens what an agent is asked to do. First the declaration is held against its template and the task that it is a \
             part of: in every dimension it must be within both (422, with the dimension and both values). Then the tenant's \
             own policies decide `open_task` on its purpose; the subject is the agent, below a task the agent of that one; \
             recorded like every decision \
             (403 `task-denied` where they do not permit it). What the body leaves out is what the template says, else what \
             the parent says, else no limit.\n\nWhoever has the role `operator` can; and an agent's own principal opens \
             tasks below its own task, where that may be handed on. A child begins with its parent's labels. A task that an \
             agent's own principal opens begins with the labels of everything that agent has not finished.",
        )
        .scope("tasks")
        .until()
        .takes("TaskBody", "What is declared.", &body())
        .gives(201, "It is open, on this replica at least.", "Task", &task(), &["Location", "Remit-Revision"])
        .fails(&[
            Kind::TASK_DENIED,
            Kind::TASK_EXCEEDS_PARENT,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::REVISION_NOT_REACHED,
            Kind::LOG_UNAVAILABLE,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn list() -> Operation {
    let text = json!({ "type": "string" });
    let operation = Operation::new("GET", ALL, "list_tasks", "Tasks")
        .says(
            "List tasks",
            "Tasks of every state, newest first; without their labels.",
        )
        .query(
            "agent_type",
            &text,
            "Of the agent of this type, with `agent_id`.",
            &json!("Agent"),
        )
        .query(
            "agent_id",
            &text,
            "Of the agent of this id, with `agent_type`.",
            &json!("invoice-bot"),
        )
        .query(
            "state",
            &reference("TaskState"),
            "In this state.",
            &json!("active"),
        )
        .query(
            "parent",
            &json!({ "type": "string", "format": "uuid" }),
            "Children of this task.",
            &json!(TASK),
        )
        .query("purpose", &text, "Of this purpose.", &json!("pay-invoices"));
    paged(operation)
        .scope("read")
        .gives(
            200,
            "One page.",
            "TaskPage",
            &json!({ "tasks": [listed()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    let mut shown = task();
    if let Some(members) = shown.as_object_mut() {
        members.insert("children".to_owned(), json!({ "live": 1, "all": 3 }));
        members.insert(
            "used".to_owned(),
            json!({
                "allowed": { "calls": 100 },
                "reserved": { "amount": 0, "bytes": 0, "calls": 1, "cost": 0, "irreversible": 0 },
                "spent": { "amount": 0, "bytes": 0, "calls": 7, "cost": 0, "irreversible": 0 },
            }),
        );
    }
    of_task("GET", ONE, "get_task")
        .says(
            "Read a task",
            "What was declared, how it stands by itself, each label with the decision that set it, how many children it has \
             and what of its own budget is used. A task above it, or the time, may have ended it all the same.",
        )
        .scope("read")
        .header("If-None-Match", "An `ETag`: 304 if it is still that.", "\"42\"")
        .gives(200, "The task.", "Task", &shown, &["ETag", "Remit-Revision"])
        .gives_nothing(304, "It is still what the `ETag` says.", &["ETag", "Remit-Revision"])
        .fails(&[Kind::INVALID_REQUEST, Kind::NOT_FOUND, Kind::STORE_UNAVAILABLE])
}

fn narrow() -> Operation {
    once(of_task("POST", "/v1/tasks/{id}/narrow", "narrow_task"))
        .says(
            "Narrow a task",
            "A declaration never changes: this opens a task that is the same but for what the body says, and ends the one in \
             whose place it stands, with everything below that. It begins with the labels, the trusted values and what is \
             used of the budget. It may only be narrower; 422 where it is not. Not for the agent's own principal. 409 where it is not \
             active, where a kill stops it (`reason` is `killed`), and while calls of it wait for their outcomes.",
        )
        .scope("tasks")
        .until()
        .takes("TaskNarrowing", "What is to be narrower.", &json!({ "actions": ["get_invoice"], "expires_in": 600 }))
        .gives(201, "It is open, and the other has ended.", "Task", &task(), &["Location", "Remit-Revision"])
        .fails(&[
            Kind::TASK_EXCEEDS_PARENT,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn turn(
    verb: &'static str,
    id: &'static str,
    summary: &'static str,
    about: &'static str,
) -> Operation {
    let path = match verb {
        "complete" => "/v1/tasks/{id}/complete",
        "revoke" => "/v1/tasks/{id}/revoke",
        "suspend" => "/v1/tasks/{id}/suspend",
        _ => "/v1/tasks/{id}/resume",
    };
    let state = match verb {
        "complete" => "completed",
        "revoke" => "revoked",
        "suspend" => "suspended",
        _ => "active",
    };
    let mut shown = task();
    if let Some(members) = shown.as_object_mut() {
        members.insert("state".to_owned(), json!(state));
    }
    once(of_task("POST", path, id))
        .says(summary, about)
        .scope("tasks")
        .until()
        .takes_or_nothing(
            "TaskReason",
            "Why; may be left out.",
            &json!({ "reason": "the invoices are paid" }),
        )
        .gives(200, "The task.", "Task", &shown, &["Remit-Revision"])
        .fails(&failures())
}

fn endorse() -> Operation {
    once(of_task("POST", "/v1/tasks/{id}/endorse", "endorse_task"))
        .says(
            "Vouch for what a task has touched",
            "Takes labels off it, because a person has looked at what it has read. It must be suspended, and every live \
             replica must know that (409, 503). Only a person can, never a machine; it is recorded \
             with the lineage of what is taken off. Tasks above and below keep theirs. Nothing else removes a label.",
        )
        .scope("tasks")
        .until()
        .takes(
            "TaskEndorsement",
            "Which labels, and why.",
            &json!({ "labels": ["untrusted"], "reason": "I have read the invoice myself" }),
        )
        .header("If-Match", "The `ETag` of the task that was looked at.", "\"42\"")
        .gives(200, "The task.", "Task", &task(), &["Remit-Revision"])
        .fails(&failures())
        .fails(&[Kind::STALE_REVISION])
}

fn failures() -> [&'static Kind; 7] {
    [
        Kind::INVALID_REQUEST,
        Kind::NOT_FOUND,
        Kind::CONFLICT,
        Kind::IDEMPOTENCY_KEY_REUSED,
        Kind::STALE_POLICY,
        Kind::REVISION_NOT_REACHED,
        Kind::STORE_UNAVAILABLE,
    ]
}

fn of_template(method: &'static str, id: &'static str) -> Operation {
    Operation::new(method, TEMPLATE, id, "Tasks").part("name", "The template.", "pay-invoices")
}

fn list_templates() -> Operation {
    let operation = Operation::new("GET", TEMPLATES, "list_task_templates", "Tasks")
        .says("List task templates", "By name.");
    paged(operation)
        .scope("read")
        .gives(
            200,
            "One page.",
            "TaskTemplatePage",
            &json!({ "templates": [template()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get_template() -> Operation {
    of_template("GET", "get_task_template")
        .says("Read a task template", "One template.")
        .scope("read")
        .header(
            "If-None-Match",
            "An `ETag`: 304 if it is still that.",
            "\"42\"",
        )
        .gives(
            200,
            "The template.",
            "TaskTemplate",
            &template(),
            &["ETag", "Remit-Revision"],
        )
        .gives_nothing(
            304,
            "It is still what the `ETag` says.",
            &["ETag", "Remit-Revision"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put_template() -> Operation {
    let mut body = template();
    if let Some(members) = body.as_object_mut() {
        members.remove("name");
    }
    once(of_template("PUT", "put_task_template"))
        .says(
            "Make or replace a task template",
            "What is declared for a purpose once. A task made from it may only narrow it, and must say for itself what \
             `required` names. Tasks that were made from it before stay as they are. A tenant has at most 1,000.",
        )
        .scope("write")
        .header("If-Match", "The `ETag` of the template that this one replaces.", "\"42\"")
        .header("If-None-Match", "`*`: only where there is none of this name.", "*")
        .until()
        .takes("TaskTemplateBody", "The template.", &body)
        .gives(200, "The template.", "TaskTemplate", &template(), &["ETag", "Remit-Revision"])
        .fails(&failures())
        .fails(&[Kind::STALE_REVISION])
}

fn delete_template() -> Operation {
    once(of_template("DELETE", "delete_task_template"))
        .says(
            "Remove a task template",
            "Tasks that were made from it go on.",
        )
        .scope("write")
        .header("If-Match", "An `ETag`: remove only that one.", "\"42\"")
        .until()
        .gives_nothing(204, "It is gone.", &["Remit-Revision"])
        .fails(&failures())
        .fails(&[Kind::STALE_REVISION])
}

fn body() -> Value {
    json!({
        "agent": { "type": "Agent", "id": "invoice-bot" }, "purpose": "pay-invoices",
        "intent": "Pay the invoice of Example Ltd, at most 500 euros", "actions": ["get_invoice", "pay"],
        "sinks": ["DE89370400440532013000"], "budget": { "calls": 100 }, "expires_in": 3_600,
    })
}

fn declaration() -> Value {
    json!({
        "actions": ["get_invoice", "pay"], "agent": { "type": "Agent", "id": "invoice-bot" }, "budget": { "calls": 100 },
        "expires_at": "2026-11-22T10:00:00.000000Z", "intent": "Pay the invoice of Example Ltd, at most 500 euros",
        "purpose": "pay-invoices", "sinks": ["DE89370400440532013000"],
    })
}

fn listed() -> Value {
    json!({
        "id": TASK, "digest": HASH, "state": "active", "declaration": declaration(), "depth": 0, "decision": DECISION,
        "opened_at": "2026-11-22T09:00:00.000000Z", "opened_by": "ana", "last_active": "2026-11-22T09:00:00.000000Z",
        "idle_timeout": 900,
    })
}

fn task() -> Value {
    let mut task = listed();
    if let Some(members) = task.as_object_mut() {
        let labels = json!([{ "label": "untrusted", "decision": DECISION }]);
        members.insert("labels".to_owned(), labels);
    }
    task
}

fn template() -> Value {
    json!({
        "name": "pay-invoices", "purpose": "pay-invoices", "actions": ["get_invoice", "pay"], "budget": { "calls": 100 },
        "expires_in": 3_600, "idle_timeout": 900, "required": ["sinks"],
    })
}

/// Returns the members that declarations, bodies and templates share.
fn limits() -> Map<String, Value> {
    let names = |about: &str| json!({ "type": "array", "items": { "type": "string", "minLength": 1 }, "maxItems": 256, "description": about });
    let uids = |about: &str| json!({ "type": "array", "items": reference("EntityUid"), "maxItems": 256, "description": about });
    let members = json!({
        "actions": names("The actions that it may take: names of actions, and of groups that stand for all their members. Absent: any."),
        "budget": reference("TaskBudget"),
        "data_classes": names("The data classes that it may touch. Absent: any."),
        "intent": { "type": "string", "description": "The words in which it was given, at most 16 KiB; who is named in them counts as declared." },
        "may_delegate": { "type": "boolean", "description": "Whether tasks may be opened below it." },
        "on_behalf_of": reference("EntityUid"),
        "purpose": { "type": "string", "minLength": 1, "maxLength": 128, "description": "What it is for." },
        "resources": uids("What it may act on: these and everything below them. Absent: anything."),
        "sinks": { "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 1_024 }, "maxItems": 256, "description": "Whom and what it may affect. Absent: not declared, which policies may take for none." },
        "window": reference("TaskWindow"),
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn with(members: &Value) -> Value {
    let mut all = limits();
    if let Value::Object(members) = members {
        all.extend(members.clone());
    }
    Value::Object(all)
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let id = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
    let seconds = |about: &str, least: u64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most, "description": about });
    let lasts = seconds(
        "How long it lasts, in seconds; 3600 where nothing says, and for a child as long as its parent.",
        1,
        31_536_000,
    );
    let idle = seconds(
        "How long nothing may be asked in it, in seconds.",
        240,
        86_400,
    );
    let count = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let mut narrowing = limits();
    for name in ["intent", "purpose", "on_behalf_of"] {
        narrowing.remove(name);
    }
    narrowing.insert("expires_in".to_owned(), lasts.clone());
    let template = json!({ "expires_in": lasts, "idle_timeout": idle, "required": { "type": "array", "items": { "type": "string" }, "description": "The dimensions that every task made from it must say for itself, such as `sinks`." } });
    let mut named = template.clone();
    if let Some(members) = named.as_object_mut() {
        members.insert("name".to_owned(), text("Its name."));
    }
    let schemas = json!({
        "TaskBody": {
            "type": "object", "description": "A task to be opened.", "required": ["agent"], "additionalProperties": false,
            "properties": with(&json!({ "agent": reference("EntityUid"), "expires_in": lasts, "parent": id("The task that it is a part of."), "template": text("The template that it is made from.") })),
        },
        "TaskNarrowing": { "type": "object", "description": "What is to be narrower.", "additionalProperties": false, "properties": narrowing },
        "TaskDeclaration": {
            "type": "object", "description": "What was declared; it never changes.", "required": ["agent", "expires_at", "purpose"],
            "properties": with(&json!({ "agent": reference("EntityUid"), "expires_at": time("When it ends by itself."), "parent": id("The task that it is a part of."), "template": text("The template that it was made from.") })),
        },
        "Task": {
            "type": "object", "description": "What an agent was asked to do.",
            "required": ["id", "digest", "state", "declaration", "depth", "opened_at", "opened_by", "last_active", "idle_timeout"],
            "properties": {
                "id": id("Its id: what `context.task` of a question names."), "digest": text("The SHA-256 of the canonical JSON of the declaration."),
                "state": reference("TaskState"), "declaration": reference("TaskDeclaration"), "depth": count("How many hops it is from the task that nobody handed on."),
                "labels": { "type": "array", "items": reference("TaskLabel"), "description": "What it has touched; absent in a list." },
                "children": { "type": "object", "required": ["live", "all"], "properties": { "live": count("Those that live."), "all": count("All of them.") }, "description": "How many children it has." },
                "used": { "type": "object", "required": ["allowed", "reserved", "spent"], "properties": { "allowed": reference("TaskBudget"), "reserved": reference("TaskSpending"), "spent": reference("TaskSpending") }, "description": "What of its own budget is used; absent where it has none." },
                "decision": id("The decision that permitted it."), "opened_at": time("When it was opened."), "opened_by": text("Who opened it."),
                "last_active": time("When something was last asked in it, to about a minute."), "idle_timeout": count("How long nothing may be asked in it, in seconds."),
                "ended_at": time("When it ended."), "ended_by": text("Who ended it, where somebody did."), "ended_why": text("Why it ended."),
            },
        },
        "TaskLabel": {
            "type": "object", "description": "Something that a task has touched.", "required": ["label", "decision"],
            "properties": { "label": text("`untrusted`, `private`, or `class:` and a data class."), "decision": id("The decision that set it.") },
        },
        "TaskPage": { "type": "object", "required": ["tasks"], "properties": { "tasks": { "type": "array", "items": reference("Task"), "description": "Newest first." }, "next": text("The cursor of the next page.") } },
        "TaskReason": { "type": "object", "additionalProperties": false, "properties": { "reason": { "type": "string", "minLength": 1, "maxLength": 1_024, "description": "Why: one line." } } },
        "TaskEndorsement": {
            "type": "object", "required": ["labels", "reason"], "additionalProperties": false,
            "properties": { "labels": { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 64, "description": "What to take off." }, "reason": { "type": "string", "minLength": 1, "maxLength": 1_024, "description": "Why that is safe." } },
        },
        "TaskTemplateBody": { "type": "object", "additionalProperties": false, "properties": with(&template), "description": "What is declared for a purpose." },
        "TaskTemplate": { "type": "object", "required": ["name"], "properties": with(&named), "description": "What is declared for a purpose once." },
        "TaskTemplatePage": { "type": "object", "required": ["templates"], "properties": { "templates": { "type": "array", "items": reference("TaskTemplate"), "description": "By name." }, "next": text("The cursor of the next page.") } },
    });
    let mut all = small();
    if let Value::Object(schemas) = schemas {
        all.extend(schemas);
    }
    all
}

/// Returns the schemas that the others are made of.
fn small() -> Map<String, Value> {
    let count = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let budget = |about: &str| {
        json!({
            "type": "object", "description": about, "additionalProperties": false,
            "properties": {
                "amount": count("Money, in the smallest unit of its currency."), "bytes": count("Bytes moved, as outcomes tell."),
                "calls": count("Permitted calls."), "cost": count("Cost, in units of the tenant's own."),
                "irreversible": count("Calls that cannot be undone."),
            },
        })
    };
    let schemas = json!({
        "TaskState": { "type": "string", "enum": ["active", "suspended", "completed", "revoked", "expired"], "description": "It works, or is stopped for now; the others are final." },
        "TaskBudget": budget("How much it may use; what is absent has no limit of its own."),
        "TaskSpending": budget("How much is used."),
        "TaskWindow": {
            "type": "object", "description": "When it may act, in UTC.", "required": ["days", "from", "until"], "additionalProperties": false,
            "properties": {
                "days": { "type": "array", "items": { "type": "integer", "minimum": 1, "maximum": 7 }, "description": "1 for Monday to 7 for Sunday." },
                "from": { "type": "integer", "minimum": 0, "maximum": 1_439, "description": "The first minute of the day." },
                "until": { "type": "integer", "minimum": 1, "maximum": 1_440, "description": "The minute of the day before which it ends." },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
