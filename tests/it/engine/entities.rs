//! The entity store: what fits the schema and the hierarchy, and changes that cost what they change.

use std::sync::Arc;

use remit_core::{
    Action, Bundle, Entity, EntityUid, Facts, KeyId, Question, Reason, Resource, Source, Subject,
    TenantId, Timestamp, Verdict,
};
use remit_engine::{Engine, Snapshot};
use serde_json::{Map, Value, json};

const SCHEMA: &str = r#"
entity Org;
entity Group in [Group, Org];
entity User in [Group] { level: Long, boss?: User, limit?: decimal, since?: datetime } tags Long;
entity Stage enum ["dev", "prod"];
action act appliesTo { principal: User, resource: [Group, Org] };
"#;

const POLICIES: &str = r#"
@id("inside") permit (principal, action, resource) when { principal in resource };
"#;

fn compile(schema: &str, entities: Vec<Entity>) -> Snapshot {
    Snapshot::compile(&bundle(schema, entities)).unwrap()
}

fn bundle(schema: &str, entities: Vec<Entity>) -> Bundle {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    Bundle {
        schema: vec![source("a.cedarschema", schema)],
        policies: vec![source("a.cedar", POLICIES)],
        entities,
        ..Bundle::default()
    }
}

fn uid(name: &str) -> EntityUid {
    let (kind, id) = name.split_once('/').unwrap();
    EntityUid::new(kind, id)
}

fn entity(name: &str, attrs: &Value, parents: &[&str]) -> Entity {
    Entity {
        uid: uid(name),
        attrs: attrs.as_object().unwrap().clone(),
        parents: parents.iter().map(|name| uid(name)).collect(),
        tags: Map::new(),
    }
}

fn group(name: &str, parents: &[&str]) -> Entity {
    entity(name, &json!({}), parents)
}

fn user(name: &str, parents: &[&str]) -> Entity {
    entity(name, &json!({"level": 1}), parents)
}

/// Whether `user` is below `group`, as the policy sees it.
fn inside(snapshot: &Snapshot, user: &str, group: &str) -> bool {
    let (user, group) = (uid(user), uid(group));
    let question = Question {
        subject: Subject {
            kind: user.kind.to_string(),
            id: user.id.to_string(),
            properties: Map::new(),
        },
        action: Action {
            name: "act".to_owned(),
            properties: Map::new(),
        },
        resource: Resource {
            kind: group.kind.to_string(),
            id: group.id.to_string(),
            properties: Map::new(),
        },
        context: Map::new(),
    };
    let facts = Facts::plain(
        KeyId::from_uuid(uuid::Uuid::from_u128(1)),
        "dev",
        Timestamp::from_micros(0),
    );
    let decision = snapshot.decide(&question, &facts);
    assert!(
        matches!(decision.reason, Reason::PolicyPermit | Reason::NoPermit),
        "{decision:?}"
    );
    decision.verdict == Verdict::Permit
}

#[test]
fn entities_that_do_not_fit_are_refused() {
    let snapshot = compile(SCHEMA, vec![group("Group/own", &[])]);
    let tagged = |name: &str, tags: Value| Entity {
        tags: tags.as_object().unwrap().clone(),
        ..user(name, &[])
    };
    let cases = [
        (entity("Robot/r", &json!({}), &[]), "`Robot`"),
        (entity("Action/act", &json!({}), &[]), "`Action`"),
        (entity("User/u", &json!({}), &[]), "lacks `attrs.level`"),
        (
            entity("User/u", &json!({"level": "high"}), &[]),
            "`attrs.level`",
        ),
        (
            entity("User/u", &json!({"level": 1.5}), &[]),
            "`attrs.level`",
        ),
        (
            entity("User/u", &json!({"level": 1, "x": 1}), &[]),
            "`attrs.x`",
        ),
        (
            entity(
                "User/u",
                &json!({"level": 1, "boss": {"type": "Group", "id": "g"}}),
                &[],
            ),
            "`attrs.boss`",
        ),
        (
            entity("User/u", &json!({"level": 1, "boss": "u"}), &[]),
            "`attrs.boss`",
        ),
        (
            entity("User/u", &json!({"level": 1, "limit": "1.23456"}), &[]),
            "`attrs.limit`",
        ),
        (user("User/u", &["User/v"]), "parent `User::\"v\"`"),
        (user("User/u", &["Robot/r"]), "parent `Robot::\"r\"`"),
        (group("Org/o", &["Group/g"]), "parent `Group::\"g\"`"),
        (group("Group/own", &[]), "belongs to the bundle"),
        (group("Stage/test", &[]), "`dev`, `prod`"),
        (tagged("User/u", json!({"t": "x"})), "`tags.t`"),
        (
            Entity {
                tags: tagged("User/u", json!({"t": 1})).tags,
                ..group("Group/g", &[])
            },
            "`t`",
        ),
        (group("Group/g", &["Group/g"]), "above itself"),
    ];
    for (entity, expected) in cases {
        let error = snapshot
            .with_entities(std::slice::from_ref(&entity), &[])
            .unwrap_err();
        assert_eq!(error.entity, entity.uid);
        assert!(
            error.problem.contains(expected),
            "{error} does not say {expected}"
        );
    }
    let error = snapshot
        .with_entities(&[], &[uid("Group/own")])
        .unwrap_err();
    assert!(error.problem.contains("belongs to the bundle"), "{error}");
    assert_eq!(
        snapshot.entity_count(),
        1,
        "a refused change leaves nothing behind"
    );
    for fine in [
        group("Stage/dev", &[]),
        tagged("User/u", json!({"t": 1})),
        user("User/u", &["Org/o"]),
    ] {
        snapshot.with_entities(&[fine], &[]).unwrap();
    }
}

#[test]
fn a_bundle_with_entities_that_do_not_fit_does_not_compile() {
    let wrong = vec![
        entity("User/u", &json!({}), &[]),
        group("Robot/r", &[]),
        group("Org/o", &[]),
        group("Org/o", &[]),
    ];
    let error = Snapshot::compile(&bundle(SCHEMA, wrong)).unwrap_err();
    let text: Vec<String> = error
        .diagnostics
        .iter()
        .map(|one| one.message.clone())
        .collect();
    assert_eq!(text.len(), 3, "{text:?}");
    assert!(
        text[0].contains("User::\"u\"") && text[1].contains("Robot") && text[2].contains("twice"),
        "{text:?}"
    );
}

#[test]
fn a_change_of_parents_reaches_everything_below() {
    let snapshot = compile(SCHEMA, vec![group("Org/top", &[])]);
    // The user comes before its groups, and the groups before theirs.
    let snapshot = snapshot
        .with_entities(&[user("User/u", &["Group/a"])], &[])
        .unwrap();
    assert!(
        inside(&snapshot, "User/u", "Group/a"),
        "a parent need not be stored"
    );
    let snapshot = snapshot
        .with_entities(&[group("Group/a", &["Group/b"])], &[])
        .unwrap();
    let before = snapshot
        .with_entities(&[group("Group/b", &["Group/c"])], &[])
        .unwrap();
    assert!(inside(&before, "User/u", "Group/c"));
    assert!(!inside(&before, "User/u", "Org/top"));

    let after = before
        .with_entities(&[group("Group/b", &["Org/top"])], &[])
        .unwrap();
    assert!(inside(&after, "User/u", "Org/top"));
    assert!(
        !inside(&after, "User/u", "Group/c"),
        "what is no longer above is gone"
    );
    assert!(
        inside(&before, "User/u", "Group/c"),
        "the old snapshot stays as it was"
    );

    let removed = after
        .with_entities(&[], &[uid("Group/b"), uid("Group/never"), uid("No/such")])
        .unwrap();
    assert!(
        inside(&removed, "User/u", "Group/b"),
        "the edge to it stands"
    );
    assert!(
        !inside(&removed, "User/u", "Org/top"),
        "what was above it is above nobody below it"
    );
    let again = removed
        .with_entities(&[group("Group/b", &["Org/top"])], &[])
        .unwrap();
    assert!(inside(&again, "User/u", "Org/top"));
}

#[test]
fn nothing_stands_above_itself() {
    let snapshot = compile(SCHEMA, Vec::new());
    let chain = [
        group("Group/a", &["Group/b"]),
        group("Group/b", &["Group/c"]),
    ];
    let snapshot = snapshot.with_entities(&chain, &[]).unwrap();
    let error = snapshot
        .with_entities(&[group("Group/c", &["Group/a"])], &[])
        .unwrap_err();
    assert!(error.problem.contains("above itself"), "{error}");
    let diamond = [
        group("Group/d", &["Group/b", "Group/a"]),
        group("Group/c", &["Org/o"]),
    ];
    let snapshot = snapshot.with_entities(&diamond, &[]).unwrap();
    let snapshot = snapshot
        .with_entities(&[user("User/u", &["Group/d"])], &[])
        .unwrap();
    assert!(inside(&snapshot, "User/u", "Org/o"));
}

#[test]
fn ancestors_are_bounded_and_long_chains_need_no_stack() {
    let snapshot = compile(SCHEMA, Vec::new());
    let name = |number: usize| format!("Group/g{number:05}");
    let chain: Vec<Entity> = (0..1_000)
        .map(|number| group(&name(number), &[&name(number + 1)]))
        .collect();
    let snapshot = snapshot.with_entities(&chain, &[]).unwrap();
    let error = snapshot
        .with_entities(&[group("Group/more", &[&name(0)])], &[])
        .unwrap_err();
    assert!(
        error.problem.contains("more than 1000 ancestors"),
        "{error}"
    );
}

#[test]
fn another_bundle_keeps_the_live_entities_and_reads_them_again() {
    // As Cedar writes a time that it computed.
    let since = json!({"__extn": {"fn": "offset", "args": [
        {"__extn": {"fn": "datetime", "arg": "1970-01-01"}},
        {"__extn": {"fn": "duration", "arg": "1500ms"}},
    ]}});
    let mut live = entity(
        "User/u",
        &json!({"level": 3, "limit": "1.50", "boss": {"type": "User", "id": "b"}, "since": since}),
        &["Group/a"],
    );
    live.tags.insert("t".to_owned(), json!(4));
    let snapshot = compile(SCHEMA, vec![group("Group/a", &["Group/b"])]);
    let snapshot = snapshot
        .with_entities(&[live, group("Group/c", &[])], &[])
        .unwrap();
    assert!(inside(&snapshot, "User/u", "Group/b"));

    // The same schema, other entities of its own.
    let moved = snapshot
        .recompile(&bundle(SCHEMA, vec![group("Group/a", &["Org/o"])]))
        .unwrap();
    assert!(inside(&moved, "User/u", "Org/o") && !inside(&moved, "User/u", "Group/b"));
    let gone = snapshot.recompile(&bundle(SCHEMA, Vec::new())).unwrap();
    assert!(inside(&gone, "User/u", "Group/a") && !inside(&gone, "User/u", "Group/b"));
    assert_eq!(gone.entity_count(), 2);

    // Another schema that still fits, one that no longer does, and a name that is taken.
    let wider = SCHEMA.replace("level: Long", "level: Long, nick?: String");
    let wider = snapshot
        .recompile(&bundle(&wider, vec![group("Group/a", &["Org/o"])]))
        .unwrap();
    assert!(inside(&wider, "User/u", "Org/o"));
    assert_eq!(wider.entity_count(), 3);
    let narrower = SCHEMA.replace("limit?: decimal", "limit?: Long");
    let error = snapshot
        .recompile(&bundle(&narrower, Vec::new()))
        .unwrap_err();
    assert!(error.to_string().contains("attrs.limit"), "{error}");
    for schema in [
        SCHEMA.to_owned(),
        SCHEMA.replace("level: Long", "level: Long, nick?: String"),
    ] {
        let error = snapshot
            .recompile(&bundle(&schema, vec![group("Group/c", &[])]))
            .unwrap_err();
        assert!(error.to_string().contains("stored as well"), "{error}");
    }
}

/// Taking a large snapshot apart takes long, and whoever decides by it last has no time for that.
#[test]
fn an_old_snapshot_is_taken_apart_by_the_installer() {
    let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(7));
    let engine = Engine::new();
    engine.install(tenant, compile(SCHEMA, Vec::new()));
    let deciding = engine.snapshot(tenant).unwrap();
    let old = Arc::downgrade(&deciding);
    engine.install(tenant, compile(SCHEMA, vec![group("Group/a", &[])]));
    assert_eq!(engine.reclaim(), 1, "a decision by it is under way");
    assert_eq!(deciding.entity_count(), 0);
    drop(deciding);
    assert!(old.upgrade().is_some(), "the decision took it apart");
    assert_eq!(engine.reclaim(), 0);
    assert!(old.upgrade().is_none());
    assert_eq!(engine.snapshot(tenant).unwrap().entity_count(), 1);
}
