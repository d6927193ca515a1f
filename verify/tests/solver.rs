//! What the solver proves, over bundles whose truth is known, and over those we ship.
//!
//! Needs cvc5 (`apt-get install cvc5`); says when it is skipped, and fails under `CI=true` instead.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::items_after_statements,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "a test fails by panicking, and tells why on the terminal"
)]

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use remit_core::{Bundle, Source};
use remit_engine::EVALUATION_STACK;
use remit_verify::{Error, Matches, Proof, Report, Solver, verify};

const SCHEMA: &str = "
entity Team;
entity Agent in [Team] { trust: Long };
entity Tool { risk: Long } tags String;
action read, write appliesTo { principal: Agent, resource: Tool, context: { amount: Long, note?: String, facts: Remit::Facts } };
";

const BASE: &str = "
@id(\"readers\") permit (principal in Team::\"readers\", action == Action::\"read\", resource);
@id(\"payers\") permit (principal is Agent, action == Action::\"write\", resource) when { context.amount <= 100 };
@id(\"cap\") forbid (principal, action == Action::\"write\", resource) when { context.amount > 1000 };
";

fn solver() -> Option<Solver> {
    let program = std::env::var_os("CVC5").unwrap_or_else(|| OsString::from("cvc5"));
    let there = Command::new(&program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if there.is_ok_and(|status| status.success()) {
        return Some(Solver {
            program,
            limit: Duration::from_secs(30),
        });
    }
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!ci, "there is no cvc5; set CVC5");
    eprintln!("SKIPPED: there is no cvc5; set CVC5 to run this test");
    None
}

fn bundle(policies: &str, schema: &str) -> Bundle {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    Bundle {
        schema: vec![source("s.cedarschema", schema)],
        policies: vec![source("p.cedar", policies)],
        ..Bundle::default()
    }
}

/// Verifies on a thread with the stack that policies may need.
fn verified(before: Option<Bundle>, after: Bundle, solver: Solver) -> Result<Report, Error> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(verify(before.as_ref(), &after, &solver))
    };
    let thread = thread::Builder::new().stack_size(EVALUATION_STACK);
    thread.spawn(work).unwrap().join().unwrap()
}

#[test]
fn policies_that_can_fail_or_never_match_are_found() {
    let Some(solver) = solver() else { return };
    let more = "
    @id(\"fails\") forbid (principal, action, resource) when { context.amount * 1000 > 7 };
    @id(\"bounded\") forbid (principal, action, resource) when { context.amount < 1000 && context.amount > 0 && context.amount * 1000 > 7 };
    @id(\"never\") forbid (principal, action, resource) when { context.amount > 7 && principal.trust < context.amount && principal.trust > context.amount };
    @id(\"tagged\") forbid (principal, action, resource) when { resource.hasTag(\"a\") && resource.getTag(\"a\") == \"x\" };
    @id(\"trial\") @mode(\"shadow\") forbid (principal, action, resource) when { context.amount * 1000 > 7 };
    ";
    let report = verified(None, bundle(&format!("{BASE}{more}"), SCHEMA), solver).unwrap();
    assert_eq!(report.environments, 2);
    let mut told: Vec<(&str, bool, Matches)> = Vec::new();
    for policy in &report.policies {
        let proved = policy.never_errors == Proof::Proved;
        told.push((policy.policy.as_str(), proved, policy.matches));
    }
    use Matches::{Never, Somewhere};
    assert_eq!(
        told,
        [
            ("bounded", true, Somewhere),
            ("cap", true, Somewhere),
            ("fails", false, Somewhere),
            ("never", true, Never),
            ("payers", true, Somewhere),
            ("readers", true, Somewhere),
            ("tagged", true, Somewhere),
        ]
    );
    assert!(!report.holds());
    let Proof::Refuted { example } = &report.policies[2].never_errors else {
        panic!("{report:?}")
    };
    assert!(example.contains("amount"), "{example}");
}

#[test]
fn bundles_are_compared_for_every_question() {
    let Some(solver) = solver() else { return };
    let cases = [
        // The same, said otherwise: nothing that looks at the text can tell.
        (
            "context.amount <= 100",
            "!(context.amount > 100)",
            (true, true),
        ),
        (
            "context.amount > 1000",
            "context.amount >= 1001",
            (true, true),
        ),
        (
            "context.amount <= 100",
            "context.amount <= 50",
            (true, false),
        ),
        (
            "context.amount <= 100",
            "context.amount <= 200",
            (false, true),
        ),
        (
            "context.amount <= 100",
            "context.amount == 200",
            (false, false),
        ),
        // The cap is far above what anybody is permitted.
        (
            "context.amount > 1000",
            "context.amount > 5000",
            (true, true),
        ),
        (
            "principal in Team::\"readers\", action",
            "principal, action",
            (false, true),
        ),
    ];
    for (was, is, (no_more, no_less)) in cases {
        assert_eq!(BASE.matches(was).count(), 1, "{was}");
        let after = bundle(&BASE.replace(was, is), SCHEMA);
        let report = verified(Some(bundle(BASE, SCHEMA)), after, solver.clone()).unwrap();
        let comparison = report.comparison.unwrap();
        for (proof, expected) in [
            (&comparison.permits_no_more, no_more),
            (&comparison.permits_no_less, no_less),
        ] {
            match proof {
                Proof::Proved => assert!(expected, "{was} → {is}"),
                Proof::Refuted { .. } => assert!(!expected, "{was} → {is}: {proof:?}"),
                Proof::Unknown { because } => panic!("{was} → {is}: {because}"),
            }
        }
    }
}

/// Where Cedar and Remit differ, or nothing can be said, nothing is called proved.
#[test]
fn what_cannot_be_compared_is_unknown() {
    let Some(solver) = solver() else { return };
    let fails = format!(
        "{BASE}@id(\"x\") forbid (principal, action, resource) when {{ context.amount + 1 > 7 }};"
    );
    let other = SCHEMA.replace("note?: String", "note?: String, tone?: String");
    for (after, expected) in [
        (bundle(&fails, SCHEMA), "the forbid `x` can fail"),
        (bundle(BASE, &other), "the schema is another one"),
    ] {
        let report = verified(Some(bundle(BASE, SCHEMA)), after, solver.clone()).unwrap();
        let comparison = report.comparison.clone().unwrap();
        for proof in [comparison.permits_no_more, comparison.permits_no_less] {
            let Proof::Unknown { because } = proof else {
                panic!("{proof:?}")
            };
            assert_eq!(because, expected);
        }
        assert!(!report.holds());
    }
}

/// A solver that is not there, or is none, proves nothing.
#[test]
fn a_solver_that_is_none_proves_nothing() {
    let with = |program: &str| Solver {
        program: program.into(),
        limit: Duration::from_secs(1),
    };
    let missing = verified(None, bundle(BASE, SCHEMA), with("/no/such/solver"));
    assert!(matches!(missing, Err(Error::Solver { .. })), "{missing:?}");
    // What needs no solver, such as a comparison that cannot fail, is proved without one.
    let fails =
        "@id(\"fails\") forbid (principal, action, resource) when { context.amount * 1000 > 7 };";
    let report = verified(None, bundle(fails, SCHEMA), with("false")).unwrap();
    assert!(!report.holds());
    let [policy] = report.policies.as_slice() else {
        panic!("{report:?}")
    };
    assert!(
        matches!(policy.never_errors, Proof::Unknown { .. }),
        "{policy:?}"
    );
    assert_eq!(policy.matches, Matches::Unknown);
    let same = bundle(BASE, SCHEMA);
    let wider = bundle(&BASE.replace("<= 100", "<= 200"), SCHEMA);
    let report = verified(Some(same), wider, with("false")).unwrap();
    let more = report.comparison.unwrap().permits_no_more;
    assert!(matches!(more, Proof::Unknown { .. }), "{more:?}");
    let broken = verified(None, bundle("permit (principal", SCHEMA), with("false"));
    assert!(matches!(broken, Err(Error::Bundle(_))), "{broken:?}");
}

#[test]
fn the_packs_we_ship_are_verified() {
    let Some(solver) = solver() else { return };
    for pack in ["starter", "authzen-certification"] {
        let bundle = remit_tests::bundles::pack(pack);
        let began = Instant::now();
        let report = verified(Some(bundle.clone()), bundle, solver.clone()).unwrap();
        let failing: Vec<_> = report.policies.iter().filter(|one| !one.holds()).collect();
        println!(
            "{pack}: {} policies in {} kinds of questions, {} not proved, in {} ms",
            report.policies.len(),
            report.environments,
            failing.len(),
            began.elapsed().as_millis()
        );
        assert_eq!(failing, Vec::<&remit_verify::PolicyReport>::new(), "{pack}");
        assert!(
            report.holds(),
            "a bundle permits no more than itself: {:?}",
            report.comparison
        );
    }
}
