//! Limits: what every declaration must keep to, whatever the policies.

use std::collections::BTreeSet;

use smol_str::SmolStr;

use super::{Budget, Declaration, Window};
use crate::normal::{NOT_NFC, is_nfc};
use crate::{EntityUid, Invalid, Label, canonical_json, canonical_sink};

/// The longest purpose and the longest name of a template, in bytes.
const NAME_BYTES: usize = 128;
/// The longest intent, in bytes.
const INTENT_BYTES: usize = 16 << 10;
/// The most members of each list.
const MEMBERS: usize = 256;
/// The longest name of an action or an entity type, in bytes.
const TYPE_BYTES: usize = 256;
/// The longest sink and the longest id of an entity, in bytes.
const ID_BYTES: usize = 1_024;
/// The longest declaration, in bytes of its canonical JSON: nine of them, a whole chain, fit into one record.
const DECLARATION_BYTES: usize = 64 << 10;
/// The greatest number of a budget: up to here JSON tells whole numbers apart.
const MOST: u64 = (1 << 53) - 1;

// === impl Declaration ===

impl Declaration {
    /// Returns it with every sink in its [one spelling](canonical_sink), as [`check`](Self::check) wants them.
    #[must_use]
    pub fn in_one_spelling(mut self) -> Self {
        let sinks = self.sinks.take();
        self.sinks = sinks.map(|sinks| sinks.iter().map(|sink| canonical_sink(sink)).collect());
        self
    }

    /// Checks every member against its limits.
    ///
    /// # Errors
    ///
    /// [`Invalid`] names the member and says what is wrong and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        check_entity("agent", &self.agent)?;
        check_name("purpose", &self.purpose)?;
        if let Some(template) = &self.template {
            check_name("template", template)?;
        }
        if let Some(person) = &self.on_behalf_of {
            check_entity("on_behalf_of", person)?;
        }
        if self.intent.len() > INTENT_BYTES {
            return invalid("intent", "is longer than 16384 bytes");
        }
        check_spelling("intent", &self.intent)?;
        check_list("actions", self.actions.as_ref(), |member, name| {
            check_text(
                member,
                name,
                TYPE_BYTES,
                "has a name of more than 256 bytes",
            )
        })?;
        check_list("resources", self.resources.as_ref(), check_entity)?;
        check_list("sinks", self.sinks.as_ref(), check_sink)?;
        check_list("data_classes", self.data_classes.as_ref(), check_class)?;
        self.budget.check()?;
        self.window.as_ref().map_or(Ok(()), Window::check)?;
        // It is JSON by construction.
        let bytes = canonical_json(self).unwrap_or_default();
        if bytes.len() > DECLARATION_BYTES {
            return invalid(
                "declaration",
                "is longer than 65536 bytes of canonical JSON",
            );
        }
        Ok(())
    }
}

// === impl Budget ===

impl Budget {
    fn check(&self) -> Result<(), Invalid> {
        for (member, limit) in [
            ("budget.amount", self.amount),
            ("budget.bytes", self.bytes),
            ("budget.calls", self.calls),
            ("budget.cost", self.cost),
            ("budget.irreversible", self.irreversible),
        ] {
            if limit.is_some_and(|limit| limit > MOST) {
                return invalid(member, "is more than 9007199254740991");
            }
        }
        Ok(())
    }
}

// === impl Window ===

impl Window {
    /// Whether a moment is in it, by its day of the week (1 for Monday) and its minute of the day, both in UTC.
    pub fn contains(&self, weekday: u32, minute_of_day: u32) -> bool {
        self.days.iter().any(|day| u32::from(*day) == weekday)
            && (u32::from(self.from)..u32::from(self.until)).contains(&minute_of_day)
    }

    /// Checks the days and the minutes.
    ///
    /// # Errors
    ///
    /// [`Invalid`] names the member.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.days.is_empty() || self.days.iter().any(|day| !(1..=7).contains(day)) {
            return invalid(
                "window.days",
                "must have days from 1 (Monday) to 7, at least one",
            );
        }
        if self.from >= self.until || self.until > 1_440 {
            return invalid("window.until", "must be after `from` and at most 1440");
        }
        Ok(())
    }
}

fn invalid(member: &'static str, problem: &'static str) -> Result<(), Invalid> {
    Err(Invalid { member, problem })
}

fn check_list<T>(
    member: &'static str,
    list: Option<&BTreeSet<T>>,
    check: impl Fn(&'static str, &T) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    let Some(list) = list else {
        return Ok(());
    };
    if list.len() > MEMBERS {
        return invalid(member, "has more than 256 members");
    }
    list.iter().try_for_each(|item| check(member, item))
}

fn check_name(member: &'static str, name: &str) -> Result<(), Invalid> {
    check_text(member, name, NAME_BYTES, "is longer than 128 bytes")
}

fn check_text(
    member: &'static str,
    text: &str,
    most: usize,
    too_long: &'static str,
) -> Result<(), Invalid> {
    if text.is_empty() {
        return invalid(member, "must not be empty");
    }
    if text.len() > most {
        return invalid(member, too_long);
    }
    check_spelling(member, text)
}

fn check_spelling(member: &'static str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return invalid(member, "must not contain a NUL character");
    }
    if is_nfc(text) {
        Ok(())
    } else {
        invalid(member, NOT_NFC)
    }
}

fn check_entity(member: &'static str, uid: &EntityUid) -> Result<(), Invalid> {
    check_text(
        member,
        &uid.kind,
        TYPE_BYTES,
        "has a type of more than 256 bytes",
    )?;
    check_text(
        member,
        &uid.id,
        ID_BYTES,
        "has an id of more than 1024 bytes",
    )
}

fn check_sink(member: &'static str, sink: &SmolStr) -> Result<(), Invalid> {
    check_text(member, sink, ID_BYTES, "has a sink of more than 1024 bytes")?;
    if canonical_sink(sink) == *sink {
        Ok(())
    } else {
        invalid(member, "has a sink that is not in its one spelling")
    }
}

fn check_class(member: &'static str, class: &SmolStr) -> Result<(), Invalid> {
    let label = Label::class(class);
    if label.as_str().parse::<Label>() == Ok(label) {
        Ok(())
    } else {
        invalid(
            member,
            "has a class that is not 1 to 58 bytes in NFC without control characters",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    type Edit = fn(&mut Declaration);

    fn fine() -> Declaration {
        Declaration {
            actions: Some(BTreeSet::from([SmolStr::new("pay")])),
            agent: EntityUid::new("Agent", "a"),
            budget: Budget::default(),
            data_classes: Some(BTreeSet::from([SmolStr::new("pii")])),
            expires_at: Timestamp::from_micros(0),
            intent: "Pay the invoice.".to_owned(),
            may_delegate: false,
            on_behalf_of: Some(EntityUid::new("User", "ann")),
            parent: None,
            purpose: SmolStr::new("pay invoices"),
            resources: Some(BTreeSet::from([EntityUid::new("Payee", "p")])),
            sinks: Some(BTreeSet::from([SmolStr::new("p@acme.example")])),
            template: Some(SmolStr::new("invoices")),
            window: Some(Window {
                days: BTreeSet::from([1, 7]),
                from: 0,
                until: 1_440,
            }),
        }
    }

    #[expect(
        clippy::semicolon_if_nothing_returned,
        reason = "each edit is one assignment"
    )]
    #[test]
    fn every_member_has_its_limit() {
        assert_eq!(fine().check(), Ok(()));
        let edits: [(&str, Edit); 19] = [
            ("agent", |d| d.agent.id = SmolStr::default()),
            ("purpose", |d| d.purpose = SmolStr::new("p".repeat(129))),
            ("purpose", |d| d.purpose = SmolStr::new("e\u{301}")),
            ("template", |d| d.template = Some(SmolStr::default())),
            ("on_behalf_of", |d| {
                d.on_behalf_of = Some(EntityUid::new("", "x"))
            }),
            ("intent", |d| d.intent = "i".repeat(INTENT_BYTES + 1)),
            ("intent", |d| d.intent = "a\0".to_owned()),
            ("actions", |d| {
                d.actions = Some(BTreeSet::from([SmolStr::new("a".repeat(257))]))
            }),
            ("resources", |d| {
                d.resources = Some(BTreeSet::from([EntityUid::new("T", "x".repeat(1_025))]))
            }),
            ("sinks", |d| {
                d.sinks = Some(BTreeSet::from([SmolStr::new("x".repeat(1_025))]))
            }),
            ("sinks", |d| {
                d.sinks = Some(BTreeSet::from([SmolStr::new("a@ACME.example")]))
            }),
            ("data_classes", |d| {
                d.data_classes = Some(BTreeSet::from([SmolStr::new("c".repeat(59))]))
            }),
            ("data_classes", |d| {
                d.data_classes = Some(BTreeSet::from([SmolStr::default()]))
            }),
            ("budget.calls", |d| d.budget.calls = Some(MOST + 1)),
            ("budget.amount", |d| d.budget.amount = Some(u64::MAX)),
            ("window.days", |d| {
                d.window = Some(Window {
                    days: BTreeSet::new(),
                    from: 0,
                    until: 1,
                })
            }),
            ("window.days", |d| {
                d.window = Some(Window {
                    days: BTreeSet::from([8]),
                    from: 0,
                    until: 1,
                })
            }),
            ("window.until", |d| {
                d.window = Some(Window {
                    days: BTreeSet::from([1]),
                    from: 5,
                    until: 5,
                })
            }),
            ("window.until", |d| {
                d.window = Some(Window {
                    days: BTreeSet::from([1]),
                    from: 5,
                    until: 1_441,
                })
            }),
        ];
        for (member, edit) in edits {
            let mut declaration = fine();
            edit(&mut declaration);
            let found = declaration.check().map_err(|invalid| invalid.member);
            assert_eq!(found, Err(member));
        }
    }

    #[test]
    fn a_list_of_more_than_its_limit_is_refused() {
        let many = || {
            (0..257)
                .map(|n| smol_str::format_smolstr!("n{n}"))
                .collect::<BTreeSet<_>>()
        };
        for member in ["actions", "sinks", "data_classes"] {
            let mut declaration = fine();
            match member {
                "actions" => declaration.actions = Some(many()),
                "sinks" => declaration.sinks = Some(many()),
                _ => declaration.data_classes = Some(many()),
            }
            let found = declaration.check().map_err(|invalid| invalid.to_string());
            assert_eq!(found, Err(format!("`{member}` has more than 256 members")));
        }
        let spelt = Declaration {
            sinks: Some(BTreeSet::from([SmolStr::new(" a@ACME.example ")])),
            ..fine()
        };
        assert_eq!(spelt.in_one_spelling().check(), Ok(()));
    }
}
