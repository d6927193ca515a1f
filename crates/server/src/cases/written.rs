//! A case file in the form people write it, with references to fixtures and parts left out.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use remit_core::{Action, CaseFacts, Entity, Expectation, Question, Resource, Subject, Timestamp};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A file: a list of cases, or cases with the fixtures they share.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// What the cases refer to.
    pub(super) fixtures: Fixtures,
    /// The cases.
    pub(super) cases: Vec<WrittenCase>,
}

/// A file that is no list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    #[serde(default)]
    fixtures: Fixtures,
    cases: Vec<WrittenCase>,
}

/// What several cases of a file speak of, by name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fixtures {
    /// Whole questions.
    #[serde(default)]
    pub(super) questions: BTreeMap<String, Question>,
    /// Members of a question's context.
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, Map<String, Value>>,
    /// Entities to be supposed.
    #[serde(default)]
    pub(super) entities: BTreeMap<String, Entity>,
    /// What Remit has registered, counted or verified.
    #[serde(default)]
    pub(super) facts: BTreeMap<String, CaseFacts>,
}

/// A case: its members hold for each of its steps that does not say otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCase {
    pub(super) name: String,
    pub(super) question: Option<Named<Question>>,
    pub(super) context: Option<Named<Map<String, Value>>>,
    pub(super) at: Option<Timestamp>,
    pub(super) environment: Option<String>,
    pub(super) approved: Option<bool>,
    pub(super) entities: Option<Vec<Named<Entity>>>,
    pub(super) facts: Option<Layers>,
    pub(super) expect: Option<Expectation>,
    pub(super) steps: Option<Vec<WrittenStep>>,
    pub(super) matrix: Option<Matrix>,
}

/// One step of a case.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStep {
    pub(super) question: Option<Named<Question>>,
    /// Laid over the context of the question, member by member.
    pub(super) context: Option<Named<Map<String, Value>>>,
    pub(super) at: Option<Timestamp>,
    pub(super) environment: Option<String>,
    pub(super) approved: Option<bool>,
    /// Beside those of the case, in place of one of the same name.
    pub(super) entities: Option<Vec<Named<Entity>>>,
    /// Laid over those of the case, member by member.
    pub(super) facts: Option<Layers>,
    pub(super) expect: Option<Expectation>,
}

/// Every subject with every action on every resource.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Matrix {
    /// As `Type::"id"`, or written out with properties.
    pub(super) subjects: Vec<Named<Subject>>,
    /// By name, or written out with properties.
    pub(super) actions: Vec<Named<Action>>,
    /// As `Type::"id"`, or written out with properties.
    pub(super) resources: Vec<Named<Resource>>,
    /// Where something else is expected than by the case; the last row that fits counts.
    #[serde(default)]
    pub(super) except: Vec<Row>,
}

/// Names combinations of a matrix, and what is expected of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// These subjects; every one where left out.
    #[serde(default)]
    pub(super) subject: Names,
    /// These actions.
    #[serde(default)]
    pub(super) action: Names,
    /// These resources.
    #[serde(default)]
    pub(super) resource: Names,
    pub(super) expect: Expectation,
}

/// Names of a row: one, several, or all.
#[derive(Debug, Default)]
pub(super) struct Names(pub(super) Option<Vec<String>>);

/// Facts, or several of them, each laid over those before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Layers(pub(super) Vec<Named<CaseFacts>>);

/// A value, or the name of one.
#[derive(Debug, Clone)]
pub(super) enum Named<T> {
    /// Its name.
    Name(String),
    /// It itself.
    Value(T),
}

// === impl Written ===

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Root;

        impl<'de> Visitor<'de> for Root {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of cases, or `fixtures` and `cases`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Written, A::Error> {
                let cases = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Written {
                    fixtures: Fixtures::default(),
                    cases,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                let Parts { fixtures, cases } =
                    Parts::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Written { fixtures, cases })
            }
        }

        deserializer.deserialize_any(Root)
    }
}

// === impl Named ===

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a value written out")
            }

            fn visit_str<E>(self, text: &str) -> Result<Named<T>, E> {
                Ok(Named::Name(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Named::Value)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

// === impl Layers ===

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Layers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("facts or the name of some, or a list of these")
            }

            fn visit_str<E>(self, text: &str) -> Result<Layers, E> {
                Ok(Layers(vec![Named::Name(text.to_owned())]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Layers, A::Error> {
                let facts = CaseFacts::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Layers(vec![Named::Value(facts)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Layers, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Layers)
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

// === impl Names ===

impl Names {
    /// Says whether a name is among these.
    pub(super) fn has(&self, name: &str) -> bool {
        let names = self.0.as_ref();
        names.is_none_or(|names| names.iter().any(|other| other == name))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a list of names")
            }

            fn visit_str<E>(self, text: &str) -> Result<Names, E> {
                Ok(Names(Some(vec![text.to_owned()])))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Names, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Names(Some(names)))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}
