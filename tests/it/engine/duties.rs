//! What policies say of themselves: duties, times, and what cannot be held to.

use remit_core::{Bundle, Decision, Facts, KeyId, Question, Reason, Source, Timestamp, Verdict};
use remit_engine::Snapshot;
use serde_json::{Value, json};

use super::tasks::compiled;
use super::tasks::draw::NOW;

const ALL: &str = "(principal, action, resource)";

fn decide(policies: &str, approved: bool, supported: Option<Value>) -> Decision {
    let mut question = json!({
        "subject": { "type": "User", "id": "ann" }, "action": { "name": "send" },
        "resource": { "type": "Document", "id": "out" }, "context": {},
    });
    if let Some(supported) = supported {
        question["context"]["obligations_supported"] = supported;
    }
    let question: Question = serde_json::from_value(question).unwrap();
    question.check().unwrap();
    let facts = Facts {
        approved,
        ..Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW))
    };
    compiled(policies).decide(&question, &facts)
}

#[test]
fn duties_have_their_types_and_members() {
    let policies = format!(
        r#"@id("a") @obligation("step-up") @acr_value("urn:loa:3") @amr_values("mfa, hwk") permit {ALL};
        @id("b") @obligation("notification") @to("boss@acme.example") @body("paid") @topic("t") permit {ALL};
        @id("c") @obligation("session_termination") permit {ALL};
        @id("d") @obligation("session_termination") @subject("eve") permit {ALL};
        @id("e") @obligation("watermark") @action("stamp") permit {ALL};
        @id("f") permit {ALL};"#
    );
    let decision = decide(&policies, false, None);
    let duties = serde_json::to_value(&decision.duties).unwrap();
    assert_eq!(
        duties,
        json!([
            { "id": "a", "policy": "a", "type": "step-up", "members": { "acr_value": "urn:loa:3", "amr_values": ["mfa", "hwk"] } },
            { "id": "b", "policy": "b", "type": "notification", "members": { "to": "boss@acme.example", "body": "paid", "topic": "t" } },
            { "id": "c", "policy": "c", "type": "session_termination", "members": { "subject": "ann" } },
            { "id": "d", "policy": "d", "type": "session_termination", "members": { "subject": "eve" } },
            { "id": "e", "policy": "e", "type": "custom", "members": { "name": "watermark", "action": "stamp" } },
        ])
    );
    assert_eq!(
        decision.obligations.len(),
        5,
        "they stay beside what they were"
    );
    let denied =
        format!(r#"{policies} @id("no") @obligation("session_termination") forbid {ALL};"#);
    let denied = decide(&denied, false, None);
    assert_eq!(denied.reason, Reason::PolicyForbid);
    assert_eq!(denied.duties.len(), 1, "a denial obliges as well");
}

#[test]
fn a_permit_that_obliges_to_what_is_not_supported_denies() {
    let policies = format!(
        r#"@id("a") @obligation("step-up") @acr_value("x") @ttl("5") @lease("5") permit {ALL};
        @id("b") @obligation("mark") permit {ALL};"#
    );
    let reason = |supported: Value| {
        let decision = decide(&policies, false, Some(supported));
        assert_eq!(decision.duties.len(), 2, "what was wanted is told");
        if decision.verdict == Verdict::Deny {
            assert_eq!((decision.ttl, decision.lease), (None, None));
        }
        decision.reason
    };
    assert_eq!(reason(json!(["custom", "step-up"])), Reason::PolicyPermit);
    assert_eq!(
        reason(json!(["custom", "step-up", "never heard of"])),
        Reason::PolicyPermit
    );
    for unsupported in [
        json!([]),
        json!(["step-up"]),
        json!(["custom"]),
        json!(["mark", "step-up"]),
    ] {
        assert_eq!(reason(unsupported), Reason::ObligationUnsupported);
    }
    // No approval of it is asked for, and none is used, where it would be denied for that.
    let asks =
        format!(r#"{policies} @id("ask") forbid {ALL} unless {{ context.facts.approved }};"#);
    assert_eq!(
        decide(&asks, false, Some(json!([]))).reason,
        Reason::PolicyForbid
    );
    let all = Some(json!(["custom", "step-up"]));
    assert_eq!(
        decide(&asks, false, all.clone()).reason,
        Reason::ApprovalRequired
    );
    assert_eq!(
        decide(&asks, true, Some(json!([]))).reason,
        Reason::ObligationUnsupported
    );
    assert_eq!(decide(&asks, true, all).reason, Reason::PolicyPermit);
    // A denial obliges whatever is supported.
    let denies = format!(r#"@id("no") @obligation("mark") forbid {ALL};"#);
    assert_eq!(
        decide(&denies, false, Some(json!([]))).reason,
        Reason::PolicyForbid
    );
}

#[test]
fn a_permit_holds_as_long_as_the_strictest_policy_says() {
    let policies = format!(
        r#"@id("a") @ttl("30") @lease("86400") permit {ALL};
        @id("b") @ttl("20") permit {ALL};
        @id("c") @lease("1") permit (principal, action, resource == Document::"other");"#
    );
    let decision = decide(&policies, false, None);
    assert_eq!((decision.ttl, decision.lease), (Some(20), Some(86_400)));
    let denied = decide(
        &format!(r#"{policies} @id("no") forbid {ALL};"#),
        false,
        None,
    );
    assert_eq!((denied.ttl, denied.lease), (None, None));
}

fn refused(text: &str) -> String {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let error = Snapshot::compile(&Bundle {
        schema: vec![source(
            "s.cedarschema",
            "entity A; action look appliesTo { principal: [A], resource: [A] };",
        )],
        policies: vec![source("p.cedar", text)],
        ..Bundle::default()
    })
    .unwrap_err();
    assert_eq!(error.diagnostics.len(), 1, "{text}: {error}");
    let found = &error.diagnostics[0];
    assert_eq!(found.code, "invalid_annotation", "{text}: {error}");
    assert_eq!(
        found.policy.as_ref().map(ToString::to_string).as_deref(),
        Some("x")
    );
    assert!(found.span.is_some() && found.help.is_some(), "{found:?}");
    found.message.clone()
}

#[test]
fn what_cannot_be_held_to_is_refused() {
    let permits = [
        (r#"@ttl("")"#, "`@ttl` is ``"),
        (r#"@ttl("0")"#, "`@ttl` is `0`"),
        (r#"@ttl("86401")"#, "from 1 to 86400"),
        (r#"@ttl("1.5")"#, "`1.5`"),
        (r#"@ttl("+5")"#, "`+5`"),
        (r#"@ttl("-5")"#, "`-5`"),
        ("@ttl", "`@ttl` is ``"),
        (r#"@lease("soon")"#, "`@lease` is `soon`"),
        (r#"@lease("99999999999")"#, "`@lease`"),
        (r#"@quorum("0")"#, "from 1 to 100"),
        (r#"@quorum("101")"#, "from 1 to 100"),
        (r#"@quorum("two")"#, "`two`"),
        (r#"@relax("never")"#, "is for a forbid"),
        (r#"@modify("drop:a")"#, "is for a forbid"),
        ("@obligation", "says nothing"),
        (r#"@obligation("step-up")"#, "`@acr_value`"),
        (r#"@obligation("step-up") @acr_value("")"#, "`@acr_value`"),
        (
            r#"@obligation("step-up") @acr_value("a") @amr_values("mfa,,hwk")"#,
            "without a name",
        ),
        (
            r#"@obligation("step-up") @acr_value("a") @amr_values("")"#,
            "without a name",
        ),
        (r#"@obligation("notification") @to("a")"#, "`@body`"),
        (r#"@obligation("notification") @body("a")"#, "`@to`"),
    ];
    let forbids = [
        (r#"@ttl("5")"#, "is for a permit"),
        (r#"@lease("5")"#, "is for a permit"),
        (r#"@relax("sometimes")"#, "`sometimes`"),
        ("@relax", "`@relax` is ``"),
        (r#"@modify("")"#, "names no way"),
        (r#"@modify("cap:amount")"#, "names no way"),
        (r#"@modify("cap::5")"#, "names no way"),
        (r#"@modify("cap:amount:-5")"#, "names no way"),
        (r#"@modify("cap:amount:1.5")"#, "names no way"),
        (
            r#"@modify("cap:amount:9223372036854775808")"#,
            "names no way",
        ),
        (r#"@modify("drop:")"#, "names no way"),
        (r#"@modify("drop:a,,drop:b")"#, "names no way"),
        (r#"@modify("hide:a")"#, "names no way"),
        (r#"@modify("redact")"#, "names no way"),
        (
            r#"@modify("drop:1,drop:2,drop:3,drop:4,drop:5,drop:6,drop:7,drop:8,drop:9,drop:10,drop:11,drop:12,drop:13,drop:14,drop:15,drop:16,drop:17")"#,
            "names no way",
        ),
    ];
    for (word, all) in [("permit", &permits[..]), ("forbid", &forbids[..])] {
        for (annotation, message) in all {
            let found = refused(&format!(r#"@id("x") {annotation} {word} {ALL};"#));
            assert!(found.contains(message), "{annotation}: {found}");
        }
    }
}
