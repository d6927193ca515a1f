//! The OpenAPI 3.1 document: every operation, every status, every schema, as data.
//!
//! It is built by hand, because the schemas describe JSON that belongs to `core` and `engine`, which know nothing of
//! HTTP. Tests keep it true: the paths are those of the router, every example fits its schema, and every answer the
//! integration tests see is held against the schema of its operation and status.

mod admin;
mod agents;
mod approvers;
mod break_glass;
mod decide;
mod drafts;
mod events;
mod examples;
mod exceptions;
mod facts;
mod impact;
mod kills;
mod leases;
mod lifecycle;
mod manage;
mod outcomes;
mod records;
mod requests;
mod revisions;
mod schemas;
mod settings;
mod shadow;
mod tasks;
mod tenants;
mod tools;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::problem::Kind;

/// The media type of an error on our own routes (RFC 9457 §3).
const PROBLEM: &str = "application/problem+json";
/// The media type of everything else.
const JSON: &str = "application/json";

/// One operation while it is being described.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    about: &'static str,
    access: Access,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Vec<(u16, Value)>,
    problems: Vec<&'static Kind>,
    errors: Errors,
}

/// Who may call an operation.
#[derive(Clone, Copy)]
enum Access {
    /// Anybody.
    Open,
    /// Any valid key.
    Key,
    /// A key with this scope.
    Scope(&'static str),
}

/// How an operation renders a problem.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errors {
    /// As `application/problem+json`.
    Problem,
    /// As one JSON string (AuthZEN 1.0 §10.1.3), unless the client asks for the other.
    Authzen,
}

/// Answers `GET /openapi.json`.
pub(crate) async fn get() -> Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(JSON)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, TEXT.clone()).into_response()
}

/// Builds the whole document.
pub fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let operations = decide::operations()
        .into_iter()
        .chain(requests::operations())
        .chain(manage::operations())
        .chain(drafts::operations())
        .chain(settings::operations())
        .chain(break_glass::operations())
        .chain(admin::operations())
        .chain(revisions::operations())
        .chain(tasks::operations())
        .chain(tenants::operations())
        .chain([impact::operation()])
        .chain(shadow::operations())
        .chain(agents::operations())
        .chain(tools::operations())
        .chain(kills::operations())
        .chain(exceptions::operations())
        .chain(leases::operations())
        .chain(approvers::operations())
        .chain(events::operations())
        .chain(webhooks::operations())
        .chain(outcomes::operations());
    for operation in operations {
        let methods = paths.entry(operation.path).or_default();
        methods.insert(operation.method.to_lowercase(), operation.json());
    }
    let mut schemas = schemas::all();
    schemas.append(&mut requests::schemas());
    schemas.append(&mut records::all());
    schemas.append(&mut drafts::schemas());
    schemas.append(&mut settings::schemas());
    schemas.append(&mut break_glass::schemas());
    schemas.append(&mut impact::schemas());
    schemas.append(&mut shadow::schemas());
    schemas.append(&mut outcomes::schemas());
    schemas.append(&mut revisions::schemas());
    schemas.append(&mut tasks::schemas());
    schemas.append(&mut tenants::schemas());
    schemas.append(&mut admin::schemas());
    schemas.append(&mut agents::schemas());
    schemas.append(&mut tools::schemas());
    schemas.append(&mut kills::schemas());
    schemas.append(&mut exceptions::schemas());
    schemas.append(&mut approvers::schemas());
    schemas.append(&mut webhooks::schemas());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Remit API",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Runtime authorisation for AI agents: may this agent do this, to that, now?",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The server this document came from" }],
        "tags": tags(),
        "paths": paths,
        "components": {
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer", "bearerFormat": "remit_<env>_<id>_<secret>_<crc>",
                "description": "An API key. The names listed with an operation are the scopes one of which the key needs.",
            } },
            "schemas": schemas,
            "headers": headers(),
        },
    })
}

/// Whether an operation is described, and no parameter of a query with it.
pub(crate) fn takes_no_query(method: &str, path: &str) -> bool {
    static BARE: LazyLock<BTreeSet<(String, String)>> = LazyLock::new(|| {
        let document = document();
        let paths = document.get("paths").and_then(Value::as_object);
        let operations = paths.into_iter().flatten().flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, operation)| (method, path, operation))
        });
        let bare = operations.filter(|(_, _, operation)| {
            let parameters = operation.get("parameters").and_then(Value::as_array);
            let mut parameters = parameters.into_iter().flatten();
            !parameters.any(|one| one.get("in").is_some_and(|place| place == "query"))
        });
        bare.map(|(method, path, _)| (method.to_uppercase(), path.clone()))
            .collect()
    });
    BARE.contains(&(method.to_owned(), path.to_owned()))
}

const ABOUT: &str = "Remit is a policy decision point. An enforcement point asks before an agent acts; Remit decides over \
    policies and facts it verified itself, records the decision, and answers.\n\n\
    Questions are asked as the AuthZEN Authorization API 1.0 has it, under `/access/v1`. Everything under `/v1` manages \
    what decides and reads what was decided.\n\n\
    Every answer carries `X-Request-Id`, yours where you sent one. A change answers with `Remit-Revision`; send it back \
    with a question and it is answered at that revision or later, or with 503. A deny is an answer with status 200; an \
    error status is never a decision, and an enforcement point treats it as a deny.\n\n\
    Bodies are strict JSON: nested at most 32 deep, no member name twice in one object, at most 1 MiB unless the \
    operation says otherwise.";

fn tags() -> Value {
    json!([
        { "name": "Decisions", "description": "Ask, one question or many, and search what would be permitted." },
        { "name": "Access requests", "description": "Ask a person to approve what was denied (AuthZEN Access Request and Approval Profile, Draft 1)." },
        { "name": "Record", "description": "What was decided, and why." },
        { "name": "Bundle", "description": "Policies, schema, static entities and cases: what decides, replaced as one value." },
        { "name": "Drafts", "description": "Changes of the bundle that are worked on, checked and reviewed before they decide." },
        { "name": "Policies", "description": "The policies of the bundle in force, read and changed one by one." },
        { "name": "Entities", "description": "The live people, agents, tools and things that policies speak of." },
        { "name": "Exceptions", "description": "Controls that do not count for a while, in one scope, because somebody answers for that." },
        { "name": "Agents", "description": "The registry of agents: who answers for each, until when, and what it may do at most." },
        { "name": "Tools", "description": "The catalogue of tools: what a call does, says of whom, and brings back." },
        { "name": "Kills", "description": "What must stop now, whatever the policies say." },
        { "name": "Approvals", "description": "Where a person must answer: who may, what they are shown, and what they said." },
        { "name": "Webhooks", "description": "Who outside is told what happens, signed, until it is taken." },
        { "name": "Tasks", "description": "What agents are asked to do, for whom, and how far it may go." },
        { "name": "Keys", "description": "API keys and what they may do." },
        { "name": "Tenants", "description": "The tenants of this installation; for who runs it." },
        { "name": "Settings", "description": "What the tenant demands of its administration." },
        { "name": "Break-glass", "description": "More roles for one person for minutes, when another person agrees." },
        { "name": "Administration", "description": "Who may administer, and who did what." },
        { "name": "Service", "description": "What this server is and speaks." },
    ])
}

fn headers() -> Value {
    json!({
        "X-Request-Id": { "description": "The request's id: the caller's own where it sent a usable one. It finds the request in the log.", "schema": { "type": "string" } },
        "X-Decision-Id": { "description": "The id of the decision, a UUIDv7; in a batch the ids of its items in order, separated by commas.", "schema": { "type": "string" } },
        "Remit-Revision": { "description": "The revision of the tenant that this answer reflects, a whole number.", "schema": { "type": "string" } },
        "ETag": { "description": "The revision at which this was last written, in quotes; send it back in `If-Match`.", "schema": { "type": "string" } },
        "Link": { "description": "The next page, as `<…>; rel=\"next\"` (RFC 8288); absent on the last one.", "schema": { "type": "string" } },
        "Location": { "description": "Where the new thing is.", "schema": { "type": "string" } },
        "Remit-Bundle": { "description": "The content hash of the bundle, `sha256:` and 64 hexadecimal digits.", "schema": { "type": "string" } },
        "Preference-Applied": { "description": "For how long the answer could wait, as `wait=` and seconds (RFC 7240 §3); only where that was asked for.", "schema": { "type": "string" } },
        "Retry-After": { "description": "After how many seconds to try again.", "schema": { "type": "integer" } },
        "WWW-Authenticate": { "description": "How to authenticate (RFC 6750 §3).", "schema": { "type": "string" } },
        "Allow": { "description": "The methods this path takes.", "schema": { "type": "string" } },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Lets a member that may be left out be sent as `null` as well.
fn or_null(mut schema: Value) -> Value {
    if let Some(kind) = schema.get_mut("type") {
        *kind = json!([kind.take(), "null"]);
        if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            values.push(Value::Null);
        }
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn parameter(
    place: &str,
    name: &str,
    required: bool,
    schema: &Value,
    about: &str,
    example: &Value,
) -> Value {
    json!({ "name": name, "in": place, "required": required, "description": about, "schema": schema, "example": example })
}

// === impl Operation ===

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, tag: &'static str) -> Self {
        let full = path.starts_with("/access/v1/requests");
        let errors = if path.starts_with("/access/") && !full {
            Errors::Authzen
        } else {
            Errors::Problem
        };
        Self {
            method,
            path,
            id,
            tag,
            summary: "",
            about: "",
            access: Access::Open,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
            errors,
        }
    }

    /// Says what the operation does, in a line and in full.
    fn says(mut self, summary: &'static str, about: &'static str) -> Self {
        self.summary = summary;
        self.about = about;
        self
    }

    /// Demands a key with a scope.
    fn scope(mut self, scope: &'static str) -> Self {
        self.access = Access::Scope(scope);
        self
    }

    /// Demands a key, whatever its scopes.
    fn any_key(mut self) -> Self {
        self.access = Access::Key;
        self
    }

    /// Takes a query parameter.
    fn query(mut self, name: &str, schema: &Value, about: &str, example: &Value) -> Self {
        self.parameters
            .push(parameter("query", name, false, schema, about, example));
        self
    }

    /// Takes a part of the path.
    fn part(mut self, name: &str, about: &str, example: &str) -> Self {
        let text = json!({ "type": "string" });
        self.parameters
            .push(parameter("path", name, true, &text, about, &json!(example)));
        self
    }

    /// Takes a request header.
    fn header(mut self, name: &str, about: &str, example: &str) -> Self {
        let text = json!({ "type": "string" });
        self.parameters.push(parameter(
            "header",
            name,
            false,
            &text,
            about,
            &json!(example),
        ));
        self
    }

    /// Takes a JSON body of a schema.
    fn takes(mut self, schema: &str, about: &str, example: &Value) -> Self {
        self.body = Some(json!({
            "required": true,
            "description": about,
            "content": { JSON: { "schema": reference(schema), "example": example } },
        }));
        self
    }

    /// Takes a JSON body of a schema, or none.
    fn takes_or_nothing(self, schema: &str, about: &str, example: &Value) -> Self {
        let mut operation = self.takes(schema, about, example);
        if let Some(body) = &mut operation.body
            && let Some(required) = body.get_mut("required")
        {
            *required = json!(false);
        }
        operation
    }

    /// Takes the same body in a second media type, as text.
    fn or_takes(mut self, media: &str, example: &str) -> Self {
        if let Some(content) = self
            .body
            .as_mut()
            .and_then(|body| body.get_mut("content"))
            .and_then(Value::as_object_mut)
        {
            content.insert(
                media.to_owned(),
                json!({ "schema": { "type": "string" }, "example": example }),
            );
        }
        self
    }

    /// Answers with a JSON body of a schema.
    fn gives(
        mut self,
        status: u16,
        about: &str,
        schema: &str,
        example: &Value,
        headers: &[&str],
    ) -> Self {
        let content = json!({ JSON: { "schema": reference(schema), "example": example } });
        let answer = json!({ "description": about, "headers": header_references(headers), "content": content });
        self.answers.push((status, answer));
        self
    }

    /// Gives the same answer in a second media type, as text.
    fn or_gives(mut self, media: &str, example: &str) -> Self {
        let content = self
            .answers
            .last_mut()
            .and_then(|(_, answer)| answer.get_mut("content"))
            .and_then(Value::as_object_mut);
        if let Some(content) = content {
            content.insert(
                media.to_owned(),
                json!({ "schema": { "type": "string" }, "example": example }),
            );
        }
        self
    }

    /// Answers with lines of text in a media type of their own.
    fn gives_lines(mut self, about: &str, media: &str, example: &str) -> Self {
        let content = json!({ media: { "schema": { "type": "string" }, "example": example } });
        let answer =
            json!({ "description": about, "headers": header_references(&[]), "content": content });
        self.answers.push((200, answer));
        self
    }

    /// Answers without a body.
    fn gives_nothing(mut self, status: u16, about: &str, headers: &[&str]) -> Self {
        let answer = json!({ "description": about, "headers": header_references(headers) });
        self.answers.push((status, answer));
        self
    }

    /// May fail in these ways, apart from those that its access and its body bring with them.
    fn fails(mut self, problems: &[&'static Kind]) -> Self {
        self.problems.extend_from_slice(problems);
        self
    }

    fn json(mut self) -> Value {
        self.add_usual_problems();
        let mut responses: BTreeMap<String, Value> = BTreeMap::new();
        for (status, answer) in &self.answers {
            responses.insert(status.to_string(), answer.clone());
        }
        let mut by_status: BTreeMap<u16, Vec<&'static Kind>> = BTreeMap::new();
        for kind in &self.problems {
            by_status.entry(kind.status).or_default().push(kind);
        }
        for (status, kinds) in by_status {
            responses.insert(status.to_string(), self.failure(status, &kinds));
        }
        let security = match self.access {
            Access::Open => json!([]),
            Access::Key => json!([{ "key": [] }]),
            Access::Scope(scope) => json!([{ "key": [scope] }]),
        };
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.about,
            "security": security,
            "parameters": self.parameters,
            "responses": responses,
        });
        if let (Some(operation), Some(body)) = (operation.as_object_mut(), self.body) {
            operation.insert("requestBody".to_owned(), body);
        }
        operation
    }

    fn add_usual_problems(&mut self) {
        let mut usual = vec![
            Kind::INVALID_REQUEST,
            Kind::INTERNAL,
            Kind::OVERLOADED,
            Kind::DEADLINE,
        ];
        match self.access {
            Access::Open => {}
            Access::Key => usual.extend([Kind::UNAUTHENTICATED, Kind::TENANT_SUSPENDED]),
            Access::Scope(_) => {
                usual.extend([
                    Kind::UNAUTHENTICATED,
                    Kind::TENANT_SUSPENDED,
                    Kind::MISSING_SCOPE,
                ]);
                // Whoever administers is decided by policies, and a change that is denied is recorded.
                if self.errors == Errors::Problem {
                    let undecided = [
                        Kind::NOT_PERMITTED,
                        Kind::NOT_READY,
                        Kind::STALE_POLICY,
                        Kind::STORE_UNAVAILABLE,
                    ];
                    usual.extend(undecided);
                }
            }
        }
        if self.body.is_some() {
            usual.extend([Kind::MALFORMED_BODY, Kind::BODY_TOO_SLOW, Kind::TOO_LARGE]);
        }
        for kind in usual {
            if !self.problems.contains(&kind) {
                self.problems.push(kind);
            }
        }
    }

    fn failure(&self, status: u16, kinds: &[&'static Kind]) -> Value {
        let told: Vec<String> = kinds
            .iter()
            .map(|kind| format!("`{}`: {}", kind.code, kind.title))
            .collect();
        let mut headers = vec!["X-Request-Id"];
        match status {
            401 => headers.push("WWW-Authenticate"),
            503 => headers.push("Retry-After"),
            504 => headers.push("Remit-Revision"),
            _ => {}
        }
        let codes: Vec<&str> = kinds.iter().map(|kind| kind.code).collect();
        let schema = json!({ "allOf": [reference("Problem"), { "properties": { "code": { "enum": codes } } }] });
        let mut content = Map::new();
        if self.errors == Errors::Authzen {
            content.insert(JSON.to_owned(), json!({ "schema": { "type": "string" } }));
        }
        content.insert(PROBLEM.to_owned(), json!({ "schema": schema }));
        json!({ "description": told.join("; "), "headers": header_references(&headers), "content": content })
    }
}

fn header_references(names: &[&str]) -> Value {
    let every = ["X-Request-Id"].iter().chain(names);
    every
        .map(|name| {
            (
                (*name).to_owned(),
                json!({ "$ref": format!("#/components/headers/{name}") }),
            )
        })
        .collect::<Map<_, _>>()
        .into()
}
