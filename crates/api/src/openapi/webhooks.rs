//! The operations and schemas of webhooks: who outside is told what happens.

use serde_json::{Map, Value, json};

use super::lifecycle::{once, paged};
use super::{Operation, or_null, reference};
use crate::problem::Kind;

/// The id of the webhook in the examples.
const WEBHOOK: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1d01";
/// The id of the delivery in the examples.
const DELIVERY: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1d02";
const SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const ALL: &str = "/v1/webhooks";
const ONE: &str = "/v1/webhooks/{id}";
/// How a change of one fails.
const UNCHANGED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::NOT_FOUND,
    Kind::CONFLICT,
    Kind::STALE_REVISION,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::REVISION_NOT_REACHED,
    Kind::NOT_READY,
    Kind::STORE_UNAVAILABLE,
];
const UNREAD: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::NOT_FOUND,
    Kind::STORE_UNAVAILABLE,
];

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        list(),
        create(),
        get(),
        put(),
        delete(),
        deliveries(),
        ping(),
        rotate(),
    ]
}

fn of_webhook(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Webhooks").part("id", "The webhook.", WEBHOOK)
}

fn list() -> Operation {
    let operation = Operation::new("GET", ALL, "list_webhooks", "Webhooks");
    paged(operation.says(
        "List webhooks",
        "All there are, oldest first, without secrets.",
    ))
    .scope("read")
    .gives(
        200,
        "One page.",
        "WebhookPage",
        &json!({ "webhooks": [webhook()] }),
        &["Link"],
    )
    .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn create() -> Operation {
    once(Operation::new("POST", ALL, "create_webhook", "Webhooks"))
        .says(
            "Make a webhook",
            "Has events of some kinds sent to a URL from now on, each signed with a secret that is in this answer and nowhere \
             else. The URL is `https` at port 443 of a host of the internet, in its plain spelling: every address that it has \
             now, and again at each delivery, is looked at. Others are named by whoever runs the server. Sent again under its \
             `Idempotency-Key`, the request is 409 and names the webhook it made: the secret is not told twice. A tenant has \
             at most 20.",
        )
        .scope("keys")
        .until()
        .takes("WebhookBody", "What is told, and where.", &body())
        .gives(201, "The webhook, with its secret, shown this once.", "CreatedWebhook", &created(),
            &["ETag", "Location", "Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::CONFLICT,
            Kind::STALE_REVISION,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::REVISION_NOT_REACHED,
            Kind::NOT_READY,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn get() -> Operation {
    of_webhook("GET", ONE, "get_webhook")
        .says("Read a webhook", "One webhook, without its secret.")
        .scope("read")
        .header(
            "If-None-Match",
            "An `ETag`: 304 if it is still that.",
            "\"42\"",
        )
        .gives(
            200,
            "The webhook.",
            "Webhook",
            &webhook(),
            &["ETag", "Remit-Revision"],
        )
        .gives_nothing(304, "It is still that.", &["ETag", "Remit-Revision"])
        .fails(UNREAD)
}

fn put() -> Operation {
    once(of_webhook("PUT", ONE, "put_webhook"))
        .says(
            "Replace a webhook",
            "What it is told and where. `state` disables or enables it and stays as it is where it is left out; what waited \
             when it was disabled is given up, and what happens meanwhile is not sent later. Its secret stays.",
        )
        .scope("keys")
        .header("If-Match", "The `ETag` that it replaces.", "\"42\"")
        .header("If-None-Match", "Not with this `ETag`.", "\"41\"")
        .until()
        .takes("WebhookBody", "What it is to be.", &body())
        .gives(
            200,
            "It is so.",
            "Webhook",
            &webhook(),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
}

fn delete() -> Operation {
    once(of_webhook("DELETE", ONE, "delete_webhook"))
        .says(
            "Delete a webhook",
            "What waits for it is not sent any more, and its deliveries are not listed any more.",
        )
        .scope("keys")
        .header("If-Match", "The `ETag` that was read.", "\"42\"")
        .header("If-None-Match", "Not with this `ETag`.", "\"41\"")
        .until()
        .gives_nothing(204, "It is gone.", &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn deliveries() -> Operation {
    let state = json!({ "type": "string", "enum": ["pending", "delivered", "dead"] });
    let path = "/v1/webhooks/{id}/deliveries";
    paged(of_webhook("GET", path, "list_deliveries").says(
        "List deliveries",
        "What is, was or was to be sent there, newest first. What ended is kept for a week after it was made.",
    ))
    .scope("read")
    .query("state", &state, "Those in one state.", &json!("dead"))
    .gives(
        200,
        "One page.",
        "DeliveryPage",
        &json!({ "deliveries": [delivery()] }),
        &["Link"],
    )
    .fails(UNREAD)
}

fn ping() -> Operation {
    of_webhook("POST", "/v1/webhooks/{id}/ping", "ping_webhook")
        .says(
            "Try a webhook",
            "Sends it an event of the kind `webhook.ping`, which says nothing. 409 where it is disabled.",
        )
        .scope("keys")
        .gives(
            202,
            "It is on its way.",
            "Pinged",
            &json!({ "delivery": DELIVERY }),
            &[],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::NOT_READY,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn rotate() -> Operation {
    let path = "/v1/webhooks/{id}/rotate";
    once(of_webhook("POST", path, "rotate_webhook"))
        .says(
            "Give a webhook a new secret",
            "The new secret is in this answer and nowhere else. For a day the one that it had signs as well, so that there are \
             two signatures; one that was replaced before that does not sign any more. Sent again under its \
             `Idempotency-Key`, the request is 409.",
        )
        .scope("keys")
        .until()
        .gives(
            200,
            "The new secret, shown this once.",
            "RotatedWebhook",
            &json!({ "secret": SECRET, "old_until": "2026-11-23T09:30:00.000000Z" }),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
}

fn body() -> Value {
    json!({ "url": "https://chat.example.com/remit", "events": ["access_request."], "callbacks": false })
}

fn webhook() -> Value {
    json!({
        "id": WEBHOOK, "url": "https://chat.example.com/remit", "events": ["access_request."], "callbacks": false,
        "state": "enabled", "created_by": "maya", "created_at": "2026-11-22T09:30:00.000000Z", "revision": 42,
    })
}

fn created() -> Value {
    let mut created = webhook();
    if let Some(members) = created.as_object_mut() {
        members.insert("secret".to_owned(), json!(SECRET));
    }
    created
}

fn delivery() -> Value {
    json!({
        "id": DELIVERY, "kind": "access_request.created", "subject": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20",
        "state": "pending", "attempts": 1, "at": "2026-11-22T09:31:00.000000Z",
        "next_at": "2026-11-22T09:31:06.000000Z", "last_at": "2026-11-22T09:31:01.000000Z", "last_status": 503,
        "last_problem": "the receiver answered 503",
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let id = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
    let url = json!({ "type": "string", "maxLength": 2_048, "description": "Where: an `https` URL without a user, a password and a fragment." });
    let events = json!({
        "type": "array", "maxItems": 32, "items": { "type": "string", "maxLength": 64 },
        "description": "Kinds of events, or beginnings of them up to a dot, under `access_request.`, `approval.` or `exception.`.",
    });
    let callbacks = json!({ "type": "boolean", "description": "Whether access requests may name this URL, or one below it, as their callback." });
    let state = json!({ "type": "string", "enum": ["enabled", "disabled"], "description": "Whether anything is sent there." });
    let secret = text("What messages are signed with: `whsec_` and 32 bytes in base64.");
    let whole = |name: &str| json!({ "type": "array", "items": reference(name), "description": "Those of this page." });
    let mut shown = json!({
        "id": id("Its id."), "url": url, "events": events, "callbacks": callbacks, "state": state,
        "created_by": text("Who made it."), "created_at": time("When."),
        "revision": { "allOf": [reference("Revision")], "description": "The revision that made it what it is." },
        "disabled_at": time("Since when it is disabled."), "disabled_why": text("Why."),
        "old_secret_until": time("Until when the secret before this one signs as well."),
    });
    let required = [
        "id",
        "url",
        "events",
        "callbacks",
        "state",
        "created_by",
        "created_at",
        "revision",
    ];
    let webhook = json!({ "type": "object", "description": "A webhook.", "required": required, "properties": shown });
    if let Some(members) = shown.as_object_mut() {
        members.insert("secret".to_owned(), secret.clone());
    }
    let with_secret = [&required[..], &["secret"]].concat();
    let schemas = json!({
        "WebhookBody": {
            "type": "object", "description": "A webhook to be made or replaced; it is told something, or has callbacks.",
            "additionalProperties": false, "required": ["url"],
            "properties": { "url": url, "events": events, "callbacks": callbacks, "state": or_null(state) },
        },
        "Webhook": webhook,
        "CreatedWebhook": {
            "type": "object", "description": "A webhook that was just made, with its secret.",
            "required": with_secret, "properties": shown,
        },
        "RotatedWebhook": {
            "type": "object", "description": "A new secret.", "required": ["secret", "old_until"],
            "properties": { "secret": secret, "old_until": time("Until when the one before signs as well.") },
        },
        "Pinged": {
            "type": "object", "description": "That a trial is on its way.", "required": ["delivery"],
            "properties": { "delivery": id("The delivery.") },
        },
        "Delivery": of_delivery(),
        "WebhookPage": {
            "type": "object", "required": ["webhooks"],
            "properties": { "webhooks": whole("Webhook"), "next": text("The cursor of the next page.") },
        },
        "DeliveryPage": {
            "type": "object", "required": ["deliveries"],
            "properties": { "deliveries": whole("Delivery"), "next": text("The cursor of the next page.") },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

fn of_delivery() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let id = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
    json!({
        "type": "object", "description": "What became of one thing to be told.", "required": ["id", "kind", "state", "attempts", "at"],
        "properties": {
            "id": id("Its id, and that of the message: the same in every attempt (`webhook-id`)."),
            "kind": text("The kind of the event; `callback.` and how it ended, where it is a callback."),
            "subject": text("What it is about."),
            "state": { "type": "string", "enum": ["pending", "delivered", "dead"], "description": "Whether it is still to be sent, was taken, or was given up." },
            "attempts": { "type": "integer", "minimum": 0, "description": "How often it was begun to be sent." },
            "at": time("When it was made."), "next_at": time("From when on it is tried next."),
            "last_at": time("When it was tried last."),
            "last_status": { "type": "integer", "description": "What the receiver answered last." },
            "last_problem": text("What went wrong last."),
        },
    })
}
