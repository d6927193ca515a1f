//! Tests of keeping policy files from one compilation to the next.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use remit_core::Bundle;

use super::*;
use crate::compile::{Program, compile};

const SCHEMA: &str = "
entity Agent;
entity Tool;
action use appliesTo { principal: Agent, resource: Tool };
";

fn source(file: &str, text: impl Into<String>) -> Source {
    Source {
        file: file.to_owned(),
        text: text.into(),
    }
}

/// Whatever is kept of the program before, the result is that of compiling anew.
#[test]
fn a_file_that_did_not_change_is_kept_whole() {
    let policy = |id: &str| format!("@id(\"{id}\") permit(principal, action, resource);\n");
    let mut bundle = Bundle {
        schema: vec![source("acme.cedarschema", SCHEMA)],
        policies: vec![
            source("acme.cedar", policy("a")),
            source("other.cedar", policy("b") + &policy("c")),
        ],
        ..Bundle::default()
    };
    let first = compile(&bundle, None).unwrap();
    let of = |program: &Program, id: &str| {
        let policies = program.policies.iter();
        let mut found = policies.filter(|policy| policy.id.as_str() == id);
        Arc::clone(found.next().unwrap())
    };
    bundle.policies[0].text = format!("// longer\n{}{}", policy("a"), policy("d"));
    let changed = compile(&bundle, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&of(&first, "b"), &of(&changed, "b")));
    assert!(!Arc::ptr_eq(&of(&first, "a"), &of(&changed, "a")));
    let fresh = compile(&bundle, None).unwrap();
    assert_eq!(changed.warnings, fresh.warnings);
    assert_eq!(changed.content_hash, fresh.content_hash);
    let places = |program: &Program| -> Vec<_> {
        let policies = program.policies.iter();
        policies
            .map(|policy| (policy.id.clone(), Arc::clone(&policy.file), policy.span))
            .collect()
    };
    assert_eq!(places(&changed), places(&fresh));

    // An id is unique among kept files and new ones alike.
    bundle.policies[0].text = policy("c");
    let twice = compile(&bundle, Some(&changed)).unwrap_err().diagnostics;
    assert_eq!(twice, compile(&bundle, None).unwrap_err().diagnostics);
    assert_eq!(twice.first().unwrap().code, "duplicate_id");
    // The same text under another name stands in another place.
    bundle.policies[0].text = policy("a");
    bundle.policies[1].file = "renamed.cedar".to_owned();
    let renamed = compile(&bundle, Some(&changed)).unwrap();
    assert_eq!(of(&renamed, "b").file.as_ref(), "renamed.cedar");
}
