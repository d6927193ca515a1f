//! Tests of editing one policy.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test that panics has failed"
)]

use super::*;

const SCHEMA: &str = "
entity Agent { trust: Long };
entity Tool;
action use appliesTo { principal: Agent, resource: Tool };
";

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.to_owned(),
        text: text.to_owned(),
    }
}

fn bundle(files: &[(&str, &str)]) -> Bundle {
    Bundle {
        schema: vec![source("acme.cedarschema", SCHEMA)],
        policies: files
            .iter()
            .map(|(file, text)| source(file, text))
            .collect(),
        ..Bundle::default()
    }
}

fn id(text: &str) -> PolicyId {
    PolicyId::new(text)
}

fn permit(id: &str) -> String {
    format!("@id(\"{id}\") permit (principal, action, resource);")
}

/// What the files hold after an edit, by name.
fn files(edited: &Edited) -> Vec<(&str, &str)> {
    let sources = edited.bundle.policies.iter();
    sources
        .map(|source| (source.file.as_str(), source.text.as_str()))
        .collect()
}

#[test]
fn a_policy_is_replaced_and_every_other_byte_kept() {
    let text = format!(
        "// é first\r\n{} // beside\n\t{}   \n// last",
        permit("a"),
        permit("b")
    );
    let bundle = bundle(&[
        ("x.cedar", text.as_str()),
        ("y.cedar", permit("c").as_str()),
    ]);
    let snapshot = Snapshot::compile(&bundle).unwrap();
    let new = "@id(\"a\")\n@note(\"ü\")\nforbid (principal, action, resource)\nwhen { principal.trust < 1 };";
    let sent = format!("\n  {new}\t\n");
    let edited = snapshot
        .put_policy(bundle.clone(), &id("a"), &sent, None)
        .unwrap();
    let wanted = text.replace(&permit("a"), new);
    assert_eq!(
        files(&edited),
        [
            ("x.cedar", wanted.as_str()),
            ("y.cedar", permit("c").as_str())
        ]
    );
    let changed = snapshot.recompile(&edited.bundle).unwrap();
    let written = changed.written_policy(&id("a")).unwrap();
    assert_eq!((written.text(), written.effect()), (new, Effect::Forbid));
    assert_eq!(written.annotations()["note"], "ü");
    let Span { start, end, .. } = written.span();
    assert_eq!(wanted.get(start..end), Some(new));
    for one in ["b", "c"] {
        assert_eq!(
            changed.written_policy(&id(one)).unwrap().text(),
            permit(one)
        );
    }
    // The text that is read is the text that can be put: nothing changes.
    let same = changed
        .put_policy(
            edited.bundle.clone(),
            &id("a"),
            written.text(),
            Some("x.cedar"),
        )
        .unwrap();
    assert_eq!(same.bundle, edited.bundle);
}

#[test]
fn adding_and_removing_leaves_the_bundle_as_it_was() {
    for (files, file) in [
        (vec![("x.cedar", "// only a remark\n")], Some("x.cedar")),
        (
            vec![(
                "x.cedar",
                "@id(\"o\") permit (principal, action, resource);\n",
            )],
            Some("x.cedar"),
        ),
        (vec![("x.cedar", "")], Some("new.cedar")),
        (vec![], None),
    ] {
        let before = bundle(&files);
        let snapshot = Snapshot::compile(&before).unwrap();
        let added = snapshot
            .put_policy(before.clone(), &id("a"), &permit("a"), file)
            .unwrap();
        let with = snapshot.recompile(&added.bundle).unwrap();
        let written = with.written_policy(&id("a")).unwrap();
        assert_eq!(written.file(), file.unwrap_or(NEW_POLICIES));
        let gone = with.remove_policy(added.bundle, &id("a")).unwrap();
        assert_eq!(gone.bundle, before, "{files:?}");
    }
    // Without an end of line the last policy gets one, which is all that stays.
    let before = bundle(&[("x.cedar", permit("o").as_str())]);
    let snapshot = Snapshot::compile(&before).unwrap();
    let added = snapshot
        .put_policy(before, &id("a"), &permit("a"), Some("x.cedar"))
        .unwrap();
    assert_eq!(
        files(&added),
        [(
            "x.cedar",
            format!("{}\n\n{}\n", permit("o"), permit("a")).as_str()
        )]
    );
}

#[test]
fn what_is_taken_out_takes_its_own_lines_along() {
    let (a, b, c) = (permit("a"), permit("b"), permit("c"));
    for (text, left) in [
        (format!("{a}\n\n{b}\n\n{c}\n"), format!("{a}\n\n{c}\n")),
        (format!("{b}\n\n{c}\n"), format!("{c}\n")),
        (format!("{a}\n\n{b}\n"), format!("{a}\n")),
        (format!("{a} {b}\n{c}"), format!("{a} \n{c}")),
        (
            format!("{a}\n  {b} // beside\n"),
            format!("{a}\n   // beside\n"),
        ),
        (format!("// above\n{b}\n"), "// above\n".to_owned()),
        (format!("{a}\n{b}"), format!("{a}\n")),
    ] {
        let before = bundle(&[("x.cedar", text.as_str())]);
        let snapshot = Snapshot::compile(&before).unwrap();
        let gone = snapshot.remove_policy(before, &id("b")).unwrap();
        assert_eq!(files(&gone), [("x.cedar", left.as_str())], "{text:?}");
        assert!(Snapshot::compile(&gone.bundle).is_ok());
    }
}

#[test]
fn the_text_is_one_policy_with_that_id() {
    let before = bundle(&[("x.cedar", permit("a").as_str())]);
    let snapshot = Snapshot::compile(&before).unwrap();
    let open = "permit (principal, action, resource)";
    let two = format!("{}\n{}", permit("a"), permit("b"));
    let other = permit("b");
    let nameless = format!("{open};");
    let above = format!("// é\n{}", permit("a"));
    let beside = format!("{} // é ", permit("a"));
    let endless = format!("@id(\"a\") {open}");
    let deep = format!("@id(\"a\") {open} when {{ {} }};", "(".repeat(50));
    for (text, code, place) in [
        ("", "no_policy", None),
        ("// nothing", "no_policy", None),
        (two.as_str(), "many_policies", Some(other.as_str())),
        (other.as_str(), "other_id", Some("@id(\"b\")")),
        (nameless.as_str(), "missing_id", Some(open)),
        (above.as_str(), "outside_policy", Some("// é")),
        (beside.as_str(), "outside_policy", Some("// é")),
        (endless.as_str(), "parse_error", Some("")),
        ("@id(\"a", "unterminated_string", Some("\"")),
        (deep.as_str(), "nesting_too_deep", Some("(")),
    ] {
        let refused = snapshot.put_policy(before.clone(), &id("a"), text, None);
        let EditError::Text(error) = refused.unwrap_err() else {
            panic!("{text}");
        };
        let found = &error.diagnostics[0];
        assert_eq!((found.code.as_str(), &found.file), (code, &None), "{text}");
        let shown = found.span.map(|span| &text[span.start..span.end]);
        assert_eq!(shown, place, "{text}");
    }
}

#[test]
fn diagnostics_are_placed_in_the_text_that_was_sent() {
    let before = bundle(&[("x.cedar", format!("// é\n{}\n", permit("a")).as_str())]);
    let snapshot = Snapshot::compile(&before).unwrap();
    for name in ["a", "new"] {
        let sent = format!(
            "\n @id(\"{name}\")\npermit (principal, action, resource)\nwhen {{ principal.nosuch == 1 }};"
        );
        let edited = snapshot
            .put_policy(before.clone(), &id(name), &sent, Some("x.cedar"))
            .unwrap();
        let error = snapshot.recompile(&edited.bundle).unwrap_err();
        assert_eq!(error.diagnostics[0].file.as_deref(), Some("x.cedar"));
        let placed = edited.place(error.diagnostics);
        let span = placed[0].span.unwrap();
        assert_eq!(placed[0].file, None);
        assert_eq!(&sent[span.start..span.end], "principal.nosuch");
        assert_eq!((span.start_line, span.start_column), (4, 8));
    }
    // What is wrong elsewhere keeps its file.
    let mut linked = before.clone();
    linked.policies[0]
        .text
        .push_str("@id(\"t\") permit (principal == ?principal, action, resource);");
    let slot = ("?principal".to_owned(), "Agent::\"x\"".parse().unwrap());
    linked.links.push(remit_core::Link {
        id: id("link"),
        template: id("t"),
        slots: [slot].into(),
    });
    let snapshot = Snapshot::compile(&linked).unwrap();
    assert!(snapshot.written_policy(&id("link")).is_none());
    assert!(snapshot.written_policy(&id("t")).unwrap().is_template());
    let edited = snapshot
        .put_policy(linked, &id("link"), &permit("link"), None)
        .unwrap();
    let error = snapshot.recompile(&edited.bundle).unwrap_err();
    assert_eq!(edited.place(error.diagnostics)[0].code, "duplicate_id");
}

#[test]
fn an_edit_needs_its_own_bundle_and_a_file_that_can_be() {
    let before = bundle(&[("x.cedar", permit("a").as_str())]);
    let snapshot = Snapshot::compile(&before).unwrap();
    let edit = |bundle: &Bundle, name: &str, file: Option<&str>| {
        let edited = snapshot.put_policy(bundle.clone(), &id(name), &permit(name), file);
        edited.map(drop).unwrap_err()
    };
    let mut other = before.clone();
    other.policies[0].text.push('\n');
    assert_eq!(edit(&other, "a", None), EditError::OtherBundle);
    let removed = snapshot.remove_policy(other, &id("a")).map(drop);
    assert_eq!(removed, Err(EditError::OtherBundle));
    let removed = snapshot.remove_policy(before.clone(), &id("b")).map(drop);
    assert_eq!(removed, Err(EditError::NotFound(id("b"))));
    let elsewhere = EditError::OtherFile {
        id: id("a"),
        file: "x.cedar".to_owned(),
    };
    assert_eq!(edit(&before, "a", Some("y.cedar")), elsewhere);
    let long = format!("{}.cedar", "x".repeat(250));
    for name in [
        "",
        ".cedar",
        "a",
        "a.cedarschema",
        "../a.cedar",
        "a\\b.cedar",
        "a\n.cedar",
        "e\u{301}.cedar",
        &long,
    ] {
        assert_eq!(
            edit(&before, "b", Some(name)),
            EditError::FileName(name.to_owned())
        );
    }
}

#[test]
fn texts_are_read_whatever_the_schema_says() {
    let mut bundle = bundle(&[
        ("x.cedar", permit("a").as_str()),
        ("y.cedar", permit("b").as_str()),
    ]);
    bundle.schema.clear();
    let texts = policy_texts(&bundle).unwrap();
    assert_eq!(
        texts,
        [(id("a"), permit("a")), (id("b"), permit("b"))].into()
    );
    bundle.policies[0].text = "permit(".to_owned();
    let error = policy_texts(&bundle).unwrap_err();
    assert_eq!(error.diagnostics[0].file.as_deref(), Some("x.cedar"));
}
