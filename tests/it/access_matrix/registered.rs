//! The operations around what is registered, and what is restored for them and for break-glass.

use remit_core::{
    Agent, AgentStatus, BreakGlassId, EntityUid, KillId, KillTarget, PrincipalKind, Role, Timestamp,
};
use remit_store::{Change, LiftAsked, NewBreakGlass, NewKill};
use serde_json::{Value, json};

use super::{Recipe, World};

/// A tool that is stopped.
const STRAY: &str = "stray";

/// Returns a request for an operation, or `None` for one that this table does not know yet.
pub(super) fn recipe(world: &World, id: &str) -> Option<Recipe> {
    let body = |body: Value| (None, body);
    let over = |body: Value| (Some(("if-match", "*")), body);
    let agent = format!("/v1/agents/Agent/{}", world.agent);
    let kill = format!("/v1/kills/{}", world.kill);
    let tool = "/v1/tools/mail.send";
    let (path, (condition, body)) = match id {
        // What is no id of an event: whoever may is told so, and gets no stream without an end.
        "watch_approvals" => (
            "/v1/approvals/events".to_owned(),
            (Some(("last-event-id", "none")), Value::Null),
        ),
        "list_agents" => ("/v1/agents".to_owned(), body(Value::Null)),
        "list_unknown_agents" => ("/v1/agents/unknown".to_owned(), body(Value::Null)),
        "get_agent" | "retire_agent" => (agent, body(Value::Null)),
        // Only over what is there, so that another tenant has nothing to write over.
        "put_agent" => (
            agent,
            over(json!({
                "owner": "grantee", "purpose": "x", "environment": "x", "model": "x", "trust": 0,
                "review_at": "2026-06-01T00:00:00Z", "ends_at": "2026-06-01T00:00:00Z",
            })),
        ),
        "suspend_agent" => (format!("{agent}/suspend"), body(Value::Null)),
        "resume_agent" => (format!("{agent}/resume"), body(Value::Null)),
        "list_tools" => ("/v1/tools".to_owned(), body(Value::Null)),
        "put_tools" => (
            "/v1/tools".to_owned(),
            body(json!({ "tools": { "mail.send": { "effect": "egress" } } })),
        ),
        "check_tools" => (
            "/v1/tools/drift".to_owned(),
            body(json!({ "descriptors": [{ "name": "mail.send" }] })),
        ),
        "get_tool" | "delete_tool" => (tool.to_owned(), body(Value::Null)),
        "put_tool" => (tool.to_owned(), over(json!({ "effect": "egress" }))),
        "list_kills" => ("/v1/kills".to_owned(), body(Value::Null)),
        // One that is in force with us, so that none is set.
        "create_kill" => (
            "/v1/kills".to_owned(),
            body(json!({ "target": { "kind": "tool", "tool": STRAY }, "reason": "x" })),
        ),
        "get_kill" => (kill, body(Value::Null)),
        "lift_kill" => (format!("{kill}/lift"), body(Value::Null)),
        "confirm_kill_lift" => (format!("{kill}/lift/confirm"), body(Value::Null)),
        _ => return None,
    };
    Some(Recipe {
        path,
        condition,
        body,
    })
}

/// An agent that the person `grantee` answers for.
fn agent(id: &str) -> Agent {
    Agent {
        build: None,
        ends_at: "2026-06-01T00:00:00Z".parse().unwrap(),
        environment: "x".into(),
        model: "x".into(),
        owner: "grantee".parse().unwrap(),
        principal: None,
        purpose: "x".into(),
        review_at: "2026-06-01T00:00:00Z".parse().unwrap(),
        roles: [].into(),
        status: AgentStatus::Active,
        trust: 0,
        uid: EntityUid::new("Agent", id),
    }
}

// === impl World ===

impl World {
    /// Puts back what an operation may have taken away: an agent, a tool, and a kill that somebody asks to lift.
    pub(super) async fn register(&mut self) {
        let (store, tenant) = (&self.test.store, self.test.tenant);
        let uid = EntityUid::new("Agent", &self.agent);
        let known = match self.agent.as_str() {
            "" => None,
            _ => store.agent(tenant, &uid).await.unwrap(),
        };
        if known.is_none_or(|known| known.agent.status == AgentStatus::Retired) {
            self.agent = self.test.clock.id().to_string();
            let agent = agent(&self.agent);
            let put = store.put_agent(tenant, None, &agent, Change::default());
            put.await.unwrap();
        }
        let tool = json!({
            "name": "mail.send", "effect": "egress", "integrity": "untrusted", "confidentiality": "private",
            "irreversible": true,
        });
        // Nothing is written that is there: this runs before each of a thousand requests and more.
        if store.tool(tenant, "mail.send").await.unwrap().is_none() {
            let tools = [serde_json::from_value(tool).unwrap()];
            let put = store.put_tools(tenant, None, &tools, Change::default());
            put.await.unwrap();
        }
        let keys = store.keys(tenant).await.unwrap();
        let admin = keys
            .iter()
            .find(|key| key.principal.name.as_str() == "admin");
        let (by, key) = admin
            .map(|key| (key.principal.name.clone(), key.id))
            .unwrap();
        let at = self.test.clock.now();
        let stop = async |id: KillId, tool: String| {
            let tool = tool.into();
            let new = NewKill {
                id,
                target: &KillTarget::Tool { tool },
                reason: "x",
                by: &by,
                key,
                at,
            };
            let set = store.set_kill(tenant, new, Change::default());
            set.await.unwrap().kill.id
        };
        if self.kill.is_empty() {
            stop(KillId::from_uuid(self.test.clock.id()), STRAY.to_owned()).await;
        }
        let stands = match self.kill.parse::<KillId>() {
            Ok(id) => store.kill(tenant, id).await.unwrap(),
            Err(_) => None,
        };
        let stands = stands.filter(|kill| kill.lifted.is_none());
        let asked_by = stands.as_ref().and_then(|kill| kill.asked.as_ref());
        if asked_by.is_some_and(|asked| asked.by == by) {
            return;
        }
        let id = match stands {
            Some(stands) => stands.kill.id,
            None => {
                let id = KillId::from_uuid(self.test.clock.id());
                stop(id, id.to_string()).await
            }
        };
        let asked = LiftAsked {
            by: by.clone(),
            key,
            at,
        };
        let ask = store.ask_lift(tenant, id, &asked, Change::default());
        ask.await.unwrap();
        self.kill = id.to_string();
    }

    /// Makes a grant that waits, in place of what there was.
    pub(super) async fn ask_for_break_glass(&mut self) {
        let (store, tenant) = (&self.test.store, self.test.tenant);
        let (at, by) = (self.test.clock.now(), "somebody".parse().unwrap());
        for old in store.break_glasses(tenant, None, 100).await.unwrap() {
            if old.waits(at) || old.is_active(at) {
                store
                    .end_break_glass(tenant, old.id, &by, at, Change::default())
                    .await
                    .unwrap();
            }
        }
        let person = PrincipalKind::Person;
        self.test.principal("grantee", person, &[]).await;
        self.test.principal("holder", person, &[]).await;
        let keys = store.keys(tenant).await.unwrap();
        let mut keys = keys.iter();
        let admin = keys.find(|key| key.principal.name.as_str() == "admin");
        let admin = admin.unwrap();
        let new = NewBreakGlass {
            id: BreakGlassId::from_uuid(self.test.clock.id()),
            principal: &"holder".parse().unwrap(),
            roles: &[Role::Publisher].into(),
            minutes: 15,
            reason: "an incident",
            requested_by: &admin.principal.name,
            requester_key: admin.id,
            requested_at: at,
            expires_at: Timestamp::from_micros(at.micros() + 60_000_000),
        };
        store
            .request_break_glass(tenant, new, Change::default())
            .await
            .unwrap();
        self.grant = new.id.to_string();
    }
}
