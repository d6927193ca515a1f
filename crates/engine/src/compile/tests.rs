//! Tests of compiling: what is refused and where it says so, and what is not done twice.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::format_push_string,
    reason = "a test that panics has failed"
)]

use remit_core::{Effect, EntityUid, Link, Source};

use super::*;
use crate::diagnostic::Severity;
use crate::policy::{ActionScope, EntityScope};
use crate::schema::Kind;

const SCHEMA: &str = r#"
namespace Acme {
  entity Team;
  entity Agent in [Team] { @assertable role: String, level: Long, owner?: Person };
  @assertable
  entity Person { level: Long };
  entity Tool tags String;
  entity Colour enum ["red", "green"];
  action use, read appliesTo { principal: Agent, resource: Tool, context: { amount: Long, reason?: String, facts: Remit::Facts } };
  action all;
  action admin in [all] appliesTo { principal: Person, resource: Tool };
}
"#;

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.to_owned(),
        text: text.to_owned(),
    }
}

fn bundle(policies: &str) -> Bundle {
    Bundle {
        schema: vec![source("acme.cedarschema", SCHEMA)],
        policies: vec![source("acme.cedar", policies)],
        ..Bundle::default()
    }
}

fn errors(bundle: &Bundle) -> Vec<Diagnostic> {
    compile(bundle, None).unwrap_err().diagnostics
}

/// Checks that the bundle has exactly one error and returns it.
fn only(bundle: &Bundle) -> Diagnostic {
    let mut errors = errors(bundle);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

fn link(id: &str, template: &str, slots: &[(&str, &str, &str)]) -> Link {
    Link {
        id: PolicyId::new(id),
        template: PolicyId::new(template),
        slots: slots
            .iter()
            .map(|(slot, kind, id)| ((*slot).to_owned(), EntityUid::new(kind, id)))
            .collect(),
    }
}

const TEMPLATE: &str = "@id(\"t\") permit(principal == ?principal, action, resource in ?resource);";

#[test]
fn a_bundle_compiles_into_its_policies_and_links() {
    let mut bundle = bundle(&format!(
        "{TEMPLATE}
        @id(\"b\") @mode(\"shadow\") @severity(\"high\") @note(\"not carried\")
        forbid(principal is Acme::Agent in Acme::Team::\"x\", action in [Acme::Action::\"use\"], resource)
        when {{ context.amount > 3 }} unless {{ context.facts.approved }};"
    ));
    bundle.links = vec![link(
        "a",
        "t",
        &[
            ("?principal", "Acme::Agent", "x"),
            ("?resource", "Acme::Tool", "y"),
        ],
    )];
    let program = compile(&bundle, None).unwrap();
    let ids: Vec<_> = program
        .policies
        .iter()
        .map(|policy| policy.id.as_str())
        .collect();
    assert_eq!(ids, ["a", "b"]);
    let [linked, own] = program.policies.as_slice() else {
        unreachable!()
    };
    assert_eq!(
        (linked.effect, linked.shadow, linked.mentions_approval),
        (Effect::Permit, false, false)
    );
    assert!(linked.body.is_none());
    let rendered = |scope: &EntityScope| format!("{scope:?}");
    assert!(
        matches!(&linked.scope.principal, EntityScope::Eq(uid) if uid.to_string() == "Acme::Agent::\"x\"")
    );
    assert!(
        matches!(&linked.scope.resource, EntityScope::In(uid) if uid.to_string() == "Acme::Tool::\"y\""),
        "{}",
        rendered(&linked.scope.resource)
    );
    assert_eq!(
        (own.effect, own.shadow, own.mentions_approval),
        (Effect::Forbid, true, true)
    );
    assert!(
        matches!(&own.scope.principal, EntityScope::IsIn(kind, uid) if kind.to_string() == "Acme::Agent" && uid.to_string() == "Acme::Team::\"x\"")
    );
    assert!(matches!(&own.scope.action, ActionScope::In(list) if list.len() == 1));
    assert_eq!(
        own.obligations
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect::<Vec<_>>(),
        [("severity", "high")]
    );
    assert_eq!((own.file.as_ref(), own.span.start_line), ("acme.cedar", 2));
    assert!(own.text.starts_with("@id(\"b\")") && own.text.ends_with("};"));
}

#[test]
fn the_schema_is_taken_apart() {
    let program = compile(&bundle(""), None).unwrap();
    let agent = &program.schema.entities["Acme::Agent"];
    assert!(agent.attributes["role"].assertable && agent.attributes["role"].required);
    assert!(!agent.attributes["level"].assertable);
    assert!(!agent.attributes["owner"].required);
    assert!(
        matches!(&agent.attributes["owner"].kind, Kind::Entity(name) if name.to_string() == "Acme::Person")
    );
    assert_eq!(
        agent
            .ancestors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["Acme::Team"]
    );
    assert!(
        program.schema.entities["Acme::Person"].attributes["level"].assertable,
        "the whole type is annotated"
    );
    assert!(matches!(
        program.schema.entities["Acme::Tool"].tags,
        Some(Kind::String)
    ));
    assert_eq!(
        program.schema.entities["Acme::Colour"]
            .ids
            .as_ref()
            .unwrap()
            .len(),
        2
    );
    assert!(!program.schema.entities.contains_key("Acme::Action"));
    let [action] = program.schema.actions["use"].as_slice() else {
        unreachable!()
    };
    assert!(
        matches!(&action.context["facts"].kind, Kind::Record(facts) if matches!(&facts["now"].kind, Kind::Extension(name) if name.to_string() == "datetime"))
    );
    assert!(!action.context["reason"].required);
    assert_eq!((action.principals.len(), action.resources.len()), (1, 1));
    let [admin] = program.schema.actions["admin"].as_slice() else {
        unreachable!()
    };
    assert_eq!(
        admin
            .ancestors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["Acme::Action::\"all\""]
    );
}

#[test]
fn schema_files_are_joined_and_may_declare_remit_themselves() {
    let mut bundle = bundle(
        "@id(\"a\") permit(principal, action == A::Action::\"go\", resource) when { context.facts.extra };",
    );
    bundle.schema = vec![
        source(
            "2.cedarschema",
            "namespace A { action go appliesTo { principal: B::P, resource: B::P, context: { facts: Remit::Facts } }; }",
        ),
        source(
            "1.cedarschema",
            "namespace B { entity P; } namespace Remit { type Facts = { extra: Bool }; }",
        ),
    ];
    assert_eq!(compile(&bundle, None).unwrap().policies.len(), 1);
}

#[test]
fn a_bundle_needs_a_schema() {
    let mut bundle = bundle("@id(\"a\") permit(principal, action, resource);");
    bundle.schema.clear();
    assert_eq!(only(&bundle).code, "no_schema");
}

#[test]
fn ids_are_required_and_unique() {
    let cases = [
        ("permit(principal, action, resource);", "missing_id"),
        ("@id permit(principal, action, resource);", "empty_id"),
        ("@id(\"\") permit(principal, action, resource);", "empty_id"),
        (
            "@id(\"a\\nb\") permit(principal, action, resource);",
            "invalid_id",
        ),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);",
            "duplicate_id",
        ),
    ];
    for (text, code) in cases {
        assert_eq!(only(&bundle(text)).code, code, "{text}");
    }
    let long = format!(
        "@id(\"{}\") permit(principal, action, resource);",
        "x".repeat(257)
    );
    assert_eq!(only(&bundle(&long)).code, "id_too_long");
    let duplicate = only(&bundle(
        "@id(\"a\") permit(principal, action, resource);\n  @id(\"a\") permit(principal, action, resource);",
    ));
    assert_eq!(
        (
            duplicate.span.unwrap().start_line,
            duplicate.span.unwrap().start_column
        ),
        (2, 3)
    );
    assert!(duplicate.help.unwrap().contains("acme.cedar:1:1"));
}

#[test]
fn modes_are_two() {
    let error = only(&bundle(
        "@id(\"a\") @mode(\"shadwo\") forbid(principal, action, resource);",
    ));
    assert_eq!(error.code, "unknown_mode");
    assert_eq!(error.policy, Some(PolicyId::new("a")));
    assert!(
        compile(
            &bundle("@id(\"a\") @mode(\"enforce\") forbid(principal, action, resource);"),
            None
        )
        .is_ok()
    );
}

#[test]
fn places_count_bytes_and_utf16_units() {
    let text = "@id(\"ok\") permit(principal, action, resource);\n// żółć 🦀\n@id(\"ż🦀\") permit(principal, action, resource) when { \"ż🦀\" == context.nothing };";
    let errors = errors(&bundle(text));
    let error = errors
        .iter()
        .find(|error| error.message.contains("nothing"))
        .unwrap();
    let span = error.span.unwrap();
    assert_eq!(text.get(span.start..span.end), Some("context.nothing"));
    assert_eq!((span.start_line, span.end_line), (3, 3));
    let line = text.lines().nth(2).unwrap();
    let before = line.split("context.nothing").next().unwrap();
    assert_eq!(span.start_column, before.len() + 1);
    assert_eq!(span.utf16_start_column, before.encode_utf16().count() + 1);
    assert_ne!(span.start_column, span.utf16_start_column);
    let all: String = text.get(..span.start).unwrap().to_owned();
    assert_eq!(span.utf16_start, all.encode_utf16().count());
    assert_eq!(span.utf16_end - span.utf16_start, "context.nothing".len());
    assert_eq!(error.policy, Some(PolicyId::new("ż🦀")));
}

#[test]
fn parse_errors_carry_cedars_help() {
    let error = only(&bundle(
        "\n@id(\"a\") permit(principal, action, resource) when { context.amount = 3 };",
    ));
    assert_eq!(error.code, "parse_error");
    assert!(error.help.as_ref().unwrap().contains("=="), "{error:?}");
    assert_eq!(error.span.unwrap().start_line, 2);
    let open = only(&bundle("@id(\"a\") permit(principal, action, resource)"));
    assert!(open.help.as_ref().unwrap().contains("expected"), "{open:?}");
}

#[test]
fn validation_is_strict_and_helps() {
    let unknown = errors(&bundle(
        "@id(\"a\") permit(principal, action == Acme::Action::\"use\", resource) when { context.amont > 3 };",
    ));
    let [unknown] = unknown.as_slice() else {
        panic!("{unknown:?}")
    };
    assert_eq!(unknown.code, "invalid_policy");
    assert!(
        unknown.message.starts_with("attribute `amont`"),
        "{}",
        unknown.message
    );
    assert!(
        unknown.help.as_ref().unwrap().contains("`amount`"),
        "{unknown:?}"
    );
    let refused = [
        (
            "permit(principal, action == Acme::Action::\"us\", resource)",
            "invalid_policy",
        ),
        (
            "permit(principal is Acme::Robot, action, resource)",
            "invalid_policy",
        ),
        (
            "permit(principal == Acme::Agent::\"x\", action == Acme::Action::\"use\", resource) when { context.reason == \"x\" }",
            "missing_guard",
        ),
        // Permissive validation takes this one.
        (
            "permit(principal == Acme::Agent::\"x\", action == Acme::Action::\"use\", resource) when { [1, \"a\"].contains(1) }",
            "invalid_policy",
        ),
        (
            "permit(principal, action, resource) when { resource == Acme::Colour::\"blue\" }",
            "missing_entity",
        ),
        (
            "forbid(principal, action, resource) when { context.amount in [\"rm -rf\"] }",
            "invalid_policy",
        ),
    ];
    for (text, code) in refused {
        let errors = errors(&bundle(&format!("@id(\"a\") {text};")));
        assert!(
            errors
                .iter()
                .all(|error| error.code == code && error.span.is_some()),
            "{errors:?}"
        );
    }
}

#[test]
fn links_fill_every_slot_and_no_other() {
    let agent = ("?principal", "Acme::Agent", "x");
    let tool = ("?resource", "Acme::Tool", "y");
    let cases = [
        (link("a", "nothing", &[]), "unknown_template"),
        (link("a", "s", &[]), "not_a_template"),
        (link("a", "t", &[agent]), "missing_slot"),
        (
            link("a", "t", &[agent, tool, ("?other", "Acme::Tool", "y")]),
            "unknown_slot",
        ),
        (
            link("a", "t", &[("principal", "Acme::Agent", "x"), tool]),
            "missing_slot",
        ),
        (
            link("a", "t", &[("?principal", "Acme::(((", "x"), tool]),
            "invalid_slot",
        ),
        (
            link("a", "t", &[("?principal", "Acme::Robot", "x"), tool]),
            "invalid_link",
        ),
        (link("t", "t", &[agent, tool]), "duplicate_id"),
        (link("", "t", &[agent, tool]), "empty_id"),
    ];
    for (link, code) in cases {
        let mut bundle = bundle(&format!(
            "{TEMPLATE} @id(\"s\") permit(principal, action, resource);"
        ));
        bundle.links = vec![link];
        let errors = errors(&bundle);
        assert!(
            errors.iter().any(|error| error.code == code),
            "{code}: {errors:#?}"
        );
    }
    let mut twice = bundle(TEMPLATE);
    twice.links = vec![
        link("a", "t", &[agent, tool]),
        link("a", "t", &[agent, tool]),
    ];
    assert_eq!(only(&twice).code, "duplicate_id");
}

#[test]
fn bombs_are_errors() {
    let nested = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    let bomb = |condition: &str| {
        format!("@id(\"a\") permit(principal, action, resource) when {{ {condition} }};")
    };
    let cases = [
        (bomb(&nested), "nesting_too_deep"),
        (bomb(&vec!["true"; 1_000].join(" && ")), "chain_too_long"),
        (
            bomb(&format!("\"{}\" == \"\"", "x".repeat(17 * 1024))),
            "policy_too_large",
        ),
        (
            "@id(\"a) permit(principal, action, resource);".to_owned(),
            "unterminated_string",
        ),
    ];
    for (text, code) in cases {
        assert_eq!(only(&bundle(&text)).code, code);
    }
}

#[test]
fn what_the_guards_let_through_parses_and_validates() {
    let terms = |term: &str, operator: &str, times: usize| vec![term; times].join(operator);
    let level = "&& true".repeat(90);
    let deep = format!("{}true{}", "(".repeat(5), format!("{level})").repeat(5));
    let conditions = [
        terms("true", " && ", 256),
        terms("true", " || ", 256),
        format!("0 < {}", terms("0", " + ", 256)),
        format!("{}true{}", "(".repeat(31), ")".repeat(31)),
        format!("{}true{}", "!(".repeat(15), ")".repeat(15)),
        format!(
            "{}true{}",
            "if true then ".repeat(31),
            " else false".repeat(31)
        ),
        deep,
    ];
    for condition in conditions {
        let text =
            format!("@id(\"a\") permit(principal, action, resource) when {{ {condition} }};");
        let result = compile(&bundle(&text), None);
        assert!(result.is_ok(), "{condition:.60}: {:?}", result.err());
    }
}

#[test]
fn schema_bombs_are_errors() {
    let mut doubling = String::from("type T0 = { a: Long, b: Long };");
    for n in 1..40 {
        doubling.push_str(&format!("type T{n} = {{ a: T{}, b: T{} }};", n - 1, n - 1));
    }
    let mut chain = String::from("type T0 = Long;");
    for n in 1..5_000 {
        chain.push_str(&format!("type T{n} = T{};", n - 1));
    }
    let types: Vec<_> = (0..300).map(|n| format!("E{n}")).collect();
    let types = types.join(", ");
    let pairs = format!(
        "entity {types}; action a appliesTo {{ principal: [{types}], resource: [{types}] }};"
    );
    for text in [doubling, chain, pairs] {
        let mut bundle = bundle("");
        bundle.schema = vec![source("bomb.cedarschema", &text)];
        assert_eq!(only(&bundle).code, "schema_too_large");
    }
    let mut large = bundle("");
    large.schema = vec![
        source("a", &" ".repeat(600 * 1024)),
        source("b", &" ".repeat(600 * 1024)),
    ];
    assert_eq!(only(&large).code, "schema_too_large");
    let mut cyclic = bundle("");
    cyclic.schema = vec![source("a", "type A = { b: B }; type B = { a: A };")];
    assert_eq!(only(&cyclic).code, "schema_error");
}

#[test]
fn schema_errors_name_their_file_and_place() {
    let mut broken = bundle("@id(\"a\") permit(principal, action, resource;");
    broken
        .schema
        .push(source("more.cedarschema", "// ż\nentity A { b: Nothing };"));
    let errors = errors(&broken);
    let error = errors
        .iter()
        .find(|error| error.code == "schema_error")
        .unwrap();
    assert_eq!(error.file.as_deref(), Some("more.cedarschema"), "{error:?}");
    assert_eq!(error.span.unwrap().start_line, 2);
    assert!(
        errors.iter().any(|error| error.code == "parse_error"),
        "policies are read all the same"
    );
    let mut open = bundle("");
    open.schema = vec![source("open.cedarschema", "entity A {")];
    assert_eq!(only(&open).file.as_deref(), Some("open.cedarschema"));
    let mut misleading = bundle("");
    misleading.schema = vec![source("a", "@assertable(\"false\") entity A;")];
    assert!(only(&misleading).message.contains("@assertable"));
}

#[test]
fn every_error_is_reported_up_to_a_hundred() {
    let text = "permit(principal, action, resource);\n".repeat(150);
    let errors = errors(&bundle(&text));
    assert_eq!(errors.len(), 101);
    assert_eq!(errors.last().unwrap().message, "there are 50 more errors");
    assert!(
        errors
            .iter()
            .take(100)
            .enumerate()
            .all(|(index, error)| error.span.unwrap().start_line == index + 1)
    );
}

#[test]
fn two_files_may_not_have_one_name() {
    let mut bundle = bundle("");
    bundle.policies.push(source("acme.cedar", ""));
    assert_eq!(only(&bundle).code, "duplicate_file");
}

#[test]
fn a_changed_policy_is_the_only_one_validated_again() {
    let policy = |n: usize| {
        format!(
            "@id(\"p{n}\") @owner(\"x\") permit(principal == Acme::Agent::\"{n}\", action, resource);\n"
        )
    };
    let text: String = (0..2_000).map(policy).collect();
    let mut bundle = bundle(&format!("{text}{TEMPLATE}"));
    let slots = [
        ("?principal", "Acme::Agent", "x"),
        ("?resource", "Acme::Tool", "y"),
    ];
    bundle.links = vec![link("l1", "t", &slots), link("l2", "t", &slots)];
    let first = compile(&bundle, None).unwrap();
    assert_eq!(first.validated, 2_003);
    let same = compile(&bundle, Some(&first)).unwrap();
    assert_eq!(same.validated, 0);
    assert!(Arc::ptr_eq(&same.schema, &first.schema));
    let source = bundle.policies.first_mut().unwrap();
    source.text = source
        .text
        .replace("@id(\"p7\")", "\n\n@id(\"p7\")")
        .replace("Agent::\"7\"", "Agent::\"seven\"");
    let changed = compile(&bundle, Some(&same)).unwrap();
    assert_eq!(changed.validated, 1);
    assert_eq!(changed.policies.len(), first.policies.len());
    let line = |program: &Program, id: &str| {
        program
            .policies
            .iter()
            .find(|policy| policy.id.as_str() == id)
            .unwrap()
            .span
            .start_line
    };
    assert_eq!(
        (line(&first, "p9"), line(&changed, "p9")),
        (10, 12),
        "places follow the text"
    );
    bundle
        .schema
        .first_mut()
        .unwrap()
        .text
        .push_str("// changed\n");
    assert_eq!(
        compile(&bundle, Some(&changed)).unwrap().validated,
        2_003,
        "another schema, everything anew"
    );
}

#[test]
fn warnings_survive_a_recompilation() {
    let bundle = bundle("@id(\"a\") permit(principal, action, resource);");
    let first = compile(&bundle, None).unwrap();
    let again = compile(&bundle, Some(&first)).unwrap();
    assert!(
        first
            .warnings
            .iter()
            .all(|warning| warning.severity == Severity::Warning)
    );
    assert_eq!(first.warnings.len(), 2);
    assert_eq!(first.warnings, again.warnings);
}
