//! Shaping a question by the schema: what counts, what is dropped and noted, what denies.

use remit_core::{
    Action, Bundle, Decision, Entity, EntityUid, Facts, KeyId, Note, Question, Reason, Resource,
    Source, Subject, Timestamp,
};
use remit_engine::Snapshot;
use serde_json::{Map, Value, json};

const SCHEMA: &str = r#"
namespace Acme {
  entity Agent { role: String, @assertable load?: Long };
  @assertable entity Session { risk: Long, peer?: Agent };
  entity Tool;
  entity Stage enum ["dev", "prod"];
  type Call = {
    path: String,
    bytes?: Long,
  };
  action call appliesTo {
    principal: [Agent, Session], resource: [Tool, Stage],
    context: { amount: Long, note?: String, deep?: { n: Long, o?: Long }, action?: Call, facts: Remit::Facts },
  };
  action strict appliesTo { principal: Agent, resource: Tool, context: { action: Call } };
  action plain appliesTo { principal: Agent, resource: Tool };
  action "odd \"name\"" appliesTo { principal: Agent, resource: Tool };
  action share appliesTo { principal: Agent, resource: Tool };
}
namespace Other {
  entity Tool;
  action share appliesTo { principal: Acme::Agent, resource: Tool };
  action lone appliesTo { principal: Acme::Agent, resource: Acme::Tool };
}
namespace Third {
  action share appliesTo { principal: Acme::Session, resource: Acme::Stage };
}
"#;

const POLICIES: &str = r#"
@id("admin") permit (principal is Acme::Agent, action, resource) when { principal.role == "admin" };
@id("load") permit (principal is Acme::Agent, action == Acme::Action::"call", resource)
when { principal has load && principal.load < 3 };
@id("calm") permit (principal is Acme::Session, action, resource) when { principal.risk < 10 };
@id("path") permit (principal, action == Acme::Action::"strict", resource) when { context.action.path == "/ok" };
@id("monday") permit (principal, action == Acme::Action::"call", resource)
when { context.facts.weekday == 1 && context.facts.environment == "live" && context.facts.minute_of_day == 570
  && context.facts.now < datetime("2026-01-05T09:31:00Z") && context.amount == 1570 };
@id("other") permit (principal, action == Other::Action::"share", resource);
"#;

fn snapshot() -> Snapshot {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let bundle = Bundle {
        schema: vec![source("acme.cedarschema", SCHEMA)],
        policies: vec![source("acme.cedar", POLICIES)],
        ..Bundle::default()
    };
    let entity = |kind: &str, id: &str, attrs: Value| Entity {
        uid: EntityUid::new(kind, id),
        attrs: object(attrs),
        parents: Vec::new(),
        tags: Map::new(),
    };
    let stored = [
        entity("Acme::Agent", "root", json!({"role": "admin"})),
        entity("Acme::Agent", "a", json!({"role": "user"})),
        entity("Acme::Agent", "busy", json!({"role": "user", "load": 9})),
        entity("Acme::Session", "s", json!({"risk": 50})),
        entity("Acme::Tool", "t", json!({})),
        entity("Other::Tool", "t", json!({})),
    ];
    Snapshot::compile(&bundle)
        .unwrap()
        .with_entities(&stored, &[])
        .unwrap()
}

fn object(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(members) => members,
        other => panic!("{other} is not an object"),
    }
}

/// Asks `subject` (as `Type/id`) to do `action` to `resource`.
fn question(subject: &str, action: &str, resource: &str) -> Question {
    let (kind, id) = subject.split_once('/').unwrap();
    let subject = Subject {
        kind: kind.into(),
        id: id.into(),
        properties: Map::new(),
    };
    let (kind, id) = resource.split_once('/').unwrap();
    let resource = Resource {
        kind: kind.into(),
        id: id.into(),
        properties: Map::new(),
    };
    let action = Action {
        name: action.into(),
        properties: Map::new(),
    };
    Question {
        subject,
        action,
        resource,
        context: Map::new(),
    }
}

fn call(subject: &str, properties: Value, context: Value) -> Question {
    let mut question = question(subject, "call", "Acme::Tool/t");
    question.subject.properties = object(properties);
    question.context = object(context);
    question
}

fn decide(question: &Question) -> Decision {
    let facts = Facts::plain(
        KeyId::from_uuid(uuid::Uuid::from_u128(7)),
        "live",
        "2026-01-05T09:30:59.999999Z".parse::<Timestamp>().unwrap(),
    );
    snapshot().decide(question, &facts)
}

fn notes(decision: &Decision) -> Vec<String> {
    decision
        .notes
        .iter()
        .map(|note| match note {
            Note::Undeclared { member } => format!("undeclared {member}"),
            Note::NotAssertable { member } => format!("not assertable {member}"),
            Note::Mistyped { member, .. } => format!("mistyped {member}"),
            Note::Missing { member } => format!("missing {member}"),
            Note::NotStored { entity } => format!("not stored {entity}"),
        })
        .collect()
}

#[test]
fn what_the_schema_does_not_know_is_denied_with_its_own_reason() {
    let cases = [
        (
            question("Nobody/x", "call", "Acme::Tool/t"),
            Reason::UnknownSubjectType,
        ),
        (
            question("Agent/root", "call", "Acme::Tool/t"),
            Reason::UnknownSubjectType,
        ),
        (
            question("acme::agent/root", "call", "Acme::Tool/t"),
            Reason::UnknownSubjectType,
        ),
        (
            question("Acme::Action/call", "call", "Acme::Tool/t"),
            Reason::UnknownSubjectType,
        ),
        (
            question("Acme::Agent/root", "call", "Tool/t"),
            Reason::UnknownResourceType,
        ),
        (
            question("Acme::Agent/root", "fly", "Acme::Tool/t"),
            Reason::UnknownAction,
        ),
        (
            question("Acme::Agent/root", "Call", "Acme::Tool/t"),
            Reason::UnknownAction,
        ),
        (
            question("Acme::Agent/root", "Acme::Action::\"fly\"", "Acme::Tool/t"),
            Reason::UnknownAction,
        ),
        (
            question("Acme::Agent/root", "::\"", "Acme::Tool/t"),
            Reason::UnknownAction,
        ),
        (
            question("Acme::Agent/root", "plain", "Acme::Stage/dev"),
            Reason::ActionNotApplicable,
        ),
        (
            question("Acme::Session/s", "plain", "Acme::Tool/t"),
            Reason::ActionNotApplicable,
        ),
        (
            question("Acme::Agent/root", "call", "Acme::Stage/test"),
            Reason::MistypedProperty,
        ),
    ];
    for (question, reason) in cases {
        let decision = decide(&question);
        assert_eq!(decision.reason, reason, "{question:?}");
        assert!(decision.determining.is_empty() && decision.errors.is_empty());
    }
}

#[test]
fn an_action_is_named_by_its_id_or_in_full() {
    let named = |name: &str, resource: &str| {
        decide(&question("Acme::Agent/root", name, resource)).determining
    };
    let admin = [remit_core::PolicyId::new("admin")];
    let both = [
        remit_core::PolicyId::new("admin"),
        remit_core::PolicyId::new("other"),
    ];
    assert_eq!(named("plain", "Acme::Tool/t"), admin);
    assert_eq!(named("Acme::Action::\"plain\"", "Acme::Tool/t"), admin);
    assert_eq!(named("odd \"name\"", "Acme::Tool/t"), admin);
    assert_eq!(
        named("Acme::Action::\"odd \\\"name\\\"\"", "Acme::Tool/t"),
        admin
    );
    // Three namespaces declare `share`: the resource's goes first, then the subject's.
    assert_eq!(named("share", "Acme::Tool/t"), admin);
    assert_eq!(named("share", "Other::Tool/t"), both);
    assert_eq!(named("Other::Action::\"share\"", "Other::Tool/t"), both);
    assert_eq!(named("lone", "Acme::Tool/t"), admin);
}

#[test]
fn an_assertable_property_overrides_what_is_stored_and_no_other_does() {
    let amount = || json!({"amount": 1});
    let permitted = |subject: &str, properties: Value| {
        let decision = decide(&call(subject, properties, amount()));
        let by: Vec<String> = decision
            .determining
            .iter()
            .map(ToString::to_string)
            .collect();
        (by.join(" "), notes(&decision).join(", "))
    };
    let told = |by: &str, notes: &str| (by.to_owned(), notes.to_owned());
    assert_eq!(permitted("Acme::Agent/root", json!({})), told("admin", ""));
    assert_eq!(permitted("Acme::Agent/busy", json!({})), told("", ""));
    assert_eq!(
        permitted("Acme::Agent/busy", json!({"load": 1})),
        told("load", "")
    );
    assert_eq!(
        permitted("Acme::Agent/a", json!({"role": "admin"})),
        told("", "not assertable subject.properties.role")
    );
    assert_eq!(
        permitted("Acme::Agent/a", json!({"root": true, "load": 2})),
        told("load", "undeclared subject.properties.root")
    );
    // The whole type is assertable, and the entity need not be stored.
    assert_eq!(
        permitted("Acme::Session/s", json!({"risk": 1})),
        told("calm", "")
    );
    assert_eq!(
        permitted("Acme::Session/new", json!({"risk": 1})),
        told("calm", "not stored Acme::Session::\"new\"")
    );
    // An id is taken byte by byte, whatever stands in it.
    assert_eq!(
        permitted("Acme::Agent/r\"oot\n", json!({"load": 1})),
        told("load", "not stored Acme::Agent::\"r\\\"oot\\n\"")
    );
    assert_eq!(
        permitted("Acme::Agent/Root", json!({})).0,
        "",
        "ids are not folded"
    );
    assert_eq!(
        permitted("Acme::Agent/rооt", json!({})).0,
        "",
        "Cyrillic letters are others"
    );
}

#[test]
fn a_mistyped_member_denies() {
    let right = || json!({"amount": 1});
    let cases = [
        (json!({"load": "1"}), right(), "subject.properties.load"),
        (json!({"load": 1.5}), right(), "subject.properties.load"),
        (
            json!({"load": 9_223_372_036_854_775_808_u64}),
            right(),
            "subject.properties.load",
        ),
        (json!({"load": null}), right(), "subject.properties.load"),
        (json!({}), json!({"amount": 1.25}), "context.amount"),
        (json!({}), json!({"amount": 1, "note": 5}), "context.note"),
        (
            json!({}),
            json!({"amount": 1, "deep": {"n": true}}),
            "context.deep.n",
        ),
        (json!({}), json!({"amount": 1, "deep": [1]}), "context.deep"),
    ];
    for (properties, context, member) in cases {
        let decision = decide(&call("Acme::Agent/root", properties, context));
        assert_eq!(decision.reason, Reason::MistypedProperty, "{member}");
        assert_eq!(notes(&decision), [format!("mistyped {member}")]);
    }
    let mut peer = call(
        "Acme::Session/s",
        json!({"peer": {"type": "Acme::Tool", "id": "t"}}),
        right(),
    );
    assert_eq!(decide(&peer).reason, Reason::MistypedProperty);
    peer.subject.properties =
        object(json!({"risk": 1, "peer": {"__entity": {"type": "Acme::Agent", "id": "a"}}}));
    assert_eq!(decide(&peer).reason, Reason::PolicyPermit);
}

#[test]
fn a_context_needs_what_is_required_and_drops_what_is_not_declared() {
    let decision = decide(&call("Acme::Agent/root", json!({}), json!({"x": 1})));
    assert_eq!(decision.reason, Reason::MissingContext);
    assert_eq!(
        notes(&decision),
        ["undeclared context.x", "missing context.amount"]
    );

    let decision = decide(&call(
        "Acme::Agent/root",
        json!({}),
        json!({"amount": 1, "deep": {"o": 1}}),
    ));
    assert_eq!(decision.reason, Reason::MissingContext);
    assert_eq!(notes(&decision), ["missing context.deep.n"]);

    let context =
        json!({"amount": 1, "deep": {"n": 1, "z": {}}, "action": {"path": "forged"}, "facts": {}});
    let decision = decide(&call("Acme::Agent/root", json!({}), context));
    assert_eq!(decision.reason, Reason::PolicyPermit);
    let expected = [
        "not assertable context.action",
        "undeclared context.deep.z",
        "not assertable context.facts",
    ];
    assert_eq!(notes(&decision), expected);

    // A question is recorded with its members sorted; asked again from there, it comes out the same.
    let (one, other) = (
        r#"{"x":1,"b":2,"note":3,"amount":"q","a":4}"#,
        r#"{"a":4,"amount":"q","b":2,"note":3,"x":1}"#,
    );
    let asked = |context: &str| {
        decide(&call(
            "Acme::Agent/a",
            json!({}),
            serde_json::from_str(context).unwrap(),
        ))
    };
    assert_eq!(asked(one), asked(other));
    assert_eq!(
        notes(&asked(one)),
        [
            "undeclared context.a",
            "undeclared context.b",
            "undeclared context.x",
            "mistyped context.amount"
        ]
    );
}

#[test]
fn the_arguments_of_an_action_are_its_properties() {
    let strict = |properties: Value, context: Value| {
        let mut question = question("Acme::Agent/a", "strict", "Acme::Tool/t");
        question.action.properties = object(properties);
        question.context = object(context);
        decide(&question)
    };
    assert_eq!(
        strict(json!({"path": "/ok", "bytes": 1}), json!({})).reason,
        Reason::PolicyPermit
    );
    assert_eq!(
        strict(json!({"path": "/no"}), json!({})).reason,
        Reason::NoPermit
    );
    let decision = strict(json!({}), json!({"action": {"path": "/ok"}}));
    assert_eq!(
        decision.reason,
        Reason::MissingContext,
        "nobody forges arguments in the context"
    );
    assert_eq!(notes(&decision), ["missing action.properties.path"]);
    let decision = strict(json!({"path": 5}), json!({}));
    assert_eq!(decision.reason, Reason::MistypedProperty);
    let decision = strict(json!({"path": "/ok", "to": "x"}), json!({}));
    assert_eq!(notes(&decision), ["undeclared action.properties.to"]);

    let mut plain = question("Acme::Agent/root", "plain", "Acme::Tool/t");
    plain.action.properties = object(json!({"path": "/ok"}));
    assert_eq!(
        notes(&decide(&plain)),
        ["undeclared action.properties.path"]
    );
}

#[test]
fn facts_reach_the_policies() {
    let monday = [remit_core::PolicyId::new("monday")];
    let decision = decide(&call("Acme::Agent/a", json!({}), json!({"amount": 1570})));
    assert_eq!(decision.determining, monday);
    // JSON knows one number, however it is written.
    let decision = decide(&call("Acme::Agent/a", json!({}), json!({"amount": 1570.0})));
    assert_eq!(decision.determining, monday);
}

#[test]
fn the_notes_of_one_question_are_bounded() {
    let mut context = object(json!({"amount": "x"}));
    for number in 0..5_000 {
        context.insert(format!("a{number}"), json!(number));
    }
    let mut question = call("Acme::Agent/root", json!({}), json!({}));
    question.context = context;
    let decision = decide(&question);
    assert_eq!(decision.reason, Reason::MistypedProperty);
    assert!(decision.notes.len() <= 257, "{}", decision.notes.len());
    let last = decision.notes.last().unwrap();
    assert!(
        matches!(last, Note::Mistyped { member, .. } if member == "context.amount"),
        "{last:?}"
    );
}
