//! What no policy of a tenant can take away, and whom a change would lock out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use remit_core::{
    Action as Asked, Case, CaseFacts, Expectation, PolicyId, Question, Resource, Step, Subject,
    Verdict,
};
use serde_json::{Map, Value, json};

use super::*;

fn own(text: &str) -> Vec<Source> {
    vec![Source {
        file: "admin/own.cedar".to_owned(),
        text: text.to_owned(),
    }]
}

fn ask(system: &Snapshot, action: &str, on: &str, context: Value, expect: (Verdict, &[&str])) {
    let members = |value: Value| match value {
        Value::Object(members) => members,
        other => panic!("{other}"),
    };
    let mut context = members(context);
    context.entry("break_glass").or_insert_with(|| json!(false));
    let step = Step {
        question: Question {
            action: Asked {
                name: action.to_owned(),
                properties: Map::new(),
            },
            context,
            resource: Resource {
                id: "one".to_owned(),
                properties: Map::new(),
                kind: on.to_owned(),
            },
            subject: Subject {
                id: "maya".to_owned(),
                properties: members(json!({ "roles": [] })),
                kind: "Person".to_owned(),
            },
        },
        at: None,
        environment: None,
        approved: false,
        entities: Vec::new(),
        facts: CaseFacts::default(),
        expect: Expectation {
            because: Some(expect.1.iter().map(PolicyId::new).collect()),
            errors: Some(Vec::new()),
            ..Expectation::of(expect.0)
        },
    };
    let outcome = system.run_case(&Case::new(action, step));
    assert!(outcome.passed(), "{action}: {:?}", outcome.mismatches);
}

#[test]
fn what_is_built_in_compiles_without_a_warning() {
    let system = compiled(&[]).unwrap();
    assert_eq!(system.warnings(), []);
    assert!(warnings(&system).is_empty());
    assert!(Arc::ptr_eq(&system, &compiled(&[]).unwrap()), "once");
}

#[test]
fn no_permit_of_a_tenant_overrides_a_built_in_forbid() {
    let everything = own("@id(\"all\") permit (principal, action, resource);");
    let system = compiled(&everything).unwrap();
    let act = |loosens: bool, reviewed: bool, own: bool| json!({ "second_person": true, "loosens": loosens, "reviewed": reviewed, "own": own });
    let forbidden = |by: &'static [&'static str]| (Verdict::Deny, by);
    let permitted = (Verdict::Permit, &["all"][..]);
    let second = forbidden(&["remit.second-person"]);
    for (action, on) in [
        ("put_bundle", "Tenant"),
        ("rollback_bundle", "Tenant"),
        ("put_policy", "Policy"),
        ("delete_policy", "Policy"),
        ("publish_draft", "Draft"),
    ] {
        ask(&system, action, on, act(true, false, false), second);
        ask(&system, action, on, act(true, true, false), permitted);
        ask(&system, action, on, act(false, false, false), permitted);
    }
    for action in ["put_principal", "disable_principal"] {
        let context = json!({ "second_person": true, "reviewed": true, "own": true });
        ask(
            &system,
            action,
            "Principal",
            context,
            forbidden(&["remit.own-roles"]),
        );
        let context = json!({ "second_person": true, "reviewed": false, "own": false });
        ask(&system, action, "Principal", context, permitted);
    }
}

/// What anybody may send to be looked at, as a check or a draft, takes no room of those that have something in force.
#[test]
fn what_is_only_looked_at_is_not_kept() {
    let looked_at = own("@id(\"looked.at\") forbid (principal, action, resource);");
    let one = compiled(&looked_at).unwrap();
    assert!(known(&looked_at).is_none());
    let kept = keep(&looked_at).unwrap();
    assert!(!Arc::ptr_eq(&one, &kept));
    assert!(Arc::ptr_eq(&kept, &compiled(&looked_at).unwrap()));
}

/// The same policies in another order of files are the same policies, and compiled once.
#[test]
fn what_a_tenant_has_in_force_is_compiled_once() {
    let file = |name: &str, id: &str| Source {
        file: format!("admin/{name}.cedar"),
        text: format!(
            "@id(\"{id}\") forbid (principal, action == Action::\"put_settings\", resource);"
        ),
    };
    let one = keep(&[file("a", "one"), file("b", "two")]).unwrap();
    let other = keep(&[file("b", "two"), file("a", "one")]).unwrap();
    assert!(Arc::ptr_eq(&one, &other));
    let twice = compiled(&[file("a", "one"), file("a", "two")]).unwrap_err();
    let codes: Vec<&str> = twice
        .diagnostics
        .iter()
        .map(|one| one.code.as_str())
        .collect();
    assert_eq!(codes, ["duplicate_file"]);
}

/// Every action of the program is one of the schema, on the type of resource that the program names.
#[test]
fn the_schema_has_every_action() {
    let everything = own("@id(\"all\") permit (principal, action, resource);");
    let system = compiled(&everything).unwrap();
    for action in crate::admin::Action::ALL {
        let context = json!({ "second_person": false, "reviewed": false, "own": false });
        ask(
            &system,
            action.name(),
            action.on(),
            context,
            (Verdict::Permit, &["all"]),
        );
    }
}
