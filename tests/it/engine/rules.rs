//! Random policies that validate strictly, by construction: typed expressions over what the scope lets be known.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rand::RngExt;
use rand::rngs::StdRng;
use remit_core::{Effect, Link, PolicyId};

use super::world::{any, datetime, decimal, duration, ip, long, pick, text};

/// One policy, or one template with its links.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    /// Its text, annotations included.
    pub text: String,
    /// What it does.
    pub effect: Effect,
    /// Whether it is in shadow mode.
    pub shadow: bool,
    /// Whether it carries an obligation.
    pub obligation: bool,
    /// The links, where it is a template.
    pub links: Option<Vec<Link>>,
}

/// What is known of the principal and the resource within a body.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    principal: Option<&'static str>,
    resource: Option<&'static str>,
}

/// Makes a random rule.
pub fn rule(rng: &mut StdRng, number: usize) -> Rule {
    let id = format!("p{number}");
    let effect = if rng.random_bool(0.55) {
        Effect::Permit
    } else {
        Effect::Forbid
    };
    let shadow = rng.random_bool(0.15);
    let obligation = rng.random_bool(0.3);
    let mut known = Known::default();
    let mut slots = Vec::new();
    let template = rng.random_bool(0.25);
    let principal = scope(rng, "principal", &mut known, template.then_some(&mut slots));
    let resource = scope(rng, "resource", &mut known, template.then_some(&mut slots));
    let action = action_scope(rng);
    let mut text = format!("@id(\"{id}\")\n");
    if shadow {
        text.push_str("@mode(\"shadow\")\n");
    } else if rng.random_bool(0.1) {
        text.push_str("@mode(\"enforce\")\n");
    }
    if obligation {
        text.push_str("@obligation(\"log\")\n");
    }
    let word = if effect == Effect::Permit {
        "permit"
    } else {
        "forbid"
    };
    let _ = write!(text, "{word} ({principal}, {action}, {resource})");
    for _ in 0..rng.random_range(0..3) {
        let clause = pick(rng, &["when", "when", "unless"]);
        let body = boolean(rng, known, 3);
        let _ = write!(text, "\n{clause} {{ {body} }}");
    }
    if effect == Effect::Forbid && rng.random_bool(0.2) {
        text.push_str("\nunless { context.facts.approved }");
    }
    text.push(';');
    let links = (!slots.is_empty()).then(|| links(rng, &id, &slots));
    Rule {
        id,
        text,
        effect,
        shadow,
        obligation,
        links,
    }
}

fn links(rng: &mut StdRng, id: &str, slots: &[(&'static str, &'static str)]) -> Vec<Link> {
    (0..rng.random_range(0..6))
        .map(|number| Link {
            id: PolicyId::new(format!("{id}-{number}")),
            template: PolicyId::new(id),
            slots: slots
                .iter()
                .map(|(slot, kind)| ((*slot).to_owned(), any(rng, kind)))
                .collect::<BTreeMap<_, _>>(),
        })
        .collect()
}

/// Makes a scope of one variable; with `slots`, one that a link fills in.
fn scope(
    rng: &mut StdRng,
    variable: &'static str,
    known: &mut Known,
    slots: Option<&mut Vec<(&'static str, &'static str)>>,
) -> String {
    let is_principal = variable == "principal";
    let kinds: &[&'static str] = if is_principal {
        &["User", "Bot"]
    } else {
        &["File", "Folder"]
    };
    let groups: &[&'static str] = if is_principal {
        &["Team", "Team", "User"]
    } else {
        &["Folder"]
    };
    let kind = pick(rng, kinds);
    let group = pick(rng, groups);
    let choice = rng.random_range(0..10);
    let (text, learnt) = match slots {
        Some(slots) if choice < 8 => {
            let name = if is_principal {
                "?principal"
            } else {
                "?resource"
            };
            let (text, learnt, filler) = match choice {
                0..3 => (format!("{variable} == {name}"), Some(kind), kind),
                3..6 => (format!("{variable} in {name}"), None, group),
                _ => (
                    format!("{variable} is App::{kind} in {name}"),
                    Some(kind),
                    group,
                ),
            };
            slots.push((name, filler));
            // What fills the slot is not known to the body: a link is validated with it, the template without.
            let learnt = if choice < 3 { None } else { learnt };
            (text, learnt)
        }
        _ => match choice {
            0..5 => (variable.to_owned(), None),
            5 => (format!("{variable} is App::{kind}"), Some(kind)),
            6 => (format!("{variable} == {}", any(rng, kind)), Some(kind)),
            7 | 8 => (format!("{variable} in {}", any(rng, group)), None),
            _ => (
                format!("{variable} is App::{kind} in {}", any(rng, group)),
                Some(kind),
            ),
        },
    };
    if is_principal {
        known.principal = learnt;
    } else {
        known.resource = learnt;
    }
    text
}

fn action_scope(rng: &mut StdRng) -> String {
    let name = |rng: &mut StdRng| {
        let id = pick(
            rng,
            &["read", "list", "write", "peek", "readers", "writers", "all"],
        );
        format!("App::Action::\"{id}\"")
    };
    match rng.random_range(0..8) {
        0..5 => "action".to_owned(),
        5 => format!(
            "action == App::Action::\"{}\"",
            pick(rng, &["read", "list", "write", "peek"])
        ),
        6 => format!("action in {}", name(rng)),
        _ => format!("action in [{}, {}]", name(rng), name(rng)),
    }
}

/// Makes an expression of type Bool.
fn boolean(rng: &mut StdRng, known: Known, depth: u32) -> String {
    if depth > 0 && rng.random_bool(0.45) {
        let mut part = || boolean(rng, known, depth - 1);
        let (a, b, c) = (part(), part(), part());
        return match rng.random_range(0..5) {
            0 | 1 => format!("({a} && {b})"),
            2 => format!("({a} || {b})"),
            3 => format!("!({a})"),
            _ => format!("(if {a} then {b} else {c})"),
        };
    }
    match rng.random_range(0..12) {
        0..3 => comparison(rng, known),
        3..5 => membership(rng, known),
        5 => of_extension(rng, known),
        6 => of_set(rng, known),
        7 => of_optional(rng, known),
        8 => of_tag(rng, known),
        9 => of_text(rng, known),
        10 => of_kind(rng),
        _ => {
            let facts = [
                "context.facts.approved",
                "context.facts.environment == \"live\"",
                "context.nested.flag",
            ];
            pick(rng, &facts).to_owned()
        }
    }
}

fn comparison(rng: &mut StdRng, known: Known) -> String {
    let op = pick(rng, &["<", "<=", ">", ">=", "==", "!="]);
    let (a, b) = (number(rng, known, 2), number(rng, known, 1));
    format!("{a} {op} {b}")
}

/// Makes an expression of type Long; some overflow, some look into an entity that is not there.
fn number(rng: &mut StdRng, known: Known, depth: u32) -> String {
    if depth > 0 && rng.random_bool(0.35) {
        let (a, b) = (number(rng, known, depth - 1), number(rng, known, depth - 1));
        return format!("({a} {} {b})", pick(rng, &["+", "-", "*"]));
    }
    match rng.random_range(0..9) {
        0 | 1 => match long(rng) {
            i64::MIN => "(-9223372036854775808)".to_owned(),
            number if number < 0 => format!("({number})"),
            number => number.to_string(),
        },
        2 => "principal.level".to_owned(),
        3 => "context.n".to_owned(),
        4 => "context.nested.deep.x".to_owned(),
        5 => "context.facts.minute_of_day".to_owned(),
        6 if known.resource == Some("File") => "resource.size".to_owned(),
        _ => format!("{}.level", user(rng, known, 2)),
    }
}

/// Makes an expression of type User.
fn user(rng: &mut StdRng, known: Known, depth: u32) -> String {
    if depth > 0 && rng.random_bool(0.35) {
        return format!("{}.boss", user(rng, known, depth - 1));
    }
    match rng.random_range(0..6) {
        0 => "resource.owner".to_owned(),
        1 => "principal.boss".to_owned(),
        2 if known.principal == Some("User") => "principal".to_owned(),
        3 => any(rng, "User").to_string(),
        4 => format!(
            "(if {} then {} else {})",
            comparison(rng, known),
            "resource.owner",
            "context.who"
        ),
        _ => "context.who".to_owned(),
    }
}

fn membership(rng: &mut StdRng, known: Known) -> String {
    let team = |rng: &mut StdRng| any(rng, "Team").to_string();
    match rng.random_range(0..7) {
        0 => format!("principal in {}", team(rng)),
        1 => format!("{} in [{}, {}]", user(rng, known, 1), team(rng), team(rng)),
        2 => format!("resource in {}", any(rng, "Folder")),
        3 => format!("{} == {}", user(rng, known, 1), user(rng, known, 1)),
        4 => format!(
            "action in App::Action::\"{}\"",
            pick(rng, &["readers", "writers", "all"])
        ),
        // Strict typing wants both sides of an equation of one type.
        5 => match known.principal {
            Some(kind) => format!("principal == {}", any(rng, kind)),
            None => format!("principal in {}", any(rng, "User")),
        },
        _ => format!("{} in {}", user(rng, known, 1), team(rng)),
    }
}

fn of_extension(rng: &mut StdRng, known: Known) -> String {
    let a = user(rng, known, 1);
    match rng.random_range(0..9) {
        0 => format!("context.amount.lessThan(decimal(\"{}\"))", decimal(rng)),
        1 => format!("{a}.limit.greaterThanOrEqual(context.amount)"),
        2 => format!("context.ip.isInRange(ip(\"{}\"))", ip(rng)),
        3 => format!("{a}.address.isLoopback()"),
        4 => format!(
            "context.at {} datetime(\"{}\")",
            pick(rng, &["<", ">="]),
            datetime(rng)
        ),
        5 => format!("{a}.since.offset(context.span) <= context.facts.now"),
        6 => format!(
            "context.at.durationSince({a}.since) > duration(\"{}\")",
            duration(rng)
        ),
        7 => format!("{a}.quota.toMinutes() > {}", number(rng, known, 0)),
        _ => format!("context.span == duration(\"{}\")", duration(rng)),
    }
}

fn of_set(rng: &mut StdRng, known: Known) -> String {
    let a = user(rng, known, 1);
    let labels = format!(
        "[{:?}, {:?}]",
        pick(rng, &["a", "b"]),
        pick(rng, &["abc", "prod"])
    );
    match rng.random_range(0..6) {
        0 => format!("{a}.friends.contains({})", user(rng, known, 1)),
        1 => format!("context.labels.containsAny({labels})"),
        2 => format!("context.labels.containsAll({labels})"),
        3 => "context.labels.isEmpty()".to_owned(),
        4 if known.resource == Some("File") => {
            format!("resource.labels.contains(\"{}\")", pick(rng, &["a", "abc"]))
        }
        _ => format!("context.nested.deep == {{x: {}}}", number(rng, known, 0)),
    }
}

fn of_optional(rng: &mut StdRng, known: Known) -> String {
    let a = user(rng, known, 1);
    match rng.random_range(0..7) {
        0 => format!("(context has m && context.m < {})", number(rng, known, 1)),
        1 => format!(
            "({a} has manager && {a}.manager.level < {})",
            number(rng, known, 1)
        ),
        2 => format!(
            "({a} has manager.score && {a}.manager.score > {})",
            number(rng, known, 0)
        ),
        3 => format!(
            "({a}.home has zip && {a}.home.zip > {})",
            number(rng, known, 0)
        ),
        4 => format!("({a} has score && {a}.score > {})", number(rng, known, 0)),
        5 => "(context has action && context.action.bytes > 3)".to_owned(),
        _ => "(context has maybe && context.maybe.boss == resource.owner)".to_owned(),
    }
}

fn of_tag(rng: &mut StdRng, known: Known) -> String {
    let a = user(rng, known, 1);
    let tag = pick(rng, &["a", "b"]);
    if known.principal == Some("Bot") && rng.random_bool(0.5) {
        return format!("(principal.hasTag(\"{tag}\") && principal.getTag(\"{tag}\") > 2)");
    }
    format!(
        "({a}.hasTag(\"{tag}\") && {a}.getTag(\"{tag}\") like \"*{}*\")",
        pick(rng, &["a", "x\\*y"])
    )
}

fn of_text(rng: &mut StdRng, known: Known) -> String {
    match rng.random_range(0..3) {
        0 => format!(
            "{}.home.city == \"{}\"",
            user(rng, known, 1),
            text(rng).escape_debug()
        ),
        1 if known.principal == Some("Bot") => "principal.purpose like \"*a*\"".to_owned(),
        _ => "context.facts.caller like \"0*\"".to_owned(),
    }
}

fn of_kind(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => "principal is App::User".to_owned(),
        1 => "resource is App::File".to_owned(),
        2 => "(principal is App::User && principal has nick)".to_owned(),
        _ => "(resource is App::File && resource.color == App::Color::\"red\")".to_owned(),
    }
}
