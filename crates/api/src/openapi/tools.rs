//! The operations and schemas of the catalogue of tools.

use serde_json::{Map, Value, json};

use super::agents::UNCHANGED;
use super::examples::HASH;
use super::lifecycle::{once, paged};
use super::{Operation, or_null, reference};
use crate::problem::Kind;

const ONE: &str = "/v1/tools/{name}";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![list(), put_all(), drift(), get(), put(), delete()]
}

fn of_tool(method: &'static str, id: &'static str) -> Operation {
    Operation::new(method, ONE, id, "Tools").part(
        "name",
        "The name of the tool, percent-encoded and byte-exact.",
        "mail.send",
    )
}

fn list() -> Operation {
    let operation = Operation::new("GET", "/v1/tools", "list_tools", "Tools")
        .says("List tools", "The catalogue of tools, by name.");
    paged(operation)
        .scope("read")
        .gives(
            200,
            "One page.",
            "ToolPage",
            &json!({ "tools": [tool()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn put_all() -> Operation {
    let mut sent = tool();
    sent.as_object_mut()
        .and_then(|members| members.remove("name"));
    once(Operation::new("PUT", "/v1/tools", "put_tools", "Tools"))
        .says(
            "Write many tools",
            "Writes every tool given, at one revision or not at all; tools that are not given stay. At most 1,000 at a time, \
             in a body of at most 8 MiB, and 10,000 in a tenant: 409. A policy of the administration that forbids `put_tool` \
             for one of them forbids all.",
        )
        .scope("write")
        .until()
        .takes("Catalogue", "The tools.", &json!({ "tools": { "mail.send": sent } }))
        .gives(200, "They are written.", "ToolsWritten", &json!({ "revision": 43, "written": 1 }), &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn drift() -> Operation {
    let sent = json!({ "descriptors": [{
        "name": "mail.send", "description": "Sends an e-mail.",
        "inputSchema": { "type": "object", "properties": { "to": { "type": "string" } } },
    }] });
    let found = json!({ "drifted": true, "tools": [{ "name": "mail.send", "state": "changed", "registered": HASH, "presented": HASH.replace('f', "0") }] });
    Operation::new("POST", "/v1/tools/drift", "check_tools", "Tools")
        .says(
            "Compare descriptors",
            "Says of each descriptor, as an MCP server lists it now, whether it is the one that was registered, and which \
             registered ones are missing. A descriptor is compared by the SHA-256 of its canonical JSON (RFC 8785). At most \
             1,000 at a time, in a body of at most 8 MiB. Nothing is changed.",
        )
        .scope("read")
        .takes("Descriptors", "The tool objects of `tools/list`.", &sent)
        .gives(200, "What was found.", "Drift", &found, &[])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_tool("GET", "get_tool")
        .says("Read a tool", "One tool of the catalogue.")
        .scope("read")
        .header("If-None-Match", "An `ETag` you have already.", "\"42\"")
        .gives(
            200,
            "The tool.",
            "Tool",
            &tool(),
            &["ETag", "Remit-Revision"],
        )
        .gives_nothing(304, "It is the one you have.", &["ETag", "Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put() -> Operation {
    once(of_tool("PUT", "put_tool"))
        .says(
            "Write a tool",
            "Makes the tool or replaces it whole. What is left out is taken for the worst: what it returns is `untrusted` \
             and `private`, and a call is irreversible unless the effect is `read` or `write`. The effect has to be said. \
             The answer comes when this replica decides with it.",
        )
        .scope("write")
        .header(
            "If-Match",
            "An `ETag`: write only over that state.",
            "\"42\"",
        )
        .header("If-None-Match", "`*`: write only where there is none.", "*")
        .until()
        .takes("ToolBody", "What it is to be.", &tool())
        .gives(
            200,
            "It is written.",
            "Tool",
            &tool(),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
}

fn delete() -> Operation {
    once(of_tool("DELETE", "delete_tool"))
        .says(
            "Remove a tool",
            "Takes it out of the catalogue. A call of it is then one of a tool that nobody knows, which raises every label. \
             409 `killed` while a kill in force names it.",
        )
        .scope("write")
        .header(
            "If-Match",
            "An `ETag`: remove only that state.",
            "\"42\"",
        )
        .until()
        .gives_nothing(204, "It is removed.", &["Remit-Revision"])
        .fails(UNCHANGED)
        .fails(&[Kind::KILLED, Kind::NOT_FOUND])
}

fn tool() -> Value {
    json!({
        "classes": [], "clearance": ["public"], "confidentiality": "private", "cost": 1, "descriptor": HASH,
        "domain": "email", "effect": "egress", "environment": "production", "integrity": "untrusted", "irreversible": true,
        "min_trust": 1, "name": "mail.send", "owner": "maya", "roles": ["mailer"], "sinks": ["to", "cc"],
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "minLength": 1, "maxLength": 128, "description": about });
    let labels = |about: &str| json!({ "type": "array", "maxItems": 64, "items": { "type": "string", "minLength": 1, "maxLength": 64 }, "description": about });
    let hash = |about: &str| json!({ "allOf": [reference("ContentHash")], "description": about });
    let members = json!({
        "amount": { "type": "object", "description": "Where it finds the amount of a payment.", "required": ["argument", "scale"], "additionalProperties": false, "properties": {
            "argument": { "type": "string", "minLength": 1, "maxLength": 256, "description": "The argument, as in `sinks`." },
            "scale": { "type": "integer", "minimum": 0, "maximum": 9, "description": "How many decimal places count: 2 makes 1050 of 10.5." },
        } },
        "classes": labels("The data classes of what it reads or writes."),
        "clearance": labels("The data classes that may leave through it; absent where nobody has said."),
        "confidentiality": { "type": "string", "enum": ["public", "private"], "description": "Whether what it returns may be shown to anybody." },
        "cost": { "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64, "description": "What one call costs, in units of the tenant's own." },
        "descriptor": hash("The SHA-256 of the canonical JSON of its descriptor, as it was when somebody approved it."),
        "domain": text("The business domain it belongs to."),
        "effect": { "type": "string", "enum": ["read", "write", "egress", "pay", "destroy", "exec", "credential", "delegate"], "description": "What a call does at most." },
        "environment": text("Where its effects land."),
        "integrity": { "type": "string", "enum": ["trusted", "untrusted"], "description": "Whether outsiders can write into what it returns." },
        "irreversible": { "type": "boolean", "description": "Whether no other call undoes one." },
        "min_trust": { "type": "integer", "minimum": 0, "maximum": 3, "description": "The least trust of an agent that calls it." },
        "name": { "type": "string", "minLength": 1, "maxLength": 256, "description": "The name: that of the action, or of the resource where its type is annotated `@registered(\"tool\")`." },
        "owner": text("Who answers for it."),
        "roles": labels("The roles of agents that may call it; absent where it takes none in particular."),
        "sinks": { "type": "array", "maxItems": 64, "items": { "type": "string", "minLength": 1, "maxLength": 256 }, "description": "The arguments that say who or what is affected; a dot leads into an object, and a list stands for all its items." },
    });
    let mut asked = members.clone();
    for (name, member) in asked.as_object_mut().into_iter().flatten() {
        let plain = ["classes", "cost", "effect", "min_trust", "sinks"];
        if !plain.contains(&name.as_str()) {
            *member = or_null(member.take());
        }
    }
    let state = json!({ "type": "string", "enum": ["same", "changed", "unpinned", "unknown", "missing"], "description": "The same; another one; the catalogue has the tool and no descriptor of it; the catalogue does not have the tool; it was not presented." });
    let schemas = json!({
        "ToolBody": { "type": "object", "description": "What a tool is to be.", "required": ["effect"], "additionalProperties": false, "properties": asked },
        "Tool": {
            "type": "object", "description": "A tool of the catalogue.",
            "required": ["name", "effect", "integrity", "confidentiality", "irreversible", "cost", "min_trust", "sinks"], "properties": members,
        },
        "ToolPage": {
            "type": "object", "required": ["tools"],
            "properties": { "tools": { "type": "array", "items": reference("Tool"), "description": "By name." }, "next": { "type": "string", "description": "The cursor of the next page." } },
        },
        "Catalogue": {
            "type": "object", "description": "Tools to be written.", "required": ["tools"], "additionalProperties": false,
            "properties": { "tools": { "description": "1 to 1,000 tools: by name, or as a list in which each says its name.", "anyOf": [
                { "type": "object", "additionalProperties": reference("ToolBody") },
                { "type": "array", "minItems": 1, "maxItems": 1_000, "items": reference("ToolBody") },
            ] } },
        },
        "ToolsWritten": {
            "type": "object", "description": "Tools that are in force on this replica.", "required": ["revision", "written"],
            "properties": { "revision": reference("Revision"), "written": { "type": "integer", "minimum": 1, "description": "How many." } },
        },
        "Descriptors": {
            "type": "object", "description": "Tools as a server lists them.", "required": ["descriptors"], "additionalProperties": false,
            "properties": { "descriptors": { "type": "array", "minItems": 1, "maxItems": 1_000, "description": "Each with its `name`, and none twice.", "items": {
                "type": "object", "required": ["name"], "properties": { "name": { "type": "string", "minLength": 1, "maxLength": 256 } },
            } } },
        },
        "Drift": {
            "type": "object", "description": "How descriptors compare with those registered.", "required": ["drifted", "tools"],
            "properties": {
                "drifted": { "type": "boolean", "description": "Whether anything is not the same." },
                "tools": { "type": "array", "description": "By name.", "items": { "type": "object", "required": ["name", "state"], "properties": {
                    "name": { "type": "string", "description": "The tool." }, "state": state,
                    "registered": hash("That of the catalogue."), "presented": hash("That of what was sent."),
                } } },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
