//! Random questions that fit the schema, in our words and in Cedar's.

use rand::RngExt;
use rand::rngs::StdRng;
use remit_core::{Action, EntityUid, Facts, KeyId, Question, Resource, Subject, Timestamp};
use serde_json::{Map, Value, json};

use super::world::{
    action, any, datetime, decimal, duration, extension, ip, long, pick, principal, reference,
    resource, text,
};

/// One question with what an oracle needs to ask Cedar the same.
#[derive(Debug, Clone)]
pub struct Case {
    /// As an enforcement point asks.
    pub question: Question,
    /// What Remit knows.
    pub facts: Facts,
    /// The context as Cedar's public API takes it, without facts.
    pub context: Map<String, Value>,
    /// The attributes that count as asserted of the subject.
    pub asserted: Map<String, Value>,
}

/// One value in two spellings.
struct Both {
    ours: Value,
    cedar: Value,
}

/// Makes a random question and the facts beside it.
pub fn case(rng: &mut StdRng) -> Case {
    let (subject, target) = (principal(rng), resource(rng));
    let mut question = Question {
        subject: Subject {
            kind: subject.kind.to_string(),
            id: subject.id.to_string(),
            properties: Map::new(),
        },
        action: Action {
            name: name(rng),
            properties: Map::new(),
        },
        resource: Resource {
            kind: target.kind.to_string(),
            id: target.id.to_string(),
            properties: Map::new(),
        },
        context: Map::new(),
    };
    let mut context = Map::new();
    for (member, value) in members(rng) {
        question.context.insert(member.to_owned(), value.ours);
        context.insert(member.to_owned(), value.cedar);
    }
    if rng.random_bool(0.3) {
        let arguments = json!({"path": text(rng), "bytes": long(rng)});
        question
            .action
            .properties
            .clone_from(arguments.as_object().unwrap());
        context.insert("action".to_owned(), arguments);
    }
    let asserted = noise(rng, &mut question);
    Case {
        question,
        facts: facts(rng),
        context,
        asserted,
    }
}

/// Names an action by its id or in full.
fn name(rng: &mut StdRng) -> String {
    let id = action(rng);
    if rng.random_bool(0.1) {
        format!("App::Action::\"{id}\"")
    } else {
        id.to_owned()
    }
}

/// Adds what the schema does not take, and now and then an assertion that it does; returns the latter.
fn noise(rng: &mut StdRng, question: &mut Question) -> Map<String, Value> {
    let mut asserted = Map::new();
    let properties = &mut question.subject.properties;
    if rng.random_bool(0.1) {
        properties.insert("level".to_owned(), json!(99));
        properties.insert("undeclared".to_owned(), json!([1, {"a": null}]));
    }
    if question.subject.kind == "App::User" && rng.random_bool(0.03) {
        asserted.insert("score".to_owned(), json!(long(rng)));
        asserted.insert("nick".to_owned(), json!(text(rng)));
        properties.extend(asserted.clone());
    }
    if rng.random_bool(0.1) {
        question.context.insert("undeclared".to_owned(), json!("x"));
        question
            .context
            .insert("action".to_owned(), json!({"path": "forged"}));
    }
    asserted
}

fn members(rng: &mut StdRng) -> Vec<(&'static str, Both)> {
    let plain = |value: Value| Both {
        ours: value.clone(),
        cedar: value,
    };
    let mut members = vec![
        ("n", plain(json!(long(rng)))),
        (
            "nested",
            plain(json!({"deep": {"x": long(rng)}, "flag": rng.random_bool(0.5)})),
        ),
        (
            "labels",
            plain(json!(
                (0..rng.random_range(0..4))
                    .map(|_| text(rng))
                    .collect::<Vec<_>>()
            )),
        ),
    ];
    if rng.random_bool(0.5) {
        members.push(("m", plain(json!(long(rng)))));
    }
    let texts = [
        ("ip", "ip", ip(rng)),
        ("at", "datetime", datetime(rng)),
        ("amount", "decimal", decimal(rng)),
        ("span", "duration", duration(rng)),
    ];
    for (member, function, text) in texts {
        let cedar = extension(function, text);
        let ours = if rng.random_bool(0.5) {
            json!(text)
        } else {
            cedar.clone()
        };
        members.push((member, Both { ours, cedar }));
    }
    members.push(("who", entity(rng, &any_user)));
    if rng.random_bool(0.5) {
        members.push(("maybe", entity(rng, &any_user)));
    }
    members
}

fn any_user(rng: &mut StdRng) -> EntityUid {
    any(rng, "User")
}

fn entity(rng: &mut StdRng, name: &dyn Fn(&mut StdRng) -> EntityUid) -> Both {
    let uid = name(rng);
    let cedar = reference(&uid);
    let bare = json!({"type": uid.kind, "id": uid.id});
    let ours = if rng.random_bool(0.5) {
        bare
    } else {
        cedar.clone()
    };
    Both { ours, cedar }
}

/// Random facts; the time has milliseconds, which is what Cedar keeps.
pub fn facts(rng: &mut StdRng) -> Facts {
    let micros = rng.random_range(0..4_000_000_000_000_000_i64);
    let caller = KeyId::from_uuid(uuid::Uuid::from_u128(rng.random_range(0..u128::MAX)));
    Facts {
        approved: rng.random_bool(0.5),
        ..Facts::plain(
            caller,
            pick(rng, &["live", "dev"]),
            Timestamp::from_micros(micros),
        )
    }
}

/// The facts as Cedar's public API takes them.
pub fn cedar_facts(facts: &Facts) -> Value {
    let millis = facts.now.millis();
    let seconds = millis.div_euclid(1000);
    let now = facts.now.to_string();
    // RFC 3339 with six decimals; Cedar wants three.
    let now = format!("{}.{:03}Z", &now[..19], millis.rem_euclid(1000));
    let days = seconds.div_euclid(86_400);
    json!({
        "now": extension("datetime", &now),
        "minute_of_day": seconds.rem_euclid(86_400) / 60,
        // 1970-01-01 was a Thursday, the fourth day.
        "weekday": (days + 3).rem_euclid(7) + 1,
        "caller": facts.caller.to_string(),
        "environment": facts.environment,
        "approved": facts.approved,
        "hop": false,
    })
}
