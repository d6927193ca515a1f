//! The nouns: text forms that do not drift, hashes that mean something.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use remit_core::{
    Bundle, Clock, ContentHash, DecisionId, Question, Reason, Revision, Source, Timestamp,
    canonical_json,
};
use serde_json::{Value, json};

#[test]
fn timestamps_keep_microseconds_and_one_spelling() {
    for (given, written) in [
        ("2026-11-22T09:30:00Z", "2026-11-22T09:30:00.000000Z"),
        (
            "2026-11-22T10:30:00.123456789+01:00",
            "2026-11-22T09:30:00.123456Z",
        ),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
        (
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T23:59:59.999999Z",
        ),
    ] {
        let time: Timestamp = given.parse().unwrap();
        assert_eq!(time.to_string(), written);
        assert_eq!(Timestamp::from_micros(time.micros()), time);
    }
    for wrong in [
        "",
        "2026-11-22",
        "2026-13-01T00:00:00Z",
        "yesterday",
        "2026-11-22T09:30:00",
        // In UTC these are in years that RFC 3339 cannot write, so nobody could read them again.
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:60Z",
        "0000-01-01T00:00:00+00:01",
    ] {
        assert!(wrong.parse::<Timestamp>().is_err(), "{wrong} was taken");
    }
    let monday: Timestamp = "2026-01-05T10:02:00Z".parse().unwrap();
    assert_eq!((monday.weekday(), monday.minute_of_day()), (1, 602));
    assert_eq!(
        Timestamp::from_micros(i64::MAX),
        Timestamp::from_micros(i64::MAX).plus(Duration::MAX)
    );
}

#[test]
fn revisions_have_one_spelling() {
    assert_eq!("42".parse::<Revision>().unwrap(), Revision::new(42));
    for wrong in ["", "+1", "-1", " 1", "1.0", "0x1", "18446744073709551616"] {
        assert!(wrong.parse::<Revision>().is_err(), "{wrong} was taken");
    }
}

#[test]
fn content_hashes_round_trip_and_refuse_other_spellings() {
    let hash = ContentHash::of(b"remit");
    assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
    let text = hash.to_string();
    for wrong in [&text[7..], &text.to_uppercase(), &text[..70], "sha256:"] {
        assert!(wrong.parse::<ContentHash>().is_err(), "{wrong} was taken");
    }
}

#[test]
fn a_bundle_is_its_content_not_its_order() {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let one = Bundle {
        schema: vec![source("s.cedarschema", "entity A;")],
        policies: vec![source("a.cedar", "x"), source("b.cedar", "y")],
        ..Bundle::default()
    };
    let mut other = one.clone();
    other.policies.reverse();
    assert_eq!(one.content_hash(), other.content_hash());
    let mut changed = one.clone();
    changed.policies[0].text.push(' ');
    assert_ne!(one.content_hash(), changed.content_hash());
    let mut renamed = one.clone();
    renamed.policies[0].file = "c.cedar".to_owned();
    assert_ne!(one.content_hash(), renamed.content_hash());
}

#[test]
fn reason_codes_are_distinct_and_round_trip() {
    let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert_eq!(reason.code().parse::<Reason>().unwrap(), *reason);
        assert_eq!(serde_json::to_value(reason).unwrap(), json!(reason.code()));
        assert!(reason.sentence().ends_with('.'), "{reason} has no sentence");
    }
    assert!("policy_permitted".parse::<Reason>().is_err());
}

#[test]
fn ids_increase_and_manual_clocks_repeat() {
    let clock = Clock::system();
    let ids: Vec<_> = (0..1_000)
        .map(|_| DecisionId::from_uuid(clock.id()))
        .collect();
    assert!(
        ids.windows(2).all(|pair| pair[0] < pair[1]),
        "ids of one process must increase"
    );

    let start: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    let (one, other) = (Clock::manual(start), Clock::manual(start));
    assert_eq!((one.id(), one.id()), (other.id(), other.id()));
    one.advance(Duration::from_secs(3));
    assert_eq!(one.boot(), Duration::from_secs(3));
    assert_eq!(one.now(), start.plus(Duration::from_secs(3)));
}

#[test]
fn questions_name_the_member_at_fault() {
    let good = json!({
        "subject": {"type": "Agent", "id": "a"}, "action": {"name": "call"}, "resource": {"type": "Tool", "id": "t"}
    });
    let check = |pointer: &str, value: Value| {
        let mut body = good.clone();
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        parent
            .as_object_mut()
            .unwrap()
            .insert(member.to_owned(), value);
        serde_json::from_value::<Question>(body)
            .unwrap()
            .check()
            .unwrap_err()
            .to_string()
    };
    serde_json::from_value::<Question>(good.clone())
        .unwrap()
        .check()
        .unwrap();
    assert_eq!(
        check("/subject/id", json!("")),
        "`subject.id` must not be empty"
    );
    assert_eq!(
        check("/subject/type", json!("x".repeat(257))),
        "`subject.type` is longer than 256 bytes"
    );
    assert_eq!(
        check("/resource/id", json!("x".repeat(1025))),
        "`resource.id` is longer than 1024 bytes"
    );
    assert_eq!(
        check("/action/name", json!("a\0b")),
        "`action.name` must not contain a NUL character"
    );
    let facts = check("/context", json!({"facts": {"approved": true}}));
    assert_eq!(
        facts,
        "`context.facts` is supplied by Remit and must not be sent"
    );
}

/// RFC 8785: the published input and output pairs, byte for byte.
#[test]
fn canonical_json_matches_the_published_pairs() {
    let Some(folder) = remit_tests::vectors("jcs") else {
        return;
    };
    let mut pairs = 0;
    for entry in fs::read_dir(folder.join("input")).unwrap() {
        let path = entry.unwrap().path();
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let expected = fs::read(folder.join("output").join(path.file_name().unwrap())).unwrap();
        let written = canonical_json(&value).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&written).trim_end(),
            String::from_utf8_lossy(&expected).trim_end(),
            "{}",
            path.display()
        );
        pairs += 1;
    }
    assert!(pairs >= 5, "only {pairs} pairs were found");
}
