//! Terms: what a policy's annotations mean to the engine, read once and refused where they would mean nothing.

use cedar_policy_core::ast::Template;
use remit_core::{Duty, Effect, PolicyId, Question};
use serde_json::{Map, Value, json};

use super::{annotation, effect};
use crate::finding::Finding;

/// The longest lease, and the longest time that a permit can be acted by, in seconds: one day.
const MOST_SECONDS: u32 = 86_400;
/// The most approvers that a policy can want of one group.
const MOST_QUORUM: u32 = 100;
/// The most narrowings that one policy names.
const MOST_NARROWINGS: usize = 16;

/// The types of duties that are normative; every other text is the name of a custom one.
const STEP_UP: &str = "step-up";
const NOTIFICATION: &str = "notification";
const SESSION_TERMINATION: &str = "session_termination";
const CUSTOM: &str = "custom";

/// What a policy's annotations mean to the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// What it obliges to when it determines a decision (`@obligation`).
    duty: Option<Obliges>,
    /// For how many seconds its permit holds before it must be renewed (`@lease`).
    pub(crate) lease: Option<u32>,
    /// How a call can be narrowed so that it does not forbid it (`@modify`).
    pub(crate) modify: Vec<Narrowing>,
    /// Whether no exception is made from it (`@relax("never")`).
    pub(crate) never_relaxed: bool,
    /// For how many seconds its permit can be acted by (`@ttl`).
    pub(crate) ttl: Option<u32>,
}

/// A duty without the parts that a question gives.
#[derive(Debug, PartialEq, Eq)]
struct Obliges {
    kind: &'static str,
    members: Map<String, Value>,
}

/// One way in which a call is narrowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Narrowing {
    /// The number of this argument is at most so much.
    Cap(String, i64),
    /// This argument is not there.
    Drop(String),
    /// The text of this argument is empty.
    Redact(String),
}

/// The annotations of one policy while they are read.
struct Reader<'t> {
    template: &'t Template,
    errors: Vec<Finding>,
}

// === impl Terms ===

impl Terms {
    /// Reads the annotations of a policy.
    ///
    /// # Errors
    ///
    /// Every annotation that says something which cannot be held to.
    pub(super) fn of(template: &Template) -> Result<Self, Vec<Finding>> {
        let mut reader = Reader {
            template,
            errors: Vec::new(),
        };
        reader.belongs(Effect::Permit, &["lease", "ttl"]);
        reader.belongs(Effect::Forbid, &["modify", "relax"]);
        let terms = Self {
            duty: reader.duty(),
            lease: reader.number("lease", MOST_SECONDS),
            modify: reader.narrowings(),
            never_relaxed: reader.never_relaxed(),
            ttl: reader.number("ttl", MOST_SECONDS),
        };
        // It is for whoever asks for approvals; here it is only held to be a number.
        reader.number("quorum", MOST_QUORUM);
        if reader.errors.is_empty() {
            Ok(terms)
        } else {
            Err(reader.errors)
        }
    }

    /// Returns what a policy that determines a decision obliges to.
    pub(crate) fn duty(&self, policy: &PolicyId, question: &Question) -> Option<Duty> {
        let obliges = self.duty.as_ref()?;
        let mut members = obliges.members.clone();
        if obliges.kind == SESSION_TERMINATION {
            let subject = members.entry("subject");
            subject.or_insert_with(|| json!(question.subject.id));
        }
        Some(Duty {
            id: policy.to_string(),
            members,
            policy: policy.clone(),
            kind: obliges.kind.to_owned(),
        })
    }
}

// === impl Narrowing ===

impl Narrowing {
    fn read(text: &str) -> Option<Self> {
        let named = |argument: &str| (!argument.is_empty()).then(|| argument.to_owned());
        match text.split_once(':')? {
            ("cap", rest) => {
                let (argument, most) = rest.rsplit_once(':')?;
                let digits = !most.is_empty() && most.bytes().all(|byte| byte.is_ascii_digit());
                let most = most.parse().ok().filter(|_| digits)?;
                Some(Self::Cap(named(argument)?, most))
            }
            ("drop", argument) => Some(Self::Drop(named(argument)?)),
            ("redact", argument) => Some(Self::Redact(named(argument)?)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Narrowing {
    /// Writes it as a policy does.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cap(argument, most) => write!(f, "cap:{argument}:{most}"),
            Self::Drop(argument) => write!(f, "drop:{argument}"),
            Self::Redact(argument) => write!(f, "redact:{argument}"),
        }
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        annotation(self.template, key).map(|(text, _)| text)
    }

    fn blame(&mut self, key: &str, message: String, help: &str) {
        let range = annotation(self.template, key).and_then(|(_, range)| range);
        let error = Finding::error("invalid_annotation", message, range.unwrap_or((0, 0)));
        self.errors.push(error.with_help(help));
    }

    /// Refuses annotations that mean nothing on a policy of the other effect.
    fn belongs(&mut self, to: Effect, keys: &[&str]) {
        if effect(self.template) == to {
            return;
        }
        for key in keys {
            if self.text(key).is_some() {
                let (what, other) = match to {
                    Effect::Permit => ("permit", "forbid"),
                    Effect::Forbid => ("forbid", "permit"),
                };
                let message = format!("`@{key}` is for a {what}, and this is a {other}");
                self.blame(key, message, "leave it out");
            }
        }
    }

    fn number(&mut self, key: &str, most: u32) -> Option<u32> {
        let text = self.text(key)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u32> = text.parse().ok().filter(|_| digits);
        let number = number.filter(|number| (1..=most).contains(number));
        if number.is_none() {
            let message = format!(
                "`@{key}` is `{}`, which is no whole number from 1 to {most}",
                text.escape_debug()
            );
            self.blame(key, message, &format!("write such as `@{key}(\"60\")`"));
        }
        number
    }

    fn never_relaxed(&mut self) -> bool {
        match self.text("relax") {
            None => false,
            Some("never") => true,
            Some(other) => {
                let message = format!(
                    "`@relax` is `{}`, and says nothing but `never`",
                    other.escape_debug()
                );
                let help = "write `@relax(\"never\")`, or leave it out for a policy that an exception can be made from";
                self.blame("relax", message, help);
                false
            }
        }
    }

    fn narrowings(&mut self) -> Vec<Narrowing> {
        let Some(text) = self.text("modify") else {
            return Vec::new();
        };
        let read: Option<Vec<Narrowing>> = text
            .split(',')
            .map(|one| Narrowing::read(one.trim()))
            .collect();
        let mut read = match read {
            Some(read) if read.len() <= MOST_NARROWINGS => read,
            _ => {
                let message = format!("`@modify` is `{}`, which names no way", text.escape_debug());
                let help = "write at most 16 of `cap:<argument>:<whole number>`, `drop:<argument>` and `redact:<argument>`, with commas between";
                self.blame("modify", message, help);
                return Vec::new();
            }
        };
        read.sort();
        read.dedup();
        read
    }

    fn duty(&mut self) -> Option<Obliges> {
        let text = self.text("obligation")?.to_owned();
        let mut members = Map::new();
        let mut take = |key: &str, reader: &Self| {
            let text = reader.text(key).filter(|text| !text.is_empty());
            members.extend(text.map(|text| (key.to_owned(), json!(text))));
        };
        let (kind, required): (_, &[&str]) = match text.as_str() {
            STEP_UP => (STEP_UP, &["acr_value"]),
            NOTIFICATION => (NOTIFICATION, &["to", "body"]),
            SESSION_TERMINATION => (SESSION_TERMINATION, &[]),
            _ => (CUSTOM, &[]),
        };
        let optional: &[&str] = match kind {
            NOTIFICATION => &["topic"],
            SESSION_TERMINATION => &["subject"],
            CUSTOM => &["action"],
            _ => &[],
        };
        for key in required.iter().chain(optional) {
            take(key, self);
        }
        if kind == CUSTOM {
            members.insert("name".to_owned(), json!(text));
        }
        if kind == STEP_UP && self.text("amr_values").is_some() {
            let methods = self.text("amr_values").unwrap_or_default().split(',');
            let methods: Vec<&str> = methods.map(str::trim).collect();
            if methods.iter().any(|method| method.is_empty()) {
                let message = "`@amr_values` lists a method without a name".to_owned();
                self.blame(
                    "amr_values",
                    message,
                    "write such as `@amr_values(\"mfa,hwk\")`",
                );
                return None;
            }
            members.insert("amr_values".to_owned(), json!(methods));
        }
        if text.is_empty() {
            let help = "write what is to be done, such as `@obligation(\"notification\")`";
            self.blame("obligation", "`@obligation` says nothing".to_owned(), help);
        }
        for key in required {
            if !members.contains_key(*key) {
                let message = format!("the obligation `{text}` says no `@{key}`");
                let help = format!("put an annotation such as `@{key}(\"…\")` beside it");
                self.blame("obligation", message, &help);
            }
        }
        Some(Obliges { kind, members })
    }
}
