//! `remit policy verify`, the real binary, in a build with the feature `verify`.

use std::fs;

use serde_json::json;

use crate::cli::{folder, run, starter};

/// Says whether there is a solver; without one under `CI=true` the test has failed.
fn has_solver() -> bool {
    let asked = std::process::Command::new("cvc5").arg("--version").output();
    let there = asked.is_ok_and(|output| output.status.success());
    assert!(there || !remit_tests::ci(), "there is no cvc5");
    if !there {
        eprintln!("SKIPPED: there is no cvc5 to run this test with");
    }
    there
}

#[test]
fn a_draft_is_proved_to_permit_no_more_or_shown_to() {
    if !has_solver() {
        return;
    }
    let home = folder();
    starter(home.path());
    let rule = home.path().join("starter/added.cedar");
    let ours = remit_tests::root().join("policies/starter");
    let verify = |format: &str| {
        let against = ours.to_str().unwrap();
        let arguments = [
            "policy",
            "verify",
            "starter",
            "--against",
            against,
            "-o",
            format,
        ];
        run(home.path(), &arguments)
    };
    verify("table").succeeds(&[
        "27 of 27 policies never fail and can match, in 9 kinds of questions",
        "permits no more than before: proved",
        "permits no less than before: proved",
    ]);
    let forbid = "@id(\"big\") @owner(\"t\") forbid (principal, action == Action::\"pay\", resource) when { context.action.amount > 4000000 };";
    fs::write(&rule, forbid).unwrap();
    let tighter = verify("json");
    assert_eq!(tighter.code, 0, "{}{}", tighter.stdout, tighter.stderr);
    let told = tighter.json();
    assert_eq!(
        told["comparison"]["permits_no_more"],
        json!({ "result": "proved" })
    );
    assert_eq!(told["comparison"]["permits_no_less"]["result"], "refuted");

    let permit = "@id(\"open\") @owner(\"t\") permit (principal is Agent, action == Action::\"pay\", resource) when { context.action.amount == 7 };";
    fs::write(&rule, permit).unwrap();
    let looser = verify("table");
    assert_eq!(looser.code, 6, "{}{}", looser.stdout, looser.stderr);
    let told = looser.stdout;
    assert!(
        told.contains("permits no more than before: no") && told.contains("amount"),
        "{told}"
    );

    let fails = "@id(\"fails\") @owner(\"t\") forbid (principal, action == Action::\"pay\", resource) when { context.action.amount * 2 > 7 };";
    fs::write(&rule, fails).unwrap();
    let unknown = verify("table");
    assert_eq!(unknown.code, 6, "{}{}", unknown.stdout, unknown.stderr);
    let told = unknown.stdout;
    assert!(
        told.contains("fails (forbid) can match; never fails: no"),
        "{told}"
    );
    assert!(
        told.contains("unknown: the forbid `fails` can fail"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    let home = folder();
    starter(home.path());
    run(
        home.path(),
        &["policy", "verify", "starter", "--solver", "/no/such/solver"],
    )
    .fails(3, &["the solver `/no/such/solver` cannot be started"]);
    fs::write(home.path().join("starter/added.cedar"), "permit (principal").unwrap();
    run(home.path(), &["policy", "verify", "starter"]).fails(3, &["added.cedar"]);
    run(home.path(), &["policy", "verify", "nowhere"]).fails(1, &["nowhere"]);
}
