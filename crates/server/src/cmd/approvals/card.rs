//! The card of an access request, for a terminal.

use serde_json::Value;

use super::Shown;
use crate::output::plain;

/// The lines of a card as they come together.
struct Lines<'c> {
    card: &'c Value,
    lines: Vec<String>,
}

/// Writes a request with its card, a line for each thing; whatever the agent says comes last and is marked.
pub(super) fn text(shown: &Shown) -> String {
    let head = format!("{}  {}", shown.id, plain(&shown.state));
    let Some(card) = &shown.card else {
        return head;
    };
    let mut lines = Lines {
        card,
        lines: vec![head],
    };
    lines.what();
    lines.whose();
    lines.why();
    lines.say("asked by", lines.at("/requested_by"));
    lines.say("until", shown.expires_at.to_string());
    lines.say("card", shown.card_hash.to_string());
    for one in items(card, "/said_by_agent") {
        lines.say(
            "IT SAYS",
            format!("({}) {}", member(one, "what"), member(one, "text")),
        );
    }
    lines.lines.join("\n")
}

/// Writes a value in one line in which everything can be seen.
pub(super) fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

/// Names an entity.
pub(super) fn named(uid: &Value) -> String {
    format!("{}:{}", member(uid, "type"), member(uid, "id"))
}

fn member(value: &Value, name: &str) -> String {
    value.get(name).map(one_line).unwrap_or_default()
}

fn sink(one: &Value) -> String {
    let is = |name: &str| one.get(name).and_then(Value::as_bool) == Some(true);
    let known = match (is("declared"), is("trusted")) {
        (true, _) => "declared",
        (false, true) => "trusted",
        (false, false) => "not declared",
    };
    let beware = one.get("looks_like").map(|like| {
        let like = one_line(like);
        format!(" BEWARE: it looks like {like} and is another")
    });
    format!(
        "{} ({known}){}",
        member(one, "value"),
        beware.unwrap_or_default()
    )
}

fn items<'c>(card: &'c Value, path: &str) -> impl Iterator<Item = &'c Value> + use<'c> {
    let items = card.pointer(path).and_then(Value::as_array);
    items.into_iter().flatten()
}

// === impl Lines ===

impl Lines<'_> {
    fn say(&mut self, name: &str, text: impl AsRef<str>) {
        let text = text.as_ref();
        if !text.is_empty() {
            self.lines.push(format!("  {name:<12} {text}"));
        }
    }

    fn at(&self, path: &str) -> String {
        self.card.pointer(path).map(one_line).unwrap_or_default()
    }

    fn entity(&self, path: &str) -> String {
        self.card.pointer(path).map(named).unwrap_or_default()
    }

    /// What will run.
    fn what(&mut self) {
        self.say("does", self.at("/call/action"));
        self.say("effect", self.at("/call/effect"));
        self.say("to", self.entity("/call/resource"));
        for one in items(self.card, "/call/arguments") {
            let hidden = one
                .get("redacted")
                .map(|_| " (taken out)")
                .unwrap_or_default();
            let value = one.get("value").or_else(|| one.get("redacted"));
            let value = value.map(one_line).unwrap_or_default();
            self.say(
                "argument",
                format!("{} = {value}{hidden}", member(one, "name")),
            );
        }
        for one in items(self.card, "/sinks") {
            self.say("affects", sink(one));
        }
        if let Some(minor) = self.card.pointer("/amount/minor") {
            self.say(
                "amount",
                format!("{minor} in units of 10^-{}", self.at("/amount/scale")),
            );
        }
    }

    /// Who does it, for what and for whom.
    fn whose(&mut self) {
        self.say("agent", self.entity("/agent"));
        self.say("owner", self.at("/agent/owner"));
        self.say("purpose", self.at("/agent/purpose"));
        self.say("task", self.at("/task/purpose"));
        self.say("opened by", self.at("/task/opened_by"));
        self.say("for", self.entity("/task/on_behalf_of"));
        for one in items(self.card, "/task/labels") {
            let text = format!(
                "{} by decision {}",
                member(one, "label"),
                member(one, "decision")
            );
            self.say("touched", text);
        }
        for one in items(self.card, "/chain") {
            self.say("behind it", named(one));
        }
    }

    /// Why a person must, and what to look at.
    fn why(&mut self) {
        for one in items(self.card, "/reasons") {
            let text = format!("{} {}", member(one, "policy"), member(one, "advice"));
            self.say("forbidden by", text);
        }
        let is = |path: &str| self.card.pointer(path).and_then(Value::as_bool);
        let (reversible, first) = (is("/hints/reversible"), is("/hints/first_tool"));
        if reversible == Some(false) {
            let text = "it cannot be undone, or nobody has said that it can";
            self.say("note", text);
        }
        if first == Some(true) {
            self.say("note", "the agent was not seen doing this before");
        }
        for one in items(self.card, "/hints/first_sinks") {
            self.say("note", format!("not seen before: {}", one_line(one)));
        }
        let refused = self.at("/hints/recent_refusals");
        if !refused.is_empty() && refused != "0" {
            self.say(
                "note",
                format!("{refused} requests of the agent were refused within a day"),
            );
        }
    }
}
