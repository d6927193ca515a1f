//! The operations around webhooks, and the webhook that is put back for them.

use remit_core::WebhookId;
use remit_store::{Change, WebhookTarget};
use serde_json::{Value, json};

use super::{Recipe, World};

/// The webhook that is there.
const WEBHOOK: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c40";
/// Where it goes: nothing is ever sent there.
const NOWHERE: &str = "https://127.0.0.1/";

/// Returns a request for an operation of webhooks.
pub(super) fn recipe(id: &str) -> Option<Recipe> {
    let one = format!("/v1/webhooks/{WEBHOOK}");
    // An address whose name needs nobody to look it up; what has callbacks alone is told nothing.
    let body = json!({ "url": "https://9.9.9.9/", "callbacks": true });
    let (path, body) = match id {
        "list_webhooks" => ("/v1/webhooks".to_owned(), Value::Null),
        "create_webhook" => ("/v1/webhooks".to_owned(), body),
        "get_webhook" | "delete_webhook" => (one, Value::Null),
        "put_webhook" => (one, body),
        "list_deliveries" => (format!("{one}/deliveries"), Value::Null),
        "ping_webhook" => (format!("{one}/ping"), Value::Null),
        "rotate_webhook" => (format!("{one}/rotate"), Value::Null),
        _ => return None,
    };
    Some(Recipe {
        path,
        condition: None,
        body,
    })
}

// === impl World ===

impl World {
    /// Leaves the one webhook, as it was.
    pub(super) async fn keep_webhook(&self) {
        let (store, tenant) = (&self.test.store, self.test.tenant);
        let own: WebhookId = WEBHOOK.parse().unwrap();
        let mut there = false;
        for found in store.webhooks(tenant, None, 100).await.unwrap() {
            if found.id == own && found.target.url == NOWHERE {
                there = true;
                continue;
            }
            let deleted = store.delete_webhook(tenant, None, found.id, Change::default());
            deleted.await.unwrap();
        }
        if there {
            return;
        }
        let target = WebhookTarget {
            url: NOWHERE.to_owned(),
            kinds: Vec::new(),
            callbacks: true,
        };
        let by = "admin".parse().unwrap();
        let new = (own, &by, &target, "sealed");
        let made = store.create_webhook(tenant, None, new, Change::default());
        made.await.unwrap();
    }
}
