//! Tests of the guards: everything that could end a process is refused, everything reasonable passes.

#![expect(
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

use std::collections::HashMap;
use std::thread;

use cedar_policy_core::ast::{Context, EntityUIDEntry, Expr, Request};
use cedar_policy_core::entities::Entities;
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::parser::parse_policy_or_template;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::stack::on_large_stack;

/// Wraps a condition into a policy.
fn policy(condition: &str) -> String {
    format!("permit(principal, action, resource) when {{ {condition} }};")
}

fn code(text: &str) -> Option<&'static str> {
    let (_, excesses) = split(text);
    assert!(
        excesses.len() <= 1,
        "one policy has one excess: {excesses:?}"
    );
    excesses.first().map(|excess| excess.code)
}

#[test]
fn nesting_beyond_the_limit_is_refused() {
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        policy(&format!(
            "{}{inner}{}",
            open.repeat(times),
            close.repeat(times)
        ))
    };
    for times in [120, 1_000, 5_000] {
        let bombs = [
            nested("(", "true", ")", times),
            nested("[", "1", "]", times),
            nested("{a:", "1", "}", times),
            nested("!(", "true", ")", times),
            nested("!(!(", "true", "))", times),
            nested("if true then ", "true", " else false", times),
            nested("if (", "true", ") then true else false", times),
            nested("context[", "\"a\"", "]", times),
            nested("f(", "1", ")", times),
            policy(&format!("{}true", "!".repeat(times))),
            policy(&format!("1 == {}1", "-".repeat(times))),
            policy(&format!("{}true", "if true then true else ".repeat(times))),
        ];
        for bomb in bombs {
            assert_eq!(
                code(&bomb),
                Some("nesting_too_deep"),
                "{}",
                &bomb.chars().take(90).collect::<String>()
            );
        }
    }
}

#[test]
fn nesting_up_to_the_limit_passes() {
    // One level is the clause's own brace.
    assert_eq!(
        code(&policy(&format!(
            "{}true{}",
            "(".repeat(31),
            ")".repeat(31)
        ))),
        None
    );
    assert_eq!(
        code(&policy(&format!(
            "{}true{}",
            "(".repeat(32),
            ")".repeat(32)
        ))),
        Some("nesting_too_deep")
    );
    assert_eq!(
        code(&policy(&format!("[{}1]", "(1), ".repeat(1_000)))),
        None
    );
    assert_eq!(
        code(&policy(&format!(
            "[{}false]",
            "if true then true else false, ".repeat(200)
        ))),
        None
    );
}

#[test]
fn long_chains_are_refused() {
    for operator in ["&&", "||", "+", "-", "*", "%"] {
        let chain = |terms: usize| policy(&vec!["1"; terms].join(operator));
        assert_eq!(code(&chain(1_000)), Some("chain_too_long"), "{operator}");
        assert_eq!(code(&chain(257)), Some("chain_too_long"), "{operator}");
        assert_eq!(code(&chain(256)), None, "{operator}");
    }
    assert_eq!(
        code(&policy(&format!("context{}", ".a".repeat(1_000)))),
        Some("chain_too_long")
    );
    assert_eq!(
        code(&policy(&format!("context{}", "[\"a\"]".repeat(1_000)))),
        Some("chain_too_long")
    );
    assert_eq!(
        code(&policy(&format!("context{}", "()".repeat(1_000)))),
        Some("chain_too_long")
    );
    assert_eq!(
        code(&policy(&format!(
            "a{}::\"x\" == principal",
            "::a".repeat(1_000)
        ))),
        Some("chain_too_long")
    );
    let clauses = "when { true } ".repeat(1_000);
    assert_eq!(
        code(&format!("permit(principal, action, resource) {clauses};")),
        Some("chain_too_long")
    );
    // Chains in sequence are not one chain.
    assert_eq!(
        code(&policy(
            &vec!["context.a.b.c == context.d.e.f"; 255].join(" && ")
        )),
        None
    );
}

#[test]
fn depth_made_of_small_parts_is_refused() {
    // Each level is short, and the first operand of every chain is the deepest.
    let level = "&&true".repeat(100);
    let deep = format!("{}true{}", "(".repeat(12), format!("{level})").repeat(12));
    assert_eq!(code(&policy(&deep)), Some("expression_too_deep"));
    let shallow = format!("{}true{}", "(".repeat(4), format!("{level})").repeat(4));
    assert_eq!(code(&policy(&shallow)), None);
}

#[test]
fn large_policies_are_refused() {
    let large = policy(&format!("context.a == \"{}\"", "x".repeat(17 * 1024)));
    assert_eq!(code(&large), Some("policy_too_large"));
    let (segments, excesses) = split(&format!("{large}\n{}", policy("true")));
    assert_eq!(
        (segments.len(), excesses.len()),
        (1, 1),
        "the policy after it still passes"
    );
}

#[test]
fn long_patterns_are_refused() {
    let like = |pattern: &str| policy(&format!("context.a like \"{pattern}\" && true"));
    assert_eq!(code(&like(&"*".repeat(256))), None);
    assert_eq!(code(&like(&"*".repeat(257))), Some("pattern_too_long"));
    let commented = policy(&format!("context.a like // x\n \"{}\"", "a".repeat(257)));
    assert_eq!(code(&commented), Some("pattern_too_long"));
    let named = policy(&format!("context.like == \"{}\"", "a".repeat(257)));
    assert_eq!(
        code(&named),
        None,
        "an attribute of that name is no operator"
    );
}

#[test]
fn strings_and_comments_hide_nothing() {
    let quoted = policy(&format!("context.a == \"{}\"", "(".repeat(200)));
    assert_eq!(code(&quoted), None, "brackets in a string do not nest");
    let escaped = policy(&format!("context.a == \"\\\"{}\"", "(".repeat(200)));
    assert_eq!(
        code(&escaped),
        None,
        "an escaped quote does not end a string"
    );
    let ended = policy(&format!("context.a == \"\\\\\" && {}", "(".repeat(200)));
    assert_eq!(
        code(&ended),
        Some("nesting_too_deep"),
        "an escaped backslash does not escape the quote"
    );
    let comment = format!("// {}\n{}", "(".repeat(200), policy("true"));
    assert_eq!(code(&comment), None);
    let after = format!("// x\r{}", policy(&format!("{}true", "(".repeat(200))));
    assert_eq!(
        code(&after),
        Some("nesting_too_deep"),
        "a carriage return ends a comment"
    );
    assert_eq!(
        code("permit(principal, action, resource) when { \"open };"),
        Some("unterminated_string")
    );
    assert_eq!(
        code(&policy("true // never closed")),
        None,
        "left for the parser, which reports it"
    );
    assert_eq!(code("/* not a comment of Cedar's"), None);
}

#[test]
fn policies_are_split_at_their_semicolons() {
    let text = "// first; not a policy\n@id(\"a;b\")\npermit(principal, action, resource);\n\n@id(\"c\") forbid(principal, action, resource) // ;\n;  permit(";
    let (segments, excesses) = split(text);
    assert!(excesses.is_empty());
    let texts: Vec<_> = segments
        .iter()
        .map(|segment| text.get(segment.start..segment.end).unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "@id(\"a;b\")\npermit(principal, action, resource);",
            "@id(\"c\") forbid(principal, action, resource) // ;\n;",
            "permit(",
        ]
    );
    assert_eq!(split("  // nothing \n").0, []);
}

#[test]
fn schemas_are_measured() {
    let nested = |open: &str, close: &str, times: usize| {
        format!(
            "type T = {}Long{};",
            open.repeat(times),
            close.repeat(times)
        )
    };
    assert_eq!(check_schema(&nested("Set<", ">", 32)), Ok(()));
    for bomb in [
        nested("Set<", ">", 33),
        nested("{a: ", "}", 200),
        nested("Set<", ">", 100_000),
    ] {
        assert_eq!(check_schema(&bomb).unwrap_err().code, "nesting_too_deep");
    }
    let members = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("a{n}: Long")).collect();
        format!("namespace N {{ entity A {{ {} }}; }}", members.join(", "))
    };
    assert_eq!(check_schema(&members(1_000)), Ok(()));
    assert_eq!(
        check_schema(&members(1_001)).unwrap_err().code,
        "schema_too_large"
    );
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("E{n}")).collect();
        format!(
            "entity {} {{ {} }};",
            names.join(", "),
            "a: Long, ".repeat(900)
        )
    };
    assert_eq!(check_schema(&names(10)), Ok(()));
    assert_eq!(
        check_schema(&names(400)).unwrap_err().code,
        "schema_too_large"
    );
    assert_eq!(
        check_schema("@doc(\"open) entity A;").unwrap_err().code,
        "unterminated_string"
    );
}

/// What is put around a condition, again and again, to make it deep or long.
const WRAPPERS: &[(&str, &str)] = &[
    ("(", ")"),
    ("[", "]"),
    ("{a: ", "}"),
    ("!", ""),
    ("!(", ")"),
    ("-(", ")"),
    ("if true then ", " else false"),
    ("if (", ") then true else false"),
    ("if false then true else ", ""),
    ("true && ", ""),
    ("", " && true"),
    ("false || ", ""),
    ("", " || false"),
    ("1 + ", ""),
    ("", " * 1"),
    ("", ".a"),
    ("", "[\"a\"]"),
    ("", ".contains(1)"),
    ("", ".contains("),
    ("", " == true"),
    ("", " has a"),
    ("principal in ", ""),
    ("", "}\n when { true"),
    ("", "}\n unless { true"),
    ("\"", "\""),
    ("// ", "\n"),
];

/// Evaluates a condition on a stack of the size that is promised to suffice; the message of an error, if it is one.
fn evaluated(body: Expr) -> Option<String> {
    let entity = |name: &str| EntityUIDEntry::known(name.parse().unwrap(), None);
    let evaluate = move || {
        let names = [
            entity("P::\"a\""),
            entity("Action::\"a\""),
            entity("R::\"a\""),
        ];
        let [principal, action, resource] = names;
        let request = Request::new_unchecked(principal, action, resource, Some(Context::empty()));
        let entities = Entities::new();
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        let result = evaluator.interpret(&body, &HashMap::new());
        result.err().map(|error| error.to_string())
    };
    let thread = thread::Builder::new()
        .stack_size(EVALUATION_STACK)
        .spawn(evaluate);
    thread.unwrap().join().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(4),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever passes the guards can be parsed on the one stack and evaluated on the other: this test ends at all.
    #[test]
    fn what_passes_is_shallow_enough(
        core in prop::sample::select(vec!["true", "1", "principal", "context", "\"x\"", "P::\"x\""]),
        layers in prop::collection::vec((prop::sample::select(WRAPPERS), prop_oneof![1_usize..12, 1_usize..300]), 1..8),
    ) {
        let mut condition = core.to_owned();
        for ((before, after), times) in layers {
            condition = format!("{}{condition}{}", before.repeat(times), after.repeat(times));
        }
        let text = policy(&condition);
        let (segments, _) = split(&text);
        for segment in segments {
            let own = &text[segment.start..segment.end];
            let parsed = on_large_stack(|| Ok(parse_policy_or_template(None, own).ok())).unwrap();
            let body = parsed.and_then(|template| template.non_scope_constraints().cloned());
            let error = body.and_then(evaluated).unwrap_or_default();
            prop_assert!(!error.contains("recursion"), "{error}");
        }
    }
}

#[test]
fn the_deepest_that_passes_can_be_evaluated() {
    let level = "&&true".repeat(90);
    let conditions = [
        vec!["true"; 256].join("&&"),
        format!("{}true{}", "(".repeat(5), format!("{level})").repeat(5)),
        format!(
            "{}true{}",
            "if true then ".repeat(31),
            " else false".repeat(31)
        ),
        format!("{}true{}", "!(".repeat(15), ")".repeat(15)),
    ];
    for condition in conditions {
        let text = policy(&condition);
        assert_eq!(code(&text), None);
        let parsed = on_large_stack(|| Ok(parse_policy_or_template(None, &text).unwrap())).unwrap();
        assert_eq!(
            evaluated(parsed.non_scope_constraints().unwrap().clone()),
            None
        );
    }
}
