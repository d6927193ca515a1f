//! F26: JSON that two readers could read differently, or that would cost too much to read.

use std::collections::HashSet;
use std::fmt;

use http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::EVALUATION;

/// Depth, width, duplicates and numbers, at every member that takes free values.
#[tokio::test]
async fn f26_json_that_readers_disagree_on_is_a_400_that_names_the_member() {
    let app = TestApp::start(&pack("starter")).await;
    let nest = |open: &str, close: &str, times: usize| {
        format!("{}1{}", open.repeat(times), close.repeat(times))
    };
    let bombs: Vec<(String, &str)> = vec![
        (nest("[", "]", 33), "nested more than 32 deep"),
        (nest("{\"a\":", "}", 33), "nested more than 32 deep"),
        (nest("[", "]", 200_000), "nested more than 32 deep"),
        (nest("[{\"a\":", "}]", 60_000), "nested more than 32 deep"),
        ("[".repeat(500_000), "nested more than 32 deep"),
        (format!("[{}0]", "0,".repeat(300_000)), "too many values"),
        (
            "{\"twice\":1,\"twice\":2}".into(),
            "the member `twice` appears twice",
        ),
        (
            "{\"twice\":1,\"\\u0074wice\":1}".into(),
            "the member `twice` appears twice",
        ),
        (
            "[[{\"b\":{\"twice\":1,\"c\":2,\"twice\":1}}]]".into(),
            "the member `twice` appears twice",
        ),
        (many_members(300), "the member `m7` appears twice"),
        ("9007199254740992".into(), "too large to be exact"),
        ("-9007199254740992".into(), "too large to be exact"),
        ("9007199254740992.0".into(), "too large to be exact"),
        ("1e400".into(), "too large to be exact"),
        ("-1e400".into(), "too large to be exact"),
        ("9".repeat(100_000), "too large to be exact"),
        (
            format!("1e{}", "9".repeat(100_000)),
            "too large to be exact",
        ),
        ("NaN".into(), "a JSON value is expected"),
        ("-Infinity".into(), "a digit is expected"),
        ("0x10".into(), "`,` or `}` is expected"),
        ("01".into(), "must not start with a zero"),
        ("+1".into(), "a JSON value is expected"),
        ("1.".into(), "a digit is expected"),
        ("'a'".into(), "a JSON value is expected"),
        ("\"\\ud800\"".into(), "half of a surrogate pair"),
        ("\"\\udc00\\ud800\"".into(), "half of a surrogate pair"),
        ("\"\\ud800\\u0041\"".into(), "half of a surrogate pair"),
        ("{\"\\udead\":1}".into(), "half of a surrogate pair"),
        ("\"\u{0}\"".into(), "a control character"),
        ("\"a\nb\"".into(), "a control character"),
        ("\"\\x41\"".into(), "not an escape"),
        ("[1,]".into(), "a JSON value is expected"),
        (
            "{\"a\":1,}".into(),
            "a member name in double quotes is expected",
        ),
        ("/* x */ 1".into(), "a JSON value is expected"),
    ];
    let places = [
        r#"{"context":{"v":HERE},"#,
        r#"{"unknown":HERE,"#,
        r#"{"options":{"v":HERE},"#,
    ];
    let rest = r#""subject":{"type":"Agent","id":"a"},"action":{"name":"call"},"resource":{"type":"Tool","id":"t"}}"#;
    for (bomb, message) in &bombs {
        for place in places {
            let body = place.replace("HERE", bomb) + rest;
            let reply = app.post(EVALUATION, &body).await;
            let shown: String = body.chars().take(100).collect();
            assert_eq!(
                reply.status,
                StatusCode::BAD_REQUEST,
                "{shown}: {}",
                reply.text
            );
            assert!(reply.text.contains(message), "{shown}: {}", reply.text);
            assert!(
                reply.text.contains("line 1, column "),
                "{shown}: {}",
                reply.text
            );
        }
    }
    assert_eq!(app.log.status().sequence, 0, "nothing of that was recorded");
    println!("{} texts refused", bombs.len() * places.len());
}

/// An object whose last member is one of its first again.
fn many_members(count: usize) -> String {
    let members: Vec<String> = (0..count).map(|n| format!("\"m{n}\":0")).collect();
    format!("{{{},\"m7\":0}}", members.join(","))
}

/// serde_json under the rules of I-JSON: what it reads without losing anything, we take, and nothing else.
struct Strict {
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        if value < 1 << 53 {
            Ok(json!(value))
        } else {
            Err(E::custom("inexact"))
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() < 1 << 53 {
            Ok(json!(value))
        } else {
            Err(E::custom("inexact"))
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if value.fract() != 0.0 {
            Ok(json!(value))
        } else if value.abs() < 9_007_199_254_740_992.0 {
            Ok(json!(value as i64))
        } else {
            Err(E::custom("inexact"))
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            list.push(item);
        }
        self.deeper::<A::Error>()?;
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.deeper::<A::Error>()?;
        let mut seen = HashSet::new();
        let mut object = serde_json::Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom("twice"));
            }
            object.insert(name, members.next_value_seed(self.deeper()?)?);
        }
        Ok(Value::Object(object))
    }
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > 32 {
            return Err(E::custom("deep"));
        }
        Ok(Self { depth })
    }
}

/// What the other reader makes of a body.
fn strictly(text: &str) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    value.is_object().then_some(value)
}

/// JSON text with what readers differ on in it, now and then damaged.
fn text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        proptest::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-0.0",
            "1.0",
            "1e2",
            "1E+2",
            "0.1",
            "1e-7",
            "5e-324",
            "1e-400",
            "1e308",
            "1e309",
            "9007199254740991",
            "-9007199254740991",
            "9007199254740992",
            "9007199254740993.0",
            "18446744073709551616",
            "01",
            "-",
            "1.",
            ".5",
            "+1",
            "\"\"",
            "\"\\ud83e\\udd16\"",
            "\"\\ud83e\"",
            "\"\\u0000\"",
            "\"\u{7f}\"",
            "\"\u{1}\"",
            "\"\\/\"",
            "\"\\a\"",
            "nul",
            "True",
            "NaN",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        ".{0,8}".prop_map(|text| json!(text).to_string()),
    ];
    let name = proptest::sample::select(vec![
        "\"a\"",
        "\"\\u0061\"",
        "\"b\"",
        "\"é\"",
        "\"\"",
        "\"A\"",
    ]);
    let space = proptest::sample::select(vec!["", " ", "\n", "\t", "\r\n", "\u{a0}"]);
    let space = prop_oneof![9 => Just(""), 1 => space];
    let whole = leaf.prop_recursive(6, 40, 5, move |inner| {
        let member = (name.clone(), space.clone(), inner.clone())
            .prop_map(|(name, space, value)| format!("{name}{space}:{space}{value}"));
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(member, 0..4)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
            (inner, 1_usize..40).prop_map(|(value, times)| format!(
                "{}{value}{}",
                "[".repeat(times),
                "]".repeat(times)
            )),
        ]
    });
    let damage = proptest::option::weighted(
        0.2,
        (
            any::<proptest::sample::Index>(),
            proptest::sample::select(vec!["", ",", "\"", "}", "[", "\\", "0", ":"]),
        ),
    );
    (whole, damage).prop_map(|(whole, damage)| {
        let Some((at, piece)) = damage else {
            return whole;
        };
        let characters: Vec<char> = whole.chars().collect();
        let at = at.index(characters.len());
        let (head, tail): (String, String) = (
            characters[..at].iter().collect(),
            characters[at + 1..].iter().collect(),
        );
        format!("{head}{piece}{tail}")
    })
}

/// Our reader in front and serde_json under strict rules agree on what is JSON, and the engine's record is what both read.
#[test]
fn f26_the_strict_reader_agrees_with_serde_json() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let app = runtime.block_on(TestApp::start(&pack("starter")));
    let (taken, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let read = std::cell::RefCell::new(Vec::new());
    let mut runner = TestRunner::new(Config {
        cases: 600,
        rng_seed: RngSeed::Fixed(8),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&text(), |text| {
        let body = format!(
            "{{\"context\":{{\"v\":{text}}},\"subject\":{{\"type\":\"Agent\",\"id\":\"a\"}},\
             \"action\":{{\"name\":\"call\"}},\"resource\":{{\"type\":\"Tool\",\"id\":\"t\"}}}}"
        );
        let reply = runtime.block_on(app.post(EVALUATION, &body));
        match strictly(&body) {
            Some(value) => {
                // A damaged text may have moved what belongs to the question: then its meaning is wrong, not its spelling.
                let well_spelt = reply.status == StatusCode::OK
                    || !reply.text.contains("line 1, column")
                        && !reply.text.contains("line 2, column");
                prop_assert!(well_spelt, "only ours refuses {text}: {}", reply.text);
                if reply.status == StatusCode::OK {
                    taken.set(taken.get() + 1);
                    read.borrow_mut()
                        .push((reply.header("x-decision-id").to_owned(), value));
                }
            }
            None => {
                prop_assert_eq!(
                    reply.status,
                    StatusCode::BAD_REQUEST,
                    "only ours takes {}",
                    text
                );
                prop_assert!(reply.text.contains("line "), "{}: {}", text, reply.text);
                refused.set(refused.get() + 1);
            }
        }
        Ok::<(), TestCaseError>(())
    });
    outcome.unwrap();
    runtime.block_on(async {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (log, store) = (app.log.clone(), app.store.clone());
        let shipping = tokio::spawn(async move {
            log.ship(store, async {
                let _ = stopped.await;
            })
            .await;
        });
        assert!(app.log.caught_up(std::time::Duration::from_secs(30)).await);
        let _ = stop.send(());
        shipping.await.unwrap();
        for (id, value) in read.into_inner() {
            let stored = app
                .store
                .decision(app.tenant, id.parse().unwrap())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                json!(stored.record.question.context),
                value["context"],
                "{id}"
            );
        }
    });
    println!(
        "{} texts taken and recorded as serde_json reads them, {} refused by both",
        taken.get(),
        refused.get()
    );
    assert!(taken.get() > 100 && refused.get() > 100);
}
