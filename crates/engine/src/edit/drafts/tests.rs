//! Tests of drafts.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const A: &str = "@id(\"a\")\npermit (principal, action, resource);\n";
const B: &str = "@id(\"b\")\nforbid (principal, action, resource);\n";
const B2: &str = "@id(\"b\")\nforbid (principal, action, resource) when { true };\n";
const B3: &str = "@id(\"b\")\nforbid (principal, action, resource) unless { true };\n";
const C: &str = "@id(\"c\")\npermit (principal, action, resource) when { false };\n";
const BROKEN: &str = "@id(\"x\")\npermit (principal, action;\n";

fn bundle(files: &[(&str, &str)]) -> Bundle {
    let source = |(file, text): &(&str, &str)| Source {
        file: (*file).to_owned(),
        text: (*text).to_owned(),
    };
    Bundle {
        policies: files.iter().map(source).collect(),
        ..Bundle::default()
    }
}

fn rebased(base: &Bundle, draft: &Bundle, head: &Bundle) -> Result<Bundle, Vec<Clash>> {
    rebase(base, draft, head).unwrap()
}

fn clash(kind: ClashKind, name: &str) -> Vec<Clash> {
    vec![Clash {
        kind,
        name: name.to_owned(),
    }]
}

fn id(text: &str) -> PolicyId {
    PolicyId::new(text)
}

#[test]
fn differences_are_by_policy_and_not_by_place() {
    let before = bundle(&[("one.cedar", &[A, B].concat()), ("two.cedar", C)]);
    let after = bundle(&[
        ("one.cedar", B2),
        ("two.cedar", &["// Why\n", C].concat()),
        ("three.cedar", A),
    ]);
    let found = differences(&before, &after).unwrap();
    let expected = Differences {
        changed: vec![id("b")],
        ..Differences::default()
    };
    assert_eq!(
        found, expected,
        "`a` stands in another file and says the same"
    );

    let mut more = bundle(&[("one.cedar", &[A, BROKEN].concat()), ("two.cedar", C)]);
    let agent = serde_json::json!({ "uid": { "type": "Agent", "id": "x" } });
    more.entities.push(serde_json::from_value(agent).unwrap());
    let found = differences(&before, &more).unwrap();
    assert_eq!(found.removed, [id("b")]);
    assert_eq!(found.unreadable, ["one.cedar"]);
    assert_eq!(found.parts, BTreeSet::from([Part::Entities]));
    assert_eq!(differences(&after, &after).unwrap(), Differences::default());
}

#[test]
fn a_policy_is_edited_beside_what_cannot_be_read() {
    let draft = bundle(&[("one.cedar", &[BROKEN, "\n", B, "// end\n"].concat())]);
    let edited = put_text(draft.clone(), &id("b"), B2, None).unwrap();
    let text = [BROKEN, "\n", B2, "// end\n"].concat();
    assert_eq!(edited, bundle(&[("one.cedar", &text)]));
    let added = put_text(edited, &id("c"), C, Some("two.cedar")).unwrap();
    assert_eq!(added, bundle(&[("one.cedar", &text), ("two.cedar", C)]));
    let removed = remove_text(added, &id("c")).unwrap();
    assert_eq!(removed, bundle(&[("one.cedar", &text)]));
    let gone = remove_text(removed, &id("b")).unwrap();
    assert_eq!(
        gone,
        bundle(&[("one.cedar", &[BROKEN, "\n// end\n"].concat())])
    );
    assert_eq!(
        remove_text(gone.clone(), &id("b")),
        Err(EditError::NotFound(id("b")))
    );
    for (text, file) in [(BROKEN, None), (A, None), (B, Some("no.txt"))] {
        assert!(
            put_text(gone.clone(), &id("b"), text, file).is_err(),
            "{text}"
        );
    }
    let other = put_text(draft, &id("b"), B2, Some("two.cedar"));
    assert!(matches!(other, Err(EditError::OtherFile { .. })));
}

#[test]
fn what_both_sides_changed_apart_goes_together() {
    let base = bundle(&[("one.cedar", &[A, "\n", B].concat()), ("two.cedar", C)]);
    // Ours: `a` is gone, `d` is new in the same file. Theirs: `b` is another one, with a comment.
    let d = C.replace("\"c\"", "\"d\"");
    let draft = bundle(&[("one.cedar", &[B, "\n", &d].concat()), ("two.cedar", C)]);
    let head = bundle(&[("one.cedar", &[A, "\n// Theirs\n", B2].concat())]);
    let expected = bundle(&[("one.cedar", &["// Theirs\n", B2, "\n", &d].concat())]);
    assert_eq!(rebased(&base, &draft, &head), Ok(expected));
    assert_eq!(rebased(&base, &base, &head), Ok(head.clone()));
    assert_eq!(rebased(&base, &draft, &base), Ok(draft.clone()));
    assert_eq!(rebased(&base, &draft, &draft), Ok(draft));
}

#[test]
fn what_both_sides_changed_otherwise_clashes() {
    let base = bundle(&[("one.cedar", &[A, B].concat())]);
    let with = |text: &str| bundle(&[("one.cedar", &[A, text].concat())]);
    let policy = |name: &str| Err(clash(ClashKind::Policy, name));
    assert_eq!(rebased(&base, &with(B2), &with(B3)), policy("b"));
    assert_eq!(
        rebased(&base, &with(""), &with(B3)),
        policy("b"),
        "removed here, changed there"
    );
    assert_eq!(
        rebased(&base, &with(B2), &with("")),
        policy("b"),
        "changed here, removed there"
    );
    // Added on both sides, in different files.
    let here = bundle(&[("one.cedar", &[A, B].concat()), ("x.cedar", C)]);
    let there = bundle(&[("one.cedar", &[A, B].concat()), ("y.cedar", C)]);
    assert_eq!(rebased(&base, &here, &there), policy("c"));
    assert_eq!(
        rebased(&base, &with(BROKEN), &with(B3)),
        Err(clash(ClashKind::File, "one.cedar"))
    );
    // One that only the draft changed is taken even if it cannot be read.
    assert_eq!(rebased(&base, &with(BROKEN), &base), Ok(with(BROKEN)));

    let schema = |text: &str| Bundle {
        schema: vec![Source {
            file: "s.cedarschema".to_owned(),
            text: text.to_owned(),
        }],
        ..base.clone()
    };
    assert_eq!(
        rebased(
            &schema("entity A;"),
            &schema("entity B;"),
            &schema("entity C;")
        ),
        Err(clash(ClashKind::Schema, "s.cedarschema"))
    );
    assert_eq!(
        rebased(
            &schema("entity A;"),
            &schema("entity B;"),
            &schema("entity A;")
        ),
        Ok(schema("entity B;"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the three are, what only one side changed is taken from that side, and nothing is lost without a word.
    #[test]
    fn law_every_change_is_there_or_clashes(
        picks in proptest::collection::vec((0_usize..4, 0_usize..4, 0_usize..4), 1..6),
    ) {
        let texts = [
            None,
            Some("permit (principal, action, resource);"),
            Some("forbid (principal, action, resource);"),
            Some("permit (principal, action, resource) when { true };"),
        ];
        let side = |pick: fn(&(usize, usize, usize)) -> usize| {
            let mut text = String::new();
            for (number, three) in picks.iter().enumerate() {
                if let Some(Some(policy)) = texts.get(pick(three)) {
                    text = format!("{text}@id(\"p{number}\") {policy}\n");
                }
            }
            if text.is_empty() { bundle(&[]) } else { bundle(&[("one.cedar", &text)]) }
        };
        let (base, draft, head) = (side(|p| p.0), side(|p| p.1), side(|p| p.2));
        let clashing = picks.iter().any(|(b, d, h)| d != b && h != b && d != h);
        match rebased(&base, &draft, &head) {
            Err(found) => proptest::prop_assert!(clashing, "{found:?}"),
            Ok(merged) => {
                proptest::prop_assert!(!clashing);
                let read = on_large_stack(|| {
                    let one = merged.policies.first();
                    Ok(one.map_or_else(BTreeMap::new, |one| Outline::of(&one.text).texts(&one.text)))
                }).unwrap();
                for (number, (b, d, h)) in picks.iter().enumerate() {
                    let wanted = if d == b { h } else { d };
                    let text = read.get(&id(&format!("p{number}")));
                    let wanted = texts.get(*wanted).copied().flatten().map(|policy| format!("@id(\"p{number}\") {policy}"));
                    proptest::prop_assert_eq!(text.cloned(), wanted);
                }
            }
        }
    }
}
