//! Tests of formatting.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics has failed"
)]

use super::*;

#[test]
fn formatting_keeps_comments_and_is_stable() {
    let text = "// first\n@id(\"a\")permit(principal==A::\"x\",action,resource)when{context.a>3&&context.b}; // last\n// end\n@id(\"b\")\n\n\nforbid(principal,action,resource);";
    let once = format_policies(text).unwrap();
    assert!(
        once.contains("// first") && once.contains("// last") && once.contains("// end"),
        "{once}"
    );
    assert!(once.contains("principal == A::\"x\""), "{once}");
    assert_eq!(format_policies(&once).unwrap(), once);
}

#[test]
fn what_does_not_parse_is_refused_with_its_place() {
    let error =
        format_policies("permit(principal, action, resource)\nwhen { 1 = 2 };").unwrap_err();
    let [only] = error.diagnostics.as_slice() else {
        panic!("{error:?}")
    };
    assert_eq!(
        (only.code.as_str(), only.file.as_ref()),
        ("parse_error", None)
    );
    assert_eq!(only.span.unwrap().start_line, 2);
}

#[test]
fn bombs_are_refused() {
    let bomb = format!(
        "permit(principal, action, resource) when {{ {}true{} }};",
        "(".repeat(5_000),
        ")".repeat(5_000)
    );
    let error = format_policies(&bomb).unwrap_err();
    assert_eq!(error.diagnostics.first().unwrap().code, "nesting_too_deep");
}
