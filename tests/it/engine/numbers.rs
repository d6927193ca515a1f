//! Numbers of JSON where a decimal is declared, and null where something may be left out.

use remit_core::{Bundle, Decision, Facts, KeyId, Question, Reason, Source, Timestamp};
use remit_engine::Snapshot;
use serde_json::{Value, json};

const SCHEMA: &str = r"
entity Agent;
entity Service;
type Line = { price: decimal, note?: String };
action buy appliesTo { principal: Agent, resource: Service, context: { action?: { price: decimal, note?: String, line?: Line } } };
";

const POLICIES: &str = r#"
@id("cheap") permit (principal, action, resource)
when { context has action && context.action.price.lessThanOrEqual(decimal("98.7")) }
unless { context.action has note || (context.action has line && context.action.line has note) };
"#;

/// Decides one purchase, its arguments read from text as a body is.
fn buy(arguments: &str) -> Decision {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let bundle = Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", POLICIES)],
        ..Bundle::default()
    };
    let snapshot = Snapshot::compile(&bundle).unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    let question: Question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" },
        "action": { "name": "buy", "properties": arguments },
        "resource": { "type": "Service", "id": "s" },
    }))
    .unwrap();
    let caller = KeyId::from_uuid(uuid::Uuid::nil());
    let facts = Facts::plain(caller, "dev", Timestamp::from_micros(0));
    snapshot.decide(&question, &facts)
}

#[test]
fn a_number_is_read_as_a_decimal_digit_by_digit() {
    for price in [
        "98.7", "98.70", "9.87e1", "0", "-5", "1e-4", "98", "-0.0001", "\"98.7\"", "1e1",
    ] {
        let decision = buy(&format!(r#"{{"price": {price}}}"#));
        assert_eq!(decision.reason, Reason::PolicyPermit, "{price}");
    }
    for price in ["98.7001", "98.71", "100", "1e14", "922337203685476"] {
        let decision = buy(&format!(r#"{{"price": {price}}}"#));
        assert_eq!(decision.reason, Reason::NoPermit, "{price}");
    }
}

/// What a decimal cannot hold is never rounded to one that it can: it denies, and it ends nothing.
#[test]
fn a_number_that_is_no_decimal_denies() {
    for price in [
        "98.70001",
        "1e-5",
        "0.30000000000000004",
        "1e300",
        "-1e300",
        "1e15",
        "922337203685478",
        "9223372036854775807",
        "18446744073709551615",
        "5e-324",
        "true",
        "[1]",
    ] {
        let decision = buy(&format!(r#"{{"price": {price}}}"#));
        assert_eq!(decision.reason, Reason::MistypedProperty, "{price}");
    }
}

#[test]
fn null_leaves_out_what_may_be_left_out() {
    for arguments in [
        r#"{"price": 1, "note": null}"#,
        r#"{"price": 1, "line": null}"#,
        r#"{"price": 1, "line": {"price": 2, "note": null}}"#,
    ] {
        assert_eq!(buy(arguments).reason, Reason::PolicyPermit, "{arguments}");
    }
    for arguments in [
        r#"{"price": null}"#,
        r#"{"price": 1, "line": {"price": null}}"#,
    ] {
        assert_eq!(
            buy(arguments).reason,
            Reason::MistypedProperty,
            "{arguments}"
        );
    }
    let noted = buy(r#"{"price": 1, "note": "x"}"#);
    assert_eq!(noted.reason, Reason::NoPermit);
}
